"""The event_controls table: quiet instants of an event's past that looked like the moment before it; outcomes stay out."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, BARS_PER_DAY, DAY_US
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import SplitPlan
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.tables.events import EVENT_CONTROLS

CONTROLS_PER_EVENT: Final = 3
LOOKBACK_DAYS: Final = 180
MAX_USES: Final = 3
"""Events that one control instant may serve: more would make their comparisons one and the same."""
BARS_BEFORE, BARS_AFTER = 96, 192
"""Around events of the same family: the day before one is known, and the two days after, in which its effect may live
[bars]."""
EMBARGO_BARS: Final = 16
"""After the exit of an event of any family [bars]. With thirteen families some two days around each would leave 3 % of a
year; from onset to exit and four hours leave 18 %."""
CALIPER: Final = 0.10
"""Largest distance of volatility ranks: beyond it an instant is not comparable [fraction]."""

_OTHER_WEEKDAY: Final = 0.02  # a control on another weekday must be nearer in rank by this much [fraction]
_BARS_PER_WEEK: Final = 7 * BARS_PER_DAY
_BARS_PER_HOUR: Final = 4
_EPOCH_WEEKDAY, _SATURDAY = 3, 5  # 1970-01-01 was a Thursday; Monday is 0


def match_controls(
    bars: pl.DataFrame, features: pl.DataFrame, events: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Match every centre event with up to three instants of its own past.

    A control has the event's symbol, UTC hour of day and kind of day (weekend or not), lies within the 180 days before
    it, inside a split, on a real bar, and outside the window of every event known by then: from onset to exit and four
    hours, and for events of the same family from a day before to two days after they were known. Of these the nearest by
    volatility rank before the onset, same weekday preferred, on distinct days. Events are served in the order they become
    known, and no instant serves more than `MAX_USES`. A young history gives fewer controls, or none.

    Args:
        bars: rows of `bars_um`.
        features: rows of `features` of the same bars.
        events: rows of `event_registry`.
        run: settings; the split plan.

    Returns:
        Rows of `event_controls`; `event_rv_pct` is the rank one bar before the onset, `control_rv_pct` the rank as long
        before the control as that bar lies before the event's known_at.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        data up to event_known_at, the instant at which a row is known.
    """
    centre = events.filter(pl.col("variant") == Variant.CENTRE.value).sort("known_at", "event_type", "event_id")
    rows = [
        row
        for bar_grid, grid in SymbolGrid.pairs(bars, features)
        for row in _of_symbol(bar_grid.is_real, grid, centre.filter(pl.col("symbol") == grid.symbol), run.splits)
    ]
    drawn = pl.DataFrame(rows, schema=_DRAWN, orient="row")
    labels = centre.select("event_id", "event_type", "symbol", "side", event_known_at="known_at")
    return EVENT_CONTROLS.conform(
        drawn.with_columns(pl.col("known_at").cast(EVENT_CONTROLS.schema["known_at"])).join(labels, on="event_id")
    )


_DRAWN: Final = {
    "event_id": pl.String(),
    "control_no": pl.Int16(),
    "known_at": pl.Int64(),
    "event_rv_pct": pl.Float64(),
    "control_rv_pct": pl.Float64(),
}
_Row = tuple[str, int, int, float, float]


def _of_symbol(is_real: BoolArray, grid: SymbolGrid, events: pl.DataFrame, splits: SplitPlan) -> Iterator[_Row]:
    rank, known_us = grid.values("rv_pct_2880"), grid.known_us
    free = is_real & _within(known_us, splits)
    no_own = {family: np.ones(grid.height, dtype=np.bool_) for family in events["event_type"].unique()}
    families = events["event_type"].to_list()
    uses = np.zeros(grid.height, dtype=np.int64)
    known = grid.row_known_at(_us(events["known_at"]))
    before_onset = grid.row_known_at(_us(events["onset_at"]))
    over = np.where(
        events["exit_at"].is_null(),
        grid.height,
        grid.row_known_at(_us(events["exit_at"].fill_null(events["known_at"]))),
    )
    is_weekend = (known_us // DAY_US + _EPOCH_WEEKDAY) % 7 >= _SATURDAY
    by_hour = [np.flatnonzero(known_us // (_BARS_PER_HOUR * BAR_US) % 24 == hour) for hour in range(24)]
    n_blocked = 0
    for i, event_id in enumerate(events["event_id"]):
        while n_blocked < known.size and known[n_blocked] <= known[i]:
            row = known[n_blocked]
            # An exit that is not known yet blocks no other rows than one that never comes: only rows before now are drawn.
            free[max(before_onset[n_blocked], 0) : over[n_blocked] + EMBARGO_BARS + 1] = False
            no_own[families[n_blocked]][max(row - BARS_BEFORE, 0) : row + BARS_AFTER + 1] = False
            n_blocked += 1
        lag = int(known[i] - before_onset[i])
        if before_onset[i] < 0 or np.isnan(rank[before_onset[i]]):
            continue
        rows = by_hour[int(known_us[known[i]] // (_BARS_PER_HOUR * BAR_US) % 24)]
        first = max(lag, int(known[i]) - LOOKBACK_DAYS * BARS_PER_DAY)
        rows = rows[np.searchsorted(rows, first) : np.searchsorted(rows, known[i])]
        rows = rows[is_weekend[rows] == is_weekend[known[i]]]
        rows = rows[free[rows] & no_own[families[i]][rows] & (uses[rows] < MAX_USES)]
        chosen = _nearest(rows, rank[rows - lag] - rank[before_onset[i]], int(known[i]), known_us)
        uses[chosen] += 1
        for number, row in enumerate(chosen, start=1):
            yield event_id, number, int(known_us[row]), float(rank[before_onset[i]]), float(rank[row - lag])


def _nearest(rows: IntArray, distance: FloatArray, event_row: int, known_us: IntArray) -> IntArray:
    apart = np.abs(distance)
    near = apart <= CALIPER  # false for an unknown rank
    rows, apart = rows[near], apart[near]
    weeks_apart, days_apart = (event_row - rows) / _BARS_PER_WEEK, (event_row - rows) / BARS_PER_DAY
    same_weekday = np.rint(days_apart) == 7 * np.rint(weeks_apart)
    order = rows[np.lexsort((-rows, apart + np.where(same_weekday, 0.0, _OTHER_WEEKDAY)))]
    days = known_us[order] // int(timedelta(days=1).total_seconds() * 1e6)
    _, first_of_day = np.unique(days, return_index=True)
    return order[np.sort(first_of_day)[:CONTROLS_PER_EVENT]]


def _within(known_us: IntArray, splits: SplitPlan) -> BoolArray:
    inside = np.zeros(known_us.size, dtype=np.bool_)
    for window in splits.windows:
        inside |= (known_us >= int(window.start.timestamp() * 1e6)) & (
            known_us < int(window.last_entry.timestamp() * 1e6)
        )
    return inside


def _us(instants: pl.Series) -> IntArray:
    return instants.dt.epoch("us").to_numpy()
