"""Polite and patient HTTP: bounded, retried, paused when the host says so; what is asked for and kept stays out."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx
import stamina

from backtest_assets.errors import SourceError

CONCURRENCY: Final = 8
"""Requests to one host at a time; a browser opens 6, more gains little on files of 100 kB and looks like an attack."""

USED_WEIGHT_MAX: Final = 1_800
"""Used request weight per minute above which a host is left alone; the lower of the exchange's limits is 2,400."""

ANSWERS: Final = frozenset({HTTPStatus.OK, HTTPStatus.NOT_MODIFIED, HTTPStatus.NOT_FOUND})
_SLOW_DOWN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, 418})  # 418: banned for not slowing down

# Retries are told by the error of what failed for good; stamina would print a line for each to the user's terminal.
stamina.instrumentation.set_on_retry_hooks(())


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what.

    Attributes:
        connect_s: for a connection [s].
        read_s: longest silence inside an answer [s].
        total_s: a whole answer, so that a slow drip ends [s].
        attempts: most attempts of one request.
        budget_s: no further attempt of a request after this [s].
        wait_initial_s: before the second attempt; doubles from then on [s].
        wait_max_s: longest wait that we choose ourselves [s].
        wait_jitter_s: random part of a wait, so that many do not return at once [s].
        retry_after_max_s: longest wait that a host may ask for; beyond it the request fails and says so [s].
        weight_pause_s: pause of a host whose request weight is nearly used up; it is counted by the minute [s].
        lost_in_a_row: requests that failed for good one after the other, after which a host counts as down.
    """

    connect_s: float = 10
    read_s: float = 30
    total_s: float = 300
    attempts: int = 6
    budget_s: float = 900
    wait_initial_s: float = 0.5
    wait_max_s: float = 30
    wait_jitter_s: float = 1
    retry_after_max_s: float = 300
    weight_pause_s: float = 30
    lost_in_a_row: int = 16


PATIENCE: Final = Patience()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: 200 with content, 304 (as you have it) or 404 (there is none).

    Attributes:
        status: one of `ANSWERS`.
        content: the body of a 200, else empty.
        etag: validator for the next time, if given.
        last_modified: the same, by date.
        served_at: the host's clock, if it told it.
    """

    status: int
    content: bytes
    etag: str | None
    last_modified: str | None
    served_at: datetime | None


class RefusedRequestError(SourceError):
    """The host refuses a request for good.

    Attributes:
        status: of the answer.
        text: start of its body.
    """

    def __init__(self, message: str, *, status: int, text: str) -> None:
        super().__init__(message)
        self.status = status
        self.text = text


class _TroubleError(Exception):
    """What may be gone at the next attempt."""


