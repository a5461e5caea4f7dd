"""The event_controls table: quiet instants of an event's past that looked like the moment before it; outcomes stay out."""

from collections.abc import Iterator
from dataclasses import dataclass
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
LOOKBACK_DAYS: Final = 270
"""How old a control may be [days]. Over 180 days the breakouts of two real symbols lost 11 points of their matched share to
`MAX_DAY_USES`, over 270 they lose 7; over a year the market has another drift than at the event: random instants on rising
prices had mean t +0.16, over 270 days +0.07."""
MAX_USES: Final = 3
"""Events that one control instant may serve: more would make their comparisons one and the same."""
MAX_DAY_USES: Final = 3
"""Events of one family that one UTC day of a symbol may serve, whatever the hours: a day is one draw of the market, and sets
that share it share their comparison. Unbounded, single days of two real symbols served 15 sets of a family."""
BARS_BEFORE: Final = 96
"""Before the onset of an event of the same family: the longest hold, so that whatever is held from a control on is over when
the event sets in [bars]."""
BARS_AFTER: Final = 192
"""After an event of the same family was known: two days, in which its effect may live [bars]."""
EMBARGO_BARS: Final = 16
"""After the exit of an event of any family [bars]. With thirteen families some two days around each would leave 3 % of a
year; from onset to exit and four hours leave 18 %."""
CALIPER: Final = 0.10
"""Largest distance of volatility ranks: beyond it an instant is not comparable [fraction]."""
CALIPER_FURTHER: Final = 0.05
"""The same of a second or third control: balance is worth more than their number [fraction]."""

_OTHER_WEEKDAY: Final = 0.02  # a control on another weekday must be nearer in rank by this much [fraction]
_BARS_PER_WEEK: Final = 7 * BARS_PER_DAY
_BARS_PER_HOUR: Final = 4
_EPOCH_WEEKDAY, _SATURDAY = 3, 5  # 1970-01-01 was a Thursday; Monday is 0


def match_controls(
    bars: pl.DataFrame, features: pl.DataFrame, events: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Match every centre event with up to three instants of its own past.

    A control has the event's symbol, UTC hour of day and kind of day (weekend or not), lies within the 270 days before
    it, inside a split and on a real bar. Of these the nearest by volatility rank before the onset, same weekday preferred,
    on distinct days; a second and third only if half as far and from a day that serves no other event of the family.
    Events are served in the order they become known; no instant serves more than `MAX_USES` of them, no day more than
    `MAX_DAY_USES` of one family. A young history gives fewer controls, or none.

    Excluded by every event known when the control's own event is, that one among them: of any family from onset to exit
    and four hours; of the same family also from 96 bars before its onset to two days after it was known, so that no hold
    from a control on reaches into an event of its family, neither that event's long confirmation nor one that became
    known after the control. Not excluded: holds that reach into other families' events, which fill the year, and
    events not known yet, which nobody could exclude.

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
    day = known_us // DAY_US - known_us[0] // DAY_US
    day_uses = {family: np.zeros(day[-1] + 1, dtype=np.int64) for family in no_own}
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
            held = (
                before_onset[n_blocked] + 1 - BARS_BEFORE
            )  # after the row before it a hold of BARS_BEFORE ends by the onset
            no_own[families[n_blocked]][max(held, 0) : row + BARS_AFTER + 1] = False
            n_blocked += 1
        lag = int(known[i] - before_onset[i])
        if before_onset[i] < 0 or np.isnan(rank[before_onset[i]]):
            continue
        rows = by_hour[int(known_us[known[i]] // (_BARS_PER_HOUR * BAR_US) % 24)]
        first = max(lag, int(known[i]) - LOOKBACK_DAYS * BARS_PER_DAY)
        rows = rows[np.searchsorted(rows, first) : np.searchsorted(rows, known[i])]
        rows = rows[is_weekend[rows] == is_weekend[known[i]]]
        used = day_uses[families[i]]
        rows = rows[free[rows] & no_own[families[i]][rows] & (uses[rows] < MAX_USES) & (used[day[rows]] < MAX_DAY_USES)]
        distance = np.abs(rank[rows - lag] - rank[before_onset[i]])
        chosen = _nearest(_Near(rows, distance, day[rows], used[day[rows]]), int(known[i]))
        uses[chosen] += 1
        used[day[chosen]] += 1
        for number, row in enumerate(chosen, start=1):
            yield event_id, number, int(known_us[row]), float(rank[before_onset[i]]), float(rank[row - lag])


@dataclass(frozen=True, slots=True)
class _Near:
    """Instants that may serve an event, each array (n,).

    Attributes:
        rows: on the grid.
        apart: distance of volatility ranks; NaN = unknown.
        days: day of each.
        uses: events of the family that the day serves already.
    """

    rows: IntArray
    apart: FloatArray
    days: IntArray
    uses: IntArray

    def only(self, keep: BoolArray | IntArray) -> "_Near":
        return _Near(self.rows[keep], self.apart[keep], self.days[keep], self.uses[keep])


def _nearest(found: _Near, event_row: int) -> IntArray:
    near = found.only(found.apart <= CALIPER)  # false for an unknown rank
    weeks_apart, days_apart = (event_row - near.rows) / _BARS_PER_WEEK, (event_row - near.rows) / BARS_PER_DAY
    same_weekday = np.rint(days_apart) == 7 * np.rint(weeks_apart)
    ordered = near.only(np.lexsort((-near.rows, near.apart + np.where(same_weekday, 0.0, _OTHER_WEEKDAY))))
    _, first_of_day = np.unique(ordered.days, return_index=True)
    best = ordered.only(np.sort(first_of_day))
    serves = (best.apart <= CALIPER_FURTHER) & (best.uses == 0)
    serves[:1] = True
    return best.rows[serves][:CONTROLS_PER_EVENT]


def _within(known_us: IntArray, splits: SplitPlan) -> BoolArray:
    inside = np.zeros(known_us.size, dtype=np.bool_)
    for window in splits.windows:
        inside |= (known_us >= int(window.start.timestamp() * 1e6)) & (
            known_us < int(window.last_entry.timestamp() * 1e6)
        )
    return inside


def _us(instants: pl.Series) -> IntArray:
    return instants.dt.epoch("us").to_numpy()
