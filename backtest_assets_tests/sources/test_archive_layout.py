from datetime import UTC, date, datetime

import pytest

from backtest_assets.domain.exchange import contract_size_quote
from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import (
    cm_contract,
    daily_file,
    monthly_file,
    stretch_of,
)
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.archive_files import there

DAY = date(2024, 2, 29)
KEYS = {
    Dataset.UM_OHLCV: (
        "data/futures/um/monthly/klines/ETHUSDT/1m/ETHUSDT-1m-2024-02.zip",
        "data/futures/um/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2024-02-29.zip",
    ),
    Dataset.SPOT_OHLCV: (
        "data/spot/monthly/klines/ETHUSDT/1m/ETHUSDT-1m-2024-02.zip",
        "data/spot/daily/klines/ETHUSDT/1m/ETHUSDT-1m-2024-02-29.zip",
    ),
    Dataset.UM_FUNDING: ("data/futures/um/monthly/fundingRate/ETHUSDT/ETHUSDT-fundingRate-2024-02.zip", None),
    Dataset.UM_OPEN_INTEREST: (None, "data/futures/um/daily/metrics/ETHUSDT/ETHUSDT-metrics-2024-02-29.zip"),
    Dataset.UM_LIQUIDATIONS: (
        None,
        "data/futures/cm/daily/liquidationSnapshot/ETHUSD_PERP/ETHUSD_PERP-liquidationSnapshot-2024-02-29.zip",
    ),
}


@pytest.mark.parametrize("dataset", Dataset)
def test_names_are_those_of_the_exchange(dataset):
    month, day = monthly_file(dataset, "ETHUSDT", "2024-02", "1m"), daily_file(dataset, "ETHUSDT", DAY, "1m")
    assert KEYS[dataset] == (month and month.key, day and day.key)
    if month is not None:
        assert (datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)) == (month.start, month.end)
    if day is not None:
        assert (datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)) == (day.start, day.end)


@pytest.mark.parametrize("dataset", Dataset)
def test_a_name_tells_its_dates_back(dataset):
    for file in (monthly_file(dataset, "BTCUSDT", "2023-12"), daily_file(dataset, "BTCUSDT", DAY)):
        if file is not None:
            assert (file.start, file.end) == stretch_of(file.name, file)
            assert (file.start, file.end) == stretch_of(f"{file.stem}.csv", file)


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT-15m-2024-13.zip",
        "BTCUSDT-15m-2024-02-30.zip",
        "BTCUSDT-15m-2024-02-29.zip.CHECKSUM",
        "BTCUSDT-15m-2024-02.zip",
        "BTCUSDT-1m-2024-02-29.zip",
        "XBTCUSDT-15m-2024-02-29.zip",
        "BTCUSDT-15m-2024-02-29.txt",
        "README",
    ],
)
def test_other_names_tell_nothing(name):
    assert stretch_of(name, there(daily_file(Dataset.UM_OHLCV, "BTCUSDT", DAY))) is None


@pytest.mark.parametrize("symbol", ["../etc", "btcusdt", "BTC/USDT", "", "BTCUSDT\n", "A" * 21])
def test_a_symbol_that_is_no_symbol_never_becomes_a_path(symbol):
    with pytest.raises(SourceError, match="cannot be part of a file name"):
        monthly_file(Dataset.UM_OHLCV, symbol, "2024-01")


def test_an_interval_that_is_not_offered_is_refused():
    with pytest.raises(SourceError, match="'3m' is not offered; use one of 15m, 5m, 1m"):
        monthly_file(Dataset.UM_OHLCV, "BTCUSDT", "2024-01", "3m")


def test_the_coin_margined_twin_and_its_contract_size():
    twins = {symbol: cm_contract(symbol) for symbol in ("BTCUSDT", "ETHBUSD", "SOLUSDC", "1INCHUSDT")}
    expected = {
        "BTCUSDT": "BTCUSD_PERP",
        "ETHBUSD": "ETHUSD_PERP",
        "SOLUSDC": "SOLUSD_PERP",
        "1INCHUSDT": "1INCHUSD_PERP",
    }
    assert expected == twins
    assert (100.0, 10.0) == (contract_size_quote("BTCUSD_PERP"), contract_size_quote("ETHUSD_PERP"))
    with pytest.raises(SourceError, match="no COIN-M contract is known"):
        cm_contract("ETHBTC")
    assert daily_file(Dataset.UM_LIQUIDATIONS, "ETHBTC", DAY) is None
