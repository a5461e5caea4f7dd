"""Klines on the full 15-minute grid of a month, gaps explicit; nothing is filled, and no part of a bar passes for a bar."""

from datetime import datetime, timedelta
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, month_end
from backtest_assets.domain.market import Listing
from backtest_assets.research.bars.admit import RawRows
from backtest_assets.research.bars.calendar import expected_opens, expected_span, newest_close
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.raw import RAW_UM_OHLCV

_PRICES: Final = ("open", "high", "low", "close")
_SUMS: Final = ("volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")
_HAS_PRICES: Final = pl.all_horizontal(pl.col(_PRICES).is_finite().fill_null(value=False))


def clean_klines(
    raw: pl.DataFrame, *, symbol: str, month: str, as_of: datetime, listing: Listing | None = None
) -> pl.DataFrame:
    """Lay the klines of a month on the grid of the bars that the month must have.

    A bar is made of all klines of its 15 minutes or of none: open of the first, close of the last, highest high, lowest low,
    sums of volumes, trades and taker buys (null if one of them is). 15-minute klines are taken as they are.

    Args:
        raw: rows of `raw_um_ohlcv` or `raw_spot_ohlcv` of this symbol and month, of one length: 1, 5 or 15 minutes.
        symbol: instrument.
        month: UTC month `YYYY-MM`.
        as_of: when the bars are made; a bar that closes later is left out, and so is the tail of an open month that has
            not arrived.
        listing: when the instrument traded; bars that are not wholly within are left out, klines there or not. None holds
            the whole month against the calendar.

    Returns:
        Rows of `bars_um` or `bars_spot` (their contracts are alike), one per instant of `expected_span`. Where a kline is
        missing or without a price the row is a gap: `is_gap` is true and every value is null.

    Raises:
        TableError: if a kline is of another symbol or month, off its own grid, of mixed or unknown length, or contradicts
            another kline of the same open; klines that repeat each other exactly count once.

    Knows:
        each bar's own klines, known at its close; nothing later.
    """
    klines, length = RawRows(RAW_UM_OHLCV).klines(raw, symbol=symbol, month=month)
    arrived = newest_close(klines, as_of=as_of) if as_of < month_end(month) else None
    span = expected_span(month, as_of=as_of, listing=listing, newest_close=arrived)
    gap = pl.col("known_at").is_null()
    return (
        expected_opens(span)
        .to_frame()
        .join(_whole_bars(klines, length), on="open_at", how="left", maintain_order="left")
        .with_columns(symbol=pl.lit(symbol), known_at=pl.col("open_at") + BAR, is_gap=gap)
        .select(BARS_UM.schema.names())  # already in the grid's order and of the contract's types
    )


def _whole_bars(klines: pl.DataFrame, length: timedelta) -> pl.DataFrame:
    if length == BAR:
        known = klines.filter(_HAS_PRICES)
    else:
        known = (
            klines.filter(_HAS_PRICES)
            .group_by_dynamic("open_at", every=BAR)
            .agg(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                *(pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name) for name in _SUMS),
                n_klines=pl.len(),
            )
            .filter(pl.col("n_klines") == BAR // length)
        )
    return known.select("open_at", *_PRICES, *_SUMS, known_at="open_at")
