"""What must be true of phase 1: every family answered, deltas and ages counted again in SQL, decisions that follow."""

import math
from typing import Any, Final

import polars as pl

from backtest_assets.domain.event import EventType
from backtest_assets.domain.gate import Severity, Verdict
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.sql import ask_sql
from backtest_assets.research.phase1.criteria import MAX_EFFECT_P, METRICS, MIN_MATCHED, PLACEBO_LEVEL

MAX_DELTA_ERROR: Final = 1e-9
"""Difference of a delta counted again, relative to 1 + its size: rounding of sums in another order, nothing else."""
MAX_FROZEN: Final = 0
"""Families frozen or not run that deserve no remark [families]."""

_STATISTICS: Final = (
    "mean_event", "mean_control", "delta", "se", "ci_low", "ci_high", "z", "p_family", "p_shifted", "p_placebo",
    "z_placebo_max", "p_shuffled", "n_years", "n_years_opposite", "n_groups", "n_groups_opposite",
)  # fmt: skip
_HAZARD_KEY: Final = ("event_type", "cohort", "outcome", "age_bars")

# Every metric of every event and control of train as one row, then the mean over events of event minus its controls' mean.
_DELTAS: Final = """
with measured as (
    select event_type, event_id, control_no, known_at, 'realized_vol_bps' as metric, realized_vol_bps as value
    from outcomes where hold_bars = 96
    union all
    select event_type, event_id, control_no, known_at, 'range_bps', highest_bps - lowest_bps from outcomes where hold_bars = 96
    union all
    select event_type, event_id, control_no, known_at, 'move_' || hold_bars || '_bars_bps',
        (case when event_type in (select event_type from sided) then side else 1 end) * (gross_bps - funding_bps)
    from outcomes
    union all
    select o.event_type, o.event_id, o.control_no, o.known_at, 'tail_hit',
        case when coalesce(b.up_bars, 97) <= 96 or coalesce(b.down_bars, 97) <= 96 then 1.0 else 0.0 end
    from barriers b join outcomes o on o.event_id = b.event_id and o.control_no = b.control_no and o.hold_bars = 96
    where b.bars_watched = 96
),
events as (select * from measured where control_no = 0 and value is not null),
matches as (
    select m.event_id, m.metric, avg(m.value) as value
    from measured m join controls c on c.event_id = m.event_id and c.control_no = m.control_no and c.known_at = m.known_at
    where m.value is not null
    group by m.event_id, m.metric
)
select e.event_type, e.metric, count(*) as n, avg(e.value) as event, avg(m.value) as control, avg(e.value - m.value) as delta
from events e join matches m on m.event_id = e.event_id and m.metric = e.metric
group by e.event_type, e.metric
"""

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
    is_run = pl.col("decision") != "not_run"
    return broken(evidence.frame, (is_run & finite) | (~is_run & nothing)).select("event_type", "metric", "decision")


def _delta_error(evidence: Evidence) -> tuple[float, str]:
    again = _deltas(evidence)
    both = evidence.frame.join(again, on=["event_type", "metric"], how="left")
    n_error = (pl.col("n_matched") - pl.col("n").fill_null(0)).abs()
    is_run = pl.col("decision") != "not_run"
    pairs = (("mean_event", "event"), ("mean_control", "control"), ("delta", "delta_right"))
    errors = [((pl.col(mine) - pl.col(other)).abs() / (1.0 + pl.col(other).abs())) for mine, other in pairs]
    worst = pl.when(is_run).then(pl.max_horizontal(*(error.fill_null(math.inf) for error in errors))).otherwise(0.0)
    rows = both.select("event_type", "metric", error=(worst + n_error).fill_null(math.inf)).sort(
        "error", descending=True
    )
    family, metric, error = rows.row(0)
    return error, f"{rows.height} counted again, farthest: {family} {metric}"


def _deltas(evidence: Evidence) -> pl.DataFrame:
    train = pl.col("split") == "train"
    outcomes = evidence.inputs["event_outcomes"].filter(
        train, pl.col("variant") == "centre", pl.col("delay_bars") == 0, pl.col("hold_bars").is_in([4, 16, 48, 96])
    )
    sided = pl.DataFrame({"event_type": [family.value for family in EventType if family.is_sided]})
    frames = {
        "outcomes": outcomes.select(pl.exclude("^accrual_.*$")),
        "barriers": evidence.inputs["event_barriers"].filter(train),
        "controls": evidence.inputs["event_controls"].select("event_id", "control_no", "known_at"),
        "sided": sided,
    }
    return ask_sql(_DELTAS, frames)


