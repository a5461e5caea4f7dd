"""The REST lists of rows and the stretches they are asked for, as pure names; asking stays out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import INTERVALS
from backtest_assets.sources.base import Dataset


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A REST list of rows in time order.

    Attributes:
        api: which base URL of `BinanceUrls`.
        path: below it.
        limit: most rows of a page that the exchange gives.
        time: where a row has its instant [ms].
        step: from a row's instant to the next that can follow; None takes the kline interval.
    """

    api: str
    path: str
    limit: int
    time: str | int
    step: timedelta | None = None


ENDPOINTS: Final[Mapping[Dataset, Endpoint]] = {
    Dataset.UM_OHLCV: Endpoint("um_api", "/fapi/v1/klines", 1500, 0),
    Dataset.SPOT_OHLCV: Endpoint("spot_api", "/api/v3/klines", 1000, 0),
    Dataset.UM_FUNDING: Endpoint("um_api", "/fapi/v1/fundingRate", 1000, "fundingTime", timedelta(milliseconds=1)),
    Dataset.UM_OPEN_INTEREST: Endpoint(
        "um_api", "/futures/data/openInterestHist", 500, "timestamp", timedelta(minutes=5)
    ),
}
"""The archive has liquidations alone that REST has not."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one dataset that REST is asked for.

    Attributes:
        dataset: one of `ENDPOINTS`.
        symbol: instrument.
        interval: of klines.
        start: first instant, midnight.
        end: first instant after it, midnight.
    """

    dataset: Dataset
    symbol: str
    interval: str
    start: datetime
    end: datetime

    @property
    def endpoint(self) -> Endpoint:
        """Where it is asked."""
        return ENDPOINTS[self.dataset]

    @property
    def step(self) -> timedelta:
        """From a row's instant to the earliest next one."""
        return self.endpoint.step or timedelta(minutes=INTERVALS[self.interval])

    @property
    def query(self) -> dict[str, str]:
        """The query but for its bounds."""
        names = {"symbol": self.symbol, "limit": str(self.endpoint.limit)}
        if self.dataset is Dataset.UM_OPEN_INTEREST:
            return {**names, "period": "5m"}
        return names if self.endpoint.step else {**names, "interval": self.interval}

    @property
    def key(self) -> str:
        """Its place in the inbox."""
        part = self.query.get("interval") or self.query.get("period") or "all"
        return f"rest{self.endpoint.path}/{self.symbol}/{part}/{self.start:%Y%m%d}-{self.end:%Y%m%d}.json"


def json_rows(name: str, content: bytes) -> list[Any]:
    """Return the rows of a REST answer.

    Raises:
        SourceError: if it is no list.
    """
    try:
        rows: object = json.loads(content)
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        message = f"{name}: {content[:80]!r} is not a JSON list of rows; check the base URL"
        raise SourceError(message)
    return list(rows)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # JSON of another party
