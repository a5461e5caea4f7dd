"""The Binance source over the exchange on the loopback: three months to ask for, and what tests of any subject do with them."""

from datetime import timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Dataset, Slice
from backtest_assets.sources.binance.source import BinanceSource
from backtest_assets_tests.exchange import NOW, QUICK

UM, SPOT, FUNDING = Dataset.UM_OHLCV, Dataset.SPOT_OHLCV, Dataset.UM_FUNDING
JANUARY = Slice.of_month(UM, "BTCUSDT", "2024-01")
FEBRUARY = Slice.of_month(UM, "BTCUSDT", "2024-02")
MARCH = Slice.of_month(UM, "BTCUSDT", "2024-03")
JANUARY_ZIP = "um/monthly/klines/BTCUSDT/15m/BTCUSDT-15m-2024-01.zip"
JANUARY_DAYS = "um/daily/klines/BTCUSDT/15m/BTCUSDT-15m-2024-01"
LATER = NOW + timedelta(days=2)
DAY = timedelta(days=1)


def source_of(ex, root, interval="15m", *, force=False, patience=QUICK) -> BinanceSource:
    return BinanceSource(ex.urls, root, interval, as_of=ex.now, force=force, patience=patience)


def get(source, wanted, as_of=NOW):
    source.prepare([wanted], as_of=as_of)
    return source.fetch(wanted, as_of=as_of)


def refusal(source, wanted, as_of=NOW) -> str:
    with pytest.raises(SourceError) as caught:
        get(source, wanted, as_of)
    return str(caught.value)


def held(root: Path, part: str) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if part in str(path.relative_to(root)) and path.is_file())


def assert_same(ex, wanted, frame) -> None:
    assert_frame_equal(ex.closed(wanted.dataset, wanted.symbol, wanted.start, wanted.end), frame)
