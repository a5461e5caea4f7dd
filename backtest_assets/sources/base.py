"""What every source can do and what it is asked for; each kind of source has its own room."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

import polars as pl

from backtest_assets.domain.clock import month_end, month_of, month_start
from backtest_assets.domain.market import Listing, Market
from backtest_assets.tables.contract import Table
from backtest_assets.tables.raw import (
    RAW_SPOT_OHLCV,
    RAW_UM_FUNDING,
    RAW_UM_LIQUIDATIONS,
    RAW_UM_OHLCV,
    RAW_UM_OPEN_INTEREST,
)


class Dataset(StrEnum):
    """What can be fetched; the value is the name of the raw table it fills."""

    UM_OHLCV = "raw_um_ohlcv"
    UM_FUNDING = "raw_um_funding"
    SPOT_OHLCV = "raw_spot_ohlcv"
    UM_OPEN_INTEREST = "raw_um_open_interest"
    UM_LIQUIDATIONS = "raw_um_liquidations"

    @property
    def table(self) -> Table:
        """Contract of the rows that `Source.fetch` returns."""
        return _TABLES[self]

    @property
    def instant(self) -> str:
        """Column that puts a row into its month."""
        return _INSTANTS.get(self, "open_at")

    @property
    def market(self) -> Market:
        """Market whose instrument is behind it, and whose listing it follows: spot klines' own, else the um one's."""
        return Market.SPOT if self is Dataset.SPOT_OHLCV else Market.UM

    @property
    def is_required(self) -> bool:
        """Whether a run cannot do without it: klines and funding of the um market."""
        return self in {Dataset.UM_OHLCV, Dataset.UM_FUNDING}


_TABLES = {
    Dataset.UM_OHLCV: RAW_UM_OHLCV,
    Dataset.UM_FUNDING: RAW_UM_FUNDING,
    Dataset.SPOT_OHLCV: RAW_SPOT_OHLCV,
    Dataset.UM_OPEN_INTEREST: RAW_UM_OPEN_INTEREST,
    Dataset.UM_LIQUIDATIONS: RAW_UM_LIQUIDATIONS,
}
_INSTANTS = {
    Dataset.UM_FUNDING: "settled_at",
    Dataset.UM_OPEN_INTEREST: "snapshot_at",
    Dataset.UM_LIQUIDATIONS: "liquidated_at",
}


DEFAULT_DATASETS: Final = frozenset({Dataset.UM_OHLCV, Dataset.UM_FUNDING, Dataset.SPOT_OHLCV})
"""What is ingested unless asked otherwise: the archive of the others is one file a day."""


@dataclass(frozen=True, slots=True, order=True)
class Slice:
    """Whole UTC days of one month of one dataset.

    Attributes:
        dataset: which raw table.
        symbol: instrument, for example BTCUSDT.
        start: first instant, midnight.
        end: first instant after it, midnight, in the same month or its end.
    """

    dataset: Dataset
    symbol: str
    start: datetime
    end: datetime

    @classmethod
    def of_month(cls, dataset: Dataset, symbol: str, month: str) -> "Slice":
        """Return the slice of a whole month `YYYY-MM`."""
        return cls(dataset, symbol, month_start(month), month_end(month))

    @property
    def month(self) -> str:
        """Label `YYYY-MM` of its month."""
        return month_of(self.start)

    def __str__(self) -> str:
        return f"{self.dataset.value} {self.symbol} {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Origin:
    """A file or request that covers a stretch of time.

    Attributes:
        name: path or request, relative to the source; never a path of this machine.
        sha256: of its bytes; None if the source says it has no such file.
        start: first instant it covers.
        end: first instant after it.
    """

    name: str
    sha256: str | None
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source gave for a slice.

    Attributes:
        frame: rows of the dataset's table inside the slice, in key order; duplicates and bad values are kept for the
            gates to find.
        origins: what they came from, in time order; a stretch that no origin covers was not asked for.
    """

    frame: pl.DataFrame
    origins: tuple[Origin, ...] = ()


class Source(Protocol):
    """A place that raw rows come from."""

    @property
    def identity(self) -> str:
        """Canonical spec of the source, recorded with every raw partition; two identities never mix in a lake."""
        ...

    def span(self, dataset: Dataset, symbol: str) -> tuple[datetime, datetime] | None:
        """Return the first and last instant the source can have of a dataset; None if it has nothing.

        Raises:
            SourceError: if the source does not know the symbol.
        """
        ...

    def listing(self, dataset: Dataset, symbol: str) -> Listing | None:
        """Return when the instrument behind a dataset traded; None if the source does not know."""
        ...

    def prepare(self, slices: Sequence[Slice], *, as_of: datetime) -> None:
        """Get ready to serve these slices; a source on the network downloads them now, many at a time.

        Never raises for the trouble of one slice: `fetch` does, for that slice.
        """
        ...

    def fetch(self, wanted: Slice, *, as_of: datetime) -> Delivery:
        """Return the rows of a slice, possibly none.

        Args:
            wanted: dataset, symbol and days.
            as_of: when it is asked; a source that is still growing leaves out what is not closed by then.

        Raises:
            SourceError: naming file, column and fix if the source cannot deliver.
        """
        ...

    def fingerprint(self, wanted: Slice, *, as_of: datetime) -> str:
        """Return a digest that changes whenever `fetch` would return other rows.

        Raises:
            SourceError: as `fetch` does.
        """
        ...


def rows_digest(frame: pl.DataFrame) -> str:
    """Return the SHA-256 of a frame's Arrow bytes: names, types, values and row order."""
    buffer = io.BytesIO()
    frame.rechunk().write_ipc(buffer, compression="uncompressed")
    return hashlib.sha256(buffer.getbuffer()).hexdigest()
