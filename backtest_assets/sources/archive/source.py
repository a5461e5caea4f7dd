"""A local mirror of the public archive as a source; names are layout.py's, contents parse.py's work.

The month's file is read where there is one, else the days'. Days that the month's file is short of are filled from their
own files; the origins say so.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from backtest_assets.domain.clock import MICROSECOND, epoch_us, month_of
from backtest_assets.domain.market import Listing
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import INTERVALS, ArchiveFile, daily_file, monthly_file, stretch_of
from backtest_assets.sources.archive.local import LocalFile, find_file, read_files
from backtest_assets.sources.archive.parse import PARSER_VERSION
from backtest_assets.sources.base import Dataset, Delivery, Origin, Slice, rows_digest
from backtest_assets.sources.instruments import read_instruments

SOURCE_NAME: Final = "archive_dir"

_KLINES: Final = frozenset({Dataset.UM_OHLCV, Dataset.SPOT_OHLCV})
_SYMBOL_FOLDERS: Final = ("data/futures/um/*/klines/*", "data/futures/um/*/fundingRate/*", "data/spot/*/klines/*")
_DAY: Final = timedelta(days=1)
_SOME_DAY: Final = datetime(2020, 1, 1, tzinfo=UTC)  # any day would do: only the folder and the name's form are used


class ArchiveSource:
    """A folder in the archive's own layout, `data/futures/um/..` and `data/spot/..`, of zips or bare CSV members.

    Attributes:
        identity: `archive_dir:`, the folder's absolute path, and `:1m` or `:5m` if klines are not of 15 minutes.

    Raises:
        SourceError: on construction, if the folder is missing or holds no klines of that interval.
    """

    def __init__(self, rest: str) -> None:
        folder, self._interval = _split(rest)
        self._root = Path(folder).expanduser().resolve()
        self.identity = self.identify(rest)
        if not folder or not self._root.is_dir():
            message = f"source archive_dir:{rest}: there is no such folder; give one that holds data/futures/um/.."
            raise SourceError(message)
        if not self.symbols():
            message = f"source {self.identity}: the folder holds no data; it needs data/futures/um/monthly/klines/SYMBOL/{self._interval}/.. as data.binance.vision has it"
            raise SourceError(message)
        others = sorted({path.name for path in self._root.glob("data/futures/um/*/klines/*/*")} & set(INTERVALS))
        if others and self._interval not in others:
            message = f"source {self.identity}: has no {self._interval} klines but {', '.join(others)}; give archive_dir:{folder}:{others[0]}"
            raise SourceError(message)

    @staticmethod
    def identify(rest: str) -> str:
        """Return the identity that `DIR[:INTERVAL]` has; the folder may be gone."""
        folder, interval = _split(rest)
        return f"{SOURCE_NAME}:{Path(folder).expanduser().resolve()}{'' if interval == '15m' else f':{interval}'}"

    def symbols(self) -> tuple[str, ...]:
        """Return every symbol that has a folder of klines or funding, sorted."""
        return tuple(sorted({path.name for part in _SYMBOL_FOLDERS for path in self._root.glob(part) if path.is_dir()}))

    def span(self, dataset: Dataset, symbol: str) -> tuple[datetime, datetime] | None:
        """Return the first and last instant that the names of a symbol's files speak of; None if it has no file.

        Raises:
            SourceError: if nothing at all bears the symbol.
        """
        stretches = list(self._stretches(dataset, symbol))
        if not stretches:
            self._check_known(symbol)
            return None
        return min(start for start, _ in stretches), max(end for _, end in stretches) - MICROSECOND

    def listing(self, dataset: Dataset, symbol: str) -> Listing | None:
        """Return what `instruments.csv` declares; None if it declares nothing.

        Raises:
            SourceError: if the file is there and cannot be used.
        """
        return read_instruments(self._root).get((symbol, dataset.market))

    def prepare(self, slices: Sequence[Slice], *, as_of: datetime) -> None:
        """Do nothing: the files are here."""

    def fetch(self, wanted: Slice, *, as_of: datetime) -> Delivery:
        """Return the rows of a slice that were closed by `as_of`, possibly none, and the files they came from.

        Raises:
            SourceError: naming file and fix if one cannot be used, or if nothing at all bears the symbol.
        """
        month, days = self._files(wanted)
        if month is None and not any(days.values()):
            self._check_known(wanted.symbol)
        frame, origins = _whole(wanted, month, days) if month is not None else _by_day(wanted, days)
        table, at_us = wanted.dataset.table, pl.col(wanted.dataset.instant).to_physical()
        as_of_us = epoch_us(as_of)
        is_closed = pl.col("close_at").to_physical() < as_of_us if wanted.dataset in _KLINES else at_us <= as_of_us
        rows = frame.filter(at_us.is_between(epoch_us(wanted.start), epoch_us(wanted.end), closed="left") & is_closed)
        return Delivery(rows.sort(table.key, maintain_order=True), tuple(origins))

    def fingerprint(self, wanted: Slice, *, as_of: datetime) -> str:
        """Return the digest of the names and bytes of the slice's files; of its rows as long as it is not over.

        Raises:
            SourceError: as `fetch` does.
        """
        if wanted.end > as_of:
            return rows_digest(self.fetch(wanted, as_of=as_of).frame)
        month, days = self._files(wanted)
        lines = [f"{found.name} {found.sha256}" for found in (month, *days.values()) if found is not None]
        return hashlib.sha256("\n".join([f"parser {PARSER_VERSION}", *lines]).encode()).hexdigest()

    def _files(self, wanted: Slice) -> tuple[LocalFile | None, dict[ArchiveFile, LocalFile | None]]:
        dataset, symbol = wanted.dataset, wanted.symbol
        # The snapshots of a day end with the one of the next midnight, so the first one lies in the file before.
        first = -1 if dataset is Dataset.UM_OPEN_INTEREST else 0
        dates = [(wanted.start + n * _DAY).date() for n in range(first, (wanted.end - wanted.start).days)]
        days = [daily_file(dataset, symbol, date, self._interval) for date in dates]
        month = monthly_file(dataset, symbol, wanted.month, self._interval)
        return month and find_file(self._root, month), {day: find_file(self._root, day) for day in days if day}

    def _stretches(self, dataset: Dataset, symbol: str) -> Iterator[tuple[datetime, datetime]]:
        by_month = monthly_file(dataset, symbol, month_of(_SOME_DAY), self._interval)
        by_day = daily_file(dataset, symbol, _SOME_DAY.date(), self._interval)
        for like in (by_month, by_day):
            folder = self._root / like.folder if like is not None else None
            if like is not None and folder is not None and folder.is_dir():
                yield from filter(None, (stretch_of(path.name, like) for path in folder.iterdir()))

    def _check_known(self, symbol: str) -> None:
        if symbol not in self.symbols():
            message = f"source {self.identity}: unknown symbol {symbol!r}; it has {', '.join(self.symbols())}"
            raise SourceError(message)


def _split(rest: str) -> tuple[str, str]:
    folder, _, interval = rest.rpartition(":")
    return (folder, interval) if interval in INTERVALS else (rest, "15m")


def _whole(
    wanted: Slice, month: LocalFile, days: dict[ArchiveFile, LocalFile | None]
) -> tuple[pl.DataFrame, list[Origin]]:
    """Read the month's file, and of the days it is short of what their own files have beside it."""
    rows = month.rows(source=SOURCE_NAME)
    frames, origins = [rows], [_origin(month, wanted)]
    at_us = rows[wanted.dataset.instant].to_physical()
    for file, found in days.items():
        full = 1440 // file.interval_min if file.interval_min else 0
        if (
            found is None
            or int(at_us.is_between(epoch_us(file.start), epoch_us(file.end), closed="left").sum()) >= full
        ):
            continue
        try:
            beside = found.rows(source=SOURCE_NAME).join(rows, on=wanted.dataset.table.key, how="anti")
        except SourceError:  # a day's file without a row spoils no month; that it is of no use shows in the origins
            origins.append(replace(_origin(found, wanted), sha256=None))
            continue
        if not beside.is_empty():
            frames.append(beside)
            origins.append(_origin(found, wanted))
    return pl.concat(frames), origins


