"""A folder of tidy parquet files as a source; reading their columns is parse.py's work.

Layout: `um/klines/15m/SYMBOL.parquet` (or `5m`, `1m`), `um/funding/SYMBOL.parquet`, optionally the same under `spot/klines`
and `instruments.csv` with the days on which symbols were listed and delisted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl

from backtest_assets.domain.market import Listing
from backtest_assets.errors import SourceError, TableError
from backtest_assets.sources.base import Dataset, Delivery, Origin, Slice, rows_digest
from backtest_assets.sources.files.parse import COLUMNS, check_columns, instant, raw_columns, time_column
from backtest_assets.sources.instruments import read_instruments

LAYOUT: Final = {
    Dataset.UM_OHLCV: {"um/klines/15m": 15, "um/klines/5m": 5, "um/klines/1m": 1},
    Dataset.UM_FUNDING: {"um/funding": 15},
    Dataset.SPOT_OHLCV: {"spot/klines/15m": 15, "spot/klines/5m": 5, "spot/klines/1m": 1},
}
"""Folders per dataset with the minutes of a kline; of several the first that has the symbol is read."""

_FILES_KEPT: Final = (
    8  # whole files kept in memory, 15 MB for 4 years of klines; a file's few row groups cannot be pruned by month
)


class FilesSource:
    """Tidy parquet files under one folder.

    Attributes:
        identity: `files:` and the folder's absolute path.

    Raises:
        SourceError: on construction, if the folder is missing or holds no file in the layout.
    """

    def __init__(self, folder: str) -> None:
        self._root = Path(folder).expanduser().resolve()
        self.identity = f"files:{self._root}"
        wanted = ", ".join(f"{next(iter(parts))}/SYMBOL.parquet" for parts in LAYOUT.values())
        if not folder or not self._root.is_dir():
            message = f"source files:{folder}: there is no such folder; give one that holds {wanted}"
            raise SourceError(message)
        if not self.symbols():
            message = f"source {self.identity}: the folder holds no data; it needs {wanted}"
            raise SourceError(message)

    def symbols(self) -> tuple[str, ...]:
        """Return every symbol that has at least one file, sorted."""
        return tuple(sorted({symbol for dataset in Dataset for symbol in self._files(dataset)}))

    def span(self, dataset: Dataset, symbol: str) -> tuple[datetime, datetime] | None:
        """Return the first and last instant of a symbol's file; None if it has no such file.

        Raises:
            SourceError: if no file at all bears the symbol, or its file cannot be used.
        """
        file = self._file(dataset, symbol)
        return None if file is None else file.span

    def listing(self, dataset: Dataset, symbol: str) -> Listing | None:
        """Return what `instruments.csv` declares; None if it declares nothing.

        Raises:
            SourceError: if the file is there and cannot be used.
        """
        return read_instruments(self._root).get((symbol, dataset.market))

    def prepare(self, slices: Sequence[Slice], *, as_of: datetime) -> None:
        """Do nothing: the files are here."""

    def fetch(self, wanted: Slice, *, as_of: datetime) -> Delivery:
        """Return the rows of a slice as they stand in the file, possibly none.

        Raises:
            SourceError: if no file at all bears the symbol, or its file cannot be used.
        """
        del as_of  # a file that holds bars not closed yet is refused by a gate
        file = self._file(wanted.dataset, wanted.symbol)
        if file is None:
            return Delivery(wanted.dataset.table.empty(), (Origin("no file", None, wanted.start, wanted.end),))
        rows = file.between(wanted.start, wanted.end)
        return Delivery(rows, (Origin(file.name, rows_digest(rows), wanted.start, wanted.end),))

    def fingerprint(self, wanted: Slice, *, as_of: datetime) -> str:
        """Return the digest of the slice's rows; other months of the file do not matter."""
        return rows_digest(self.fetch(wanted, as_of=as_of).frame)

    def _files(self, dataset: Dataset) -> dict[str, tuple[Path, int]]:
        found: dict[str, tuple[Path, int]] = {}
        for part, minutes in LAYOUT.get(dataset, {}).items():
            for path in (self._root / part).glob("*.parquet"):
                found.setdefault(path.stem, (path, minutes))
        return found

    def _file(self, dataset: Dataset, symbol: str) -> "_File | None":
        # The name is looked up among the files found; it never becomes part of a path.
        path, minutes = self._files(dataset).get(symbol, (None, 0))
        if path is None and symbol not in self.symbols():
            message = f"source {self.identity}: unknown symbol {symbol!r}; it has {', '.join(self.symbols())}"
            raise SourceError(message)
        if path is None:
            return None
        if not path.is_file():
            message = f"{path}: is not a file that can be read; put a parquet file there"
            raise SourceError(message)
        name = str(path.relative_to(self._root))
        return _open(path, name, dataset, minutes, (path.stat().st_mtime_ns, path.stat().st_size))


@dataclass(frozen=True, slots=True)
class _File:
    """A checked file: its rows in time order, in the raw table's columns."""

    name: str
    rows: pl.DataFrame
    instants: pl.Series

    @property
    def span(self) -> tuple[datetime, datetime]:
        return self.instants[0], self.instants[-1]

    def between(self, start: datetime, end: datetime) -> pl.DataFrame:
        first, after = (self.instants.search_sorted(at) for at in (start, end))
        return self.rows.slice(first, after - first)


@lru_cache(maxsize=_FILES_KEPT)
def _open(path: Path, name: str, dataset: Dataset, minutes: int, stat: tuple[int, int]) -> _File:  # noqa: ARG001  # a changed file is another file
    try:
        scan = pl.scan_parquet(path)
        schema = scan.collect_schema()
        check_columns(path, dataset, schema)
        columns = [name for name in schema if name in COLUMNS[dataset]]
        read = scan.select(columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        message = f"{path}: cannot be read as parquet ({error}); write it again"
        raise SourceError(message) from error
    try:
        at = instant(path, dataset, read[time_column(dataset)])
        rows = dataset.table.conform(read.select(raw_columns(dataset, path.stem, schema, at, minutes)))
    except (pl.exceptions.PolarsError, OverflowError, TableError) as error:
        message = f"{path}: holds values that cannot be used ({error}); write it again with the documented types"
        raise SourceError(message) from error
    return _File(name, rows, rows[dataset.instant])
