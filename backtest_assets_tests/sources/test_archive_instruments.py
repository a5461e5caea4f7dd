from datetime import UTC, datetime

import pytest

from backtest_assets.domain.market import Listing, Market
from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Dataset
from backtest_assets.sources.instruments import read_instruments

HEADER = "symbol,market,listed_at,delisted_at"


def read(folder, *lines: str):
    (folder / "instruments.csv").write_text("\n".join(lines))
    return read_instruments(folder)


def test_days_and_instants_are_utc_and_an_empty_end_is_none(tmp_path):
    found = read(
        tmp_path,
        HEADER,
        "BTCUSDT,um,2019-09-08T17:57:00Z,",
        "",
        "BTCUSDT, spot, 2017-08-17 ,",
        "LUNAUSDT,um,2021-02-10 06:00,2022-05-13T00:00:00+00:00",
    )
    expected = {
        ("BTCUSDT", Market.UM): Listing(datetime(2019, 9, 8, 17, 57, tzinfo=UTC)),
        ("BTCUSDT", Market.SPOT): Listing(datetime(2017, 8, 17, tzinfo=UTC)),
        ("LUNAUSDT", Market.UM): Listing(datetime(2021, 2, 10, 6, tzinfo=UTC), datetime(2022, 5, 13, tzinfo=UTC)),
    }
    assert expected == dict(found)


def test_a_folder_without_the_file_declares_nothing(tmp_path):
    assert {} == dict(read_instruments(tmp_path))


def test_all_but_spot_klines_follow_the_um_listing():
    assert {Dataset.SPOT_OHLCV} == {dataset for dataset in Dataset if dataset.market is Market.SPOT}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "its first line is 'missing'"),
        (["symbol,market,from,to"], "its first line is 'symbol,market,from,to'; write symbol,market,"),
        ([HEADER, "BTCUSDT,um,2020-01-01"], "line 2: has 3 fields"),
        ([HEADER, "btcusdt,um,2020-01-01,"], "line 2: btcusdt,um is no instrument"),
        ([HEADER, "../X,um,2020-01-01,"], "line 2: symbols: '../X' is not a symbol"),
        ([HEADER, "BTCUSDT,perp,2020-01-01,"], "line 2: BTCUSDT,perp is no instrument"),
        ([HEADER, "BTCUSDT,um,,"], "line 2: '' is no UTC day or instant"),
        ([HEADER, "BTCUSDT,um,2020-02-30,"], "line 2: '2020-02-30' is no UTC day"),
        ([HEADER, "BTCUSDT,um,2020-01-01T00:00:00+02:00,"], "is no UTC day"),
        ([HEADER, "BTCUSDT,um,01/02/2020,"], "is no UTC day"),
        ([HEADER, "BTCUSDT,um,2020-01-02,2020-01-02"], "not after its listing"),
        ([HEADER, "BTCUSDT,um,2020-01-02,", "BTCUSDT,um,2020-01-03,"], "line 3: BTCUSDT in um is declared twice"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_with_its_line(tmp_path, lines, why):
    with pytest.raises(SourceError) as error:
        read(tmp_path, *lines)
    assert str(error.value).startswith(str(tmp_path / "instruments.csv"))
    assert why in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "instruments.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match=r"cannot be read .* write it as UTF-8"):
        read_instruments(tmp_path)
