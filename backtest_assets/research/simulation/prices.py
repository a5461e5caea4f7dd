"""The run window's prices and funding on one grid of bars; what is traded on them stays out."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR_US, HOUR_US
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError
from backtest_assets.research.blueprints.grid import PriceGrid
from backtest_assets.stats.arrays import FloatArray, IntArray
from backtest_assets.stats.funding import FundingPath, funding_path


@dataclass(frozen=True, slots=True)
class Market:
    """Bars and funding of a run.

    Attributes:
        grid: the bars of the run window, symbols ascending.
        last_close: (n_symbols, n_bars) newest close up to and with each bar, NaN before the first.
        funding: settlements of each symbol, priced at the last close known then.
    """

    grid: PriceGrid
    last_close: FloatArray
    funding: tuple[FundingPath, ...]

    @classmethod
    def read(
        cls, bars: pl.DataFrame, funding: pl.DataFrame, *, run: ResearchRun, end: datetime | None = None
    ) -> "Market":
        """Lay the frames out on the run window's grid.

        Args:
            bars: table bars_um; rows outside the window only price settlements.
            funding: table settlements_um.
            run: gives symbols and window; settlements are charged from its start on.
            end: where the grid ends; None for the end of the window.
        """
        symbols = tuple(sorted(run.symbol_list))
        start, last = run.window
        grid = PriceGrid.read(bars, symbols=symbols, start=start, end=end or last)
        close = grid.prices.close
        newest = np.maximum.accumulate(np.where(np.isnan(close), 0, np.arange(grid.n_bars)), axis=1)
        return cls(
            grid,
            np.take_along_axis(close, newest, axis=1),
            tuple(_settlements(bars, funding, symbol) for symbol in symbols),
        )

    def funding_per_unit(self, series: IntArray, bar: IntArray) -> FloatArray:
        """Sum what a long of one unit pays at settlements after the previous bar's open, up to this bar's [quote per base].

        Raises:
            RefusedError: if a settlement that is due is missing, or lacks its rate or price.
        """
        paid = np.zeros(bar.size)
        at_us = self.grid.open_us(bar)
        for i, symbol in enumerate(self.grid.symbols):
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
