"""Which instants of a month a raw dataset must have, and which of them are there; why one is not is asked in `coverage`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import month_end, month_start
from backtest_assets.domain.market import Listing
from backtest_assets.errors import TableError
from backtest_assets.research.bars.admit import RawRows
from backtest_assets.research.bars.calendar import epoch_us
from backtest_assets.stats.arrays import BoolArray, IntArray
from backtest_assets.tables.contract import Table
from backtest_assets.tables.raw import (
    RAW_SPOT_OHLCV,
    RAW_UM_FUNDING,
    RAW_UM_LIQUIDATIONS,
    RAW_UM_OHLCV,
    RAW_UM_OPEN_INTEREST,
)

SNAPSHOT_EVERY: Final = timedelta(minutes=5)
"""How often the exchange counts open interest."""

USUAL_FUNDING_INTERVAL: Final = timedelta(hours=8)
"""The exchange's own default; it stands in for a month without one settlement that could tell."""

_US: Final = timedelta(microseconds=1)
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
    if dataset not in _RULES:
        message = f"coverage: {dataset!r} has no calendar; datasets are {', '.join(_RULES)}"
        raise TableError(message)
    table, rule = _RULES[dataset]
    return rule(table, frame, symbol, month)


def _klines(table: Table, frame: pl.DataFrame, symbol: str, month: str) -> Instants:
    rows, length = RawRows(table).klines(frame, symbol=symbol, month=month)
    return _regular("klines", rows["open_at"], month, length, has_length=True)


def _snapshots(table: Table, frame: pl.DataFrame, symbol: str, month: str) -> Instants:
    rows = RawRows(table).of_month(frame, symbol=symbol, month=month)
    return _regular("snapshots", rows["snapshot_at"], month, SNAPSHOT_EVERY, has_length=False)


def _days(table: Table, frame: pl.DataFrame, symbol: str, month: str) -> Instants:
    rows = RawRows(table).of_month(frame, symbol=symbol, month=month)
    return _regular("days", rows["liquidated_at"], month, _DAY, has_length=True)


def _regular(unit: str, found: pl.Series, month: str, every: timedelta, *, has_length: bool) -> Instants:
    start, step = epoch_us(month_start(month)), every // _US
    at = np.arange(start, epoch_us(month_end(month)), step, dtype=np.int64)
    is_there = np.zeros(at.size, dtype=bool)
    is_there[(found.dt.epoch("us").to_numpy() - start) // step] = True
    return Instants(unit, at, at + step if has_length else at, is_there, has_length)


def _settlements(table: Table, frame: pl.DataFrame, symbol: str, month: str) -> Instants:
    rows = RawRows(table).of_month(frame, symbol=symbol, month=month)
    at: IntArray = rows["settled_at"].dt.epoch("us").to_numpy()
    hours = rows["funding_interval_h"].to_numpy()
    if not np.all(np.isfinite(hours) & (hours > 0)):
        message = f"{table.name} {symbol} {month}: a settlement without its interval; mend the source and ingest again"
        raise TableError(message)
    own: IntArray = np.rint(hours * (timedelta(hours=1) // _US)).astype(np.int64)
    start, end = epoch_us(month_start(month)), epoch_us(month_end(month))
    if not at.size:
        every = np.arange(start, end, USUAL_FUNDING_INTERVAL // _US, dtype=np.int64)
        return Instants("settlements", every, every, np.zeros(every.size, dtype=bool), has_length=False)
    head = np.arange(int(at[0] - own[0]), start - 1, -int(own[0]), dtype=np.int64)
    tail = np.arange(int(at[-1] + own[-1]), end, int(own[-1]), dtype=np.int64)
    missing = np.concatenate([head, *_holes(at, own), tail])
    both = np.concatenate([at, missing])
    order = np.argsort(both)
    return Instants("settlements", both[order], both[order], order < at.size, has_length=False)


def _holes(at: IntArray, own: IntArray) -> list[IntArray]:
    spacing = np.diff(at)
    # Where the interval changes, the first settlement that bears the new one may still end an old one (SOLUSDT,
    # 2022-11-10): a spacing of either is no hole.
    allowed = np.maximum(own[1:], own[:-1])
    return [
        np.arange(at[i + 1] - own[i + 1], at[i], -own[i + 1], dtype=np.int64) for i in np.flatnonzero(spacing > allowed)
    ]


_Rule = Callable[[Table, pl.DataFrame, str, str], Instants]
_RULES: Final[Mapping[str, tuple[Table, _Rule]]] = MappingProxyType(
    {
        RAW_UM_OHLCV.name: (RAW_UM_OHLCV, _klines),
        RAW_UM_FUNDING.name: (RAW_UM_FUNDING, _settlements),
        RAW_SPOT_OHLCV.name: (RAW_SPOT_OHLCV, _klines),
        RAW_UM_OPEN_INTEREST.name: (RAW_UM_OPEN_INTEREST, _snapshots),
        RAW_UM_LIQUIDATIONS.name: (RAW_UM_LIQUIDATIONS, _days),
    }
)
