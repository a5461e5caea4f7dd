"""The study of a run: every declared hypothesis with its evidence and its verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.domain.run import SEED, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.errors import TableError
from backtest_assets.research.hypotheses.admitted import phase1_decisions
from backtest_assets.research.hypotheses.cells import Cell, CellKey, measure_cells
from backtest_assets.research.hypotheses.criteria import (
    ELIGIBILITY,
    STRESS_FACTOR,
    status_columns,
    verdict_columns,
    within_budget,
)
from backtest_assets.research.hypotheses.days import DaySums, book_days
from backtest_assets.research.hypotheses.inference import Joint, clustered_means, judge_together
from backtest_assets.research.hypotheses.queue.select import rank_rules
from backtest_assets.research.hypotheses.robustness import RuleCells
from backtest_assets.research.hypotheses.rules import (
    Base,
    HypothesisRule,
    condition_places,
    declared_rules,
    definitions_of,
)
from backtest_assets.research.hypotheses.trades import (
    asked_events,
    control_means,
    priced_trades,
    run_conditions,
    shifted_conditions,
    train_drift,
)
from backtest_assets.stats.clustered import ClusteredMean
from backtest_assets.stats.dependence import EffectiveSampleSize, effective_sample_size
from backtest_assets.tables.hypotheses import HYPOTHESES

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class _Study:
    run: ResearchRun
    rules: Mapping[HypothesisRule, int | None]
    definitions: Mapping[EventType, str]
    trades: pl.DataFrame
    cells: Mapping[CellKey, Cell]
    controls: Mapping[tuple[str, int, int], float]
    n_run: Mapping[tuple[str, str], int]
    places: Mapping[tuple[EventType, str], int]
    train: DaySums
    validation: DaySums


def score_hypotheses(
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    phase1: pl.DataFrame,
    *,
    run: ResearchRun,
    queue: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Test every declared hypothesis of a run, or what its queue asks for, on train and confirm it on validation.

    Hypotheses of families that phase 1 froze or did not run are tested and adjusted for like all others, and rejected
    whatever they show. Phase 1 looked at the same outcomes: to leave them out of the adjustment would be to choose after
    looking what one is adjusted for, and the others' p would come out too small. For the same reason a run that enumerates
    one family alone adjusts for all of them: narrowing changes no number of a hypothesis that is kept.

    Args:
        outcomes: table event_outcomes.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um; gives each symbol's drift on train.
        phase1: table phase1_evidence; gives each family's decision.
        run: gives families, grids, costs, and limits.
        queue: table hypothesis_queue; needed where the run obeys it, else not looked at.

    Returns:
        Table hypotheses, one row per declared hypothesis of the families that phase 2 enumerates; where the run obeys the
        queue, exactly those it asks for, each with its rank, and none if it asks for none. Statistics are null where a hypothesis has too few events or
        days to be tested, or where a number is unknown.

    Raises:
        TableError: if the tables do not belong together (see `trades`, `days`, `rules`, `queue`), a family has no phase 1
            evidence, or the queue is missing.

    Knows:
        outcomes of train and validation; of test only how many events there are.
    """
    decisions = phase1_decisions(phase1, run=run)
    study = _prepare(outcomes, events, context, bars, run=run, rules=_asked_rules(run, queue))
    decided = [{"phase1_decision": decisions[rule.event_type]} for rule in study.rules]
    counts = [_counts(study, rule) | said for rule, said in zip(study.rules, decided, strict=True)]
    eligible = [rule for rule, count in zip(study.rules, counts, strict=True) if count["is_eligible"]]
    rows = dict(zip(study.rules, counts, strict=True))
    if eligible:
        cost, rng = run.cost.round_trip_bps, np.random.default_rng(SEED)
        joint = judge_together(eligible, study.train, rng, cost_bps=cost)
        confirmation = clustered_means(eligible, study.validation, cost_bps=cost)
        samples = _samples(study, eligible)
        for number, rule in enumerate(eligible):
            if rule.event_type not in run.phase2_families:
                continue
            evidence = _evidence(study, rule, n_run=int(rows[rule]["n_run"] or 0), ess=samples[rule.base].size)
            net = RuleCells(rule, study.cells, cost).train_net
            rows[rule] |= evidence | _significance(joint, confirmation, number, net=net, k=run.phase2_multiplicity_k)
            rows[rule] |= _shown_beside(rule, samples[rule.base], run, n_tested=len(eligible))
    schema = _raw_schema()
    blank = _blank(schema)
    kept = [blank | row for rule, row in rows.items() if rule.event_type in run.phase2_families]
    raw = pl.DataFrame(kept, schema=schema)
    known = raw.with_columns(pl.col(pl.Float64).fill_nan(None)).with_columns(**verdict_columns(run))
    return HYPOTHESES.conform(known.with_columns(**status_columns(run)))


