"""What must be true of matched controls: of the past, outside every event, spread out, comparable, balanced."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import Variant
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.split import Split
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.gates.matched import unlike_matches
from backtest_assets.gates.sql import ask_sql
from backtest_assets.research.events.controls import (
    BARS_AFTER,
    BARS_BEFORE,
    CALIPER,
    CALIPER_FURTHER,
    CONTROLS_PER_EVENT,
    EMBARGO_BARS,
    LOOKBACK_DAYS,
    MAX_DAY_USES,
    MAX_USES,
)
from backtest_assets.research.phase1.criteria import MIN_MATCHED
from backtest_assets.tables.events import EVENT_CONTROLS

BALANCE_LIMIT: Final = 0.25
"""Largest standardised mean difference between the events of a family and their controls [sd of the events]: the usual
bound beyond which regression cannot repair the comparison (Rubin 2001). The rank is of before the onset: volatility at the
onset is what some families select on, and no control could match it."""
BALANCE_LEAST: Final = MIN_MATCHED
"""Matched train events from which a family is judged [events]: phase 1 runs no smaller one, so nobody relies on its balance,
and the standard deviation of a few events says nothing."""
COVERAGE_LIMIT: Final = 0.25
"""Share of events without any control that deserves a remark [fraction]: the first months of a run have little
past to match from."""

_FRIDAY: Final = 5  # Monday is 1
_FOREVER: Final = datetime(2200, 1, 1, tzinfo=UTC)
_CENTRE: Final = pl.col("variant") == Variant.CENTRE.value


def nothing_to_match(evidence: Evidence) -> bool:
    """Say whether there is no event, so that a table made from events is rightly empty."""
    return evidence.inputs["event_registry"].filter(_CENTRE).is_empty()


def _not_of_the_past(evidence: Evidence) -> pl.DataFrame:
    rows = evidence.frame.join(
        evidence.inputs["event_registry"].filter(_CENTRE).select("event_id", "symbol", truly_known_at="known_at"),
        on=["event_id", "symbol"],
        how="left",
    )
    age = pl.col("event_known_at") - pl.col("known_at")
    holds = (
        (pl.col("event_known_at") == pl.col("truly_known_at"))
        & (age > 0 * BAR)
        & (age <= pl.duration(days=LOOKBACK_DAYS))
        & (pl.col("event_known_at").dt.hour() == pl.col("known_at").dt.hour())
        & ((pl.col("event_known_at").dt.weekday() > _FRIDAY) == (pl.col("known_at").dt.weekday() > _FRIDAY))
        & pl.col("control_no").is_between(1, CONTROLS_PER_EVENT)
    )
    return broken(rows, holds)


def _inside_events(evidence: Evidence) -> pl.DataFrame:
    events = evidence.inputs["event_registry"]
    return pl.concat([_within_windows(rows, events) for rows in evidence.frame.partition_by("symbol")])


def _within_windows(rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    windows = (
        events.filter(_CENTRE)
        .join(rows.head(1), on="symbol", how="semi")
        .select(
            family="event_type",
            by="known_at",
            onset="onset_at",
            over=pl.col("exit_at").fill_null(_FOREVER) + EMBARGO_BARS * BAR,
            before=pl.col("onset_at") - BARS_BEFORE * BAR,
            after=pl.col("known_at") + BARS_AFTER * BAR,
        )
    )
    at, is_known = pl.col("known_at"), pl.col("by") <= pl.col("event_known_at")
    any_family = rows.join_where(windows, at >= pl.col("onset"), at <= pl.col("over")).filter(is_known)
    own = rows.join_where(windows, at > pl.col("before"), at <= pl.col("after")).filter(
        is_known & (pl.col("family") == pl.col("event_type"))
    )
    inside = pl.concat([found.select(EVENT_CONTROLS.key) for found in (any_family, own)])
    unknown = rows.filter(at.is_null() | pl.col("event_known_at").is_null())
    return pl.concat([rows.join(inside, on=EVENT_CONTROLS.key, how="semi"), unknown])


# Every use in the order in which events are served: how many the instant has, how many the family's day had before it.
_USES: Final = """
select *,
    count(*) over (partition by symbol, known_at) as n_of_instant,
    row_number() over (
        partition by symbol, event_type, epoch_us(known_at) // 86400000000
        order by event_known_at, event_id, control_no
    ) as nth_of_day
