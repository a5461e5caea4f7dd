"""What every source can do and what it is asked for; each kind of source has its own room."""

import hashlib
import io
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import polars as pl

from backtest_assets.tables.contract import Table
from backtest_assets.tables.raw import RAW_SPOT_OHLCV, RAW_UM_FUNDING, RAW_UM_OHLCV


class Dataset(StrEnum):
    """What can be fetched; the value is the name of the raw table it fills."""

    UM_OHLCV = "raw_um_ohlcv"
    UM_FUNDING = "raw_um_funding"
    SPOT_OHLCV = "raw_spot_ohlcv"

    @property
    def table(self) -> Table:
        """Contract of the rows that `Source.fetch` returns."""
        return _TABLES[self]

    @property
    def instant(self) -> str:
        """Column that puts a row into its month: the open time of a kline, the moment of a settlement."""
        return "settled_at" if self is Dataset.UM_FUNDING else "open_at"


_TABLES = {
    Dataset.UM_OHLCV: RAW_UM_OHLCV,
    Dataset.UM_FUNDING: RAW_UM_FUNDING,
    Dataset.SPOT_OHLCV: RAW_SPOT_OHLCV,
}


class Source(Protocol):
    """A place that raw rows come from."""

    @property
    def identity(self) -> str:
        """Canonical spec of the source, recorded with every raw partition; two identities never mix in a lake."""
        ...

    def span(self, dataset: Dataset, symbol: str) -> tuple[datetime, datetime] | None:
        """Return the first and last instant the source has of a dataset; None if it has nothing.

        Raises:
            SourceError: if the source does not know the symbol.
        """
        ...

    def fetch(self, dataset: Dataset, symbol: str, month: str) -> pl.DataFrame:
        """Return the rows of a month, possibly none; duplicates and bad values are kept for the gates to find.

        Args:
            dataset: which raw table.
            symbol: instrument, for example BTCUSDT.
            month: UTC month `YYYY-MM`.

        Returns:
            Rows of `dataset.table`, in key order.

        Raises:
            SourceError: naming file, column and fix if the source cannot deliver.
        """
        ...

    def fingerprint(self, dataset: Dataset, symbol: str, month: str) -> str:
        """Return a digest that changes whenever `fetch` would return other rows."""
        ...


def rows_digest(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of a frame's Arrow bytes: names, types, values and row order."""
    buffer = io.BytesIO()
    frame.rechunk().write_ipc(buffer, compression="uncompressed")
    return hashlib.sha256(buffer.getbuffer()).hexdigest()
