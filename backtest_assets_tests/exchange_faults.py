"""What the exchange on the loopback can have wrong with its answers, its files and its rows; put into `Exchange.faults`."""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import polars as pl

from backtest_assets.sources.archive.layout import ArchiveFile
from backtest_assets_tests.archive_files import KLINE_HEADER, member_zip, zip_of


@dataclass(frozen=True)
class Answer:
    """What the handler will send."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_s: float = 0.0
    cut_after: int | None = None


class Fault:
    """Something wrong with requests whose path contains `where`, for the first `times` of them or until removed."""

    def __init__(self, where: str, *, times: int | None = None) -> None:
        self.where = where
        self.times = times
        self._lock = threading.Lock()

    def strikes(self, path: str) -> bool:
        if self.where not in path:
            return False
        with self._lock:
            if self.times is None:
                return True
            self.times -= 1
            return self.times >= 0

    def answer(self, sound: Answer) -> Answer:
        return sound


class Status(Fault):
    """Another status than the right one: 404, 429 with `Retry-After`, 500 ..."""

    def __init__(self, where: str, status: int, *, times: int | None = None, body: bytes = b"", **headers: str) -> None:
        super().__init__(where, times=times)
        self._answer = Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def answer(self, sound: Answer) -> Answer:
        del sound
        return self._answer


class SlowDrip(Fault):
    """A byte at a time."""

    def answer(self, sound: Answer) -> Answer:
        return replace(sound, drip_s=0.05)


class Reset(Fault):
    """The connection is reset in the middle of the body."""

    def answer(self, sound: Answer) -> Answer:
        return replace(sound, cut_after=len(sound.body) // 2)


class WrongChecksum(Fault):
    """A `.CHECKSUM` that is another file's."""

    def strikes(self, path: str) -> bool:
        return path.endswith(".CHECKSUM") and super().strikes(path)

    def answer(self, sound: Answer) -> Answer:
        return replace(sound, body=hashlib.sha256(b"another").hexdigest().encode() + sound.body[64:])


class Reissued(Fault):
    """Other bytes of a file, published with their own checksum."""

    def __init__(self, where: str, change: Callable[[ArchiveFile, bytes], bytes]) -> None:
        super().__init__(where)
        self.change = change


class OtherRows(Fault):
    """Other rows of a file or of REST, published with their own checksum."""

    def __init__(self, where: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        super().__init__(where)
        self.change = change


def truncated_zip(where: str) -> Reissued:
    return Reissued(where, lambda _, content: content[: len(content) // 2])


def zip_bomb(where: str) -> Reissued:
    return Reissued(where, lambda file, _: member_zip(file, b"0" * 20_000_000, level=9))


def two_members(where: str) -> Reissued:
    return Reissued(where, lambda file, _: zip_of([(f"{file.stem}.csv", b"1"), ("extra.csv", b"2")]))


def path_in_member(where: str) -> Reissued:
    return Reissued(where, lambda file, _: zip_of([(f"../../{file.stem}.csv", b"1")]))


def header_change(where: str) -> Reissued:
    header = KLINE_HEADER.replace("count", "n_fills")
    return Reissued(where, lambda file, _: member_zip(file, f"{header}\n".encode()))


def without(where: str, start: datetime, end: datetime) -> OtherRows:
    return OtherRows(where, lambda rows: rows.filter(~pl.col(_instant_of(rows)).is_between(start, end, closed="left")))


def duplicate_rows(where: str) -> OtherRows:
    return OtherRows(where, lambda rows: pl.concat([rows, rows.tail(3)]))


def out_of_order_rows(where: str) -> OtherRows:
    return OtherRows(where, lambda rows: rows.reverse())


def more_volume(where: str) -> OtherRows:
    return OtherRows(where, lambda rows: rows.with_columns(pl.col("volume_base") + 1.0))


def day_repeated(where: str, day: datetime) -> OtherRows:
    """A file in which a day stands twice and the next is missing."""

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        at, one = pl.col(_instant_of(rows)), timedelta(days=1)
        kept = rows.filter(~at.is_between(day + one, day + 2 * one, closed="left"))
        return pl.concat([kept, rows.filter(at.is_between(day, day + one, closed="left"))]).sort(at)

    return OtherRows(where, change)


def _instant_of(rows: pl.DataFrame) -> str:
    return next(name for name in ("open_at", "settled_at", "snapshot_at", "liquidated_at") if name in rows.columns)
