"""What the exchange's own files say: the facts the parser leans on, each with its numbers."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from backtest_assets.domain.clock import utc
from backtest_assets.sources.archive.layout import ArchiveFile, daily_file, monthly_file
from backtest_assets.sources.archive.local import find_file
from backtest_assets.sources.archive.parse import parse_member
from backtest_assets.sources.archive.source import ArchiveSource
from backtest_assets.sources.archive.unzip import read_member
from backtest_assets.sources.base import Dataset, Slice
from backtest_assets_tests.archive_files import there

REAL = Path(__file__).parents[3] / "shared/data/archive"
pytestmark = pytest.mark.skipif(
    not REAL.exists(), reason="the real archive files are not on this machine (../shared/data)"
)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SPOT_DAYS = {
    date(2020, 1, 1): (7195.24, 7200.85, timedelta(milliseconds=1)),
    date(2020, 1, 2): (7200.77, 6965.71, timedelta(milliseconds=1)),
    date(2020, 1, 3): (6965.49, 7344.96, timedelta(milliseconds=1)),
    date(2025, 5, 24): (107318.3, 107761.91, timedelta(microseconds=1)),
    date(2025, 5, 25): (107761.9, 109004.19, timedelta(microseconds=1)),
}


def real_file(file):
    return there(find_file(REAL, there(file)))


def funding(symbol):
    """All settlements of a symbol, from every month there is."""
    months = sorted(path.stem[-7:] for path in (REAL / f"data/futures/um/monthly/fundingRate/{symbol}").iterdir())
    files = [real_file(monthly_file(Dataset.UM_FUNDING, symbol, month)) for month in months]
    return len(months), pl.concat(file.rows(source="test") for file in files)


@pytest.mark.parametrize("day", SPOT_DAYS)
def test_spot_days_are_whole_and_in_milliseconds_until_2025(day):
    first, last, one = SPOT_DAYS[day]
    found = real_file(daily_file(Dataset.SPOT_OHLCV, "BTCUSDT", day, "1m"))
    rows = found.rows(source="test")
    assert [utc(day) + n * MINUTE for n in range(1440)] == rows["open_at"].to_list()
    assert {MINUTE - one} == set((rows["close_at"] - rows["open_at"]).to_list())
    assert (first, last) == (rows["open"][0], rows["close"][-1])
    assert (0, 0.0, 0.0) == (rows.null_count().sum_horizontal()[0], rows["unused"].min(), rows["unused"].max())
    assert Dataset.SPOT_OHLCV.table.violations(rows).is_empty()
    per_base = (
        rows.filter(pl.col("volume_base") > 0)["volume_quote"] / rows.filter(pl.col("volume_base") > 0)["volume_base"]
    )
    assert per_base.is_between(0.999 * min(rows["low"]), 1.001 * max(rows["high"])).all()


def test_the_last_trade_count_and_taker_volumes_stand_in_their_own_columns():
    rows = real_file(daily_file(Dataset.SPOT_OHLCV, "BTCUSDT", date(2025, 5, 24), "1m")).rows(source="test")
    columns = ("volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")
    assert (40.07053, 4297876.9120255, 7466, 13.97987, 1499290.738622) == rows.select(columns).row(0)


def sample(name, dataset):
    day = datetime(2024, 10, 28, tzinfo=UTC)
    file = ArchiveFile("samples/BTCUSDT-1h-2024-10-28.zip", dataset, "BTCUSDT", 60, day, day + timedelta(days=1))
    content = (REAL / "samples" / name).read_bytes()
    return parse_member(file, read_member(content, name=file.name), source="test")


def test_um_has_a_header_spot_has_none_and_an_hour_can_really_be_without_volume():
    um = sample("futures-um-klines-BTCUSDT-1h-2024-10-28.zip", Dataset.UM_OHLCV)
    spot = sample("spot-klines-BTCUSDT-1h-2024-10-28.zip", Dataset.SPOT_OHLCV)
    assert (24, 24) == (um.height, spot.height)
    assert (67992.7, 69940.0, 68021.69, 69962.21) == (
        um["open"][0],
        um["close"][-1],
        spot["open"][0],
        spot["close"][-1],
    )
    quiet = um.filter(pl.col("volume_base") == 0)
    assert [20] == [at.hour for at in quiet["open_at"]]
    assert (0.0, 0) == quiet.select("volume_quote", "n_trades").row(0)
    assert (85022, 145225) == (um["n_trades"][0], spot["n_trades"][0])


@pytest.mark.parametrize(
    ("symbol", "n_months", "n_rows", "first", "last"),
    [
        ("BTCUSDT", 78, 7119, date(2020, 1, 1), date(2026, 6, 30)),
        ("ETHUSDT", 78, 7119, date(2020, 1, 1), date(2026, 6, 30)),
        ("SOLUSDT", 70, 6424, date(2020, 9, 13), date(2026, 6, 30)),
    ],
)
def test_every_settlement_is_up_to_47_ms_late_and_lies_on_the_hour(symbol, n_months, n_rows, first, last):
    found, rows = funding(symbol)
    assert (n_months, n_rows) == (found, rows.height)
    assert (first, last) == (rows["settled_at"][0].date(), rows["settled_at"][-1].date())
    late = (rows["received_at"] - rows["settled_at"]).dt.total_milliseconds()
    assert (0, 47) == (late.min(), late.max())
    assert {0} == set(rows["settled_at"].dt.epoch("us") % 3_600_000_000)
    assert rows["settled_at"].is_unique().all()
    assert Dataset.UM_FUNDING.table.violations(rows).is_empty()


def test_sol_settled_every_4_and_2_hours_in_november_2022():
    _, rows = funding("SOLUSDT")
    assert {8.0: 6323, 4.0: 2, 2.0: 99} == dict(rows.group_by("funding_interval_h").len().iter_rows())
    changes = rows.filter(pl.col("funding_interval_h") != pl.col("funding_interval_h").shift())
    expected = [("2022-11-09 20:00", 4.0), ("2022-11-10 04:00", 2.0), ("2022-11-18 16:00", 8.0)]
    assert expected == changes.select(pl.col("settled_at").dt.strftime("%Y-%m-%d %H:%M"), "funding_interval_h").rows()
    # The stated interval is the spacing to the settlement before, but for one: the first of the two-hourly.
    spacing = rows["settled_at"].diff().dt.total_hours()
    odd = rows.filter((spacing != rows["funding_interval_h"]).fill_null(value=False))
    assert [("2022-11-10 04:00", 2.0)] == odd.select(
        pl.col("settled_at").dt.strftime("%Y-%m-%d %H:%M"), "funding_interval_h"
    ).rows()


def test_the_folder_is_a_source():
    source = ArchiveSource(f"{REAL}:1m")
    assert ("BTCUSDT", "ETHUSDT", "SOLUSDT") == source.symbols()
    span = source.span(Dataset.SPOT_OHLCV, "BTCUSDT")
    assert (datetime(2020, 1, 1, tzinfo=UTC), datetime(2025, 5, 25, 23, 59, 59, 999_999, tzinfo=UTC)) == span
    wanted = Slice.of_month(Dataset.SPOT_OHLCV, "BTCUSDT", "2020-01")
    given = source.fetch(wanted, as_of=NOON)
    assert 3 * 1440 == given.frame.height
    assert [1, 2, 3, 4] == [origin.start.day for origin in given.origins]
    assert [True, True, True, False] == [origin.sha256 is not None for origin in given.origins]
    assert "dd579c62368ded93d3f01a19045" == there(given.origins[0].sha256)[:27]
