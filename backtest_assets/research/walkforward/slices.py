"""One slice of the ledger: the rows of some trades within some days, and what every slice is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.research.walkforward.benchmark import Benchmark
from backtest_assets.research.walkforward.costs import BOOKED, cost_metrics
from backtest_assets.research.walkforward.holdings import holding_metrics
from backtest_assets.research.walkforward.metric import Metric
from backtest_assets.research.walkforward.ratios import ratio_metrics, trade_metrics
from backtest_assets.stats.arrays import FloatArray

PORTFOLIO: Final = "portfolio"
"""Scope of all executed blueprints together."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one scope in one window.

    Attributes:
        scope: `portfolio` or a blueprint_id.
        ledger: rows of table simulation_ledger.
        trades: rows of table trades, the same trades.
        start: first instant of the window.
        end: first instant after it.
    """

    scope: str
    ledger: pl.DataFrame
    trades: pl.DataFrame
    start: datetime
    end: datetime

    @classmethod
    def each(
        cls, ledger: pl.DataFrame, trades: pl.DataFrame, blueprints: pl.DataFrame, start: datetime, end: datetime
    ) -> Iterator["Slice"]:
        """Cut trades and their ledger rows into the portfolio and every executed blueprint, best rank first.

        A blueprint that never traded has an empty slice; ledger rows of other trades are left out.
        """
        ledger = ledger.join(trades.select("trade_id"), on="trade_id", how="semi", maintain_order="left").rechunk()
        yield cls(PORTFOLIO, ledger, trades, start, end)
        for name in blueprints.filter("is_executed").sort("rank", "blueprint_id")["blueprint_id"]:
            own = pl.col("blueprint_id") == name
            yield cls(name, ledger.filter(own), trades.filter(own), start, end)

    def bars(self) -> pl.DataFrame:
        """Sum the ledger over each bar, in time order: `open_at`, `net_pnl`, `gross_exposure` at the close."""
        summed = (pl.col("net_pnl").sum(), pl.col("exposure_after").abs().sum().alias("gross_exposure"))
        return self.ledger.group_by("open_at", maintain_order=True).agg(summed).sort("open_at")

    def on_every_day(self, daily: pl.DataFrame) -> FloatArray:
        """Lay values by `day` on the window's calendar; a day without a row is 0."""
        last = self.end - timedelta(microseconds=1)
        calendar = pl.date_range(self.start.date(), last.date(), eager=True).alias("day")
        # a hold that a gap prolonged beyond the window keeps its days
        days = pl.concat([calendar, daily["day"]]).unique().sort().to_frame()
        return days.join(daily, on="day", how="left").sort("day").to_series(1).fill_null(0.0).to_numpy()

    def daily_returns(self) -> FloatArray:
        """Compound the bars of each UTC day of the window; days without a position are 0 [fraction of equity]."""
        return self._daily(self.bars())

    def _daily(self, bars: pl.DataFrame) -> FloatArray:
        growth = pl.max_horizontal(1.0 + pl.col("net_pnl"), 0.0).product() - 1.0
        return self.on_every_day(
            bars.group_by(pl.col("open_at").dt.date().alias("day"), maintain_order=True).agg(growth)
        )

    def sum_of(self, column: str) -> float:
        """Sum a column of the ledger rows; 0 where nothing was held."""
        return float(self.ledger[column].sum())

    def metrics(self, benchmark: Benchmark) -> list[Metric]:
        """Measure what every slice has, beside buy and hold over the same window."""
        bars, n_bars = self.bars(), (self.end - self.start) // BAR
        daily, n_days = self._daily(bars), (self.end - self.start).days
        sums = {name: self.sum_of(column) for name, column in BOOKED.items()}
        turnover = 2.0 * float(self.trades["exposure"].sum())
        return [
            *trade_metrics(self.trades),
            *cost_metrics(sums, turnover=turnover, n_rows=self.ledger.height, n_trades=self.trades.height),
            *ratio_metrics(daily, compounded(bars), n_days=n_days),
            Metric("exposure_frac", bars.height / n_bars, "fraction of bars", bars.height),
            *holding_metrics(self.ledger, self.trades, bars, symbols=benchmark.symbols, n_bars=n_bars),
            *benchmark.metrics(daily),
        ]


def compounded(bars: pl.DataFrame) -> FloatArray:
    """Compound bars in time order from a capital of 1; a loss of all capital or more ends at 0 for good.

    Args:
        bars: `net_pnl` by bar [fraction of equity at the bar's open].

    Returns:
        (n_bars + 1,) equity, the starting capital first.

    Knows:
        the bars given.
    """
    growth = np.maximum(1.0 + bars["net_pnl"].to_numpy(), 0.0)
    return np.concatenate([[1.0], np.cumprod(growth)])
