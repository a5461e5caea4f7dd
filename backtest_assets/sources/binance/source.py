"""The exchange over the network as a source; each step of having its data is a module beside this one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from backtest_assets.domain.market import Listing, Market
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import INTERVALS
from backtest_assets.sources.base import Dataset, Delivery, Slice
from backtest_assets.sources.binance.client import PATIENCE, Client, Patience
from backtest_assets.sources.binance.download import Downloads
from backtest_assets.sources.binance.gather import Gatherer
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.listings import Listings
from backtest_assets.sources.binance.pages import Pages
from backtest_assets.sources.binance.pieces import SOURCE, Piece, deliver, digest_of
from backtest_assets.sources.binance.urls import BinanceUrls

_T = TypeVar("_T")
_USUAL_INTERVAL = "15m"


class BinanceSource:
    """The public archive and the REST interfaces, through an inbox on disk.

    Args:
        urls: where the exchange, or a mirror of it, answers.
        data_root: `inbox/` and `quarantine/` below it keep what was received.
        interval: of the klines: 15m, 5m or 1m.
        as_of: when `span` and `listing` are asked.
        force: ask again also for what was asked a moment ago or is old.
        patience: how long to wait for what.

    Attributes:
        identity: `binance`, or `binance:1m` with another interval than 15m.

    Raises:
        SourceError: on construction, if the interval is not offered.
    """

    def __init__(
        self,
        urls: BinanceUrls,
        data_root: Path,
        interval: str = _USUAL_INTERVAL,
        *,
        as_of: datetime,
        force: bool = False,
        patience: Patience = PATIENCE,
    ) -> None:
        if interval not in INTERVALS:
            message = f"source binance:{interval}: the interval is not offered; use one of {', '.join(INTERVALS)}"
            raise SourceError(message)
        self.identity = SOURCE if interval == _USUAL_INTERVAL else f"{SOURCE}:{interval}"
        self._urls = urls
        self._inbox = Inbox(data_root)
        self._interval = interval
        self._as_of = as_of
        self._force = force
        self._patience = patience
        self._prepared: dict[Slice, tuple[Piece, ...] | Exception] = {}
        self._listings: dict[tuple[Market, str], Listing | None] = {}

    def span(self, dataset: Dataset, symbol: str) -> tuple[datetime, datetime] | None:
        """Return the first instant of trading and the last, or now; None if the dataset's market never had the symbol.

        Raises:
            SourceError: as `listing` does.
        """
        listing = self.listing(dataset, symbol)
        if listing is None:
            return None
        return listing.listed_at, min(listing.delisted_at or self._as_of, self._as_of)

    def listing(self, dataset: Dataset, symbol: str) -> Listing | None:
        """Return when the instrument behind a dataset traded; None if its market never had it.

        Raises:
            SourceError: if no market knows the symbol, the exchange gives no answer, or the inbox cannot be used.
        """
        asked = dataset.market, symbol
        if asked not in self._listings:
            try:
                self._listings[asked] = asyncio.run(
                    self._round(self._as_of, lambda gatherer: gatherer.listings.find(*asked))
                )
            except OSError as error:
                raise _no_inbox(dataset, symbol, error) from error
        return self._listings[asked]

    def prepare(self, slices: Sequence[Slice], *, as_of: datetime) -> None:
        """Download what serves these slices and is not in the inbox, many at a time; trouble waits for `fetch`."""
        wanted = tuple(dict.fromkeys(slices))
        for one, answer in zip(wanted, asyncio.run(self._round(as_of, _gather_all(wanted))), strict=True):
            self._prepared[one] = answer

    def fetch(self, wanted: Slice, *, as_of: datetime) -> Delivery:
        """Return the rows of a prepared slice that are closed by `as_of`, from the inbox alone.

        Raises:
            SourceError: if it was not prepared, could not be had, or its files are not what was received.
        """
        return deliver(self._inbox, wanted, self._pieces(wanted), as_of=as_of)

    def fingerprint(self, wanted: Slice, *, as_of: datetime) -> str:
        """Return a digest that changes whenever `fetch` would return other rows.

        Raises:
            SourceError: as `fetch` does.
        """
        return digest_of(self._inbox, wanted, self._pieces(wanted), as_of=as_of)

    def _pieces(self, wanted: Slice) -> tuple[Piece, ...]:
        prepared = self._prepared.get(wanted)
        if prepared is None:
            message = f"source {self.identity}: {wanted} was not prepared; prepare it before fetching"
            raise SourceError(message)
        if isinstance(prepared, Exception):
            raise prepared
        return prepared

    async def _round(self, as_of: datetime, work: Callable[[Gatherer], Awaitable[_T]]) -> _T:
        async with Client(self._patience) as client:
            downloads = Downloads(client, self._inbox, self._urls.archive, as_of=as_of, force=self._force)
            pages = Pages(client, self._inbox, self._urls, as_of=as_of, force=self._force)
            listings = Listings(downloads, pages, self._inbox, self._interval, as_of=as_of, force=self._force)
            return await work(Gatherer(self._inbox, downloads, pages, listings, self._interval, as_of))


def _no_inbox(dataset: Dataset, symbol: str, error: OSError) -> SourceError:
    return SourceError(
        f"{dataset.value} {symbol}: the inbox cannot be used ({error}); make room or mend it, then run again"
    )


def _gather_all(
    wanted: Sequence[Slice],
) -> Callable[[Gatherer], Awaitable[list[tuple[Piece, ...] | Exception]]]:
    async def one(gatherer: Gatherer, wanted: Slice) -> tuple[Piece, ...] | Exception:
        try:
            return await gatherer.gather(wanted)
        except OSError as error:
            return _no_inbox(wanted.dataset, wanted.symbol, error)
        except Exception as error:  # noqa: BLE001  # whatever one slice fails of must not stop the others; `fetch` raises it
            return error

    async def work(gatherer: Gatherer) -> list[tuple[Piece, ...] | Exception]:
        return list(await asyncio.gather(*(one(gatherer, each) for each in wanted)))

    return work
