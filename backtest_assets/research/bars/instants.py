"""Which instants of a month a raw dataset must have, and which of them are there; why one is not is asked in `coverage`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, HOUR_US, MICROSECOND, MINUTE_US, epoch_us, month_end, month_start
from backtest_assets.domain.exchange import FUNDING_INTERVAL_MAX, KLINE_MINUTES, SNAPSHOT_EVERY
from backtest_assets.domain.market import Listing
from backtest_assets.errors import TableError
from backtest_assets.research.bars.admit import RawRows
from backtest_assets.stats.arrays import BoolArray, IntArray
from backtest_assets.tables.contract import Table
from backtest_assets.tables.raw import (
    RAW_SPOT_OHLCV,
    RAW_UM_FUNDING,
    RAW_UM_LIQUIDATIONS,
    RAW_UM_OHLCV,
    RAW_UM_OPEN_INTEREST,
)

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Instants:
    """The instants that one dataset must have in one month, listed or not.

    Attributes:
        unit: what an instant is.
        at_us: (n_instants,) when each is, ascending [us].
        until_us: (n_instants,) when each is over: close of the kline, end of the day, the instant itself for a settlement
            or snapshot [us].
        is_there: (n_instants,) whether raw has a row of it.
        has_length: whether an instant lasts; then a file must cover all of it.
    """

    unit: str
    at_us: IntArray
    until_us: IntArray
    is_there: BoolArray
    has_length: bool

    def of_listing(self, listing: Listing | None) -> BoolArray:
        """Return which instants lie in the time the instrument traded; all if nobody knows."""
        if listing is None:
            return np.ones(self.at_us.size, dtype=bool)
        is_listed = self.at_us >= epoch_us(listing.listed_at)
        return (
            is_listed if listing.delisted_at is None else is_listed & (self.until_us <= epoch_us(listing.delisted_at))
        )

    def covered(self, start: datetime, end: datetime) -> slice:
        """Return the instants that a file of [start, end) covers; one that lasts must end in it."""
        first = int(np.searchsorted(self.at_us, epoch_us(start)))
        last = int(np.searchsorted(self.until_us, epoch_us(end), side="right" if self.has_length else "left"))
        return slice(first, max(first, last))


def instants_of(dataset: str, frame: pl.DataFrame, *, symbol: str, month: str) -> Instants:
    """Lay a raw month on the instants that its dataset must have.

    Klines are expected at every multiple of their own length, open interest every 5 minutes (a snapshot counts for the 5
    minutes it lies in), liquidations per day, settlements by their own interval.

    Raises:
        TableError: if the dataset is unknown, or the rows are not the month's (`RawRows`).
    """
    rule = _rule_of(dataset)
    return rule.lay(rule, frame, symbol, month)


def usual_instants(dataset: str, month: str) -> tuple[str, int]:
    """Return what the instants of a dataset are, and how many a month has of them if not one row can tell.

    Raises:
        TableError: if the dataset is unknown.
    """
    rule = _rule_of(dataset)
    return rule.unit, (month_end(month) - month_start(month)) // rule.usual


def _rule_of(dataset: str) -> "_Rule":
    if dataset not in _RULES:
        message = f"coverage: {dataset!r} has no calendar; datasets are {', '.join(_RULES)}"
        raise TableError(message)
    return _RULES[dataset]


def _klines(rule: "_Rule", frame: pl.DataFrame, symbol: str, month: str) -> Instants:
    at, minutes = _in_order(rule.table, frame, symbol, month), frame.get_column("interval_min", default=None)
    if at is not None and minutes is not None and minutes.null_count() == 0:
        shortest, longest = minutes.min(), minutes.max()
        if shortest == longest and shortest in KLINE_MINUTES and not np.any(at % (longest * MINUTE_US)):
            return _regular(rule, at, month, timedelta(minutes=longest))
    rows, length = RawRows(rule.table).klines(frame, symbol=symbol, month=month)
    return _regular(rule, _in_us(rows["open_at"]), month, length)


def _marks(rule: "_Rule", frame: pl.DataFrame, symbol: str, month: str) -> Instants:
    at = _in_order(rule.table, frame, symbol, month)
    if at is None:
        rows = RawRows(rule.table).of_month(frame, symbol=symbol, month=month)
        at = _in_us(rows[rule.table.key[1]])
    return _regular(rule, at, month, rule.usual)


def _regular(rule: "_Rule", found: IntArray, month: str, every: timedelta) -> Instants:
    start, step = epoch_us(month_start(month)), every // MICROSECOND
    at = np.arange(start, epoch_us(month_end(month)), step, dtype=np.int64)
    is_there = np.zeros(at.size, dtype=bool)
    is_there[(found - start) // step] = True
    return Instants(rule.unit, at, at + step if rule.has_length else at, is_there, rule.has_length)


def _in_order(table: Table, frame: pl.DataFrame, symbol: str, month: str) -> IntArray | None:
    """Return the instants of rows that are plainly a month's, each once and in order; None if that takes a closer look.

    What the lake keeps is so, and telling it by two columns is ten times cheaper than `RawRows`.
    """
    if frame.is_empty() or frame.schema != table.schema:
        return None
    of, found = frame["symbol"], frame[table.key[1]]
    if of.null_count() or found.null_count() or not (of == symbol).all():
        return None
    at = _in_us(found)
    is_of_month = epoch_us(month_start(month)) <= at[0] and at[-1] < epoch_us(month_end(month))
    return at if is_of_month and bool(np.all(at[1:] > at[:-1])) else None


def _in_us(instants: pl.Series) -> IntArray:
    return instants.to_physical().to_numpy()


def _settlements(rule: "_Rule", frame: pl.DataFrame, symbol: str, month: str) -> Instants:
    table = rule.table
    rows = frame
    if _in_order(table, frame, symbol, month) is None:
        rows = RawRows(table).of_month(frame, symbol=symbol, month=month)
    at = _in_us(rows["settled_at"])
    hours = rows["funding_interval_h"].to_numpy()
    if not np.all(np.isfinite(hours) & (hours > 0)):
        message = f"{table.name} {symbol} {month}: a settlement without its interval; mend the source and ingest again"
        raise TableError(message)
    own: IntArray = np.rint(hours * HOUR_US).astype(np.int64)
    start, end = epoch_us(month_start(month)), epoch_us(month_end(month))
    if not at.size:
        return _regular(rule, at, month, rule.usual)
    head = np.arange(int(at[0] - own[0]), start - 1, -int(own[0]), dtype=np.int64)
    tail = np.arange(int(at[-1] + own[-1]), end, int(own[-1]), dtype=np.int64)
    missing = np.concatenate([head, *_holes(at, own), tail])
    if not missing.size:
        return Instants(rule.unit, at, at, np.ones(at.size, dtype=bool), has_length=False)
    both = np.concatenate([at, missing])
    order = np.argsort(both)
    return Instants(rule.unit, both[order], both[order], order < at.size, has_length=False)


def _holes(at: IntArray, own: IntArray) -> list[IntArray]:
    spacing = np.diff(at)
    # Where the interval changes, the first settlement that bears the new one may still end an old one (SOLUSDT,
    # 2022-11-10): a spacing of either is no hole.
    allowed = np.maximum(own[1:], own[:-1])
    return [
        np.arange(at[i + 1] - own[i + 1], at[i], -own[i + 1], dtype=np.int64) for i in np.flatnonzero(spacing > allowed)
    ]


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a dataset's month is laid on its calendar; `usual` is the distance of its instants, where no row tells another."""

    table: Table
    unit: str
    usual: timedelta
    has_length: bool
    lay: Callable[["_Rule", pl.DataFrame, str, str], Instants]


_RULES: Final[Mapping[str, _Rule]] = MappingProxyType(
    {
        rule.table.name: rule
        for rule in (
            _Rule(RAW_UM_OHLCV, "klines", BAR, has_length=True, lay=_klines),
            _Rule(RAW_UM_FUNDING, "settlements", FUNDING_INTERVAL_MAX, has_length=False, lay=_settlements),
            _Rule(RAW_SPOT_OHLCV, "klines", BAR, has_length=True, lay=_klines),
            _Rule(RAW_UM_OPEN_INTEREST, "snapshots", SNAPSHOT_EVERY, has_length=False, lay=_marks),
            _Rule(RAW_UM_LIQUIDATIONS, "days", _DAY, has_length=True, lay=_marks),
        )
    }
)