def _by_day(wanted: Slice, days: dict[ArchiveFile, LocalFile | None]) -> tuple[pl.DataFrame, list[Origin]]:
    present = [found for found in days.values() if found is not None]
    frame = read_files(present, source=SOURCE_NAME) if present else wanted.dataset.table.empty()
    origins = [
        Origin(file.key, None, file.start, file.end) if found is None else _origin(found, wanted)
        for file, found in days.items()
        if file.start >= wanted.start
    ]
    if not days:
        month = monthly_file(wanted.dataset, wanted.symbol, wanted.month)
        origins = [Origin("no such file" if month is None else month.key, None, wanted.start, wanted.end)]
    return frame, list(_coalesce(origins))


def _origin(found: LocalFile, wanted: Slice) -> Origin:
    start, end = max(found.file.start, wanted.start), min(found.file.end, wanted.end)
    return Origin(found.name, found.sha256, start, end)


def _coalesce(origins: Iterable[Origin]) -> Iterator[Origin]:
    """Make one stretch of neighbours that are absent; it bears the first one's name."""
    last: Origin | None = None
    for origin in origins:
        if last is not None and last.sha256 is None and origin.sha256 is None and last.end == origin.start:
            last = replace(last, end=origin.end)
            continue
        if last is not None:
            yield last
        last = origin
    if last is not None:
        yield last
