"""Buy and hold: what the run's symbols did by themselves, and how a slice moves with them.

The benchmark is spot-like: price alone, without funding and without costs, for what a trader gives up is owning the coins, and a
perpetual's funding is the price of leverage. It says nothing of a coin that is not in the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, BAR_US, BARS_PER_DAY, epoch_us
from backtest_assets.research.walkforward.metric import Metric, known
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.drawdown import max_drawdown
from backtest_assets.stats.market_line import market_line
from backtest_assets.stats.sharpe import DAYS_PER_YEAR, annual_sharpe


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Equal weights in the run's symbols, bought at the window's first open and held to its end.

    Nothing is rebalanced. A gap keeps the last close. The share of a symbol without a bar at the window's start waits in cash for
    its first open; one that never has a bar stays there.

    Attributes:
        symbols: the run's symbols.
        start: first instant of the window.
        end: first instant after it.
        n_bought: symbols with a bar in the window; where it is 0 nothing is known of the benchmark.
        equity: (n_bars + 1,) from a capital of 1, at bar closes.
        daily: (n_days,) returns of the UTC days.
    """

    symbols: tuple[str, ...]
    start: datetime
    end: datetime
    n_bought: int
    equity: FloatArray
    daily: FloatArray

    @classmethod
    def hold(cls, bars: pl.DataFrame, symbols: Sequence[str], start: datetime, end: datetime) -> "Benchmark":
        """Hold the symbols from one midnight to another.

        Args:
            bars: table bars_um; only bars that open within the window are read.
            symbols: what is bought.
            start: first instant of the window.
            end: first instant after it.
        """
        n_bars = (end - start) // BAR
        inside = bars.lazy().filter(pl.col("open_at") >= start, pl.col("open_at") < end, pl.col("close").is_not_null())
        bar = (pl.col("open_at").dt.epoch("us") - epoch_us(start)) // BAR_US
        found = inside.select("symbol", "open", "close", bar=bar).collect().partition_by("symbol", as_dict=True)
        values = np.ones(n_bars)
        bought = [own for symbol in symbols if (own := found.get((symbol,))) is not None]
        for own in bought:
            values += (_held(own, n_bars) - 1.0) / len(symbols)
        equity = np.concatenate([[1.0], values])
        by_day = equity[::BARS_PER_DAY]
        return cls(tuple(symbols), start, end, len(bought), equity, by_day[1:] / by_day[:-1] - 1.0)

    def metrics(self, daily: FloatArray) -> list[Metric]:
        """Measure the benchmark itself, and the line of a slice's days on its days.

        Args:
            daily: (n_days,) returns of the slice on the same days.

        Returns:
            The metrics; null where no symbol was bought; alpha and beta also where either side never moved.
        """
        n_days = self.daily.size
        if self.n_bought == 0:
            return [Metric(name, None, unit, 0) for name, unit in _UNITS]
        sharpe, line = annual_sharpe(self.daily), market_line(daily, self.daily)
        values = (
            float(self.equity[-1]) - 1.0,
            max_drawdown(self.equity),
            sharpe.annual,
            line.beta,
            line.correlation,
            line.alpha * DAYS_PER_YEAR,
            line.alpha_error * DAYS_PER_YEAR,
        )
        return [Metric(name, known(value), unit, n_days) for (name, unit), value in zip(_UNITS, values, strict=True)]


def _held(own: pl.DataFrame, n_bars: int) -> FloatArray:
    """Return the value at each close of 1 put into a symbol at its first open, and kept in cash before."""
    bar, first = own["bar"].to_numpy(), int(own["bar"].arg_min() or 0)
    close = np.full(n_bars, np.nan)
    close[bar] = own["close"].to_numpy()
    last = np.maximum.accumulate(np.where(np.isnan(close), -1, np.arange(n_bars)))
    return np.where(last < 0, 1.0, close[last] / own["open"][first])


_UNITS = (
    ("benchmark_return", "fraction"),
    ("benchmark_max_drawdown", "fraction"),
    ("benchmark_sharpe_annualised", "per sqrt(year)"),
    ("beta", "1"),
    ("benchmark_correlation", "1"),
    ("alpha_annual", "fraction per year"),
    ("alpha_annual_se", "fraction per year"),
)
