"""What must be true of the promotion decision: it is counted again from the evidence; the limits stay in the criteria."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.executed import executed_specs, near
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.promoted import correlated, counted_again, returns_again
from backtest_assets.gates.resimulated import trade_again
from backtest_assets.gates.trials import uncounted_trials
from backtest_assets.research.promotions.criteria import (
    ALL_GATES,
    CRITERIA,
    DIVERSIFICATION,
    ENOUGH_TRADES,
    MEASURED,
    OWN_SOURCES,
    PRODUCTION,
    Criterion,
)

_FIX: Final = "rebuild promotions from the published summary"


def _other_rows(evidence: Evidence) -> pl.DataFrame:
    names = [spec.blueprint_id for spec in executed_specs(evidence)]
    keys = [(name, gate) for name in names for gate in ALL_GATES]
    wanted = pl.DataFrame(keys, schema={"blueprint_id": pl.String, "gate": pl.String}, orient="row")
    both = evidence.frame.select("blueprint_id", "gate", is_listed=True).join(
        wanted.with_columns(is_wanted=True), on=["blueprint_id", "gate"], how="full", coalesce=True
    )
    return broken(both, pl.col("is_listed") & pl.col("is_wanted"))


def _other_limits(evidence: Evidence) -> pl.DataFrame:
    run = evidence.settings
    asked = (*CRITERIA, *MEASURED, DIVERSIFICATION)
    shared = [(c.gate, c.limit_for(run), c.comparator, c.unit, c.source) for c in asked]
    shared.append((PRODUCTION, 0.0, "<=", "overrides", OWN_SOURCES[PRODUCTION]))
    rows: list[tuple[str, str, float, str, str, str]] = []
    for spec in executed_specs(evidence):
        least = float(spec.evaluation.min_trades)
        rows += [(spec.blueprint_id, *one) for one in shared]
        rows.append((spec.blueprint_id, ENOUGH_TRADES, least, ">=", "trades", OWN_SOURCES[ENOUGH_TRADES]))
    texts = dict.fromkeys(("how", "in", "from"), pl.String)
    schema = {"blueprint_id": pl.String, "gate": pl.String, "declared": pl.Float64, **texts}
    declared = pl.DataFrame(rows, schema=schema, orient="row")
    same = (
        (pl.col("limit") == pl.col("declared"))
        & (pl.col("comparator") == pl.col("how"))
        & (pl.col("unit") == pl.col("in"))
        & (pl.col("evidence") == pl.col("from"))
    )
    return broken(evidence.frame.join(declared, on=["blueprint_id", "gate"], how="left"), same)


def _other_answers(evidence: Evidence) -> pl.DataFrame:
    found = pl.concat(
        [*(_counted(evidence, criterion) for criterion in CRITERIA), *_own_counted(evidence), _measured(evidence)]
    )
    answers = pl.concat([found, _doubles(evidence, found)])
    both = evidence.frame.join(answers, on=["blueprint_id", "gate"], how="left")
    observed = pl.col("observed").eq_missing(pl.col("counted")) | near(pl.col("observed"), pl.col("counted"))
    return broken(both, observed & (pl.col("is_passed") == pl.col("holds"))).drop("metric", strict=False)


def _counted(evidence: Evidence, criterion: Criterion) -> pl.DataFrame:
    values = evidence.inputs["walkforward_summary"].filter(metric=criterion.metric)
    train, validation = (
        values.filter(split=split.value).select("blueprint_id", pl.col("value").alias(split.value))
        for split in (Split.TRAIN, Split.VALIDATION)
    )
    both = train.join(validation, on="blueprint_id", how="full", coalesce=True)
    pair = (pl.col("train"), pl.col("validation"))
    is_known = pair[0].is_finite() & pair[1].is_finite()
    worst = pl.max_horizontal(*pair) if criterion.comparator == "<=" else pl.min_horizontal(*pair)
    limit = criterion.limit_for(evidence.settings)
    holds = {"<=": worst <= limit, ">=": worst >= limit, ">": worst > limit}[criterion.comparator]
    return both.select(
        "blueprint_id",
        pl.lit(criterion.gate).alias("gate"),
        pl.when(is_known).then(worst).alias("counted"),
        (is_known & holds).fill_null(value=False).alias("holds"),
    )


def _own_counted(evidence: Evidence) -> Iterator[pl.DataFrame]:
    """Yield the answers to what blueprints ask of themselves, and to the class of the run."""
    least = pl.DataFrame(
        [(spec.blueprint_id, float(spec.evaluation.min_trades)) for spec in executed_specs(evidence)],
        schema={"blueprint_id": pl.String, "least": pl.Float64},
        orient="row",
    )
    known = evidence.inputs["walkforward_summary"].filter(
        pl.col("metric") == "n_trades", pl.col("split").is_in(["train", "validation"]), pl.col("value").is_not_null()
    )
    sums = known.group_by("blueprint_id").agg(pl.col("value").sum(), splits=pl.col("split").unique().sort())
    counted = pl.when(pl.col("splits") == pl.lit(["train", "validation"])).then("value")
    yield least.join(sums, on="blueprint_id", how="left").select(
        "blueprint_id",
        pl.lit(ENOUGH_TRADES).alias("gate"),
        counted.alias("counted"),
        (counted >= pl.col("least")).fill_null(value=False).alias("holds"),
    )
    n_overrides = len(evidence.settings.non_production_overrides)
    yield least.select(
        "blueprint_id",
        pl.lit(PRODUCTION).alias("gate"),
        pl.lit(float(n_overrides)).alias("counted"),
        pl.lit(n_overrides == 0).alias("holds"),
    )


def _answers(rows: Sequence[tuple[str, str, float | None]], evidence: Evidence) -> pl.DataFrame:
    """Hold counted numbers against the limits of their gates; an unknown one holds nowhere."""
    by_gate = {one.gate: one for one in (*MEASURED, DIVERSIFICATION)}
    held = [
        (name, gate, value, value is not None and _keeps(value, by_gate[gate], evidence.settings))
        for name, gate, value in rows
    ]
    schema = {"blueprint_id": pl.String, "gate": pl.String, "counted": pl.Float64, "holds": pl.Boolean}
    return pl.DataFrame(held, schema=schema, orient="row")


def _keeps(value: float, one: Criterion, run: ResearchRun) -> bool:
    limit = one.limit_for(run)
    return bool({"<=": value <= limit, ">=": value >= limit, ">": value > limit}[one.comparator])


def _measured(evidence: Evidence) -> pl.DataFrame:
    return _answers(list(counted_again(evidence)), evidence)


def _doubles(evidence: Evidence, found: pl.DataFrame) -> pl.DataFrame:
    """Ask each blueprint in the order of rank how alike its days are to those of the better ones that keep everything."""
    failed = set(found.filter(~pl.col("holds"))["blueprint_id"].to_list())
    returns = returns_again(evidence)
    better: list[str] = []
    rows: list[tuple[str, str, float | None]] = []
    for spec in executed_specs(evidence):
        name = spec.blueprint_id
        alike = [correlated(returns[name], returns[other]) for other in better]
        known = [one for one in alike if one is not None]
        largest = (None if len(known) < len(alike) else max(known)) if alike else 0.0
        rows.append((name, DIVERSIFICATION.gate, largest))
        if name not in failed and largest is not None and _keeps(largest, DIVERSIFICATION, evidence.settings):
            better.append(name)
    return _answers(rows, evidence)


def _other_decisions(evidence: Evidence) -> pl.DataFrame:
    all_passed = pl.col("is_passed").fill_null(value=False).all().over("blueprint_id")
    return broken(evidence.frame, (pl.col("is_promoted") == all_passed) & pl.col("blueprint_id").is_not_null())


def _uncounted(evidence: Evidence) -> tuple[float, str]:
    if evidence.frame["is_promoted"].has_nulls():
        return math.nan, "it is not known what is promoted on how many trials"
    return uncounted_trials(evidence)


def _promotions_present() -> Gate:
    def ask(evidence: Evidence) -> Verdict:
        promoted = evidence.frame.filter("is_promoted")["blueprint_id"].unique().sort()
        failing = (
            evidence.frame.filter(~pl.col("is_passed"))
            .group_by("gate")
            .len()
            .sort(["len", "gate"], descending=[True, False])
        )
        histogram = ", ".join(f"{gate} {n}" for gate, n in failing.iter_rows()) or "none"
        detail = (
            f"promoted: {', '.join(promoted)}; failing gates by blueprints: {histogram}"
            if promoted.len()
            else f"nothing is promoted; failing gates by blueprints: {histogram}; see promotions and walkforward_summary (R51)"
        )
        return Verdict("promotions_present", promoted.len(), 1, "blueprints", passed=promoted.len() >= 1, detail=detail)

    about = "At least one blueprint is promoted. Limit: 1 blueprint."
    return Gate("promotions_present", Severity.WARN, about, ask)


GATES_PROMOTIONS: Final = (
    rows_gate(
        "every_gate_answered",
        "Every executed blueprint, no other, has every promotion gate once.",
        _other_rows,
        fix=_FIX,
    ),
    rows_gate(
        "limits_are_the_runs",
        "Limits, comparators, units and sources are those declared, under the run's settings.",
        _other_limits,
        fix=_FIX,
    ),
    rows_gate(
        "answers_follow_evidence",
        "Observed is what summary, ledger, trades, neighbours, trials and outcomes of train and validation give when counted "
        "again, and passes only if it is known and keeps the limit.",
        _other_answers,
        fix=_FIX,
    ),
    rows_gate(
        "promoted_only_if_all_passed",
        "A blueprint is promoted if, and only if, every gate passed.",
        _other_decisions,
        fix=_FIX,
    ),
    limit_gate(
        "trials_counted",
        "The trials of all runs are counted, as many as there are now.",
        _uncounted,
        limit=0,
        unit="trials",
        fix="make trial_counts of this run again, then promotions",
    ),
    _promotions_present(),
)
"""Inputs: walkforward_summary, blueprints, blueprint_neighbours, simulation_ledger, trades, hypotheses, event_outcomes,
event_registry, market_context, bars_um, trial_counts, trial_ledger of all runs."""


def _other_neighbours(evidence: Evidence) -> pl.DataFrame:
    schema = {
        "blueprint_id": pl.String,
        "neighbour": pl.String,
        "split": pl.String,
        "n_again": pl.Int64,
        "net": pl.Float64,
    }
    again = pl.DataFrame(list(trade_again(evidence)), schema=schema, orient="row")
    days = {split.value: evidence.settings.splits[split].n_days for split in (Split.TRAIN, Split.VALIDATION)}
    both = evidence.frame.with_columns(is_listed=True).join(
        again, on=["blueprint_id", "neighbour", "split"], how="full", coalesce=True
    )
    n_days = pl.col("split").replace_strict(days, default=None, return_dtype=pl.Int64)
    return broken(
        both,
        pl.col("is_listed")
        & (pl.col("n_trades") == pl.col("n_again"))
        & near(pl.col("net_pnl"), pl.col("net"))
        & (pl.col("n_days") == n_days)
        & near(pl.col("net_per_day"), pl.col("net") / n_days),
    ).select("blueprint_id", "neighbour", "split", "n_trades", "n_again", "net_pnl", "net")


def _unchanged(evidence: Evidence) -> pl.DataFrame:
    is_centre = pl.col("neighbour") == "centre"
    return broken(evidence.frame, is_centre == (pl.col("change") == ""))


GATES_BLUEPRINT_NEIGHBOURS: Final = (
    rows_gate(
        "traded_again",
        "Every executed blueprint and each of its neighbours, no other, trades and earns on train and validation what another "
        "simulation of it alone gives.",
        _other_neighbours,
        fix="simulate the neighbours again from this run's bars, settlements, events, context, features and blueprints",
    ),
    rows_gate(
        "change_is_told",
        "A neighbour says what is moved; the blueprint itself moves nothing.",
        _unchanged,
        fix="simulate the neighbours again",
    ),
)
"""Inputs: bars_um, settlements_um, event_registry, market_context, features, blueprints."""
