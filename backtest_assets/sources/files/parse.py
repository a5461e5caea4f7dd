"""Columns of tidy files to columns of raw tables; finding and serving files stays out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl

from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Dataset
from backtest_assets.tables.contract import INSTANT

KLINE_COLUMNS: Final = {
    "open_time": "open_at",
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume_base",
}
KLINE_OPTIONAL: Final = {
    "quote_volume": "volume_quote",
    "trades": "n_trades",
    "taker_buy_base": "taker_buy_base",
    "taker_buy_quote": "taker_buy_quote",
}
FUNDING_COLUMNS: Final = {
    "funding_time": "received_at",
    "funding_rate": "funding_rate",
    "interval_hours": "funding_interval_h",
}
COLUMNS: Final[Mapping[Dataset, Mapping[str, str]]] = {
    Dataset.UM_OHLCV: KLINE_COLUMNS | KLINE_OPTIONAL,
    Dataset.UM_FUNDING: FUNDING_COLUMNS,
    Dataset.SPOT_OHLCV: KLINE_COLUMNS | KLINE_OPTIONAL,
}
"""The files' column names and ours, per dataset."""

SOURCE_NAME: Final = "files"
SETTLEMENT_JITTER_S: Final = 5
"""A settlement stamped within this of a full minute belongs to it; the exchange stamps some ms late [s]."""

_EPOCHS: Final = {"ms": (10**12, 10**13), "us": (10**15, 10**16)}  # 2001-09 to 2286 in either unit; no value fits both


def time_column(dataset: Dataset) -> str:
    """Return the name of the files' time column."""
    return "funding_time" if dataset is Dataset.UM_FUNDING else "open_time"


def check_columns(path: Path, dataset: Dataset, schema: pl.Schema) -> None:
    """Refuse a file that lacks a column or has one of the wrong type.

    Raises:
        SourceError: naming file, column and fix.
    """
    funding = dataset is Dataset.UM_FUNDING
    required = FUNDING_COLUMNS if funding else KLINE_COLUMNS
    missing = [name for name in required if name not in schema]
    if missing:
        message = f"{path}: column {', '.join(missing)} missing, found {', '.join(schema)}; the file needs {', '.join(required)}"
        raise SourceError(message)
    time = time_column(dataset)
    for name in (*required, *(() if funding else KLINE_OPTIONAL)):
        dtype = schema.get(name, pl.Null())
        if name != time and not (dtype.is_numeric() or (name in KLINE_OPTIONAL and dtype == pl.Null())):
            message = f"{path}: column {name} is {dtype}; write it as a number"
            raise SourceError(message)
    dtype = schema[time]
    if isinstance(dtype, pl.Datetime) and dtype.time_zone != "UTC":
        message = f"{path}: column {time} has time zone {dtype.time_zone or 'none'}; write it as UTC timestamps"
        raise SourceError(message)
    if not (isinstance(dtype, pl.Datetime) or dtype.is_integer()):
        message = f"{path}: column {time} is {dtype}; write it as UTC timestamps or integer epochs in ms or us"
        raise SourceError(message)


def instant(path: Path, dataset: Dataset, column: pl.Series) -> pl.Expr:
    """Return the expression that reads the file's time column as UTC instants.

    Args:
        path: the file, for messages.
        dataset: which raw table it fills.
        column: its whole time column; integers are told apart by magnitude, all of one file alike.

    Raises:
        SourceError: if a time is missing, or the unit of integers is mixed or neither ms nor us.
    """
    time = pl.col(column.name)
    if column.is_empty() or column.null_count():
        message = (
            f"{path}: column {column.name} has {column.null_count()} empty of {len(column)} times; every row needs one"
        )
        raise SourceError(message)
    if isinstance(column.dtype, pl.Datetime):
        return time.cast(INSTANT)
    low, high = column.min(), column.max()
    for unit, (first, after) in _EPOCHS.items():
        if column.is_between(first, after - 1).all():
            return (
                pl.from_epoch(time, time_unit="ms" if unit == "ms" else "us")
                .cast(pl.Datetime("us"))
                .dt.replace_time_zone("UTC")
            )
    message = f"{path}: column {column.name} holds integers from {low} to {high}: mixed or unknown epoch unit for {dataset.value}; write all as ms or all as us"
    raise SourceError(message)


def raw_columns(dataset: Dataset, symbol: str, schema: pl.Schema, at: pl.Expr, minutes: int) -> list[pl.Expr]:
    """Return the expressions that make a raw table's columns out of a file's.

    Args:
        dataset: which raw table.
        symbol: instrument of the file.
        schema: the file's columns.
        at: its time column as UTC instants.
        minutes: length of a kline [min]; of no meaning for funding.
    """
    names = [pl.lit(symbol).alias("symbol"), pl.lit(SOURCE_NAME).alias("source")]
    if dataset is Dataset.UM_FUNDING:
        minute = at.dt.round("1m")
        near = (at - minute).abs() <= pl.duration(seconds=SETTLEMENT_JITTER_S)
        settled = pl.when(near).then(minute).otherwise(at).alias("settled_at")
        return [*names, at.alias("received_at"), settled, *_numbers(COLUMNS[dataset], schema)]
    lacking = [pl.lit(None).alias(name) for name in ("close_at", "unused")]
    return [
        *names,
        at.alias("open_at"),
        pl.lit(minutes).alias("interval_min"),
        *lacking,
        *_numbers(COLUMNS[dataset], schema),
    ]


def _numbers(columns: Mapping[str, str], schema: pl.Schema) -> list[pl.Expr]:
    return [
        (pl.col(name) if name in schema else pl.lit(None)).alias(ours)
        for name, ours in columns.items()
        if not name.endswith("_time")
    ]
