"""Which files and REST windows serve a slice, asked for in that order; how each is had stays out.

The month's file, else the days' files, else REST for days that no file is about. A day that has a file but lacks rows is
never filled from REST: what the archive lacks is an outage of the source, and must show as one. Only a month's file that
is short of rows is supplemented by its days' files, because the exchange corrects the one and forgets the other; and a
day's open interest by the file of the day before, because the exchange ends a day with the snapshot of the next midnight.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from backtest_assets.domain.clock import month_end, month_start
from backtest_assets.domain.exchange import SNAPSHOT_EVERY
from backtest_assets.domain.market import Listing
from backtest_assets.sources.archive.layout import INTERVALS, ArchiveFile, daily_file, monthly_file
from backtest_assets.sources.base import Dataset, Slice
from backtest_assets.sources.binance.download import Downloads, UnusableFileError
from backtest_assets.sources.binance.endpoints import ENDPOINTS, Window
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.listings import Listings
from backtest_assets.sources.binance.pages import Pages
from backtest_assets.sources.binance.pieces import Piece, read_piece

OPEN_INTEREST_REACH: Final = timedelta(days=29)
"""How far back REST tells open interest; the exchange says 30 days and refuses what starts earlier."""

LOOKBACK: Final = timedelta(days=1)
"""How much before its month funding is asked for by REST: three settlements, so that the first has a spacing."""

_DAY: Final = timedelta(days=1)
_KLINES: Final = frozenset({Dataset.UM_OHLCV, Dataset.SPOT_OHLCV})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Gatherer:
    """One round of gathering.

    Attributes:
        inbox: where everything is kept.
        downloads: how to have archive files.
        pages: how to have REST windows.
        listings: how to know when a symbol traded.
        interval: of klines.
        as_of: when it is asked.
    """

    inbox: Inbox
    downloads: Downloads
    pages: Pages
    listings: Listings
    interval: str
    as_of: datetime

    async def gather(self, wanted: Slice) -> tuple[Piece, ...]:
        """Have everything that serves a slice in the inbox.

        Returns:
            What it is, in time order; what lies after `as_of` is not asked for.

        Raises:
            SourceError: if a part of it cannot be had or trusted.
        """
        listing = await self.listings.find(wanted.dataset.market, wanted.symbol)
        start, end = self._asked(wanted, listing)
        if start >= end:
            return (Piece(None, None, wanted.start, wanted.end),) if wanted.start < self.as_of else ()
        monthly = await self._monthly(wanted, start, end)
        if monthly is None:
            return await self._by_days(wanted, start, end)
        if listing is None or wanted.dataset not in _KLINES or not self._is_short(monthly, listing):
            return (monthly,)
        return (monthly, *await self._supplements(wanted, monthly, listing))

    def _asked(self, wanted: Slice, listing: Listing | None) -> tuple[datetime, datetime]:
        """Clip to whole days of the symbol's life; from the first of its month, as klines may precede the given date."""
        if listing is None:
            return wanted.end, wanted.end
        first = listing.listed_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        last = _next_midnight(min(listing.delisted_at or self.as_of, self.as_of))
        return max(wanted.start, first), min(wanted.end, last)

    async def _monthly(self, wanted: Slice, start: datetime, end: datetime) -> Piece | None:
        file = monthly_file(wanted.dataset, wanted.symbol, wanted.month, self.interval)
        if file is None or file.end > self.as_of:
            return None
        record = await self.downloads.file(file)
        return Piece(file, record, start, end) if record.is_held else None

    async def _by_days(self, wanted: Slice, start: datetime, end: datetime) -> tuple[Piece, ...]:
        if wanted.dataset is Dataset.UM_FUNDING:
            window = self._window(wanted, month_start(wanted.month) - LOOKBACK, month_end(wanted.month))
            return (await self._by_rest(window, start, end),)
        days = tuple(await together(self._day(wanted, day) for day in _days(start, end)))
        return (*days, *await self._midnights(wanted, days)) if wanted.dataset is Dataset.UM_OPEN_INTEREST else days

    async def _midnights(self, wanted: Slice, days: Iterable[Piece]) -> tuple[Piece, ...]:
        starts = [piece.start for piece in days if not isinstance(piece.what, Window)]  # REST has its own midnight
        return await self._beside(
            (daily_file(wanted.dataset, wanted.symbol, start - _DAY), start, start + SNAPSHOT_EVERY) for start in starts
        )

    async def _day(self, wanted: Slice, day: datetime) -> Piece:
        file = daily_file(wanted.dataset, wanted.symbol, day, self.interval)
        record = await self.downloads.file(file) if file and day + _DAY <= self.as_of else None
        is_too_late = wanted.dataset is Dataset.UM_OPEN_INTEREST and day < self.as_of - OPEN_INTEREST_REACH
        if (record is not None and record.is_held) or wanted.dataset not in ENDPOINTS or is_too_late:
            return Piece(file, record, day, min(day + _DAY, self.as_of))
        return await self._by_rest(self._window(wanted, day, day + _DAY), day, day + _DAY)

    async def _by_rest(self, window: Window, start: datetime, end: datetime) -> Piece:
        record = await self.pages.window(window)
        return Piece(window, record, start, max(start, min(end, record.fetched_at)))

    async def _supplements(self, wanted: Slice, monthly: Piece, listing: Listing) -> tuple[Piece, ...]:
        instants = read_piece(self.inbox, monthly)[wanted.dataset.instant]
        short = [
            day
            for day in _days(monthly.start, monthly.end)
            if instants.filter(instants.is_between(day, day + _DAY, closed="left")).n_unique()
            < self._n_expected(listing, day, day + _DAY)
        ]
        return await self._beside(
            (daily_file(wanted.dataset, wanted.symbol, day, self.interval), day, day + _DAY) for day in short
        )

    async def _beside(self, wanted: Iterable[tuple[ArchiveFile | None, datetime, datetime]]) -> tuple[Piece, ...]:
        """Have the files that are there to supplement these stretches; what cannot be read spoils nothing, and shows as absent."""

        async def one(file: ArchiveFile, start: datetime, end: datetime) -> Piece:
            try:
                record = await self.downloads.file(file)
            except UnusableFileError:
                record = None
            return Piece(file, record, start, end, is_supplement=True)

        pieces = await together(one(file, start, end) for file, start, end in wanted if file is not None)
        return tuple(piece for piece in pieces if piece.serves or piece.record is None)

    def _is_short(self, monthly: Piece, listing: Listing) -> bool:
        if monthly.what is None or monthly.record is None:
            return False
        return monthly.record.n_rows < self._n_expected(listing, monthly.what.start, monthly.what.end)

    def _n_expected(self, listing: Listing, start: datetime, end: datetime) -> int:
        first, last = listing.within(start, end)
        step = timedelta(minutes=INTERVALS[self.interval])
        return max(0, (last - start) // step + (start - first) // step)

    def _window(self, wanted: Slice, start: datetime, end: datetime) -> Window:
        return Window(wanted.dataset, wanted.symbol, self.interval, start, end)


async def together(questions: Iterable[Awaitable[_T]]) -> list[_T]:
    """Await all of them, then raise the first error: what others have received by then is kept."""
    answers = await asyncio.gather(*questions, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def _days(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += _DAY


def _next_midnight(instant: datetime) -> datetime:
    day = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if day == instant else day + _DAY
