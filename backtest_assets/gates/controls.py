"""What must be true of matched controls: of the past, outside every event, not overused, comparable."""

from datetime import UTC, datetime
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import Variant
from backtest_assets.domain.gate import Severity
from backtest_assets.gates.ask import broken, limit_gate, rows_gate
from backtest_assets.gates.gate import Evidence, Gate
from backtest_assets.research.events.controls import (
    BARS_AFTER,
    BARS_BEFORE,
    CONTROLS_PER_EVENT,
    EMBARGO_BARS,
    LOOKBACK_DAYS,
    MAX_USES,
)
from backtest_assets.tables.events import EVENT_CONTROLS

BALANCE_LIMIT: Final = 0.25
"""Largest standardised mean difference of the volatility rank between events and controls [sd of the events]: the usual
bound beyond which regression cannot repair the comparison (Rubin 2001). The rank is of before the onset: volatility at the
onset is what some families select on, and no control could match it."""
BALANCE_LEAST: Final = 30
"""Matched events below which a family's balance is judged together with all others [events]."""
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
            before=pl.col("known_at") - BARS_BEFORE * BAR,
            after=pl.col("known_at") + BARS_AFTER * BAR,
        )
    )
    at, is_known = pl.col("known_at"), pl.col("by") <= pl.col("event_known_at")
    any_family = rows.join_where(windows, at >= pl.col("onset"), at <= pl.col("over")).filter(is_known)
    own = rows.join_where(windows, at >= pl.col("before"), at <= pl.col("after")).filter(
        is_known & (pl.col("family") == pl.col("event_type"))
    )
    inside = pl.concat([found.select(EVENT_CONTROLS.key) for found in (any_family, own)])
    unknown = rows.filter(at.is_null() | pl.col("event_known_at").is_null())
    return pl.concat([rows.join(inside, on=EVENT_CONTROLS.key, how="semi"), unknown])


def _overused(evidence: Evidence) -> pl.DataFrame:
    n_uses = pl.len().over("symbol", "known_at")
    return broken(evidence.frame, (n_uses <= MAX_USES) & pl.col("known_at").is_not_null())


def _imbalance(evidence: Evidence) -> tuple[float, str]:
    per_event = evidence.frame.group_by("event_type", "event_id").agg(
        pl.col("event_rv_pct").first(), pl.col("control_rv_pct").mean()
    )
    large = per_event.filter(pl.len().over("event_type") >= BALANCE_LEAST)
    groups = {str(rows["event_type"][0]): rows for rows in large.partition_by("event_type")} or {
        "all families": per_event
    }
    smd = {name: _standardised_difference(rows) for name, rows in groups.items()}
    worst = max(smd, key=lambda name: np.nan_to_num(smd[name], nan=np.inf))
    return smd[worst], f"farthest apart: {worst}"


def _standardised_difference(rows: pl.DataFrame) -> float:
    event, control = (rows[name].to_numpy() for name in ("event_rv_pct", "control_rv_pct"))
    sd = np.std(event, ddof=1) if event.size > 1 else np.nan
    return float(abs(np.mean(event - control)) / sd) if sd > 0 else float("nan")


def _uncovered(evidence: Evidence) -> tuple[float, str]:
    events = evidence.inputs["event_registry"].filter(_CENTRE)
    alone = events.join(evidence.frame, on="event_id", how="anti")
    share = alone.height / events.height if events.height else float("nan")
    return share, f"{alone.height} of {events.height} have none"


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
        f"{EMBARGO_BARS} bars, and {BARS_BEFORE} bars before to {BARS_AFTER} after one of its own family was known.",
        _inside_events,
        fix="events changed after matching: rebuild event_controls",
        may_be_empty=nothing_to_match,
    ),
    rows_gate(
        "not_overused",
        f"No instant serves more than {MAX_USES} events.",
        _overused,
        fix="rebuild event_controls",
        may_be_empty=nothing_to_match,
    ),
    limit_gate(
        "balanced",
        "Events and their controls had the same volatility rank before the onset (standardised mean difference).",
        _imbalance,
        limit=BALANCE_LIMIT,
        unit="sd",
        fix="differences to controls would show volatility, not the event; lengthen the history before start",
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
