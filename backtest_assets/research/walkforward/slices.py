"""One slice of the ledger: the rows of some trades within some days, and what every slice is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR
from backtest_assets.stats.arrays import FloatArray
from backtest_assets.stats.drawdown import max_drawdown
from backtest_assets.stats.sharpe import annual_sharpe

PORTFOLIO: Final = "portfolio"
"""Scope of all executed blueprints together."""

EQUITY: Final = "fraction of equity"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number about a slice.

    Attributes:
        name: the metric.
        value: None where it is undefined.
        unit: of the value.
        n: observations behind it.
    """

    name: str
    value: float | None
    unit: str
    n: int


def known(value: float) -> float | None:
    """Return a number, or None for NaN and infinity: what is undefined is null in a table."""
    return float(value) if np.isfinite(value) else None


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

    def bar_pnl(self) -> pl.DataFrame:
        """Sum net P&L over each bar: `open_at`, `net_pnl` [fraction of equity at the bar's open], in time order."""
        return self.ledger.group_by("open_at", maintain_order=True).agg(pl.col("net_pnl").sum()).sort("open_at")

    def equity(self) -> FloatArray:
        """Compound the bars from a capital of 1; a loss of all capital or more ends at 0 for good."""
        growth = np.maximum(1.0 + self.bar_pnl()["net_pnl"].to_numpy(), 0.0)
        return np.concatenate([[1.0], np.cumprod(growth)])

    def on_every_day(self, daily: pl.DataFrame) -> FloatArray:
        """Lay values by `day` on the window's calendar; a day without a row is 0."""
        last = self.end - timedelta(microseconds=1)
        calendar = pl.date_range(self.start.date(), last.date(), eager=True).alias("day")
        # a hold that a gap prolonged beyond the window keeps its days
        days = pl.concat([calendar, daily["day"]]).unique().sort().to_frame()
        return days.join(daily, on="day", how="left").sort("day").to_series(1).fill_null(0.0).to_numpy()

    def daily_returns(self) -> FloatArray:
        """Compound the bars of each UTC day of the window; days without a position are 0 [fraction of equity]."""
        growth = pl.max_horizontal(1.0 + pl.col("net_pnl"), 0.0).product() - 1.0
        return self.on_every_day(
            self.bar_pnl().group_by(pl.col("open_at").dt.date().alias("day"), maintain_order=True).agg(growth)
        )

    def sum_of(self, column: str) -> float:
        """Sum a column of the ledger rows; 0 where nothing was held."""
        return float(self.ledger[column].sum())

    def metrics(self) -> list[Metric]:
        """Measure what every slice has."""
        n, equity, sharpe = self.trades.height, self.equity(), annual_sharpe(self.daily_returns())
        n_bars = self.ledger["open_at"].n_unique()
        n_wins = self.trades.filter(pl.col("net_pnl") > 0).height
        booked = [
            Metric(name, self.sum_of(column), EQUITY, self.ledger.height)
            for name, column in (
                ("gross", "gross_pnl"),
                ("fees", "fee"),
                ("slippage", "slippage"),
                ("funding", "funding_pnl"),
                ("net", "net_pnl"),
            )
        ]
        return [
            Metric("n_trades", n, "trades", n),
            Metric("win_rate", n_wins / n if n else None, "fraction", n),
            *booked,
            Metric("ending_equity", float(equity[-1]), "times the start", n_bars),
            Metric("max_drawdown", max_drawdown(equity), "fraction", n_bars),
            Metric("sharpe_daily_annualised", known(sharpe.annual), "per sqrt(year)", sharpe.n_days),
            Metric("sharpe_ci_low", known(sharpe.annual_low), "per sqrt(year)", sharpe.n_days),
            Metric("sharpe_ci_high", known(sharpe.annual_high), "per sqrt(year)", sharpe.n_days),
            Metric("exposure_frac", n_bars / ((self.end - self.start) / BAR), "fraction of bars", n_bars),
            Metric("turnover", 2.0 * float(self.trades["exposure"].sum()), "times equity", n),
        ]


def tidy(rows: list[tuple[dict[str, object], Metric]]) -> pl.DataFrame:
    """Return one row per metric: the given columns, then `metric`, `value`, `unit`, `n`."""
    return pl.DataFrame(
        [{**named, "metric": m.name, "value": m.value, "unit": m.unit, "n": m.n} for named, m in rows],
        schema_overrides={"value": pl.Float64, "n": pl.Int64},
        infer_schema_length=None,
    )