@dataclass(slots=True)
class _Host:
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENCY))
    resume_at: float = 0.0  # on the event loop's clock
    n_lost: int = 0

    def pause(self, seconds: float) -> None:
        self.resume_at = max(self.resume_at, asyncio.get_running_loop().time() + seconds)

    async def until_resumed(self) -> None:
        while (wait_s := self.resume_at - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110  # the pause may be prolonged meanwhile
            await asyncio.sleep(wait_s)


class Client:
    """An HTTP client for one event loop; use it as an async context manager."""

    def __init__(self, patience: Patience = PATIENCE) -> None:
        self._patience = patience
        self._hosts: defaultdict[str, _Host] = defaultdict(_Host)
        self._retry = stamina.AsyncRetryingCaller(
            attempts=patience.attempts,
            timeout=patience.budget_s,
            wait_initial=patience.wait_initial_s,
            wait_max=patience.wait_max_s,
            wait_jitter=patience.wait_jitter_s,
        )
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(patience.read_s, connect=patience.connect_s, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=3 * CONCURRENCY),
            follow_redirects=False,
            headers={"User-Agent": "backtest-assets", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(
        self,
        url: str,
        *,
        bytes_max: int,
        params: Mapping[str, str] | None = None,
        etag: str | None = None,
        last_modified: str | None = None,
    ) -> Reply:
        """Ask until there is an answer.

        Args:
            url: what to ask for.
            bytes_max: largest body that is read [bytes].
            params: query.
            etag: validator of what we have; the answer may then be 304.
            last_modified: the same, by date.

        Raises:
            RefusedRequestError: on a status that another attempt would not change.
            SourceError: if the answer is too large, or there is none within the patience.
        """
        validators = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {name: value for name, value in validators.items() if value}
        request = self._http.build_request("GET", url, params=params, headers=headers)
        host = self._hosts[urlsplit(url).netloc]
        async with host.slots:  # kept while waiting for the next attempt: trouble makes us slower, not busier
            if host.n_lost >= self._patience.lost_in_a_row:
                message = f"{request.url}: not asked any more, {host.n_lost} requests to {request.url.host} failed in a row; run again when it answers"
                raise SourceError(message)
            try:
                reply = await self._retry(_TroubleError, self._once, request, host, bytes_max)
            except _TroubleError as trouble:
                host.n_lost += 1
                message = (
                    f"{request.url}: no answer in up to {self._patience.attempts} attempts, at last {trouble}; check the "
                    "network and the BACKTEST_BINANCE_*_URL settings, then run again: what was received is kept"
                )
                raise SourceError(message) from trouble
        host.n_lost = 0
        return reply

    async def _once(self, request: httpx.Request, host: _Host, bytes_max: int) -> Reply:
        await host.until_resumed()
        try:
            async with asyncio.timeout(self._patience.total_s):
                response = await self._http.send(request, stream=True)
                try:
                    content = await _body(response, bytes_max)
                finally:
                    await response.aclose()
        except (httpx.RequestError, TimeoutError) as error:
            message = f"{type(error).__name__} {error}".strip()
            raise _TroubleError(message) from error
        self._heed(response, host)
        if response.status_code not in ANSWERS:
            raise _refusal(response, content)
        return Reply(
            response.status_code,
            content if response.status_code == HTTPStatus.OK else b"",
            response.headers.get("ETag"),
            response.headers.get("Last-Modified"),
            _http_date(response.headers.get("Date")),
        )

    def _heed(self, response: httpx.Response, host: _Host) -> None:
        used = response.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdecimal() and int(used) >= USED_WEIGHT_MAX:
            host.pause(self._patience.weight_pause_s)
        if response.status_code not in _SLOW_DOWN:
            return
        wait_s = _retry_after(response, otherwise=self._patience.wait_max_s)
        if wait_s > self._patience.retry_after_max_s:
            message = f"{response.url}: status {response.status_code}, the host asks for a pause of {wait_s:,.0f} s; run again after it"
            raise RefusedRequestError(message, status=response.status_code, text="")
        host.pause(wait_s)
        message = f"status {response.status_code}, {wait_s:g} s of pause asked for"
        raise _TroubleError(message)


async def _body(response: httpx.Response, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    n_bytes = 0
    async for part in response.aiter_bytes():
        n_bytes += len(part)
        if n_bytes > bytes_max:
            message = f"{response.url}: answers with more than {bytes_max:,} bytes; no file of the exchange is that large, check the URL"
            raise SourceError(message)
        parts.append(part)
    return b"".join(parts)


def _refusal(response: httpx.Response, content: bytes) -> Exception:
    status, text = response.status_code, content[:200].decode("utf-8", "replace")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _TroubleError(f"status {status}")
    if response.is_redirect:
        advice = f"it redirects to {response.headers.get('Location')!r}, which is not followed; set the base URL to where the files are"
    elif status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS}:
        advice = "the host does not serve this machine; set BACKTEST_BINANCE_*_URL to a mirror that does"
    else:
        advice = "another attempt would not change it; check symbol and base URL"
    return RefusedRequestError(f"{response.url}: status {status} {text!r}; {advice}", status=status, text=text)


def _retry_after(response: httpx.Response, *, otherwise: float) -> float:
    asked = response.headers.get("Retry-After", "").strip()
    if asked.isdecimal():
        return float(asked)
    until, now = _http_date(asked), _http_date(response.headers.get("Date"))
    return otherwise if until is None or now is None else max(0.0, (until - now).total_seconds())


def _http_date(text: str | None) -> datetime | None:
    try:
        return None if text is None else parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None
