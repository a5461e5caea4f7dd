"""Liquidity that does not come back: a sudden move after which bars stay wide; how much is traded is not asked."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, Measure
from backtest_assets.research.events.definition import Candidates, Definition, Spacing
from backtest_assets.research.events.shock import Crossings
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.grid import SymbolGrid
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.rolling import rolling_min


@dataclass(frozen=True, slots=True)
class RefillLag(Definition):
    """Parameters.

    Attributes:
        wide_ratio: above it a bar is wide [times the usual range].
        lag_bars: bars after the move that must all be wide: two hours in which makers could have come back [bars].
        usual_bars: bars before the move whose median range is the usual one: a day, to cancel the time of day [bars].
        window_bars: length of the event's window, in which no other is accepted [bars].
    """

    event_type: ClassVar[EventType] = EventType.LIQUIDITY_REFILL_LAG_WINDOW
    version: ClassVar[str] = "refill_lag_v2: |logret_1| crosses up its trailing 90-day quantile, then 8 wide bars"
    needs: ClassVar[tuple[str, ...]] = ("logret_1", "range_frac")
    measures: ClassVar[tuple[Measure, ...]] = (Measure.RANGE,)

    rate: float = 0.01
    wide_ratio: float = 1.25
    lag_bars: int = 8
    usual_bars: int = 96
    window_bars: int = 48

    @property
    def spacing(self) -> Spacing:
        """The family's cooldown and de-overlap rule."""
        return Spacing.window(self.window_bars)


def detect(view: MarketView, *, params: RefillLag) -> pl.DataFrame:
    """Find sudden moves after which every bar stays wide; a gap among these bars leaves it unconfirmed.

    Args:
        view: the market.
        params: the definition.

    Returns:
        One row per candidate: `onset_at` the open of the move's bar, `known_at` the close of the last wide bar that
        confirms it, `side` 0, `severity` = |log return| over threshold.

    Raises:
        TableError: if bars and features do not cover the same unbroken grid.

    Knows:
        the last confirming bar's close; threshold and usual range end before the move.
    """
    return pl.concat([_of_symbol(grid, params).frame(grid, params.spacing) for _, grid in view.grids()])


def _of_symbol(grid: SymbolGrid, params: RefillLag) -> Candidates:
    width = grid.values("range_frac")
    move = Crossings.up(np.abs(grid.values("logret_1")), params.rate)
    usual = _usual(width, move.row, params.usual_bars)
    span = params.lag_bars + 1
    narrowest = np.append(rolling_min(width, span, span), np.full(span, np.nan))  # unknown until the last bar closes
    lags = (usual > 0) & (narrowest[move.row + params.lag_bars] > params.wide_ratio * usual)
    onset = move.row[lags]
    return Candidates(
        onset_us=grid.open_us[onset],
        known_row=onset + params.lag_bars,
        exit_row=onset + params.lag_bars + params.window_bars,
        side=np.zeros(onset.size, dtype=np.int64),
        severity=move.severity[lags],
        threshold=move.threshold[lags],
        measure=Measure.RANGE,
    )


def _usual(width: FloatArray, rows: IntArray, n_bars: int) -> FloatArray:
    """Return the median of the bars before each row; NaN below two thirds of them."""
    padded = np.append(np.full(n_bars, np.nan), width)
    before = np.lib.stride_tricks.sliding_window_view(padded, n_bars)[rows]
    enough = np.count_nonzero(~np.isnan(before), axis=1) >= n_bars * 2 // 3
    usual = np.full(rows.size, np.nan)
    usual[enough] = np.nanmedian(before[enough], axis=1)
    return usual
