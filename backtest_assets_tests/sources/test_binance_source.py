"""What is served of every month, and when symbols traded."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import utc
from backtest_assets.domain.market import Listing
from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Dataset, Slice
from backtest_assets.sources.binance.source import BinanceSource
from backtest_assets.sources.binance.urls import BinanceUrls
from backtest_assets_tests.archive_files import REQUIRED, made_rows, member_zip, metrics_csv
from backtest_assets_tests.exchange import NOW, exchange
from backtest_assets_tests.exchange_faults import Reissued, Status
from backtest_assets_tests.sources.loopback import (
    DAY,
    FEBRUARY,
    FUNDING,
    JANUARY,
    MARCH,
    SPOT,
    UM,
    assert_same,
    get,
    held,
    refusal,
    source_of,
)


@pytest.mark.parametrize("dataset", REQUIRED)
@pytest.mark.parametrize("month", ["2024-01", "2024-02", "2024-03"])
def test_every_month_comes_out_as_the_exchange_has_it(tmp_path, dataset, month):
    wanted = Slice.of_month(dataset, "BTCUSDT", month)
    with exchange() as ex:
        delivery = get(source_of(ex, tmp_path), wanted)
        assert_same(ex, wanted, delivery.frame)
        assert not delivery.frame.is_empty()


def test_a_closed_month_is_one_file_and_an_open_one_days_and_a_tail(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        source.prepare([JANUARY, MARCH], as_of=NOW)
        (whole,) = source.fetch(JANUARY, as_of=NOW).origins
        assert (whole.start, whole.end) == (JANUARY.start, JANUARY.end)
        *days, tail = source.fetch(MARCH, as_of=NOW).origins
        assert [f"data/futures/um/daily/klines/BTCUSDT/15m/BTCUSDT-15m-2024-03-0{n}.zip" for n in (1, 2, 3, 4)] == [
            one.name for one in days
        ]
        assert (tail.name, tail.end) == ("rest/fapi/v1/klines/BTCUSDT/15m/20240305-20240306.json", NOW)
        assert all(one.sha256 for one in (whole, *days, tail))


def test_part_of_a_month_is_served_from_the_whole_months_file(tmp_path):
    wanted = replace(JANUARY, start=utc(date(2024, 1, 11)), end=utc(date(2024, 1, 21)))
    with exchange() as ex:
        assert_same(ex, wanted, get(source_of(ex, tmp_path), wanted).frame)
        assert len(ex.bodies(".zip")) == 1


def test_optional_datasets_come_by_day_and_open_interest_has_a_tail(tmp_path):
    with exchange(datasets=tuple(Dataset), months=("2024-03",)) as ex:
        source = source_of(ex, tmp_path)
        interest, orders = (
            Slice.of_month(name, "BTCUSDT", "2024-03") for name in (Dataset.UM_OPEN_INTEREST, Dataset.UM_LIQUIDATIONS)
        )
        source.prepare([interest, orders], as_of=NOW)
        true, got = (
            ex.closed(Dataset.UM_OPEN_INTEREST, "BTCUSDT", interest.start, interest.end),
            source.fetch(interest, as_of=NOW),
        )
        ratios = pl.selectors.ends_with("_ratio")  # REST has none
        assert_frame_equal(true.drop(ratios), got.frame.drop(ratios))
        given = source.fetch(orders, as_of=NOW)
        same_days = ex.rows(Dataset.UM_LIQUIDATIONS, "BTCUSDT", orders.start, utc(date(2024, 3, 5)))
        assert_frame_equal(same_days, given.frame)
        assert (given.origins[-1].sha256, given.origins[-1].start) == (None, utc(date(2024, 3, 5)))


def test_the_snapshot_of_midnight_lies_in_the_file_of_the_day_before(tmp_path):
    wanted = Slice.of_month(Dataset.UM_OPEN_INTEREST, "BTCUSDT", "2024-02")
    true = pl.concat([made_rows(wanted.dataset, "BTCUSDT", month) for month in ("2024-01", "2024-02", "2024-03")])

    def to_midnight(file, _) -> bytes:
        within = pl.col("snapshot_at").is_between(file.start, file.end, closed="right")
        return member_zip(file, metrics_csv(true.filter(within)))

    with exchange(
        datasets=tuple(Dataset), now=utc(date(2024, 4, 20)), faults=[Reissued("/metrics/", to_midnight)]
    ) as ex:
        delivery = get(source_of(ex, tmp_path), wanted, ex.now)
        assert_same(ex, wanted, delivery.frame)
        first, second, *_ = delivery.origins
        assert ["2024-01-31.zip", "2024-02-01.zip"] == [one.name[-14:] for one in (first, second)]
        assert (first.start, first.end) == (wanted.start, wanted.start + timedelta(minutes=5))


def test_open_interest_older_than_rest_reaches_is_absent_not_asked(tmp_path):
    wanted = Slice.of_month(Dataset.UM_OPEN_INTEREST, "BTCUSDT", "2024-01")
    with exchange(datasets=tuple(Dataset), faults=[Status("/daily/metrics/", 404)]) as ex:
        delivery = get(source_of(ex, tmp_path), wanted)
        assert (delivery.frame.height, [one.sha256 for one in delivery.origins]) == (0, [None])
        assert ex.count("openInterestHist") == 0


def test_the_open_candle_is_left_out_however_much_later_it_is_read(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        source.prepare([MARCH], as_of=NOW)
        rows = source.fetch(MARCH, as_of=NOW + DAY).frame
        assert_same(ex, MARCH, rows)
        assert rows["open_at"].max() == datetime(2024, 3, 5, 9, 45, tzinfo=UTC)


def test_a_candle_that_the_exchanges_own_clock_has_not_closed_is_left_out(tmp_path):
    with exchange(date=NOW - timedelta(minutes=30)) as ex:
        rows = get(source_of(ex, tmp_path), MARCH).frame
        assert rows["open_at"].max() == datetime(2024, 3, 5, 9, 15, tzinfo=UTC)


def test_an_earlier_as_of_sees_less(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        source.prepare([JANUARY], as_of=NOW)
        as_of = utc(date(2024, 1, 10))
        assert source.fetch(JANUARY, as_of=as_of).frame["open_at"].max() == as_of - timedelta(minutes=15)
        assert source.fingerprint(JANUARY, as_of=as_of) != source.fingerprint(JANUARY, as_of=NOW)


def test_a_month_ahead_is_not_asked_for(tmp_path):
    wanted = Slice.of_month(UM, "BTCUSDT", "2024-04")
    with exchange() as ex:
        delivery = get(source_of(ex, tmp_path), wanted)
        assert (delivery.frame.height, delivery.origins) == (0, ())
        assert {"/fapi/v1/exchangeInfo"} == {one.path for one in ex.log}


def test_minute_klines_page_through_the_tail(tmp_path):
    now = utc(date(2024, 3, 1)) + timedelta(hours=20, minutes=3)
    with exchange(interval="1m", months=("2024-03",), now=now, page_limit=500) as ex:
        source = source_of(ex, tmp_path, interval="1m")
        assert source.identity == "binance:1m"
        for dataset in (UM, SPOT):
            wanted = Slice.of_month(dataset, "BTCUSDT", "2024-03")
            assert_same(ex, wanted, get(source, wanted, now).frame)
        starts = [int(one.query["startTime"]) for one in ex.log if one.path == "/fapi/v1/klines"]
        assert [0, 500, 1000] == [(start - starts[0]) // 60_000 for start in starts]
        assert 3 == sum(".json" in name and "record" not in name for name in held(tmp_path, "rest/fapi/v1/klines"))


def test_a_fetch_without_prepare_says_so(tmp_path):
    with pytest.raises(SourceError, match="raw_um_ohlcv BTCUSDT 2024-01-01 to 2024-02-01 was not prepared"):
        BinanceSource(BinanceUrls(), tmp_path, as_of=NOW).fetch(JANUARY, as_of=NOW)


def test_an_interval_that_is_not_offered_is_refused(tmp_path):
    with pytest.raises(SourceError, match="use one of 15m, 5m, 1m"):
        BinanceSource(BinanceUrls(), tmp_path, "1h", as_of=NOW)


# --- when symbols traded ---


def test_a_live_symbol_has_a_span_until_now(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        assert source.span(UM, "BTCUSDT") == source.span(SPOT, "BTCUSDT") == (JANUARY.start, NOW)
        assert source.listing(FUNDING, "BTCUSDT") == Listing(JANUARY.start)


def test_a_symbol_listed_in_mid_month_is_not_asked_for_before(tmp_path):
    listed = utc(date(2024, 2, 10)) + timedelta(hours=8)
    with exchange(listings={"BTCUSDT": Listing(listed)}) as ex:
        source = source_of(ex, tmp_path)
        assert source.span(UM, "BTCUSDT") == source.span(SPOT, "BTCUSDT") == (listed, NOW)
        delivery = get(source, JANUARY)
        assert (delivery.frame.height, [(one.name, one.sha256) for one in delivery.origins]) == (
            0,
            [("not listed", None)],
        )
        assert ex.count("2024-01") == 0
        assert_same(ex, FEBRUARY, get(source, FEBRUARY).frame)
        assert ex.count("daily") == 0


@pytest.mark.parametrize("dataset", [UM, SPOT])
def test_a_delisted_symbol_is_found_by_the_months_the_archive_has(tmp_path, dataset):
    life = Listing(utc(date(2022, 5, 3)), utc(date(2022, 9, 20)) + timedelta(hours=9))
    months = [f"2022-{n:02d}" for n in range(1, 13)]
    with exchange(symbols=("OLDUSDT",), months=months, listings={"OLDUSDT": life}) as ex:
        source = source_of(ex, tmp_path)
        assert source.listing(dataset, "OLDUSDT") == life
        n_probes = ex.count(".CHECKSUM")
        assert n_probes < 40
        wanted = Slice.of_month(dataset, "OLDUSDT", "2022-09")
        assert_same(ex, wanted, get(source, wanted).frame)
        assert 0 == get(source, Slice.of_month(dataset, "OLDUSDT", "2022-10")).frame.height
        assert ex.count("klines/OLDUSDT/15m/OLDUSDT-15m-2022-10") <= 1
        ex.log.clear()
        source_of(ex, tmp_path).listing(dataset, "OLDUSDT")
        assert ex.log == []


def test_a_symbol_of_one_market_has_nothing_on_the_other(tmp_path):
    with exchange(datasets=(UM, FUNDING)) as ex:
        source = source_of(ex, tmp_path)
        assert source.span(SPOT, "BTCUSDT") is None
        delivery = get(source, Slice.of_month(SPOT, "BTCUSDT", "2024-01"))
        assert (delivery.frame.height, delivery.origins[0].sha256) == (0, None)


def test_a_symbol_listed_since_the_last_question_is_known_after_ten_minutes(tmp_path):
    born = NOW - timedelta(minutes=30)
    with exchange(symbols=("BTCUSDT",)) as ex:
        source_of(ex, tmp_path).listing(UM, "BTCUSDT")
        ex.symbols, ex.listings = ("BTCUSDT", "NEWUSDT"), {"NEWUSDT": Listing(born)}
        ex.now = NOW + timedelta(minutes=11)
        assert source_of(ex, tmp_path).listing(UM, "NEWUSDT") == Listing(born)


def test_an_unknown_symbol_is_refused_and_one_that_is_no_name_never_asked_for(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        assert "unknown symbol 'BTCUSTD'" in refusal(source, Slice.of_month(UM, "BTCUSTD", "2024-01"))
        ex.log.clear()
        assert "cannot be part of a file name" in refusal(source, Slice(UM, "../../etc", JANUARY.start, JANUARY.end))
        assert ex.log == []


def test_a_mirror_of_files_alone_is_enough_for_history(tmp_path):
    with exchange(faults=[Status("/api/", 404), Status("/fapi/", 404)], now=utc(date(2024, 4, 20))) as ex:
        source = source_of(ex, tmp_path)
        assert source.listing(UM, "BTCUSDT") == Listing(JANUARY.start)
        assert_same(ex, JANUARY, get(source, JANUARY, ex.now).frame)


def test_a_mirror_that_was_left_behind_delists_nothing(tmp_path):
    symbols, faults = ("BTCUSDT", "ETHUSDT"), [Status("/api/", 404), Status("/fapi/", 404)]
    with exchange(symbols=symbols, months=("2023-12", "2024-01"), now=utc(date(2024, 4, 10)), faults=faults) as ex:
        source = source_of(ex, tmp_path)
        listed = Listing(utc(date(2023, 12, 1)))
        assert [listed] * 4 == [source.listing(dataset, name) for dataset in (UM, SPOT) for name in symbols]
        (absent,) = get(source, FEBRUARY, ex.now).origins
        assert (absent.sha256, absent.start, absent.end) == (None, FEBRUARY.start, FEBRUARY.end)
        assert "not listed" != absent.name


@pytest.mark.parametrize(("minutes", "force"), [(11, False), (1, True)])
def test_a_mirror_that_was_down_is_asked_again(tmp_path, minutes, force):
    rest = [Status("/api/", 404), Status("/fapi/", 404)]
    with exchange(faults=[Status("/", 404)]) as ex:
        assert "unknown symbol" in refusal(source_of(ex, tmp_path), JANUARY)
        ex.faults[:] = rest
        ex.now = NOW + timedelta(minutes=minutes)
        assert_same(ex, JANUARY, get(source_of(ex, tmp_path, force=force), JANUARY, ex.now).frame)
