"""When instruments traded, by the REST interface or else by the months the archive has; files of rows stay out."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import polars as pl

from backtest_assets.domain.clock import EPOCH, months_between
from backtest_assets.domain.market import Listing, Market
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import INTERVALS, ArchiveFile, monthly_file
from backtest_assets.sources.archive.parse import parse_klines_json
from backtest_assets.sources.base import Dataset
from backtest_assets.sources.binance.download import Downloads
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.pages import Pages
from backtest_assets.sources.binance.pieces import SOURCE, parse_archive
from backtest_assets.sources.binance.record import RECHECK, TRUST, Record

FLOORS: Final = {Market.UM: datetime(2019, 9, 1, tzinfo=UTC), Market.SPOT: datetime(2017, 8, 1, tzinfo=UTC)}
"""First month of the archive's klines."""

SILENT: Final = timedelta(days=45)
"""A symbol that nothing was heard of for so long is gone: one month's file may be late, not one and a half."""

REFERENCE: Final = "BTCUSDT"
"""Traded on both markets from the archive's first days on: where its months end, the archive ends, or a mirror of it."""

NEVER: Final = datetime(2090, 1, 1, tzinfo=UTC)
"""A delivery date beyond this says that a perpetual is not delivered; the exchange writes 2100-12-25."""

_KLINES: Final = {Market.UM: Dataset.UM_OHLCV, Market.SPOT: Dataset.SPOT_OHLCV}
_STRIDES: Final = (12, 4, 1)  # months between probes: most symbols lived for years, so few probes find them
_Months = tuple[str, str]


