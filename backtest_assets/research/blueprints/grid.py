"""Prices on one grid of bars, for fitting blueprints and for trading them; what is traded on them stays out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, BAR_US, epoch_us
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.rolling import rolling_mean
from backtest_assets.stats.simulate import Prices

ATR_BARS: Final = 14
"""Window of the average true range [bars]; every bar of it must be real."""


@dataclass(frozen=True, slots=True)
class PriceGrid:
    """Bars of some symbols; bar i opens at `first_us + i * BAR_US`.

    Attributes:
        symbols: instrument of each series.
        first_us: open of the first bar [us].
        prices: (n_symbols, n_bars); what is absent or not yet known is NaN.
    """

    symbols: tuple[str, ...]
    first_us: int
    prices: Prices

    @classmethod
    def read(cls, bars: pl.DataFrame, *, symbols: Sequence[str], start: datetime, end: datetime) -> "PriceGrid":
        """Lay the bars of a window [start, end) out on its grid."""
        first_us, n_bars = epoch_us(start), (end - start) // BAR
        inside = bars.filter(pl.col("open_at").is_between(start, end, closed="left") & pl.col("symbol").is_in(symbols))
        series = (
            inside["symbol"].replace_strict({s: i for i, s in enumerate(symbols)}, return_dtype=pl.Int64).to_numpy()
        )
        row = (inside["open_at"].dt.epoch("us").to_numpy() - first_us) // BAR_US
        n_known = np.zeros(len(symbols), np.int64)
        np.maximum.at(n_known, series, row + 1)

        def grid(column: str) -> FloatArray:
            values = np.full((len(symbols), n_bars), np.nan)
            values[series, row] = inside[column].to_numpy()
            return values

        return cls(tuple(symbols), first_us, Prices(grid("open"), grid("high"), grid("low"), grid("close"), n_known))

    @property
    def n_bars(self) -> int:
        """Bars of the grid."""
        return self.prices.open.shape[1]

    def open_us(self, bar: IntArray) -> IntArray:
        """Return the open of each bar [us]."""
        return self.first_us + bar * BAR_US

    def series(self, symbols: pl.Series) -> IntArray:
        """Return the row of each symbol."""
        of = {symbol: i for i, symbol in enumerate(self.symbols)}
        return symbols.replace_strict(of, return_dtype=pl.Int64).to_numpy()

    def opens(self, series: IntArray, bar: IntArray) -> FloatArray:
        """Return the open of bars, NaN outside the grid and on gaps [quote per base]."""
        inside = (bar >= 0) & (bar < self.n_bars)
        return np.where(inside, self.prices.open[series, np.where(inside, bar, 0)], np.nan)

    def true_range(self, series: IntArray, bar: IntArray) -> FloatArray:
        """Return the average true range of the 14 bars before each bar; NaN unless all are real [quote per base]."""
        prices = self.prices
        before = np.concatenate([np.full((len(self.symbols), 1), np.nan), prices.close[:, :-1]], axis=1)
        spans = np.maximum(prices.high, before) - np.minimum(prices.low, before)
        average = np.stack([rolling_mean(one, ATR_BARS, ATR_BARS) for one in spans])
        inside = (bar >= 1) & (bar <= self.n_bars)
        return np.where(inside, average[series, np.where(inside, bar - 1, 0)], np.nan)
