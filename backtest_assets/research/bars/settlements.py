"""Funding settlements, each once, and the one as-of reading of them; booking a payment belongs to simulation and outcomes."""

from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.domain.clock import BAR, HOUR_US
from backtest_assets.errors import TableError
from backtest_assets.research.bars.admit import RawRows
from backtest_assets.tables.bars import SETTLEMENTS_UM
from backtest_assets.tables.raw import RAW_UM_FUNDING

_HOURS_MAX: Final = 24  # the exchange settles at least daily; a longer interval is a unit mistake
_INTERVAL: Final = pl.duration(microseconds=(pl.col("funding_interval_h") * HOUR_US).cast(pl.Int64))


def settle_funding(raw_funding: pl.DataFrame, *, symbol: str, month: str, as_of: datetime) -> pl.DataFrame:
    """Take the settlements of a month that are over by `as_of`, each once, with their jitter and their last use.

    Args:
        raw_funding: rows of `raw_um_funding` of this symbol and month.
        symbol: instrument.
        month: UTC month `YYYY-MM`.
        as_of: a later settlement is left out.

    Returns:
        Rows of `settlements_um`, one per settlement, rates as they are.

    Raises:
        TableError: if a settlement is of another symbol or month, covers no known number of hours up to a day, or
            contradicts another row of its instant; rows that repeat each other exactly count once.

    Knows:
        each settlement at its own instant; nothing later.
    """
    rows = RawRows(RAW_UM_FUNDING).of_month(raw_funding, symbol=symbol, month=month)
    known = pl.col("funding_interval_h").is_between(0, _HOURS_MAX, closed="right")
    unknown = rows.filter(~known.fill_null(value=False))
    if not unknown.is_empty():
        message = (
            f"{RAW_UM_FUNDING.name} {symbol} {month}: {unknown.height} settlements cover no known number of hours up to "
            f"{_HOURS_MAX}, first {unknown['funding_interval_h'][0]} h at {unknown['settled_at'][0]}; mend the source's "
            "interval column and ingest again"
        )
        raise TableError(message)
    settled = pl.col("settled_at")
    return SETTLEMENTS_UM.conform(
        rows.filter(settled <= as_of).select(
            "symbol",
            "settled_at",
            "funding_rate",
            "funding_interval_h",
            known_at=settled,
            jitter_ms=(pl.col("received_at") - settled).dt.total_microseconds() / 1e3,
            stale_at=settled + _INTERVAL + BAR,
        )
    )


def funding_as_of(bars: pl.DataFrame, funding: pl.DataFrame) -> pl.DataFrame:
    """Lay beside every row the last settlement that is known by then.

    Args:
        bars: rows with `symbol` and `known_at`, ascending within a symbol.
        funding: rows of `settlements_um`, in any order; only `settled_at`, rate and interval are read.

    Returns:
        The rows of `bars` in their order with `funding_settled_at` [UTC] and `funding_age_h` [h] of the last settlement of
        the same symbol, null before the first; and `funding_rate` [fraction per interval] and `funding_rate_8h` [fraction
        per 8 h], null too once its own interval and one bar are over (after `stale_at`): a missing settlement must not pass
        for a rate that holds on.

    Knows:
        settlements with settled_at <= known_at.
    """
    settled = funding.select(
        "symbol", "settled_at", "funding_rate", "funding_interval_h", funding_settled_at="settled_at"
    ).sort("symbol", "settled_at")
    age = pl.col("known_at") - pl.col("funding_settled_at")
    is_fresh = age <= _INTERVAL + BAR
    return (
        bars.join_asof(
            settled, left_on="known_at", right_on="settled_at", by="symbol", strategy="backward", check_sortedness=False
        )
        .with_columns(
            pl.when(is_fresh).then("funding_rate").alias("funding_rate"),
            pl.when(is_fresh)
            .then(pl.col("funding_rate") * 8.0 / pl.col("funding_interval_h"))
            .alias("funding_rate_8h"),
            (age.dt.total_microseconds() / HOUR_US).alias("funding_age_h"),
        )
        .drop("settled_at", "funding_interval_h", strict=False)
    )
