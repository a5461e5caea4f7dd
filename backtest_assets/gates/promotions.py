"""What must be true of the promotion decision: it is counted again from the evidence; the limits stay in the criteria."""

import math
from collections.abc import Iterator
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.executed import executed_specs, near
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.trials import uncounted_trials
from backtest_assets.research.promotions.criteria import CRITERIA, ENOUGH_TRADES, PRODUCTION, Criterion

_FIX: Final = "rebuild promotions from the published summary"


def _other_rows(evidence: Evidence) -> pl.DataFrame:
    names = [spec.blueprint_id for spec in executed_specs(evidence)]
    asked = (*(criterion.gate for criterion in CRITERIA), ENOUGH_TRADES, PRODUCTION)
    keys = [(name, gate) for name in names for gate in asked]
    wanted = pl.DataFrame(keys, schema={"blueprint_id": pl.String, "gate": pl.String}, orient="row")
    both = evidence.frame.select("blueprint_id", "gate", is_listed=True).join(
        wanted.with_columns(is_wanted=True), on=["blueprint_id", "gate"], how="full", coalesce=True
    )
    return broken(both, pl.col("is_listed") & pl.col("is_wanted"))


def _other_limits(evidence: Evidence) -> pl.DataFrame:
    run = evidence.settings
    shared = [(c.gate, c.limit_for(run), c.comparator, c.unit) for c in CRITERIA]
    shared.append((PRODUCTION, 0.0, "<=", "overrides"))
    rows: list[tuple[str, str, float, str, str]] = []
    for spec in executed_specs(evidence):
        rows += [(spec.blueprint_id, *one) for one in shared]
        rows.append((spec.blueprint_id, ENOUGH_TRADES, float(spec.evaluation.min_trades), ">=", "trades"))
    schema = {"blueprint_id": pl.String, "gate": pl.String, "declared": pl.Float64, "how": pl.String, "in": pl.String}
    declared = pl.DataFrame(rows, schema=schema, orient="row")
    same = (
        (pl.col("limit") == pl.col("declared"))
        & (pl.col("comparator") == pl.col("how"))
        & (pl.col("unit") == pl.col("in"))
    )
    return broken(evidence.frame.join(declared, on=["blueprint_id", "gate"], how="left"), same)


def _other_answers(evidence: Evidence) -> pl.DataFrame:
    found = [*(_counted(evidence, criterion) for criterion in CRITERIA), *_own_counted(evidence)]
    both = evidence.frame.join(pl.concat(found), on=["blueprint_id", "gate"], how="left")
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
    rows_gate("limits_are_the_runs", "Limits, comparators and units are the run's settings.", _other_limits, fix=_FIX),
    rows_gate(
        "answers_follow_evidence",
        "Observed is the worse of train and validation in the summary, and passes only if it is known and keeps the limit.",
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
"""Inputs: walkforward_summary, blueprints, trial_counts, trial_ledger of all runs."""
