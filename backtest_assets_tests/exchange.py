"""A small exchange on the loopback: archive and REST in the real layouts, from made rows, with faults to switch on.

Keep what can be wrong with it out of here; that is `exchange_faults`.

    with exchange(months=("2024-01", "2024-02"), now=utc(date(2024, 3, 5))) as ex:
        source = BinanceSource(ex.urls, tmp_path, as_of=ex.now)
        ex.faults.append(Status("BTCUSDT-15m-2024-01.zip", 500, times=2))
        ...
        assert ex.count("2024-01.zip") == 3

Run `python -m backtest_assets_tests.exchange --help` to serve one by hand.
"""

import argparse
import contextlib
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl

from backtest_assets.domain.clock import month_start, utc
from backtest_assets.domain.market import Listing
from backtest_assets.sources.archive.layout import INTERVALS, ArchiveFile, monthly_file
from backtest_assets.sources.base import Dataset
from backtest_assets.sources.binance.client import Patience
from backtest_assets.sources.binance.listings import REFERENCE
from backtest_assets.sources.binance.urls import BinanceUrls
from backtest_assets_tests.archive_files import (
    REQUIRED,
    archive_zip,
    checksum_text,
    daily_files,
    made_rows,
)
from backtest_assets_tests.exchange_faults import Answer, Fault, OtherRows, Reissued

NOW = utc(date(2024, 3, 5)) + timedelta(hours=10, minutes=7)
QUICK = Patience(
    connect_s=2,
    read_s=1,
    total_s=1.5,
    attempts=3,
    budget_s=20,
    wait_initial_s=0.01,
    wait_max_s=0.05,
    wait_jitter_s=0.01,
    retry_after_max_s=3,
    weight_pause_s=0.3,
)
"""Patience that fits a server on this machine."""
NEVER_MS = 4_133_404_800_000  # what the exchange writes for a perpetual that is not delivered
KLINE_PATHS = {"/fapi/v1/klines": (Dataset.UM_OHLCV, 1500), "/api/v3/klines": (Dataset.SPOT_OHLCV, 1000)}
UNKNOWN_SYMBOL = (400, {"code": -1121, "msg": "Invalid symbol."})


@dataclass(frozen=True)
class Request:
    """A line of the log."""

    path: str
    query: Mapping[str, str]
    status: int
    at: float
    is_conditional: bool