class Listings:
    """One round of questions about instruments: each is asked about at most once.

    Args:
        downloads: how to have archive files.
        pages: how to have REST answers.
        inbox: where the months of symbols that REST does not know are kept.
        interval: of the klines whose first and last tell when a symbol traded.
        as_of: when it is asked.
        force: ask again also for what is still trusted.
    """

    def __init__(
        self, downloads: Downloads, pages: Pages, inbox: Inbox, interval: str, *, as_of: datetime, force: bool
    ) -> None:
        self._downloads = downloads
        self._pages = pages
        self._inbox = inbox
        self._interval = interval
        self._as_of = as_of
        self._force = force
        self._asked: dict[tuple[Market, str], asyncio.Task[Listing | None]] = {}
        self._searched: dict[tuple[Market, str], asyncio.Task[_Months | None]] = {}

    async def find(self, market: Market, symbol: str) -> Listing | None:
        """Return when a symbol traded on a market; None if it did so only on the other one.

        Raises:
            SourceError: if no market knows the symbol, or there is no answer.
        """
        listing = await self._once(market, symbol)
        if listing is None:
            (other,) = set(Market) - {market}
            if await self._once(other, symbol) is None:
                message = f"binance: unknown symbol {symbol!r}; neither the um nor the spot market has or had it"
                raise SourceError(message)
        return listing

    async def _once(self, market: Market, symbol: str) -> Listing | None:
        if (market, symbol) not in self._asked:
            self._asked[market, symbol] = asyncio.create_task(self._find(market, symbol))
        return await self._asked[market, symbol]

    async def _find(self, market: Market, symbol: str) -> Listing | None:
        self._month_file(market, symbol, "2020-01")  # refuses what cannot be a symbol before it is part of a request
        listed = await (self._um(symbol) if market is Market.UM else self._spot(symbol))
        return listed or await self._by_archive(market, symbol)

    async def _um(self, symbol: str) -> Listing | None:
        path = "/fapi/v1/exchangeInfo"
        row = await self._row("um_api", path, {}, symbol, key=f"rest{path}.json")
        if row is None:
            return None
        try:
            listed, delivered = (
                EPOCH + timedelta(milliseconds=int(row[name])) for name in ("onboardDate", "deliveryDate")
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            message = (
                f"fapi/v1/exchangeInfo: {symbol} has no onboardDate and deliveryDate; check BACKTEST_BINANCE_UM_API_URL"
            )
            raise SourceError(message) from None
        return Listing(listed, delivered if delivered < NEVER else None)

    async def _spot(self, symbol: str) -> Listing | None:
        path = "/api/v3/exchangeInfo"
        row = await self._row("spot_api", path, {"symbol": symbol}, symbol, key=f"rest{path}/{symbol}.json")
        if row is None:
            return None
        first = await self._kline(symbol, "first", {"startTime": "0"})
        last = None if row.get("status") == "TRADING" else await self._kline(symbol, "last", {})
        if first is None:
            return None
        return Listing(first["open_at"][0], None if last is None else self._gone_at(last["open_at"][-1]))

    async def _row(
        self, api: str, path: str, params: Mapping[str, str], symbol: str, *, key: str
    ) -> Mapping[str, Any] | None:
        for trust in (RECHECK, TRUST):  # a symbol that was not listed yesterday may be today
            read = partial(_row_of, path, symbol)
            row = await self._pages.document(api, path, params, key=key, trust=trust, read=read)
            if row is not None:
                return row
        return None

    async def _kline(self, symbol: str, which: str, bounds: Mapping[str, str]) -> pl.DataFrame | None:
        path, minutes = "/api/v3/klines", INTERVALS[self._interval]
        rows = await self._pages.document(
            "spot_api",
            path,
            {"symbol": symbol, "interval": self._interval, "limit": "1", **bounds},
            key=f"rest{path}/{symbol}/{self._interval}/{which}.json",
            trust=RECHECK,
            read=partial(parse_klines_json, Dataset.SPOT_OHLCV, symbol, minutes, source=SOURCE),
        )
        return None if rows is None or rows.is_empty() else rows

    async def _by_archive(self, market: Market, symbol: str) -> Listing | None:
        months = await self._months(market, symbol)
        if months is None:
            return None
        first, last = [await self._rows(self._month_file(market, symbol, month)) for month in months]
        gone_at = self._gone_at(last["open_at"][-1])
        is_gone = gone_at is not None and await self._goes_on(market, months[1])
        return Listing(first["open_at"][0], gone_at if is_gone else None)

    async def _goes_on(self, market: Market, month: str) -> bool:
        """Return whether the archive has later months at all: in a mirror left behind, nobody is known to be gone."""
        reference = await self._months(market, REFERENCE)
        return reference is not None and reference[1] > month

    async def _rows(self, file: ArchiveFile) -> pl.DataFrame:
        record = await self._downloads.file(file)
        rows = parse_archive(file, self._inbox.read(file.key, record.sha256)[0]) if record.is_held else None
        if rows is None or rows.is_empty():
            message = f"{record.url}: has a checksum but no rows; run again later"
            raise SourceError(message)
        return rows

    def _gone_at(self, last_open_at: datetime) -> datetime | None:
        end = last_open_at + timedelta(minutes=INTERVALS[self._interval])
        return end if self._as_of - end > SILENT else None

    async def _months(self, market: Market, symbol: str) -> _Months | None:
        if (market, symbol) not in self._searched:
            self._searched[market, symbol] = asyncio.create_task(self._kept_months(market, symbol))
        return await self._searched[market, symbol]

    async def _kept_months(self, market: Market, symbol: str) -> _Months | None:
        """Return the first and last month the archive has, looked for once a day; that it has none is believed less."""
        folder = self._month_file(market, symbol, "2020-01").key.rpartition("/")[0]
        key, url = f"listing/{folder}.json", self._downloads.url(folder)
        held = self._inbox.record(key)
        trust = RECHECK if held is not None and held.is_held else TRUST
        if held is None or held.url != url or held.is_due(trust, as_of=self._as_of, force=self._force):
            months = await self._search(market, symbol)
            status = HTTPStatus.NOT_FOUND if months is None else HTTPStatus.OK
            pages = () if months is None else (json.dumps(months).encode(),)
            record = Record(url=url, status=status, fetched_at=self._as_of, checked_at=self._as_of)
            held = self._inbox.store(key, pages, record)
        if not held.is_held:
            return None
        first, last = json.loads(b"".join(self._inbox.read(key, held.sha256)))
        return first, last

    async def _search(self, market: Market, symbol: str) -> _Months | None:
        labels = months_between(FLOORS[market], self._as_of)
        known: dict[int, bool] = {}

        async def ask(n: int) -> bool:
            if n not in known:
                known[n] = await self._downloads.is_published(self._month_file(market, symbol, labels[n]))
            return known[n]

        for stride in _STRIDES:
            await asyncio.gather(*(ask(n) for n in range(0, len(labels), stride)))
            if any(known.values()):
                break
        else:
            return None
        hits = [n for n in known if known[n]]
        # Months are contiguous: between a miss and a hit lies one edge.
        first = await _edge(ask, max((n for n in known if n < min(hits)), default=-1), min(hits))
        last = await _edge(ask, min((n for n in known if n > max(hits)), default=len(labels)), max(hits))
        return labels[first], labels[last]

    def _month_file(self, market: Market, symbol: str, month: str) -> ArchiveFile:
        file = monthly_file(_KLINES[market], symbol, month, self._interval)
        if file is None:
            message = f"archive: klines of {market} have no monthly files in the layout"
            raise AssertionError(message)
        return file


async def _edge(ask: Callable[[int], Awaitable[bool]], miss: int, hit: int) -> int:
    while abs(hit - miss) > 1:
        middle = (hit + miss) // 2
        if await ask(middle):
            hit = middle
        else:
            miss = middle
    return hit


def _row_of(path: str, symbol: str, content: bytes) -> Mapping[str, Any] | None:
    """Return a symbol's row of an exchangeInfo; None if it has none."""
    try:
        rows: list[Mapping[str, Any]] = json.loads(content)["symbols"]
        found = [row for row in rows if row["symbol"] == symbol]
    except (ValueError, TypeError, KeyError):
        message = (
            f"{path[1:]}: {content[:80]!r} is not a list of instruments; check the BACKTEST_BINANCE_*_URL settings"
        )
        raise SourceError(message) from None
    return found[0] if found else None
