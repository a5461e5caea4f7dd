"""What must be true of phase 1: every family answered, numbers and ages counted again in SQL, decisions that follow."""

import math
from typing import Any, Final

import polars as pl

from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.sql import ask_sql
from backtest_assets.gates.weighed import MAX_ERROR, family_bounds, placebo_bounds, shares_hold, weigh_again
from backtest_assets.research.phase1.criteria import MAX_EFFECT_P, METRICS, MIN_MATCHED, MIN_PLACEBOS, PLACEBO_LEVEL

MAX_FROZEN: Final = 0
"""Families frozen or not run that deserve no remark [families]."""

_STATISTICS: Final = (
    "mean_event", "mean_control", "delta", "n_clusters", "se", "ci_low", "ci_high", "z", "p_family", "placebo_clusters_effective",
    "p_shifted", "p_placebo", "z_placebo_max", "shuffled_rejection_share", "n_years", "n_years_opposite", "n_groups",
    "n_groups_opposite",
)  # fmt: skip
_COUNTS: Final = ("n_clusters", "n_years", "n_years_opposite", "n_groups", "n_groups_opposite")
_HAZARD_KEY: Final = ("event_type", "cohort", "outcome", "age_bars")
_METRIC_KEY: Final = ["event_type", "metric"]
_IS_RUN: Final = pl.col("decision").fill_null("") != "not_run"

_AGES: Final = """
with observed as (
    select event_type, case when control_no = 0 then 'events' else 'controls' end as cohort, bars_watched, outcome,
        case outcome when 'up' then up_bars when 'down' then down_bars else least(up_bars, down_bars) end as hit
    from barriers cross join (values ('up'), ('down'), ('either')) as o(outcome)
)
select a.event_type, a.cohort, a.outcome, a.age_bars,
    count(*) filter (where o.bars_watched >= a.age_bars and coalesce(o.hit, 1000) >= a.age_bars) as n_at_risk,
    count(*) filter (where o.hit = a.age_bars) as n_hits
from asked a left join observed o on o.event_type = a.event_type and o.cohort = a.cohort and o.outcome = a.outcome
group by all
"""


def _ask_complete(evidence: Evidence) -> Verdict:
    asked = {(family.value, metric) for family in evidence.settings.event_types for metric in METRICS}
    found = list(evidence.frame.select("event_type", "metric").iter_rows())
    wrong = asked.symmetric_difference(found)
    passed = not wrong and len(found) == len(asked)
    detail = f"rows missing or unknown: {sorted(map(str, wrong))[:5]}" if wrong else f"{len(found)} rows"
    return Verdict("rows_complete", len(found), len(asked), "rows", passed=passed, detail=detail)


def _unknown(evidence: Evidence) -> pl.DataFrame:
    finite = pl.all_horizontal(pl.col(_STATISTICS).cast(pl.Float64).is_finite())
    nothing = pl.all_horizontal(pl.col(_STATISTICS).is_null())
    weighed = pl.col("n_placebos").is_not_null() == ~pl.col("ground").is_in(["unsupported", "few_matched"])
    is_run = pl.col("decision") != "not_run"
    return broken(evidence.frame, weighed & ((is_run & finite) | (~is_run & nothing))).select(
        *_METRIC_KEY, "decision", "ground", "n_placebos"
    )


def _recounted(evidence: Evidence) -> pl.DataFrame:
    return evidence.frame.join(weigh_again(evidence), on=_METRIC_KEY, how="left", suffix="_again")


def _recount_error(evidence: Evidence) -> tuple[float, str]:
    both = _recounted(evidence)
    n_error = (pl.col("n_matched") - pl.col("n").fill_null(0)).abs()
    pairs = [("mean_event", "event"), ("mean_control", "control"), ("z", "t")]
    pairs += [(name, f"{name}_again") for name in ("delta", "se", "ci_low", "ci_high")]
    errors = [((pl.col(mine) - pl.col(other)).abs() / (1.0 + pl.col(other).abs())) for mine, other in pairs]
    worst = pl.when(_IS_RUN).then(pl.max_horizontal(*(error.fill_null(math.inf) for error in errors))).otherwise(0.0)
    rows = both.select(*_METRIC_KEY, error=(worst + n_error).fill_null(math.inf)).sort("error", descending=True)
    family, metric, error = rows.row(0)
    return error, f"{rows.height} counted again, farthest: {family} {metric}"


