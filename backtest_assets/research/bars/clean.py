"""Klines on the full 15-minute grid of a month, gaps explicit; nothing is filled, and nothing is dropped in silence."""

from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, month_end, month_start
from backtest_assets.errors import TableError
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.raw import RAW_UM_OHLCV

_PRICES: Final = ("open", "high", "low", "close")
_VALUES: Final = (*_PRICES, "volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")


def clean_klines(raw: pl.DataFrame, *, symbol: str, month: str, as_of: datetime) -> pl.DataFrame:
    """Lay the klines of a month on the grid of all bars that are closed by `as_of`.

    Args:
        raw: rows of `raw_um_ohlcv` or `raw_spot_ohlcv` of this symbol and month.
        symbol: instrument.
        month: UTC month `YYYY-MM`.
        as_of: when the bars are made; a bar that closes later is left out.

    Returns:
        Rows of `bars_um` or `bars_spot` (their contracts are alike), one per grid instant of the month. Where the source has
        no kline, or one without a price, the row is a gap: `is_gap` is true and every value is null. Prices stay as they are.

    Raises:
        TableError: if a row is of another symbol, off the month's grid, or contradicts another row of the same bar; rows
            that repeat each other exactly count once.

    Knows:
        each bar's own kline, known at its close; nothing later.
    """
    klines = RAW_UM_OHLCV.conform(raw)
    _refuse_strangers(klines, symbol, month)
    klines = klines.unique(maintain_order=True)
    _refuse_contradictions(klines, symbol, month)
    last = min(month_end(month), as_of) - BAR
    grid = pl.datetime_range(month_start(month), last, BAR, time_unit="us", time_zone="UTC", eager=True).alias(
        "open_at"
    )
    gap = pl.any_horizontal(pl.col(_PRICES).is_null())
    bars = (
        grid.to_frame()
        .join(klines.select("open_at", *_VALUES), on="open_at", how="left", maintain_order="left")
        .with_columns(
            pl.when(~gap).then(pl.col(_VALUES)), symbol=pl.lit(symbol), known_at=pl.col("open_at") + BAR, is_gap=gap
        )
    )
    return BARS_UM.conform(bars)


def _refuse_strangers(klines: pl.DataFrame, symbol: str, month: str) -> None:
    at = pl.col("open_at")
    inside = at.is_between(month_start(month), month_end(month), closed="left") & (at == at.dt.truncate("15m"))
    strangers = klines.filter(~(inside & (pl.col("symbol") == symbol)).fill_null(value=False))
    if not strangers.is_empty():
        row = strangers.row(0, named=True)
        message = (
            f"raw klines of {symbol} {month}: {strangers.height} rows are of another symbol or off the month's 15-minute grid, "
            f"first {row['symbol']} at {row['open_at']}; ingest the month again"
        )
        raise TableError(message)


def _refuse_contradictions(klines: pl.DataFrame, symbol: str, month: str) -> None:
    twice = klines.filter(pl.col("open_at").is_duplicated())
    if not twice.is_empty():
        message = (
            f"raw klines of {symbol} {month}: {twice['open_at'].n_unique()} bars have rows that contradict each other, "
            f"first at {twice['open_at'][0]}; nothing says which is right: mend the source and ingest the month again"
        )
        raise TableError(message)