@dataclass
class Exchange:
    """The exchange's state; change it while it serves.

    Attributes:
        symbols: what it lists.
        months: of which it has rows.
        interval: of its archive's klines; REST has every interval that the rows can be asked in, which is this one.
        now: its clock; files of months and days that ended are published, the newest candle is open.
        datasets: what it has.
        listings: when symbols traded, where not always; one that is delisted is unknown to REST.
        faults: what is wrong.
        page_limit: most rows of a REST page, below the documented limit.
        used_weight: what it says about the used request weight.
        date: its `Date` header, where not the real one.
        delay_s: how long each answer takes.
        log: every request.
        most_at_once: most requests that were open at the same time.
    """

    symbols: Sequence[str] = ("BTCUSDT",)
    months: Sequence[str] = ("2024-01", "2024-02", "2024-03")
    interval: str = "15m"
    now: datetime = NOW
    datasets: Sequence[Dataset] = REQUIRED
    listings: Mapping[str, Listing] = field(default_factory=dict)
    seed: int = 0
    faults: list[Fault] = field(default_factory=list)
    page_limit: int = 10_000
    used_weight: int | None = None
    date: datetime | None = None
    delay_s: float = 0.0
    log: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    base: str = ""

    @property
    def urls(self) -> BinanceUrls:
        return BinanceUrls(self.base, self.base, self.base)

    @cached_property
    def files(self) -> dict[str, ArchiveFile]:
        """Every file it could publish, by path; the archive always has the reference, as the real one does."""
        found = []
        for symbol in dict.fromkeys((*self.symbols, REFERENCE)):
            for dataset in self.datasets:
                for month in self.months:
                    found += [monthly_file(dataset, symbol, month, self.interval)]
                    found += daily_files(dataset, symbol, month, self.interval)
        return {f"/{file.key}": file for file in found if file is not None}

    def listing(self, symbol: str) -> Listing:
        return self.listings.get(symbol, Listing(month_start(self.months[0])))

    def rows(self, dataset: Dataset, symbol: str, start: datetime, end: datetime) -> pl.DataFrame:
        """True rows of [start, end), as a source should give them."""
        months = [month for month in self.months if start <= month_start(month) < end or month == f"{start:%Y-%m}"]
        frames = [self._month(dataset, symbol, month) for month in months]
        frame = pl.concat([dataset.table.empty(), *frames]).with_columns(source=pl.lit("binance"))
        at = pl.col(dataset.instant)
        first, last = self.listing(symbol).within(start, end)
        return frame.filter(at.is_between(first, last, closed="left"))

    def closed(self, dataset: Dataset, symbol: str, start: datetime, end: datetime) -> pl.DataFrame:
        """True rows of [start, end) that are closed now."""
        at = (
            pl.col("close_at") < self.now if "close_at" in dataset.table.schema else pl.col(dataset.instant) <= self.now
        )
        return self.rows(dataset, symbol, start, end).filter(at)

    def count(self, part: str, *, status: int | None = None) -> int:
        """Requests whose path contains a text."""
        return sum(part in one.path and status in {None, one.status} for one in self.log)

    def bodies(self, part: str = "") -> list[str]:
        """Paths that contain a text and were answered with content, `.CHECKSUM` aside."""
        return [one.path for one in self.log if one.status == 200 and part in one.path and "CHECKSUM" not in one.path]

    def answer(self, path: str, query: Mapping[str, str], conditional: str | None) -> Answer:
        """What a request gets, faults applied."""
        content = self._content(path.removesuffix(".CHECKSUM"), path.endswith(".CHECKSUM"))
        if content is not None:
            etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
            sound = Answer(200, content, {"ETag": etag, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})
            sound = replace(sound, status=304, body=b"") if conditional == etag else sound
        else:
            status, document = self._rest(path, query)
            headers = {} if self.used_weight is None else {"X-MBX-USED-WEIGHT-1M": str(self.used_weight)}
            sound = Answer(status, json.dumps(document).encode(), headers)
        for fault in tuple(self.faults):
            if not isinstance(fault, Reissued | OtherRows) and fault.strikes(path):
                sound = fault.answer(sound)
        return sound

    def _content(self, path: str, is_checksum: bool) -> bytes | None:  # noqa: FBT001  # private
        file = self.files.get(path)
        if file is None or file.end > self.now:
            return None
        rows = self.rows(file.dataset, file.symbol, file.start, file.end)
        if rows.is_empty():
            return None
        content = archive_zip(file, self._changed(path, rows))
        for fault in self.faults:
            if isinstance(fault, Reissued) and fault.strikes(path):
                content = fault.change(file, content)
        return checksum_text(content, file).encode() if is_checksum else content

    def _changed(self, path: str, rows: pl.DataFrame) -> pl.DataFrame:
        for fault in self.faults:
            if isinstance(fault, OtherRows) and fault.strikes(path):
                rows = fault.change(rows)
        return rows

    def _month(self, dataset: Dataset, symbol: str, month: str) -> pl.DataFrame:
        key = (dataset, symbol, month)
        if key not in self._made:
            self._made[key] = made_rows(dataset, symbol, month, self.interval, seed=self.seed)
        return self._made[key]

    @cached_property
    def _made(self) -> dict[tuple[Dataset, str, str], pl.DataFrame]:
        return {}

    def _rest(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        if path.endswith("/exchangeInfo"):
            return self._exchange_info(path, query)
        if path in KLINE_PATHS:
            dataset, limit = KLINE_PATHS[path]
            return self._page(path, query, dataset, limit, _kline_row)
        if path == "/fapi/v1/fundingRate":
            return self._page(path, query, Dataset.UM_FUNDING, 1000, _funding_row)
        if path == "/futures/data/openInterestHist":
            if int(query.get("startTime", "0")) < _ms(self.now - timedelta(days=30)):
                return 400, {"code": -1130, "msg": "parameter 'startTime' is invalid."}
            return self._page(path, query, Dataset.UM_OPEN_INTEREST, 500, _open_interest_row)
        return 404, {"code": 404, "msg": "no such path"}

    def _listed(self, symbol: str) -> bool:
        gone = self.listing(symbol).delisted_at
        return (
            symbol in self.symbols and self.listing(symbol).listed_at <= self.now and (gone is None or gone > self.now)
        )

    def _page(
        self, path: str, query: Mapping[str, str], dataset: Dataset, limit: int, row: Callable[[dict[str, Any]], Any]
    ) -> tuple[int, Any]:
        symbol = query["symbol"]
        if dataset not in self.datasets or not self._listed(symbol):
            return UNKNOWN_SYMBOL
        if query.get("interval", self.interval) != self.interval:
            return 400, {"code": -1120, "msg": "Invalid interval."}
        first = _from_ms(query.get("startTime", "0"))
        last = min(self.now, _from_ms(query["endTime"]) if "endTime" in query else self.now)
        rows = self.rows(dataset, symbol, max(first, month_start(self.months[0])), last + timedelta(microseconds=1))
        rows = self._changed(path, self._with_open_candle(rows))
        n_rows = min(int(query.get("limit", "500")), limit, self.page_limit)
        # The newest rows where no start is given, and always for open interest; else the oldest.
        newest = "startTime" not in query or dataset is Dataset.UM_OPEN_INTEREST
        return 200, [row(one) for one in (rows.tail(n_rows) if newest else rows.head(n_rows)).to_dicts()]

    def _with_open_candle(self, rows: pl.DataFrame) -> pl.DataFrame:
        if "close_at" not in rows.columns:
            return rows
        is_open = pl.col("close_at") >= self.now
        return rows.with_columns(pl.when(is_open).then(0.5).otherwise(1.0) * pl.col("volume_base"))

    def _exchange_info(self, path: str, query: Mapping[str, str]) -> tuple[int, Any]:
        is_um = path.startswith("/fapi")
        wanted = Dataset.UM_OHLCV if is_um else Dataset.SPOT_OHLCV
        names = [name for name in self.symbols if self._listed(name) and wanted in self.datasets]
        if "symbol" in query and query["symbol"] not in names:
            return UNKNOWN_SYMBOL
        rows = [self._info(name, is_um=is_um) for name in names if query.get("symbol", name) == name]
        return 200, {"timezone": "UTC", "serverTime": _ms(self.now), "symbols": rows}

    def _info(self, symbol: str, *, is_um: bool) -> dict[str, Any]:
        if not is_um:
            return {"symbol": symbol, "status": "TRADING"}
        listing = self.listing(symbol)
        dates = {
            "onboardDate": _ms(listing.listed_at),
            "deliveryDate": _ms(listing.delisted_at) if listing.delisted_at else NEVER_MS,
        }
        return {"symbol": symbol, "status": "TRADING", "contractType": "PERPETUAL", **dates}


def _kline_row(row: dict[str, Any]) -> list[Any]:
    names = ("open", "high", "low", "close", "volume_base")
    taken = ("taker_buy_base", "taker_buy_quote")
    last = row["open_at"] + timedelta(minutes=row["interval_min"], milliseconds=-1)
    return [
        _ms(row["open_at"]),
        *(str(row[name]) for name in names),
        _ms(last),
        str(row["volume_quote"]),
        row["n_trades"],
        *(str(row[name]) for name in taken),
        "0",
    ]


def _funding_row(row: dict[str, Any]) -> dict[str, Any]:
    rate = f"{row['funding_rate']:.8f}"
    return {"symbol": row["symbol"], "fundingTime": _ms(row["received_at"]), "fundingRate": rate, "markPrice": "1000.0"}


def _open_interest_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "symbol": row["symbol"],
        "sumOpenInterest": str(row["open_interest_base"]),
        "sumOpenInterestValue": str(row["open_interest_quote"]),
        "CMCCirculatingSupply": "19000000.0",
        "timestamp": _ms(row["snapshot_at"]),
    }


