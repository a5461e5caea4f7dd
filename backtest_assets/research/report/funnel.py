"""The way from events to promotions with the reason for every loss; who survives is decided by earlier stages."""

import polars as pl

from backtest_assets.domain.event import Variant
from backtest_assets.research.report.inputs import ReportInputs
from backtest_assets.research.report.row import Row
from backtest_assets.research.report.words import plain

_NAMED = 4
"""Reasons named per loss; the rest are summed."""


def funnel_rows(inputs: ReportInputs) -> tuple[Row, ...]:
    """Count what is left after every stop, and why the rest was lost on the way there.

    Args:
        inputs: the run's frames.

    Returns:
        One row per stop, in order; its text is the loss against the stop before.

    Knows:
        counts of the whole run, test events included; no outcome of test.
    """
    is_centre = pl.col("variant") == Variant.CENTRE
    candidates, events = inputs.event_candidates.filter(is_centre), inputs.event_registry.filter(is_centre)
    return (
        _stop("events_detected", candidates, "events", "Every time a family's trigger set in."),
        _stop("events_accepted", events, "events", _losses(candidates, events, "event_id", "status")),
        *_hypothesis_stops(inputs.hypotheses),
        *_candidate_stops(inputs),
        *_blueprint_stops(inputs),
        _strategy_stop(inputs.strategy_candidates),
    )


def _hypothesis_stops(hypotheses: pl.DataFrame) -> tuple[Row, ...]:
    eligible = hypotheses.filter(pl.col("is_eligible"))
    admitted = eligible.filter(pl.col("gate_phase1"))
    surviving = admitted.filter(pl.col("gate_multiplicity"))
    validated = surviving.filter(pl.col("gate_validation"))
    selected = hypotheses.filter(pl.col("status") == "selected")
    who = "asked for by the hypothesis queue" if hypotheses["queue_rank"].count() else "declared"
    beyond = hypotheses.filter(pl.col("status") == "beyond_budget").height
    why = "too few events or days to be tested" + (f", or beyond the budget of conditions ({beyond})" if beyond else "")
    return (
        _stop(
            "hypotheses",
            hypotheses,
            "hypotheses",
            f"Families x conditions x sides x delays x holds, {who} before any result.",
        ),
        _stop("eligible", eligible, "hypotheses", _lost(hypotheses, eligible, why)),
        _stop(
            "phase1_passed",
            admitted,
            "hypotheses",
            _lost(eligible, admitted, "of families whose events show nothing credible beside their controls"),
        ),
        _stop(
            "multiplicity_survivors",
            surviving,
            "hypotheses",
            _lost(admitted, surviving, "no better than the luckiest of so many tries"),
        ),
        _stop(
            "validated", validated, "hypotheses", _lost(surviving, validated, "not confirmed on the validation window")
        ),
        _stop("selected", selected, "hypotheses", _losses(validated, selected, "hypothesis_id", "fail_reasons")),
    )


def _candidate_stops(inputs: ReportInputs) -> tuple[Row, ...]:
    selected = inputs.hypotheses.filter(pl.col("status") == "selected")
    plain_entry = inputs.naive_entry.select("hypothesis_id", "status", "fail_reasons", "is_passed")
    told = selected.select("hypothesis_id").join(plain_entry, on="hypothesis_id", how="left")
    why = told.with_columns(
        reason=pl.when(pl.col("status") == "FAIL").then("fail_reasons").otherwise(pl.lit("not run"))
    )
    earning = why.filter("is_passed")
    candidates = inputs.edge_candidates.rename({"candidate_id": "hypothesis_id"})
    standing = earning.select("hypothesis_id").join(
        candidates.select("hypothesis_id", "status", against="fail_reasons"), on="hypothesis_id", how="left"
    )
    known = standing.with_columns(pl.col("against").fill_null("no candidate"))
    promoted = known.filter(pl.col("status") == "PROMOTED")
    return (
        _stop("naive_entry", earning, "hypotheses", _losses(why, earning, "hypothesis_id", "reason")),
        _stop("promoted_edge_candidates", promoted, "hypotheses", _losses(known, promoted, "hypothesis_id", "against")),
    )


def _strategy_stop(strategies: pl.DataFrame) -> Row:
    counts = dict(strategies["source"].value_counts().iter_rows())
    text = (
        f"Promoted blueprints {counts.get('promoted_blueprint', 0):,}, then edge candidates that are none of them "
        f"{counts.get('edge_candidate', 0):,}."
    )
    return _stop("strategy_candidates", strategies, "candidates", text)


def _unexecuted_stops(inputs: ReportInputs) -> tuple[Row, ...]:
    lifted = inputs.research_run.filter(pl.col("setting") == "strategy_blueprint_ignore_checklist")["value_json"]
    if inputs.blueprints.is_empty() and lifted.to_list() == ["0"]:
        return (Row("funnel", "blueprints", "Not compiled: the checklist did not say PROMOTE."),)
    told = "Compiled under overrides, not executed: the checklist did not say PROMOTE."
    return (
        _stop("blueprints", inputs.blueprints, "blueprints", told),
        Row("funnel", "executed", "No blueprint was executed: the checklist did not say PROMOTE."),
    )


def _blueprint_stops(inputs: ReportInputs) -> tuple[Row, ...]:
    blueprints, execution = inputs.blueprints, inputs.execution
    if execution is None:
        return _unexecuted_stops(inputs)
    executed = blueprints.filter(pl.col("is_executed"))
    failed = execution.promotions.filter(~pl.col("is_passed"))
    promoted = executed.filter(
        pl.col("blueprint_id").is_in(
            execution.promotions.filter(pl.col("is_promoted"))["blueprint_id"].unique().to_list()
        )
    )
    reasons = _histogram(failed["gate"])
    return (
        _stop(
            "blueprints",
            blueprints,
            "blueprints",
            "The best of each family and side; the others are near-copies that trade the same events.",
        ),
        _stop(
            "executed",
            executed,
            "blueprints",
            _lost(blueprints, executed, "beyond blueprints_top_k or the family filter"),
        ),
        _stop("promoted", promoted, "blueprints", _lost(executed, promoted, f"failed gates: {reasons}")),
    )


def _stop(item: str, left: pl.DataFrame, unit: str, text: str) -> Row:
    return Row("funnel", item, text, left.height, unit)


def _lost(before: pl.DataFrame, after: pl.DataFrame, why: str) -> str:
    n_lost = before.height - after.height
    return f"{n_lost:,} lost: {why}." if n_lost else "None lost."


def _losses(before: pl.DataFrame, after: pl.DataFrame, key: str, reason: str) -> str:
    lost = before.join(after, on=key, how="anti")
    return _lost(before, after, _histogram(lost[reason].str.split(",").explode()))


def _histogram(reasons: pl.Series) -> str:
    counts = reasons.rename("reason").value_counts(name="n").sort("n", "reason", descending=[True, False]).rows()
    named = [f"{plain(str(reason))} {n:,}" for reason, n in counts[:_NAMED]]
    rest = sum(n for _, n in counts[_NAMED:])
    return ", ".join([*named, *([f"others {rest:,}"] if rest else [])])
