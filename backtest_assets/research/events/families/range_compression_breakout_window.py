"""A breakout from compression: the first close outside yesterday's range while the range is unusually narrow."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import THRESHOLD_BARS, THRESHOLD_LEAST, Candidates, Definition, Spacing
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.rolling import rolling_quantile
from backtest_assets.stats.scan import lagged


@dataclass(frozen=True, slots=True)
class Breakout(Definition):
    """Parameters.

    Attributes:
        cooldown_bars: length of the event's window, in which no other is accepted [bars].
    """

    event_type: ClassVar[EventType] = EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW
    version: ClassVar[str] = "breakout_v2: close outside the previous 96 bars while compressed on the bar before"
    needs: ClassVar[tuple[str, ...]] = ("compression_ratio",)
    measures: ClassVar[tuple[Measure, ...]] = (Measure.RANGE,)

    rate: float = 0.20
    cooldown_bars: int = 96

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.cooldown_bars)


def detect(view: MarketView, *, params: Breakout) -> pl.DataFrame:
    """Find closes outside a compressed range.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate; `side` = direction of the breakout, `severity` = log distance beyond the range over
        `rv_96`, `threshold` = quantile of `compression_ratio` in force on the bar before.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        the breakout bar's close; range, compression and threshold end one bar before it.
    """
    return pl.concat(
        [
            _of_symbol(bar_grid.values("close"), grid, params).frame(grid, params.spacing)
            for bar_grid, grid in view.grids()
        ]
    )


def _of_symbol(close: FloatArray, grid: SymbolGrid, params: Breakout) -> Candidates:
    ratio = grid.values("compression_ratio")
    threshold = lagged(rolling_quantile(ratio, THRESHOLD_BARS, THRESHOLD_LEAST, params.rate))
    compressed = (ratio <= threshold) & (threshold > 0)
    top, bottom = grid.values("high_prev_96"), grid.values("low_prev_96")
    side = (close > top).astype(np.int64) - (close < bottom)
    rv = grid.values("rv_96")
    row = np.flatnonzero((side != 0) & (rv > 0) & (lagged(compressed.astype(np.float64)) > 0))
    edge = np.where(side > 0, top, bottom)[row]
    return Candidates(
        onset_us=grid.open_us[row],
        known_row=row,
        exit_row=row + params.cooldown_bars,
        side=side[row],
        severity=np.abs(np.log(close[row] / edge)) / rv[row],
        threshold=lagged(threshold)[row],
        measure=Measure.RANGE,
    )