def _ms(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _from_ms(text: str) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(text))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, state: Exchange, port: int) -> None:
        self.state = state
        self.lock = threading.Lock()
        self.n_open = 0
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request, client_address) -> None:
        """Stay quiet about clients that went away; they do so on purpose here."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # it serves no other

    def do_GET(self) -> None:
        state, parts = self.server.state, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        conditional = self.headers.get("If-None-Match")
        with self.server.lock:
            self.server.n_open += 1
            state.most_at_once = max(state.most_at_once, self.server.n_open)
        time.sleep(state.delay_s)
        with self.server.lock:
            answer = state.answer(parts.path, query, conditional)
            state.log.append(Request(parts.path, query, answer.status, time.monotonic(), bool(conditional)))
            self.server.n_open -= 1  # before the answer: with its last byte the client may open the next
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        date_header = self.server.state.date or datetime.now(UTC)
        for name, value in {"Date": format_datetime(date_header, usegmt=True), **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if answer.cut_after is not None:
            self.wfile.write(answer.body[: answer.cut_after])
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif answer.drip_s:
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(answer.drip_s)
        else:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """The log is a list in memory."""


@contextlib.contextmanager
def exchange(*, port: int = 0, **state: Any) -> Iterator[Exchange]:  # noqa: ANN401  # the attributes of Exchange
    """Serve an `Exchange` with these attributes on the loopback until the block ends."""
    served = Exchange(**state)
    server = _Server(served, port)
    served.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a small exchange by hand until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m backtest_assets_tests.exchange", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8808, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--symbols", default="BTCUSDT,ETHUSDT", help="comma list")
    parser.add_argument("--months", default="2024-01,2024-02,2024-03", help="comma list of YYYY-MM")
    parser.add_argument("--interval", default="15m", choices=INTERVALS, help="of the klines")
    parser.add_argument("--now", default=NOW.isoformat(), help="the exchange's clock, ISO with UTC offset")
    parser.add_argument("--optional", action="store_true", help="with open interest and liquidations")
    given = parser.parse_args(arguments)
    with exchange(
        port=given.port,
        symbols=given.symbols.split(","),
        months=given.months.split(","),
        interval=given.interval,
        now=datetime.fromisoformat(given.now),
        datasets=tuple(Dataset) if given.optional else REQUIRED,
    ) as ex:
        for name in ("ARCHIVE", "SPOT_API", "UM_API"):
            print(f"export BACKTEST_BINANCE_{name}_URL={ex.base}", flush=True)  # noqa: T201  # the command's output
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