from controls
"""


def _overused(evidence: Evidence) -> pl.DataFrame:
    used = ask_sql(_USES, {"controls": evidence.frame})
    holds = (
        (pl.col("n_of_instant") <= MAX_USES)
        & (pl.col("nth_of_day") <= MAX_DAY_USES)
        & ((pl.col("nth_of_day") == 1) | (pl.col("control_no") == 1))
        & pl.col("known_at").is_not_null()
        & pl.col("event_known_at").is_not_null()
    )
    return broken(used, holds)


def _incomparable(evidence: Evidence) -> pl.DataFrame:
    rank = evidence.inputs["features"].select("symbol", at="known_at", rank="rv_pct_2880")
    onset = evidence.inputs["event_registry"].filter(_CENTRE).select("event_id", "onset_at")
    rows = (
        evidence.frame.join(onset, on="event_id", how="left")
        .with_columns(before=pl.col("known_at") - (pl.col("event_known_at") - pl.col("onset_at")))
        .join(rank, left_on=["symbol", "onset_at"], right_on=["symbol", "at"], how="left")
        .join(rank, left_on=["symbol", "before"], right_on=["symbol", "at"], how="left", suffix="_of_control")
    )
    apart = (pl.col("event_rv_pct") - pl.col("control_rv_pct")).abs()
    holds = (
        (pl.col("event_rv_pct") == pl.col("rank"))
        & (pl.col("control_rv_pct") == pl.col("rank_of_control"))
        & (apart <= pl.when(pl.col("control_no") == 1).then(CALIPER).otherwise(CALIPER_FURTHER))  # false for NaN
    )
    return broken(rows, holds).select(
        *EVENT_CONTROLS.key, "symbol", "event_rv_pct", "control_rv_pct", "rank", "rank_of_control"
    )


_RANK, _RANK_OF_CONTROL = pl.col("event_rv_pct"), pl.col("control_rv_pct")
_HOUR, _HOUR_OF_CONTROL = (pl.col(at).dt.hour().cast(pl.Float64) for at in ("event_known_at", "known_at"))
_WEEKEND, _WEEKEND_OF_CONTROL = (
    (pl.col(at).dt.weekday() > _FRIDAY).cast(pl.Float64) for at in ("event_known_at", "known_at")
)
# What is matched: of the event, and how far its control is from it; hours are apart by the shorter way round the clock.
_COVARIATES: Final[Mapping[str, tuple[pl.Expr, pl.Expr]]] = {
    "volatility rank": (_RANK, _RANK - _RANK_OF_CONTROL),
    "hour": (_HOUR, (_HOUR - _HOUR_OF_CONTROL + 12) % 24 - 12),
    "weekend": (_WEEKEND, _WEEKEND - _WEEKEND_OF_CONTROL),
}


def _imbalance(evidence: Evidence) -> tuple[float, str, pl.DataFrame]:
    told = pl.concat([_standardised(evidence, name) for name in _COVARIATES])
    if told["n_unknown"].sum():
        return math.nan, "a value is unknown", told.filter(pl.col("n_unknown") > 0)
    judged = told.filter(pl.col("n_train") >= BALANCE_LEAST).sort("smd", descending=True)
    if judged.is_empty():
        return 0.0, f"no family has {BALANCE_LEAST} matched train events, so phase 1 runs none", judged
    worst = judged.row(0, named=True)
    about = "farthest apart: {event_type}, {covariate} on {scope}, {n} matched events, {smd:.3g} sd".format(**worst)
    return worst["smd"], about, judged


def _standardised(evidence: Evidence, covariate: str) -> pl.DataFrame:
    """Return how far events and controls are apart in one covariate, by family, on train and on all splits."""
    train = evidence.settings.splits[Split.TRAIN]
    of_event, apart = _COVARIATES[covariate]
    sets = evidence.frame.group_by("event_type", "event_id").agg(
        event=of_event.first(),
        apart=apart.mean(),
        n_unknown=(~apart.is_finite().fill_null(value=False)).sum(),
        known_at=pl.col("event_known_at").first(),
    )
    is_train = pl.col("known_at").is_between(train.start, train.last_entry, closed="left")
    counted = sets.with_columns(n_train=is_train.sum().over("event_type"))
    scopes = {"train": counted.filter(is_train), "all splits": counted}
    groups = pl.concat([rows.with_columns(scope=pl.lit(name)) for name, rows in scopes.items()])
    return groups.group_by("event_type", "scope").agg(
        covariate=pl.lit(covariate),
        n=pl.len(),
        n_train=pl.col("n_train").first(),
        n_unknown=pl.col("n_unknown").sum(),
        smd=_over(pl.col("apart").mean().abs(), pl.col("event").std()),
    )


def _over(difference: pl.Expr, sd: pl.Expr) -> pl.Expr:
    """Return a difference in standard deviations: where events are all alike, none is 0 and any is infinite."""
    return pl.when(difference == 0.0).then(0.0).otherwise(difference / sd)


def _uncovered(evidence: Evidence) -> tuple[float, str, pl.DataFrame]:
    events = evidence.inputs["event_registry"].filter(_CENTRE)
    alone = events.join(evidence.frame, on="event_id", how="anti")
    share = alone.height / events.height if events.height else float("nan")
    # The newest first: of the oldest everybody knows why, there was no past to match from.
    newest = alone.sort("known_at", "event_id", descending=[True, False])
    return share, f"{alone.height} of {events.height} have none", newest.select("event_type", "symbol", "known_at")


GATES_EVENT_CONTROLS: Final[tuple[Gate, ...]] = (
    rows_gate(
        "of_the_past",
        f"A control lies before its event, at most {LOOKBACK_DAYS} days, at the same hour, on a weekend if the event was.",
        _not_of_the_past,
        fix="events changed after matching: rebuild event_controls",
        may_be_empty=nothing_to_match,
    ),
    rows_gate(
        "outside_events",
        "A control lies outside the window of every event known when it was matched: from its onset to its exit and "
        f"{EMBARGO_BARS} bars, and of its own family so that no hold of {BARS_BEFORE} bars reaches an onset, nor "
        f"within {BARS_AFTER} bars after one was known.",
        _inside_events,
        fix="events changed after matching: rebuild event_controls",
        may_be_empty=nothing_to_match,
    ),
    rows_gate(
        "not_overused",
        f"No instant serves more than {MAX_USES} events, no day of a symbol more than {MAX_DAY_USES} of one family, and a "
        "second or third control is of a day that served none before.",
        _overused,
        fix="rebuild event_controls",
        may_be_empty=nothing_to_match,
    ),
    rows_gate(
        "comparable",
        f"Volatility ranks are those of the features, at most {CALIPER:g} apart, {CALIPER_FURTHER:g} of a second or third "
        "control.",
        _incomparable,
        fix="features changed after matching: rebuild event_controls",
        may_be_empty=nothing_to_match,
    ),
    rows_gate(
        "matched_again",
        f"Every event has the nearest up to {CONTROLS_PER_EVENT} controls that were free at its turn, no fewer and no others.",
        unlike_matches,
        fix="rows were lost, or events or features changed after matching: rebuild event_controls",
        may_be_empty=nothing_to_match,
    ),
    limit_gate(
        "balanced",
        "The events of every family and their controls are alike in what they are matched by, on train and on all splits: "
        f"volatility rank before the onset, hour, weekend (standardised mean difference; families of {BALANCE_LEAST} matched "
        "train events and more: phase 1 runs no smaller one).",
        _imbalance,
        limit=BALANCE_LIMIT,
        unit="sd",
        fix="differences to controls would show that, not the event; lengthen the history before start",
        may_be_empty=nothing_to_match,
    ),
    limit_gate(
        "without_control",
        "Few events have no control.",
        _uncovered,
        limit=COVERAGE_LIMIT,
        unit="fraction",
        fix="their comparison rests on fewer events; a longer history before start helps",
        severity=Severity.WARN,
        may_be_empty=nothing_to_match,
    ),
)