def eligible_rules(
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    run: ResearchRun,
    queue: pl.DataFrame | None = None,
) -> tuple[HypothesisRule, ...]:
    """Return the rules that a run tests and adjusts for, those of families that it does not enumerate too.

    Args:
        outcomes: table event_outcomes.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um; the trades are priced as in `score_hypotheses`.
        run: gives families, grids and limits.
        queue: table hypothesis_queue; needed where the run obeys it, else not looked at.

    Returns:
        One rule per hypothesis with enough events and days within the budget, by its id, as in table hypotheses.

    Raises:
        TableError: as `score_hypotheses`.

    Knows:
        counts of train and validation.
    """
    study = _prepare(outcomes, events, context, bars, run=run, rules=_asked_rules(run, queue))
    counts = [(_counts(study, rule), rule) for rule in study.rules]
    eligible = [(str(count["hypothesis_id"]), rule) for count, rule in counts if count["is_eligible"]]
    return tuple(rule for _, rule in sorted(eligible, key=itemgetter(0)))


def _asked_rules(run: ResearchRun, queue: pl.DataFrame | None) -> Mapping[HypothesisRule, int | None]:
    """Return what is tested, in order, each with its rank in the queue: None where all that is declared is tested."""
    if not run.obeys_queue:
        return dict.fromkeys(declared_rules(run))
    if queue is None:
        message = f"run {run.run_id} obeys the hypothesis queue, but there is none; make hypothesis_queue first"
        raise TableError(message)
    return rank_rules(run, queue)


def _prepare(
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    run: ResearchRun,
    rules: Mapping[HypothesisRule, int | None],
) -> _Study:
    names = run_conditions(run)
    asked = asked_events(events, context, run=run)
    trades = priced_trades(outcomes, asked, train_drift(bars, run=run), run=run)
    centre = asked.filter(pl.col("variant") == Variant.CENTRE)
    counted = centre.group_by("event_type", maintain_order=True).agg(pl.col(names).sum()).unpivot(index="event_type")
    own = _own_trades(trades, run).filter(pl.col("split") == Split.TRAIN)
    return _Study(
        run,
        rules,
        definitions_of(events, run),
        trades,
        {**measure_cells(trades, names), **measure_cells(own, shifted_conditions(run))},
        control_means(outcomes, run=run),
        {(family, name): count for family, name, count in counted.iter_rows()},
        condition_places(run),
        book_days(trades, names, run=run, split=Split.TRAIN),
        book_days(trades, names, run=run, split=Split.VALIDATION),
    )


