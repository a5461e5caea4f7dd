"""What must be true of hypotheses that are no blueprint; what must be true of blueprints stays in `blueprints`."""

from typing import Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import broken, rows_gate
from backtest_assets.gates.blueprints import may_be_present, standing_of
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.blueprints.compile import REASONS
from backtest_assets.research.blueprints.criteria import QUALITY_FLOOR


def _may_reject_nothing(evidence: Evidence) -> bool:
    """Say whether nothing was tested, or what was tested fits into the blueprints."""
    tested = evidence.inputs["hypotheses"].filter("is_eligible")
    most = evidence.settings.strategy_blueprint_max_per_event * tested["event_type"].n_unique()
    return tested.height <= most


def _unaccounted(evidence: Evidence) -> pl.DataFrame:
    """Return what is listed and was not tested, and what is neither listed nor can be a blueprint."""
    run, tested = evidence.settings, standing_of(evidence).filter("is_eligible")
    listed = evidence.frame.select("hypothesis_id", "event_type", is_listed=True)
    both = tested.select("hypothesis_id", "event_type", "is_promotable", "is_naive_ok", is_tested=True).join(
        listed, on=["hypothesis_id", "event_type"], how="full", coalesce=True
    )
    unlisted = pl.col("is_listed").is_null()
    is_chosen = pl.col("is_promotable") | pl.lit(run.strategy_blueprint_allow_fallback == 1)
    may_be_one = is_chosen & pl.col("is_naive_ok")
    few = unlisted.sum().over("event_type") <= run.strategy_blueprint_max_per_event
    return broken(both, pl.col("is_tested") & (~unlisted | (may_be_one & few & pl.lit(may_be_present(evidence)))))


def _unreasoned(evidence: Evidence) -> pl.DataFrame:
    """Return the rejections whose reason is unknown or not true of the hypothesis."""
    tested = standing_of(evidence).drop("event_type", "condition", "side_rule", "hold_bars")
    rows = evidence.frame.join(tested, on="hypothesis_id", how="left")
    floor = pl.all_horizontal(
        {">=": pl.col(name) >= limit, ">": pl.col(name) > limit, "<": pl.col(name) < limit}[how]
        for name, (how, limit) in QUALITY_FLOOR.items()
    ).fill_null(value=False)
    early, reason = ["checklist", "not_selected", "not_promoted"], pl.col("reason")
    selected, promotable = pl.col("status") == "selected", pl.col("is_promotable")
    copies = reason.is_in(["near_copy", "same_behaviour"])
    rejected = evidence.frame["hypothesis_id"].implode()
    kept = pl.col("kept_hypothesis_id")
    holds = (
        reason.is_in(list(REASONS))
        & (pl.col("is_selected") == selected)
        & ((reason == "not_selected") <= ~selected)
        & ((reason == "not_promoted") <= (selected & ~promotable))
        & ((reason == "checklist") <= (promotable & pl.lit(not may_be_present(evidence))))
        & ((reason == "quality_floor") <= ~floor)
        & (reason.is_in([*early, "quality_floor"]) | floor)
        & (copies == kept.is_not_null())
        & (kept.is_null() | ~kept.is_in(rejected))
        & ((reason == "naive_entry") <= ~pl.col("is_naive_ok"))
    )
    return broken(rows, holds).select("hypothesis_id", "reason", "detail", "kept_hypothesis_id")


def _ask_families_lost(evidence: Evidence) -> Verdict:
    selected = evidence.frame.filter("is_selected").group_by("event_type").agg(pl.col("reason").unique())
    lost = sorted(family for family, reasons in selected.iter_rows() if reasons == ["non_executable_condition"])
    allowed = evidence.settings.strategy_blueprint_allow_non_executable_conditions == 1
    passed = not lost or allowed
    detail = f"families that lost every selected hypothesis to its condition: {', '.join(lost) or 'none'}"
    return Verdict("conditions_executable", len(lost), 0, "families", passed=passed, detail=detail)


GATES_BLUEPRINT_REJECTIONS: Final = (
    rows_gate(
        "every_tested_accounted",
        "Every tested hypothesis is rejected with a reason, or is one of the few that can be a blueprint.",
        _unaccounted,
        fix="rebuild blueprint_rejections from this run's hypotheses",
        may_be_empty=_may_reject_nothing,
    ),
    rows_gate(
        "reasons_hold",
        "Every reason is known and true of its hypothesis; what stands for another is not rejected itself.",
        _unreasoned,
        fix="rebuild blueprint_rejections from this run's hypotheses",
        may_be_empty=_may_reject_nothing,
    ),
    Gate(
        "conditions_executable",
        Severity.ERROR,
        "No family lost every selected hypothesis to conditions nobody can execute (R66); limit: 0 families.",
        _ask_families_lost,
    ),
)
