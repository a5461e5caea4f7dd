"""The run window's prices and funding on one grid of bars; what is traded on them stays out."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, BAR_US, HOUR_US
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.funding import FundingPath, funding_path
from backtest_assets.stats.simulate import Prices


@dataclass(frozen=True, slots=True)
class Market:
    """Bars and funding of a run; bar i opens at `first_us + i * BAR_US`.

    Attributes:
        symbols: instrument of each series, ascending.
        first_us: the run window's start [us].
        prices: (n_symbols, bars of the run window); what is absent or not yet known is NaN.
        last_close: (n_symbols, n_bars) newest close up to and with each bar, NaN before the first.
        funding: settlements of each symbol, priced at the last close known then.
    """

    symbols: tuple[str, ...]
    first_us: int
    prices: Prices
    last_close: FloatArray
    funding: tuple[FundingPath, ...]

    @classmethod
    def read(cls, bars: pl.DataFrame, funding: pl.DataFrame, *, run: ResearchRun) -> "Market":
        """Lay the frames out on the run window's grid.

        Args:
            bars: table bars_um; rows outside the window only price settlements.
            funding: table settlements_um.
            run: gives symbols and window; settlements are charged from its start on.
        """
        symbols = tuple(sorted(run.symbol_list))
        start, end = run.window
        first_us, n_bars = int(start.timestamp()) * 1_000_000, (end - start) // BAR
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

        close = grid("close")
        newest = np.maximum.accumulate(np.where(np.isnan(close), 0, np.arange(n_bars)), axis=1)
        return cls(
            symbols,
            first_us,
            Prices(grid("open"), grid("high"), grid("low"), close, n_known),
            np.take_along_axis(close, newest, axis=1),
            tuple(_settlements(bars, funding, symbol) for symbol in symbols),
        )

    def open_us(self, bar: IntArray) -> IntArray:
        """Return the open of each bar [us]."""
        return self.first_us + bar * BAR_US

    def funding_per_unit(self, series: IntArray, bar: IntArray) -> FloatArray:
        """Sum what a long of one unit pays at settlements after the previous bar's open, up to this bar's [quote per base].

        Raises:
            RefusedError: if a settlement that is due is missing, or lacks its rate or price.
        """
        paid = np.zeros(bar.size)
        at_us = self.open_us(bar)
        for i, symbol in enumerate(self.symbols):
            rows = np.flatnonzero(series == i)
            paid[rows] = self.funding[i].between(at_us[rows] - BAR_US, at_us[rows])
            unknown = at_us[rows][np.isnan(paid[rows])]
            if unknown.size:
                message = (
                    f"table settlements_um, symbol {symbol}: a settlement due at "
                    f"{np.datetime64(int(unknown[0]), 'us')} UTC is missing while a position is held; ingest that month again"
                )
                raise RefusedError(message)
        return paid


def _settlements(bars: pl.DataFrame, funding: pl.DataFrame, symbol: str) -> FundingPath:
    closes = bars.filter((pl.col("symbol") == symbol) & pl.col("close").is_not_null()).select("known_at", "close")
    rows = (
        funding.filter(pl.col("symbol") == symbol)
        .sort("settled_at")
        .join_asof(closes.sort("known_at"), left_on="settled_at", right_on="known_at", strategy="backward")
    )
    return funding_path(
        rows["settled_at"].dt.epoch("us").to_numpy(),
        (rows["funding_interval_h"] * HOUR_US).round().cast(pl.Int64).to_numpy(),
        rows["funding_rate"].to_numpy(),
        rows["close"].to_numpy(),
    )
