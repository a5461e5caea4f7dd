"""How much of the market the run really saw, month by month against the calendar; cleaning happens elsewhere."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, month_end, month_start, months_between
from backtest_assets.domain.market import Market
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.report.inputs import ReportInputs
from backtest_assets.research.report.row import Grid, Line, Row

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def coverage_grid(inputs: ReportInputs, *, run: ResearchRun) -> Grid:
    """Lay the share of real bars of every symbol and month out by year.

    Args:
        inputs: needs `bars_um`, `bars_spot`.
        run: gives window and symbols.

    Returns:
        One line per market, symbol and year, one column per month [fraction of the calendar's bars]; a month without
        data is 0, a month outside the window is left out.

    Knows:
        the whole run, test included.
    """
    start, end = run.window
    months = months_between(start, end)
    lines: list[Line] = []
    for market, bars in ((Market.UM, inputs.bars_um), (Market.SPOT, inputs.bars_spot)):
        counts = _counts(bars, start, end)
        for symbol in run.symbol_list:
            shares = {
                month: counts.get((symbol, month), 0)
                / ((min(end, month_end(month)) - max(start, month_start(month))) / BAR)
                for month in months
            }
            lines += [
                Line(
                    f"{symbol} {market} {year}",
                    tuple(_month_cell(market, symbol, f"{year}-{n:02d}", shares) for n in range(1, 13)),
                )
                for year in sorted({month[:4] for month in months})
            ]
    return Grid(("", *_MONTHS), tuple(lines))


def _counts(bars: pl.DataFrame, start: datetime, end: datetime) -> Mapping[tuple[str, str], int]:
    real = bars.lazy().filter(~pl.col("is_gap") & pl.col("open_at").is_between(start, end, closed="left"))
    counted = real.group_by("symbol", pl.col("open_at").dt.strftime("%Y-%m").alias("month")).agg(
        pl.col("open_at").n_unique().alias("n")
    )
    return {(symbol, month): n for symbol, month, n in counted.collect().rows()}


def _month_cell(market: Market, symbol: str, month: str, shares: Mapping[str, float]) -> Row | str:
    if month not in shares:
        return ""
    return Row("coverage", f"{market}/{symbol}/{month}", observed=shares[month], unit="fraction")


def quality_grid(inputs: ReportInputs, *, run: ResearchRun) -> Grid:
    """Sum up every symbol's data: coverage, gaps, funding and basis.

    Args:
        inputs: needs `bars_um`, `features`.
        run: gives window and symbols.

    Returns:
        One line per symbol; shares of the window's real bars where funding or basis is known, unknown where there are
        no bars.

    Knows:
        the whole run, test included.
    """
    lines = tuple(
        Line(symbol, (*_gap_cells(symbol, inputs.bars_um, run), *_feature_cells(symbol, inputs.features, run)))
        for symbol in run.symbol_list
    )
    return Grid(("", "Real bars", "Gaps", "Missing bars", "Longest gap", "Funding known", "Basis known"), lines)


def _gap_cells(symbol: str, bars: pl.DataFrame, run: ResearchRun) -> tuple[Row, ...]:
    start, end = run.window
    real = bars.filter(
        (pl.col("symbol") == symbol) & ~pl.col("is_gap") & pl.col("open_at").is_between(start, end, closed="left")
    )["open_at"].unique()
    edges = pl.Series("open_at", [start - BAR, end], dtype=real.dtype)
    jumps = pl.concat([real, edges]).sort().diff().drop_nulls() / BAR - 1
    n_expected = (end - start) // BAR

    def row(item: str, value: float | None, unit: str) -> Row:
        return Row("quality", f"{symbol}/{item}", observed=value, unit=unit)

    return (
        row("coverage", real.len() / n_expected, "fraction"),
        row("n_gaps", int((jumps > 0).sum()), "gaps"),
        row("n_missing", n_expected - real.len(), "bars"),
        row("longest_gap", float(jumps.max()), "bars"),  # pyright: ignore[reportArgumentType]  # two edges: never empty
    )


def _feature_cells(symbol: str, features: pl.DataFrame, run: ResearchRun) -> tuple[Row, ...]:
    start, end = run.window
    rows = features.filter(
        (pl.col("symbol") == symbol) & ~pl.col("is_gap") & pl.col("open_at").is_between(start, end, closed="left")
    )
    known = rows.select(pl.col("funding_rate", "basis_bps").is_not_null().mean()).row(0)
    return tuple(
        Row("quality", f"{symbol}/{name}", observed=share, unit="fraction")
        for name, share in zip(("funding_known", "basis_known"), known, strict=True)
    )