def _wrong_arithmetic(evidence: Evidence) -> pl.DataFrame:
    """Return rows whose numbers contradict each other."""
    run = evidence.frame.filter(pl.col("decision").fill_null("") != "not_run")
    scale = 1.0 + pl.col("delta").abs() + pl.col("mean_event").abs()
    holds = (
        ((pl.col("mean_event") - pl.col("mean_control") - pl.col("delta")).abs() <= MAX_DELTA_ERROR * scale)
        & ((pl.col("z") * pl.col("se") - pl.col("delta")).abs() <= MAX_DELTA_ERROR * scale)
        & pl.col("delta").is_between("ci_low", "ci_high")
        & (((pl.col("ci_low") + pl.col("ci_high")) / 2 - pl.col("delta")).abs() <= MAX_DELTA_ERROR * scale)
        & (pl.col("n_years_opposite").is_between(0, "n_years"))
        & (pl.col("n_groups_opposite").is_between(0, "n_groups"))
    )
    return broken(run, holds).select("event_type", "metric", "mean_event", "mean_control", "delta", "se", "z")


def _wrong_decisions(evidence: Evidence) -> pl.DataFrame:
    """Decide on every family again in plain comparisons and return those decided otherwise."""
    standings = evidence.inputs["event_families"]
    wrong: list[str] = []
    for (family,), rows in evidence.frame.partition_by("event_type", as_dict=True).items():
        of_family = standings.filter(pl.col("event_type") == family)["status"].to_list()
        decided = {(row["decision"], row["reason"]) for row in rows.to_dicts()}
        if len(decided) != 1 or next(iter(decided))[0] not in _allowed(rows.to_dicts(), of_family):
            wrong.append(str(family))
    return evidence.frame.filter(pl.col("event_type").is_in(wrong) | pl.col("event_type").is_null()).select(
        "event_type", "metric", "p_family", "p_placebo", "decision", "reason"
    )


def _allowed(rows: list[dict[str, Any]], standings: list[str]) -> set[str]:
    """Return the decisions that follow; a family may also be not_run because a number is unknown, which leaves none behind."""
    if all(status == "NOT_RUN" for status in standings) or any(row["n_matched"] < MIN_MATCHED for row in rows):
        return {"not_run"}
    if any(row["p_family"] is None or row["p_placebo"] is None for row in rows):
        return {"not_run"}
    moves = [row for row in rows if str(row["metric"]).startswith("move_")]
    grounds = [row for row in moves if row["p_family"] <= MAX_EFFECT_P]
    is_biased = any(row["p_placebo"] <= PLACEBO_LEVEL for row in moves)
    is_contradicted = any(row["n_years_opposite"] > 0 or row["n_groups_opposite"] > 0 for row in grounds)
    return {"pass"} if grounds and not is_biased and not is_contradicted else {"freeze"}


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


def _wrong_counts(evidence: Evidence) -> pl.DataFrame:
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
    right = ((pl.col("hazard") - pl.col("n_hits") / pl.col("n_at_risk")).abs() <= MAX_DELTA_ERROR) & (
        (pl.col("survival") - survival).abs() <= MAX_DELTA_ERROR
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
        _wrong_counts,
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
        "deltas_recounted",
        "Matched counts, means and deltas, counted again in SQL, are the stored ones.",
        _delta_error,
        limit=MAX_DELTA_ERROR,
        unit="relative",
        fix=_AGAIN,
    ),
    rows_gate("numbers_agree", "Delta, error, z, interval and counts of a row agree.", _wrong_arithmetic, fix=_AGAIN),
    rows_gate(
        "decision_follows", "One decision per family, and it follows from the numbers.", _wrong_decisions, fix=_AGAIN
    ),
    Gate(
        "families_pass",
        Severity.WARN,
        "Families that phase 2 may not select from, with the reason; limit: 0.",
        _ask_stopped,
    ),
)