def _wrong_counts(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose clusters, or years, symbols and regimes that contradict, are others when counted again."""
    run = _recounted(evidence).filter(_IS_RUN)
    again = [pl.col("n_clusters") == pl.col("g")]
    again += [pl.col(name) == pl.col(f"{name}_again").fill_null(0) for name in _COUNTS[1:]]
    return broken(run, pl.all_horizontal(again)).select(
        *_METRIC_KEY, *_COUNTS, "g", *(f"{name}_again" for name in _COUNTS[1:])
    )


def _unlike_draws(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose family-wise p other draws do not give."""
    bounded = evidence.frame.filter(_IS_RUN).join(family_bounds(evidence), on=_METRIC_KEY, how="left")
    return broken(bounded, pl.col("p_family").is_between("p_family_low", "p_family_high")).select(
        *_METRIC_KEY, "z", "p_family", "p_again", "p_family_low", "p_family_high"
    )


def _out_of_bounds(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose p of placebos cannot come from their z, or whose shares of placebos and shuffles not from their numbers."""
    bounded = placebo_bounds(evidence.frame.filter(_IS_RUN))
    within = pl.col("p_placebo").is_between("p_placebo_low", "p_placebo_high")
    return broken(bounded, within & shares_hold()).select(
        *_METRIC_KEY, "z", "z_placebo_max", "p_placebo", "p_placebo_low", "p_placebo_high", "n_placebos", "p_shifted",
        "shuffled_rejection_share",
    )  # fmt: skip


def _wrong_arithmetic(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose numbers contradict each other."""
    run = evidence.frame.filter(_IS_RUN)
    scale = 1.0 + pl.col("delta").abs() + pl.col("mean_event").abs()
    holds = (
        ((pl.col("mean_event") - pl.col("mean_control") - pl.col("delta")).abs() <= MAX_ERROR * scale)
        & ((pl.col("z") * pl.col("se") - pl.col("delta")).abs() <= MAX_ERROR * scale)
        & pl.col("delta").is_between("ci_low", "ci_high")
        & (((pl.col("ci_low") + pl.col("ci_high")) / 2 - pl.col("delta")).abs() <= MAX_ERROR * scale)
        & (pl.col("n_years_opposite").is_between(0, "n_years"))
        & (pl.col("n_groups_opposite").is_between(0, "n_groups"))
    )
    return broken(run, holds).select("event_type", "metric", "mean_event", "mean_control", "delta", "se", "z")


def _wrong_decisions(evidence: Evidence) -> pl.DataFrame:
    """Decide on every family again in plain comparisons and return those decided otherwise or on another ground."""
    standings = evidence.inputs["event_families"]
    without_scatter = set(_recounted(evidence).filter(pl.col("t").is_null())["event_type"])
    wrong: list[str] = []
    for (family,), rows in evidence.frame.partition_by("event_type", as_dict=True).items():
        of_family = standings.filter(pl.col("event_type") == family)["status"].to_list()
        decided = {(row["decision"], row["ground"], row["reason"]) for row in rows.to_dicts()}
        asked = _follows(rows.to_dicts(), of_family, has_scatter=family not in without_scatter)
        if len(decided) != 1 or next(iter(decided))[:2] != asked:
            wrong.append(str(family))
    return evidence.frame.filter(pl.col("event_type").is_in(wrong) | pl.col("event_type").is_null()).select(
        *_METRIC_KEY, "p_family", "n_placebos", "p_placebo", "decision", "ground", "reason"
    )


def _follows(rows: list[dict[str, Any]], standings: list[str], *, has_scatter: bool) -> tuple[str, str]:
    """Return the decision that follows, and its ground."""
    if (ground := _not_run(rows, standings, has_scatter=has_scatter)) is not None:
        return "not_run", ground
    if any(row["p_family"] is None or row["p_placebo"] is None for row in rows):
        return "unknown", ""
    moves = [row for row in rows if str(row["metric"]).startswith("move_")]
    grounds = [row for row in moves if row["p_family"] <= MAX_EFFECT_P]
    if not grounds:
        return "freeze", "no_effect"
    if any(row["p_placebo"] <= PLACEBO_LEVEL for row in moves):
        return "freeze", "biased"
    if any(row["n_years_opposite"] > 0 or row["n_groups_opposite"] > 0 for row in grounds):
        return "freeze", "contradicted"
    return "pass", "effect"


def _not_run(rows: list[dict[str, Any]], standings: list[str], *, has_scatter: bool) -> str | None:
    if all(status == "NOT_RUN" for status in standings):
        return "unsupported"
    if any(row["n_matched"] < MIN_MATCHED for row in rows):
        return "few_matched"
    if not has_scatter:
        return "no_scatter"
    return "few_placebos" if any((row["n_placebos"] or 0) < MIN_PLACEBOS for row in rows) else None


def _ask_stopped(evidence: Evidence) -> Verdict:
    stopped = evidence.frame.filter(pl.col("decision").fill_null("") != "pass").unique("event_type").sort("event_type")
    listed = "; ".join(
        f"{family} {decision}: {why}"
        for family, decision, why in stopped.select("event_type", "decision", "reason").iter_rows()
    )
    passed = stopped.height <= MAX_FROZEN and not evidence.frame.is_empty()
    detail = listed or ("every family passes" if passed else "no family was judged")
    return Verdict("families_pass", stopped.height, MAX_FROZEN, "families", passed=passed, detail=detail)


def _ask_ages_complete(evidence: Evidence) -> Verdict:
    n_asked = len(evidence.settings.event_types) * 2 * 3 * 96
    found = evidence.frame.select(_HAZARD_KEY)
    known = (
        pl.col("event_type").is_in([family.value for family in evidence.settings.event_types])
        & pl.col("cohort").is_in(["events", "controls"])
        & pl.col("outcome").is_in(["up", "down", "either"])
        & pl.col("age_bars").is_between(1, 96)
    )
    n_known = found.filter(known).unique().height
    passed = n_known == n_asked == evidence.frame.height
    detail = f"{evidence.frame.height} rows, {n_known} distinct and asked for"
    return Verdict("ages_complete", n_known, n_asked, "rows", passed=passed, detail=detail)


def _wrong_ages(evidence: Evidence) -> pl.DataFrame:
    train = evidence.inputs["event_barriers"].filter(pl.col("split") == "train")
    asked = evidence.frame.select(_HAZARD_KEY)
    again = ask_sql(_AGES, {"asked": asked, "barriers": train.select(pl.exclude("known_at", "entered_at"))})
    both = evidence.frame.join(again, on=_HAZARD_KEY, how="left", suffix="_again")
    holds = (pl.col("n_at_risk") == pl.col("n_at_risk_again")) & (pl.col("n_hits") == pl.col("n_hits_again"))
    return broken(both, holds).select(*_HAZARD_KEY, "n_at_risk", "n_at_risk_again", "n_hits", "n_hits_again")


def _wrong_curves(evidence: Evidence) -> pl.DataFrame:
    """Return ages whose hazard is not hits over risk, or whose survival does not follow from the age before."""
    ordered = evidence.frame.sort(_HAZARD_KEY)
    before = pl.col("survival").shift(1).over("event_type", "cohort", "outcome")
    survival = pl.when(pl.col("age_bars") == 1).then(1.0).otherwise(before) * (1.0 - pl.col("hazard"))
    some = pl.col("n_at_risk") > 0
    right = ((pl.col("hazard") - pl.col("n_hits") / pl.col("n_at_risk")).abs() <= MAX_ERROR) & (
        (pl.col("survival") - survival).abs() <= MAX_ERROR
    )
    nothing = (pl.col("n_at_risk") == 0) & pl.col("hazard").is_null() & pl.col("survival").is_null()
    return broken(ordered, (some & right.fill_null(value=False)) | nothing).select(*_HAZARD_KEY, "hazard", "survival")


_AGAIN: Final = "outcomes, barriers or controls changed after weighing: rebuild phase 1"

GATES_PHASE1_HAZARDS: Final = (
    Gate(
        "ages_complete",
        Severity.ERROR,
        "Every family, cohort, outcome and age of the run has one row.",
        _ask_ages_complete,
    ),
    rows_gate(
        "counts_recounted",
        "Observations at risk and hits, counted again in SQL, are the stored ones.",
        _wrong_ages,
        fix=_AGAIN,
    ),
    rows_gate(
        "curves_follow", "Hazard is hits over risk, survival the product of what is left.", _wrong_curves, fix=_AGAIN
    ),
)
GATES_PHASE1_EVIDENCE: Final = (
    Gate("rows_complete", Severity.ERROR, "Every family and metric of the run has one row.", _ask_complete),
    rows_gate(
        "known_if_run",
        "Numbers are finite where a family is judged, and null where it is not run.",
        _unknown,
        fix=_AGAIN,
    ),
    limit_gate(
        "numbers_recounted",
        "Matched counts, means, deltas, clustered errors, intervals and z, counted again in SQL, are the stored ones.",
        _recount_error,
        limit=MAX_ERROR,
        unit="relative",
        fix=_AGAIN,
    ),
    rows_gate(
        "contradictions_recounted",
        "Clusters, and years, symbols and regimes that contradict the whole, counted again in SQL, are the stored ones.",
        _wrong_counts,
        fix=_AGAIN,
    ),
    rows_gate(
        "p_drawn_again",
        "The family-wise p of events, drawn anew by other code and seed, is the stored one but for what draws differ.",
        _unlike_draws,
        fix=_AGAIN,
    ),
    rows_gate(
        "draws_in_bounds",
        "p of placebos lie where their z allow; shares of placebos and shuffles are shares of so many.",
        _out_of_bounds,
        fix=_AGAIN,
    ),
    rows_gate("numbers_agree", "Delta, error, z, interval and counts of a row agree.", _wrong_arithmetic, fix=_AGAIN),
    rows_gate(
        "decision_follows",
        "One decision and ground per family, and they follow from the numbers.",
        _wrong_decisions,
        fix=_AGAIN,
    ),
    Gate(
        "families_pass",
        Severity.WARN,
        "Families that phase 2 may not select from, with the reason; limit: 0.",
        _ask_stopped,
    ),
)
