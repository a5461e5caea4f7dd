"""From what the inbox has of a slice to its rows; having it there stays out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import polars as pl

from backtest_assets.sources.archive.layout import INTERVALS, ArchiveFile
from backtest_assets.sources.archive.parse import (
    PARSER_VERSION,
    parse_funding_json,
    parse_klines_json,
    parse_member,
    parse_open_interest_json,
)
from backtest_assets.sources.archive.unzip import read_member
from backtest_assets.sources.base import Dataset, Delivery, Origin, Slice, rows_digest
from backtest_assets.sources.binance.endpoints import Window, json_rows
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.record import Record

SOURCE: Final = "binance"
"""Kind of source of every row that comes from here."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what serves a slice.

    Attributes:
        what: the archive file or REST window; None where the instrument did not trade.
        record: what the inbox has of it.
        start: first instant it is used for.
        end: first instant after it.
        is_supplement: whether it only adds rows that pieces before it lack.
    """

    what: ArchiveFile | Window | None
    record: Record | None
    start: datetime
    end: datetime
    is_supplement: bool = False

    @property
    def serves(self) -> bool:
        """Whether it has rows to read."""
        return self.record is not None and self.record.is_held

    @property
    def origin(self) -> Origin:
        """Itself, as coverage tells it; an answer without one row is an absence."""
        name = "not listed" if self.what is None else self.what.key
        is_there = self.record is not None and self.record.is_held and self.record.n_rows > 0
        return Origin(name, self.record.sha256 if is_there and self.record else None, self.start, self.end)


def parse_archive(file: ArchiveFile, content: bytes) -> pl.DataFrame:
    """Return the rows of an archive file's bytes.

    Raises:
        SourceError: if it is no zip of one member of that name with rows of the dataset.
    """
    return parse_member(file, read_member(content, name=file.name), source=SOURCE)


def read_piece(inbox: Inbox, piece: Piece) -> pl.DataFrame:
    """Return all rows of a piece's file or window, candles that were open when it came included.

    Raises:
        SourceError: if its bytes are not the ones that were received, or cannot be parsed.
    """
    if piece.what is None or piece.record is None or not piece.serves:
        message = f"{piece} has no rows to read"
        raise AssertionError(message)
    pages = inbox.read(piece.what.key, piece.record.sha256)
    return (
        parse_archive(piece.what, pages[0]) if isinstance(piece.what, ArchiveFile) else _parse_window(piece.what, pages)
    )


def deliver(inbox: Inbox, wanted: Slice, pieces: Sequence[Piece], *, as_of: datetime) -> Delivery:
    """Return the rows of a slice out of its pieces.

    Each gives the rows of its own stretch that were closed by `as_of` and when it was received; a supplement only those
    whose instant no piece before it has.

    Raises:
        SourceError: as `read_piece` does.
    """
    instant = wanted.dataset.instant
    frame = wanted.dataset.table.empty()
    for piece in pieces:
        if piece.serves:
            rows = _closed_rows(inbox, wanted, piece, as_of)
            frame = pl.concat([frame, rows.join(frame, on=instant, how="anti") if piece.is_supplement else rows])
    return Delivery(frame.sort(wanted.dataset.table.key, maintain_order=True), _origins(pieces))


def digest_of(inbox: Inbox, wanted: Slice, pieces: Sequence[Piece], *, as_of: datetime) -> str:
    """Return a digest that changes whenever `deliver` would return other rows.

    Archive files count by name and SHA-256. A REST answer changes with every trade of the open candle, so it counts by
    its closed rows, and so does everything if `as_of` cuts into it.

    Raises:
        SourceError: as `deliver` does.
    """
    parts: list[str] = [f"parser {PARSER_VERSION}", str(wanted)]
    for piece in (piece for piece in pieces if piece.serves):
        if isinstance(piece.what, ArchiveFile) and piece.record is not None and piece.end <= as_of:
            parts.append(f"{piece.what.key} {piece.record.sha256} {piece.start} {piece.end}")
        else:
            parts.append(rows_digest(_closed_rows(inbox, wanted, piece, as_of)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _parse_window(window: Window, pages: Sequence[bytes]) -> pl.DataFrame:
    if window.dataset is Dataset.UM_FUNDING:
        # Intervals are told by the spacing of settlements, so pages are read as one list.
        joined = json.dumps([row for page in pages for row in json_rows(window.key, page)]).encode()
        return parse_funding_json(window.symbol, joined, source=SOURCE)
    return pl.concat([_parse_page(window, page) for page in pages])


def _parse_page(window: Window, page: bytes) -> pl.DataFrame:
    if window.dataset is Dataset.UM_OPEN_INTEREST:
        return parse_open_interest_json(window.symbol, page, source=SOURCE)
    return parse_klines_json(window.dataset, window.symbol, INTERVALS[window.interval], page, source=SOURCE)


def _closed_rows(inbox: Inbox, wanted: Slice, piece: Piece, as_of: datetime) -> pl.DataFrame:
    rows = read_piece(inbox, piece)
    # What came while a candle was open is not what it closed at, however much later it is read.
    by = min(as_of, piece.record.fetched_at) if piece.record and isinstance(piece.what, Window) else as_of
    is_closed = pl.col("close_at") < by if "close_at" in rows.columns else pl.col(wanted.dataset.instant) <= by
    return rows.filter(pl.col(wanted.dataset.instant).is_between(piece.start, piece.end, closed="left"), is_closed)


def _origins(pieces: Sequence[Piece]) -> tuple[Origin, ...]:
    origins: list[Origin] = []
    for origin in sorted((piece.origin for piece in pieces), key=lambda one: (one.start, one.end, one.name)):
        last = origins[-1] if origins else None
        if last is not None and last.sha256 is None and origin.sha256 is None and last.end == origin.start:
            origins[-1] = replace(last, end=origin.end)
        else:
            origins.append(origin)
    return tuple(origins)
