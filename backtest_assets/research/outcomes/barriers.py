"""The event_barriers table: how long until the price first moved by a daily sigma, with censoring; rates stay out.

Age curves of many events are `research/phase1`.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BARS_PER_DAY
from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.research.outcomes.measure import instants_to_measure
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.scan import NEVER, first_touches, next_present
from backtest_assets.tables.outcomes import EVENT_BARRIERS

WATCHED_BARS: Final = BARS_PER_DAY
"""How long an event is watched [bars]: a day, the longest hold."""
_BPS: Final = 1e4


def measure_barriers(
    bars: pl.DataFrame, features: pl.DataFrame, events: pl.DataFrame, controls: pl.DataFrame, *, run: ResearchRun
) -> pl.DataFrame:
    """Measure when the price after every centre event and control first was a daily sigma away from the entry.

    The entry is the open of the bar after known_at; its bar is the first one watched. A row is left out where that bar
    is a gap, or where volatility before the onset is unknown or 0.

    Args:
        bars: rows of `bars_um`.
        features: rows of `features` of the same bars; `rv_96`.
        events: rows of `event_registry`.
        controls: rows of `event_controls`.
        run: settings; the split plan.

    Returns:
        Rows of `event_barriers`.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        the future of every event, up to a day, never a price beyond the end of the row's own split.
    """
    wanted = _wanted(events, controls, run=run)
    needed = features.select("symbol", "open_at", "rv_96")
    frames = [
        frame
        for bar_grid, grid in SymbolGrid.pairs(bars, needed)
        for frame in _of_symbol(bar_grid, grid.values("rv_96"), wanted.filter(pl.col("symbol") == grid.symbol))
    ]
    return EVENT_BARRIERS.conform(pl.concat(frames) if frames else EVENT_BARRIERS.empty())


def _wanted(events: pl.DataFrame, controls: pl.DataFrame, *, run: ResearchRun) -> pl.DataFrame:
    centre = events.filter(pl.col("variant") == Variant.CENTRE.value)
    instants = instants_to_measure(centre, controls, run=run).drop("variant", "kind")
    onsets = centre.select("event_id", "onset_at", event_known_at="known_at")
    return instants.join(onsets, on="event_id", how="left")


def _of_symbol(grid: SymbolGrid, rv: FloatArray, wanted: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if wanted.is_empty():
        return
    price, is_real = grid.values("open"), grid.is_real
    known, event_known, onset = (_us(wanted, name) for name in ("known_at", "event_known_at", "onset_at"))
    # As for the match: a control is looked at as long before itself as the bar before the onset lies before its event.
    before = grid.row_known_at(known) - (grid.row_known_at(event_known) - grid.row_known_at(onset))
    entry, limit = grid.row_opening_at(known), grid.row_opening_at(_us(wanted, "window_end"))
    inside = (entry >= 0) & (entry < np.minimum(limit, grid.height)) & (before >= 0)
    at = np.where(inside, entry, 0)
    sigma = rv[np.where(inside, before, 0)]
    keep = inside & is_real[at] & (sigma > 0)  # false for an unknown one
    entry, limit, barrier = entry[keep], limit[keep], sigma[keep] * np.sqrt(WATCHED_BARS)
    gap = next_present(np.where(is_real, np.nan, 1.0))[entry]
    end = np.minimum.reduce([entry + WATCHED_BARS, limit, gap, np.full(entry.size, grid.height)])
    levels = price[entry] * (1.0 - barrier), price[entry] * (1.0 + barrier)
    down, up = first_touches(grid.values("low"), grid.values("high"), (entry, end), levels)
    yield (
        wanted.filter(keep)
        .drop("window_end", "onset_at", "event_known_at")
        .with_columns(
            pl.Series("entered_at", grid.open_us[entry]).cast(EVENT_BARRIERS.schema["entered_at"]),
            pl.Series("entry_price", price[entry]),
            pl.Series("barrier_bps", barrier * _BPS),
            pl.Series("bars_watched", end - entry).cast(pl.Int32),
            _age("up_bars", up, entry),
            _age("down_bars", down, entry),
            pl.Series("ends_early", end - entry < WATCHED_BARS),
        )
    )


def _age(name: str, position: IntArray, entry: IntArray) -> pl.Series:
    is_touched = position != NEVER
    return (
        pl.Series(name, np.where(is_touched, position - entry + 1, 0)).set(pl.Series(~is_touched), None).cast(pl.Int32)
    )


def _us(rows: pl.DataFrame, name: str) -> IntArray:
    return rows[name].dt.epoch("us").to_numpy()