def _own_trades(trades: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    """Return the trades of the centre events at the delays that hypotheses are tested at."""
    return trades.filter(pl.col("variant") == Variant.CENTRE, pl.col("delay_bars").is_in(run.entry_delays))


def _counts(study: _Study, rule: HypothesisRule) -> dict[str, Value]:
    """Return what a hypothesis is and whether it can be tested, from counts alone."""
    own = RuleCells(rule, study.cells, study.run.cost.round_trip_bps)
    place = study.places[rule.event_type, rule.condition.name]
    counts: dict[str, int] = {}
    for split, sums in ((Split.TRAIN, study.train), (Split.VALIDATION, study.validation)):
        counts[f"n_{split}"] = own.cell(split).n
        counts[f"n_days_{split}"] = int(sums.n_entry_days[sums.row_of[rule.base]])
    return {
        "hypothesis_id": rule.id(study.definitions[rule.event_type]),
        "event_type": rule.event_type.value,
        "condition": rule.condition.name,
        "side_rule": rule.side_rule.value,
        "delay_bars": rule.delay_bars,
        "hold_bars": rule.hold_bars,
        "condition_place": place,
        "queue_rank": study.rules[rule],
        "n_run": study.n_run.get((rule.event_type.value, rule.condition.name), 0),
        "is_eligible": within_budget(place, study.run)
        and all(counts[name] >= least for name, least in ELIGIBILITY.items()),
        **counts,
    }


def _evidence(study: _Study, rule: HypothesisRule, *, n_run: int, ess: EffectiveSampleSize) -> dict[str, Value]:
    """Return a tested hypothesis' numbers that need no other hypothesis."""
    cost = study.run.cost.round_trip_bps
    own = RuleCells(rule, study.cells, cost)
    train = own.cell(Split.TRAIN)
    gross = rule.sign * train.gross
    control = study.controls.get((rule.event_type.value, rule.delay_bars, rule.hold_bars), math.nan)
    delays, delay_means = own.delays(study.run)
    curvature, curvature_means = own.curvature()
    excursions = (train.adverse, train.favourable)[:: rule.sign]
    return {
        "gross_mean_train_bps": gross,
        "net_mean_train_bps": own.train_net,
        "net_mean_validation_bps": own.net(own.cell(Split.VALIDATION)),
        "stressed_mean_train_bps": replace(own, cost_bps=STRESS_FACTOR * cost).net(train),
        "cost_ratio_train": cost / gross if gross > 0 else math.nan,
        "control_net_mean_train_bps": rule.sign * control - cost,
        "ess_train": ess.ess,
        "ess_run": n_run * ess.ess / train.n,
        "is_ess_lag_significant": ess.is_cut_short,
        "delay_positive_ratio": delays.positive_ratio,
        "delay_robustness_score": delays.score,
        "delay_means_json": delay_means,
        "curvature_penalty": curvature.penalty,
        "n_positive_neighbours": curvature.n_positive,
        "n_curvature_means": curvature.n,
        "curvature_means_json": curvature_means,
        "adverse_q95_train_bps": excursions[0],
        "favourable_q95_train_bps": excursions[1],
    }


def _significance(joint: Joint, confirmation: ClusteredMean, number: int, *, net: float, k: float) -> dict[str, Value]:
    """Return a tested hypothesis' numbers that depend on all the others."""
    train = joint.clustered
    penalty = k * float(train.standard_error[number]) * joint.luckiest
    return {
        "excess_mean_train_bps": float(train.mean[number]),
        "se_train_bps": float(train.standard_error[number]),
        "t_train": float(train.t[number]),
        "p_train": float(train.p[number]),
        "p_rw": float(joint.p_rw[number]),
        "p_bh": float(joint.p_bh[number]),
        "p_by": float(joint.p_by[number]),
        "multiplicity_penalty_bps": penalty,
        "expectancy_after_multiplicity_bps": net - penalty,
        "shrunken_excess_mean_train_bps": float(joint.shrunken[number]),
        "excess_mean_validation_bps": float(confirmation.mean[number]),
        "t_validation": float(confirmation.t[number]),
        "p_validation": float(confirmation.p[number]),
    }


def _shown_beside(rule: HypothesisRule, sample: "_Sample", run: ResearchRun, *, n_tested: int) -> dict[str, Value]:
    """Return the numbers of older recipes, which take trades for independent or many tests for as many worlds."""
    penalty = run.phase2_multiplicity_k * sample.deviation * math.sqrt(math.log(max(2, n_tested)) / sample.size.ess)
    excess, error = rule.sign * sample.mean - run.cost.round_trip_bps, sample.deviation / math.sqrt(sample.size.n)
    return {
        "t_iid_train": excess / error if error > 0 else math.nan,
        "penalty_ln_m_bps": penalty,
        "penalty_2_ln_m_bps": math.sqrt(2.0) * penalty,
    }


@dataclass(frozen=True, slots=True)
class _Sample:
    """Excess of a base's trades on train before costs: mean and standard deviation [bps], effective sample size."""

    mean: float
    deviation: float
    size: EffectiveSampleSize


def _samples(study: _Study, eligible: Sequence[HypothesisRule]) -> dict[Base, _Sample]:
    """Return the sample of every base on train; a sign or a constant cost changes neither its scatter nor its size."""
    needed = ("event_type", "delay_bars", "hold_bars")
    train = _own_trades(study.trades, study.run).filter(pl.col("split") == Split.TRAIN)
    cells = train.with_columns(excess=pl.col("pnl") - pl.col("drift")).partition_by(needed, as_dict=True)
    samples: dict[Base, _Sample] = {}
    for base in sorted({rule.base for rule in eligible}):
        family, condition, delay, hold = base
        cell = cells[family, delay, hold]
        excess = cell["excess"].filter(cell[condition]).to_numpy()
        size = effective_sample_size(excess, study.run.phase2_ess_max_lag)
        samples[base] = _Sample(float(excess.mean()), float(excess.std(ddof=1)), size)
    return samples


def _raw_schema() -> pl.Schema:
    made_later = {"status", "fail_reasons"}
    return pl.Schema(
        {
            name: dtype
            for name, dtype in HYPOTHESES.schema.items()
            if name not in made_later and not name.startswith("gate_")
        }
    )


def _blank(schema: pl.Schema) -> dict[str, Value]:
    """Return the row of a hypothesis that was not tested."""
    shown: dict[str, Value] = {
        "is_ess_lag_significant": False,
        "delay_means_json": "{}",
        "n_positive_neighbours": 0,
        "n_curvature_means": 0,
        "curvature_means_json": "{}",
    }
    return dict.fromkeys(schema) | shown
