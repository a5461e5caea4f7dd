"""Answers of the REST interfaces into the inbox, page by page as received; which stretches to want stays out."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar

from backtest_assets.domain.clock import EPOCH
from backtest_assets.errors import SourceError
from backtest_assets.sources.binance.client import Client, RefusedRequestError, Reply
from backtest_assets.sources.binance.endpoints import Window, json_rows
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.record import TRUST, Record, file_trust
from backtest_assets.sources.binance.urls import BinanceUrls

PAGE_BYTES_MAX: Final = 32 * 2**20
"""Largest REST answer [bytes]; the list of all um instruments has 2 MB."""

UNKNOWN_SYMBOL: Final = '"code":-1121'
"""What the REST interfaces say, with status 400, to a symbol that they do not list."""

_MS: Final = timedelta(milliseconds=1)
_T = TypeVar("_T")


class Pages:
    """One round of questions to the REST interfaces: each window is asked for at most once.

    Args:
        client: how to ask.
        inbox: where answers are kept.
        urls: where the interfaces are.
        as_of: when it is asked.
        force: ask again also for what is still trusted.
    """

    def __init__(self, client: Client, inbox: Inbox, urls: BinanceUrls, *, as_of: datetime, force: bool) -> None:
        self._client = client
        self._inbox = inbox
        self._urls = urls
        self._as_of = as_of
        self._force = force
        self._asked: dict[Window, asyncio.Task[Record]] = {}

    async def window(self, window: Window) -> Record:
        """Return the record of a window that is now in the inbox, or of its absence.

        Raises:
            SourceError: if there is no answer, or it is not what the interface is documented to give.
        """
        if window not in self._asked:
            self._asked[window] = asyncio.create_task(self._window(window))
        return await self._asked[window]

    async def document(
        self,
        api: str,
        path: str,
        params: Mapping[str, str],
        *,
        key: str,
        trust: timedelta,
        read: Callable[[bytes], _T],
    ) -> _T | None:
        """Return what a single REST answer says, from the inbox while it is trusted; None if the interface has none.

        Args:
            api: which base URL of `BinanceUrls`.
            path: below it.
            params: query.
            key: its place in the inbox.
            trust: how long it is believed.
            read: how to understand it; an answer that this refuses is not kept.

        Raises:
            SourceError: if there is no answer, or as `read` does.
        """
        url = f"{getattr(self._urls, api)}{path}"
        held = self._inbox.record(key)
        if held is None or held.url != url or held.is_due(trust, as_of=self._as_of, force=self._force):
            reply = await self._answer(url, params)
            told = None if reply is None else read(reply.content)
            pages = () if reply is None else (reply.content,)
            self._store(key, url, pages, fetched_at=self._as_of, n_rows=0)
            return told
        return read(b"".join(self._inbox.read(key, held.sha256))) if held.is_held else None

    async def _window(self, window: Window) -> Record:
        url = f"{getattr(self._urls, window.endpoint.api)}{window.endpoint.path}"
        held = self._inbox.record(window.key)
        if held is not None and held.url == url and not self._is_due(held, window):
            return held
        return await self._turn_pages(window, url)

    def _is_due(self, held: Record, window: Window) -> bool:
        # A window that was whole when it was asked for cannot grow; the daily file will replace it.
        is_whole = held.is_held and held.n_rows > 0 and held.fetched_at >= window.end + TRUST
        if is_whole and not self._force:
            return False
        return held.is_due(file_trust(window.end, self._as_of), as_of=self._as_of, force=self._force)

    async def _turn_pages(self, window: Window, url: str) -> Record:
        pages: list[bytes] = []
        seen: set[int] = set()
        known_by = self._as_of
        cursor, stop = window.start, min(window.end, self._as_of)
        while cursor < stop:
            bounds = {"startTime": str(_to_ms(cursor)), "endTime": str(_to_ms(window.end) - 1)}
            reply = await self._answer(url, {**window.query, **bounds})
            if reply is None and pages:
                message = f"{url} {window.symbol}: {len(seen)} rows, then nothing from {cursor} on, not even an empty page; run again later"
                raise SourceError(message)
            if reply is None:
                break
            known_by = min(known_by, reply.served_at or known_by)
            times = [_time(window, row) for row in json_rows(window.key, reply.content)]
            if times or not pages:
                pages.append(reply.content)
            if not times:
                break
            if max(times) < _to_ms(cursor):
                message = f"{url} {window.symbol}: a page from {cursor} on ends before it; the interface does not page as documented, check the base URL"
                raise SourceError(message)
            seen.update(times)
            cursor = EPOCH + max(times) * _MS + window.step
        return self._store(window.key, url, tuple(pages), fetched_at=known_by, n_rows=len(seen))

    async def _answer(self, url: str, params: Mapping[str, str]) -> Reply | None:
        try:
            reply = await self._client.get(url, params=params, bytes_max=PAGE_BYTES_MAX)
        except RefusedRequestError as error:
            if error.status == HTTPStatus.BAD_REQUEST and UNKNOWN_SYMBOL in error.text.replace(" ", ""):
                return None
            raise
        return None if reply.status == HTTPStatus.NOT_FOUND else reply

    def _store(self, key: str, url: str, pages: tuple[bytes, ...], *, fetched_at: datetime, n_rows: int) -> Record:
        status = HTTPStatus.OK if pages else HTTPStatus.NOT_FOUND
        record = Record(url=url, status=status, n_rows=n_rows, fetched_at=fetched_at, checked_at=self._as_of)
        return self._inbox.store(key, pages, record)


def _time(window: Window, row: Any) -> int:  # noqa: ANN401  # JSON of another party
    try:
        return int(row[window.endpoint.time])
    except (LookupError, TypeError, ValueError):
        message = f"{window.key}: row {str(row)[:80]} has no time at {window.endpoint.time!r}; check the base URL"
        raise SourceError(message) from None


def _to_ms(instant: datetime) -> int:
    return (instant - EPOCH) // _MS
