"""Where the public archive keeps each file, as pure names; reading and judging what is inside stays out."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from backtest_assets.domain.clock import month_end, month_of, month_start, utc
from backtest_assets.domain.exchange import KLINE_MINUTES, coin_margined_twin
from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Dataset

INTERVALS: Final = {f"{minutes}m": minutes for minutes in reversed(KLINE_MINUTES)}
"""Kline intervals that a source offers [min]."""

_UM: Final = "data/futures/um"
_SPOT: Final = "data/spot"
_CM: Final = "data/futures/cm"
_SYMBOL: Final = re.compile(r"[A-Z0-9]{2,20}")
_LABEL: Final = re.compile(r"(?P<month>\d{4}-(?:0[1-9]|1[0-2]))(?:-(?P<day>0[1-9]|[12]\d|3[01]))?$")
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class ArchiveFile:
    """One file of the archive.

    Attributes:
        key: path below the archive's root, as in the exchange's own URLs.
        dataset: which raw table it fills.
        symbol: instrument the rows are for; for liquidations the USD-M one.
        interval_min: length of its klines [min]; None for other datasets.
        start: first instant it is about.
        end: first instant after it.
    """

    key: str
    dataset: Dataset
    symbol: str
    interval_min: int | None
    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """Its file name, `.zip` included."""
        return self.key.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The folder below the archive's root that it stands in, with all its like."""
        return self.key.rpartition("/")[0]

    @property
    def stem(self) -> str:
        """Its file name without `.zip`; the one member is `<stem>.csv`."""
        return self.name.removesuffix(".zip")


def cm_contract(symbol: str) -> str:
    """Return the COIN-M perpetual whose liquidations stand beside a USD-M symbol.

    Raises:
        SourceError: if the symbol's quote is none of USDT, BUSD, USDC.
    """
    contract = coin_margined_twin(symbol)
    if contract is None:
        message = f"liquidations of {symbol!r}: no COIN-M contract is known; only symbols quoted in USDT, BUSD or USDC have one"
        raise SourceError(message)
    return contract


def monthly_file(dataset: Dataset, symbol: str, month: str, interval: str = "15m") -> ArchiveFile | None:
    """Return a month's file; None for datasets the archive has by day only.

    >>> monthly_file(Dataset.UM_OHLCV, "BTCUSDT", "2024-01").key
    'data/futures/um/monthly/klines/BTCUSDT/15m/BTCUSDT-15m-2024-01.zip'

    Raises:
        SourceError: if the symbol or the interval cannot be part of a name.
        UsageError: if the month is not `YYYY-MM`.
    """
    if dataset in {Dataset.UM_OPEN_INTEREST, Dataset.UM_LIQUIDATIONS}:
        return None
    return _file(dataset, symbol, interval, (month_start(month), month_end(month)), label=month)


def daily_file(dataset: Dataset, symbol: str, day: date, interval: str = "15m") -> ArchiveFile | None:
    """Return a day's file; None for funding, which is there by month only, and for liquidations without a COIN-M twin.

    >>> daily_file(Dataset.UM_LIQUIDATIONS, "BTCUSDT", date(2023, 6, 1)).key
    'data/futures/cm/daily/liquidationSnapshot/BTCUSD_PERP/BTCUSD_PERP-liquidationSnapshot-2023-06-01.zip'

    Raises:
        SourceError: if the symbol or the interval cannot be part of a name.
    """
    if dataset is Dataset.UM_FUNDING or (dataset is Dataset.UM_LIQUIDATIONS and coin_margined_twin(symbol) is None):
        return None
    start = utc(day)
    return _file(dataset, symbol, interval, (start, start + _DAY), label=f"{month_of(start)}-{start.day:02d}")


def stretch_of(name: str, like: ArchiveFile) -> tuple[datetime, datetime] | None:
    """Return the first instant a file is about and the first after it, by its name; None if it is not of that kind.

    >>> like = monthly_file(Dataset.UM_OHLCV, "BTCUSDT", "2024-01")
    >>> [f"{at:%Y-%m-%d}" for at in stretch_of("BTCUSDT-15m-2023-12.zip", like)]
    ['2023-12-01', '2024-01-01']

    Args:
        name: of the file, `.zip` or `.csv`.
        like: any file of the kind: same dataset, symbol and interval, by month or by day.
    """
    wanted, found = _LABEL.search(like.stem), _LABEL.search(name.removesuffix(".zip").removesuffix(".csv"))
    if wanted is None or found is None or not name.endswith((".zip", ".csv")):
        return None
    if like.stem[: wanted.start()] != name[: found.start()] or (wanted["day"] is None) != (found["day"] is None):
        return None
    if found["day"] is None:
        return month_start(found["month"]), month_end(found["month"])
    start = month_start(found["month"]) + (int(found["day"]) - 1) * _DAY
    return (start, start + _DAY) if start < month_end(found["month"]) else None


def _file(
    dataset: Dataset, symbol: str, interval: str, stretch: tuple[datetime, datetime], *, label: str
) -> ArchiveFile:
    if _SYMBOL.fullmatch(symbol) is None:
        message = f"archive: {symbol!r} cannot be part of a file name; use 2 to 20 capital letters and digits"
        raise SourceError(message)
    folder, stem = _place(dataset, symbol, interval, period="monthly" if label.count("-") == 1 else "daily")
    interval_min = INTERVALS[interval] if dataset in {Dataset.UM_OHLCV, Dataset.SPOT_OHLCV} else None
    return ArchiveFile(f"{folder}/{stem}-{label}.zip", dataset, symbol, interval_min, *stretch)


def _place(dataset: Dataset, symbol: str, interval: str, *, period: str) -> tuple[str, str]:
    if dataset in {Dataset.UM_OHLCV, Dataset.SPOT_OHLCV}:
        if interval not in INTERVALS:
            message = f"archive: kline interval {interval!r} is not offered; use one of {', '.join(INTERVALS)}"
            raise SourceError(message)
        root = _UM if dataset is Dataset.UM_OHLCV else _SPOT
        return f"{root}/{period}/klines/{symbol}/{interval}", f"{symbol}-{interval}"
    if dataset is Dataset.UM_FUNDING:
        return f"{_UM}/{period}/fundingRate/{symbol}", f"{symbol}-fundingRate"
    if dataset is Dataset.UM_OPEN_INTEREST:
        return f"{_UM}/{period}/metrics/{symbol}", f"{symbol}-metrics"
    contract = cm_contract(symbol)
    return f"{_CM}/{period}/liquidationSnapshot/{contract}", f"{contract}-liquidationSnapshot"
