"""The phase1_evidence table: every family and metric beside its controls and placebos, with one decision per family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.domain.run import SEED, ResearchRun
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.phase1.criteria import (
    CONTRADICTION_LEVEL,
    METRICS,
    MIN_MATCHED,
    MIN_PLACEBOS,
    MOVE_METRICS,
    N_SHUFFLES,
    PLACEBO_WEEKS,
    SHUFFLE_LEVEL,
    FamilyDecision,
    MetricNumbers,
    decide_family,
    why_not_run,
)
from backtest_assets.research.phase1.placebo import placebo_sets, train_events, train_view
from backtest_assets.research.phase1.sets import MatchedSets, Measured, matched_sets, no_sets
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.matched import (
    Comparison,
    compare_sets,
    count_contradictions,
    set_differences,
)
from backtest_assets.stats.shuffled import shuffled_rejections
from backtest_assets.tables.phase1 import PHASE1_EVIDENCE

Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class PlaceboNumbers:
    """What a family's placebos show; every array is (n_metrics,), NaN below `MIN_PLACEBOS`.

    Attributes:
        n: placebos with at least `MIN_MATCHED` sets and a known t of every metric [shifts].
        n_effective: fewest effective clusters of one of them [days, weeks].
        p_shifted: share of placebos, the true events among them, whose |t| is at least the true one.
        p: smallest adjusted p of the placebos, times their number, at most 1.
        t_max: largest |t| of the placebos.
    """

    n: int
    n_effective: FloatArray
    p_shifted: FloatArray
    p: FloatArray
    t_max: FloatArray


@dataclass(frozen=True, slots=True)
class FamilyNumbers:
    """What a family's matched sets and placebos are worth; every array is (n_metrics,).

    Attributes:
        true: the events beside their controls.
        placebos: what the shifted events show.
        rejected_shuffles: share of shuffled sets whose moves the test rejects; NaN without a set that counts.
        n_years: years that could be tested.
        n_years_opposite: of them contradicting the whole.
        n_groups: symbols and volatility regimes that could be tested.
        n_groups_opposite: of them contradicting the whole.
    """

    true: Comparison
    placebos: PlaceboNumbers
    rejected_shuffles: float
    n_years: IntArray
    n_years_opposite: IntArray
    n_groups: IntArray
    n_groups_opposite: IntArray

    def of_metrics(self) -> dict[str, MetricNumbers]:
        """Return what the decision reads, by metric; p of a t that is unknown is unknown."""
        p_family = np.where(np.isnan(self.true.t), np.nan, self.true.p_family)
        return {
            metric: MetricNumbers(
                int(self.true.n[i]),
                float(p_family[i]),
                float(self.placebos.p[i]),
                int(self.n_years_opposite[i]),
                int(self.n_groups_opposite[i]),
            )
            for i, metric in enumerate(METRICS)
        }


def weigh_families(
    measured: Measured, events: pl.DataFrame, families: pl.DataFrame, view: MarketView, *, run: ResearchRun
) -> pl.DataFrame:
    """Compare every family of a run with its controls and its placebos on train, and decide on it.

    Args:
        measured: outcomes, barriers and controls of the run.
        events: rows of `event_registry`.
        families: rows of `event_families`.
        view: the market; nothing of it after train is looked at.
        run: gives families and splits.

    Returns:
        Rows of `phase1_evidence`, one per family and metric; statistics are null where the family is not run, and `n_placebos`
        where it was not weighed. A family's draws do not depend on which other families the run has.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        outcomes of train.
    """
    own = train_events(events, run=run)
    true, sealed = matched_sets(measured), train_view(view, run=run)
    shifted = [placebo_sets(sealed, own, weeks=weeks, run=run) for weeks in PLACEBO_WEEKS]
    rows: list[Mapping[str, Value]] = []
    for family in run.event_types:
        is_own = pl.col("event_type") == family.value
        placebos = tuple(sets[family.value] for sets in shifted if family.value in sets)
        case = _Case(family, own.filter(is_own).height, true.get(family.value, no_sets()), placebos)
        rows += _rows(case, families.filter(is_own).select("status", "reason").rows())
    table = pl.DataFrame(rows, schema=PHASE1_EVIDENCE.schema)
    return PHASE1_EVIDENCE.conform(table.with_columns(pl.col(pl.Float64).fill_nan(None)))


def weigh_family(sets: MatchedSets, placebos: Sequence[MatchedSets], rng: np.random.Generator) -> FamilyNumbers:
    """Compare one family's events with their controls, and with what its placebos show.

    Args:
        sets: the family's matched sets.
        placebos: the same at other instants; those with fewer than `MIN_MATCHED` sets for some metric, or without
            scatter of one, are left out.
        rng: source of all draws.

    Returns:
        The numbers of every metric.

    Knows:
        outcomes of train.
    """
    true = compare_sets(sets.values, sets.clusters, rng)
    compared = [compare_sets(placebo.values, placebo.clusters, rng) for placebo in placebos]
    known = [found for found in compared if found.n.min() >= MIN_MATCHED and not np.isnan(found.t).any()]
    moves = sets.values[:, :, [METRICS.index(name) for name in MOVE_METRICS]]
    rejected = shuffled_rejections(
        moves, sets.days, sets.days, rng, level=SHUFFLE_LEVEL, n_shuffles=N_SHUFFLES
    )  # the clusters of moves are days
    differences = set_differences(sets.values)
    years = count_contradictions(differences, sets.clusters, [sets.years], level=CONTRADICTION_LEVEL)
    groups = count_contradictions(differences, sets.clusters, [sets.symbols, sets.regimes], level=CONTRADICTION_LEVEL)
    return FamilyNumbers(true, _beside(true, known), rejected, *years, *groups)


def _beside(true: Comparison, placebos: Sequence[Comparison]) -> PlaceboNumbers:
    n, unknown = len(placebos), np.full(true.t.size, np.nan)
    if n < MIN_PLACEBOS:
        return PlaceboNumbers(n, unknown, unknown, unknown, unknown)
    t = np.abs(np.stack([placebo.t for placebo in placebos]))
    p = np.stack([placebo.p_family for placebo in placebos])
    n_effective = np.stack([placebo.n_effective for placebo in placebos]).min(axis=0)
    n_beyond = np.count_nonzero(~(t < np.abs(true.t)), axis=0)  # an unknown one counts against the family
    return PlaceboNumbers(n, n_effective, (1 + n_beyond) / (1.0 + n), np.minimum(1.0, p.min(axis=0) * n), t.max(axis=0))


@dataclass(frozen=True, slots=True)
class _Case:
    family: EventType
    n_events: int
    sets: MatchedSets
    placebos: tuple[MatchedSets, ...]


def _rows(case: _Case, standings: Sequence[tuple[str, str]]) -> list[Mapping[str, Value]]:
    counted = np.count_nonzero(~np.isnan(set_differences(case.sets.values)), axis=0)
    n_matched = {metric: int(n) for metric, n in zip(METRICS, counted, strict=True)}
    statistics: list[dict[str, Value]] = [{} for _ in METRICS]
    n_placebos: int | None = None
    decided = why_not_run(standings, n_matched)
    if decided is None:
        rng = np.random.default_rng([SEED, list(EventType).index(case.family)])
        numbers = weigh_family(case.sets, case.placebos, rng)
        n_placebos = numbers.placebos.n
        decided = decide_family(numbers.of_metrics(), n_placebos=n_placebos)
        if decided.decision is not FamilyDecision.NOT_RUN:
            statistics = [_statistics(numbers, i) for i in range(len(METRICS))]
    blank: dict[str, Value] = dict.fromkeys(PHASE1_EVIDENCE.schema)
    named: dict[str, Value] = {
        "event_type": case.family.value,
        "n_events": case.n_events,
        "n_placebos": n_placebos,
        "decision": decided.decision.value,
        "ground": decided.ground.value,
        "reason": decided.reason,
    }
    return [
        blank | named | {"metric": metric, "n_matched": n_matched[metric]} | found
        for metric, found in zip(METRICS, statistics, strict=True)
    ]


def _statistics(numbers: FamilyNumbers, i: int) -> dict[str, Value]:
    true = numbers.true
    return {
        "mean_event": float(true.case[i]),
        "mean_control": float(true.control[i]),
        "delta": float(true.difference[i]),
        "n_clusters": int(true.n_clusters[i]),
        "se": float(true.standard_error[i]),
        "ci_low": float(true.low[i]),
        "ci_high": float(true.high[i]),
        "z": float(true.t[i]),
        "p_family": float(true.p_family[i]),
        "p_shifted": float(numbers.placebos.p_shifted[i]),
        "p_placebo": float(numbers.placebos.p[i]),
        "z_placebo_max": float(numbers.placebos.t_max[i]),
        "placebo_clusters_effective": float(numbers.placebos.n_effective[i]),
        "shuffled_rejection_share": numbers.rejected_shuffles,
        "n_years": int(numbers.n_years[i]),
        "n_years_opposite": int(numbers.n_years_opposite[i]),
        "n_groups": int(numbers.n_groups[i]),
        "n_groups_opposite": int(numbers.n_groups_opposite[i]),
    }
