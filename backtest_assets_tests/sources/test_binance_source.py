import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import utc
from backtest_assets.domain.market import Listing
from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Dataset, Slice
from backtest_assets.sources.binance.source import BinanceSource
from backtest_assets.sources.binance.urls import BinanceUrls
from backtest_assets_tests.archive_files import REQUIRED, kline_zip, made_rows, member_zip, metrics_csv
from backtest_assets_tests.exchange import NOW, QUICK, exchange
from backtest_assets_tests.exchange_faults import (
    OtherRows,
    Reissued,
    Reset,
    SlowDrip,
    Status,
    WrongChecksum,
    day_repeated,
    duplicate_rows,
    header_change,
    more_volume,
    out_of_order_rows,
    path_in_member,
    truncated_zip,
    two_members,
    without,
    zip_bomb,
)

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


def same(ex, wanted, frame) -> None:
    assert_frame_equal(ex.closed(wanted.dataset, wanted.symbol, wanted.start, wanted.end), frame)


# --- what is served ---


@pytest.mark.parametrize("dataset", REQUIRED)
@pytest.mark.parametrize("month", ["2024-01", "2024-02", "2024-03"])
def test_every_month_comes_out_as_the_exchange_has_it(tmp_path, dataset, month):
    wanted = Slice.of_month(dataset, "BTCUSDT", month)
    with exchange() as ex:
        delivery = get(source_of(ex, tmp_path), wanted)
        same(ex, wanted, delivery.frame)
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
        same(ex, wanted, get(source_of(ex, tmp_path), wanted).frame)
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
        same(ex, wanted, delivery.frame)
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
        same(ex, MARCH, rows)
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
            same(ex, wanted, get(source, wanted, now).frame)
        starts = [int(one.query["startTime"]) for one in ex.log if one.path == "/fapi/v1/klines"]
        assert [0, 500, 1000] == [(start - starts[0]) // 60_000 for start in starts]
        assert 3 == sum(".json" in name and "record" not in name for name in held(tmp_path, "rest/fapi/v1/klines"))


def test_a_fetch_without_prepare_says_so(tmp_path):
    with pytest.raises(SourceError, match="raw_um_ohlcv BTCUSDT 2024-01-01 to 2024-02-01 was not prepared"):
        BinanceSource(BinanceUrls(), tmp_path, as_of=NOW).fetch(JANUARY, as_of=NOW)


def test_an_interval_that_is_not_offered_is_refused(tmp_path):
    with pytest.raises(SourceError, match="use one of 15m, 5m, 1m"):
        BinanceSource(BinanceUrls(), tmp_path, "1h", as_of=NOW)


# --- what is kept, trusted and asked again ---


def test_a_rerun_asks_nothing_for_ten_minutes_then_only_whether_something_is_new(tmp_path):
    slices = [
        Slice.of_month(dataset, "BTCUSDT", month) for dataset in REQUIRED for month in ("2024-01", "2024-02", "2024-03")
    ]
    with exchange() as ex:
        source_of(ex, tmp_path).prepare(slices, as_of=NOW)
        ex.log.clear()
        source_of(ex, tmp_path).prepare(slices, as_of=NOW + timedelta(minutes=9))
        assert ex.log == []
        source_of(ex, tmp_path).prepare(slices, as_of=NOW + timedelta(minutes=11))
        assert ex.bodies(".zip") == []
        assert all(one.is_conditional and one.status == 304 for one in ex.log if "CHECKSUM" in one.path)


def test_an_old_month_is_asked_about_daily_an_absent_one_too_and_force_asks_at_once(tmp_path):
    with exchange(faults=[Status("2024-02", 404)], now=utc(date(2024, 12, 1))) as ex:

        def asked(hours, *, force=False) -> tuple[int, int]:
            ex.log.clear()
            source_of(ex, tmp_path, force=force).prepare([JANUARY, FEBRUARY], as_of=ex.now + timedelta(hours=hours))
            return ex.count("2024-01.zip"), ex.count("2024-02")

        assert asked(0) == (2, 1 + 29)
        assert asked(23) == (0, 0)
        assert asked(23.5, force=True) == (1, 30)
        assert asked(47) == (0, 0)
        assert asked(48) == (1, 30)


def test_a_reissued_file_replaces_the_old_one_which_is_kept(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        before, first = get(source, JANUARY).frame, source.fingerprint(JANUARY, as_of=NOW)
        ex.faults.append(more_volume("2024-01.zip"))
        ex.log.clear()
        after = get(source, JANUARY, LATER).frame
        assert_frame_equal(before.with_columns(pl.col("volume_base") + 1.0), after)
        assert source.fingerprint(JANUARY, as_of=LATER) != first
        assert len(ex.bodies("2024-01.zip")) == 1
        (kept, record) = held(tmp_path, "superseded")
        assert record == f"{kept}.record.json"


def test_a_new_checksum_request_with_the_same_sum_downloads_nothing(tmp_path):
    with exchange() as ex:
        get(source_of(ex, tmp_path), JANUARY)
        record = next(tmp_path.rglob("*2024-01.zip.record.json"))
        record.write_text(record.read_text().replace('"etag": "', '"etag": "x'))
        ex.log.clear()
        same(ex, JANUARY, get(source_of(ex, tmp_path), JANUARY, LATER).frame)
        assert ex.bodies(".zip") == []


def test_the_record_tells_where_a_file_came_from_and_the_inbox_is_an_archive_of_its_own(tmp_path):
    with exchange() as ex:
        get(source_of(ex, tmp_path), JANUARY)
        path = tmp_path / "inbox/binance/data/futures" / JANUARY_ZIP
        record = json.loads(path.with_name(f"{path.name}.record.json").read_text())
        assert (record["url"], record["status"], record["size"]) == (
            f"{ex.base}/data/futures/{JANUARY_ZIP}",
            200,
            path.stat().st_size,
        )
        assert (
            record["sha256"] == record["published_sha256"] == path.with_name(f"{path.name}.CHECKSUM").read_text()[:64]
        )
        assert record["fetched_at"] == NOW.isoformat()
        assert record["n_rows"] == 2976


def test_a_file_edited_in_the_inbox_is_not_served_and_comes_anew(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        get(source, JANUARY)
        path = tmp_path / "inbox/binance/data/futures" / JANUARY_ZIP
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(SourceError, match="is not what was received"):
            source.fetch(JANUARY, as_of=NOW)
        same(ex, JANUARY, get(source, JANUARY).frame)
        assert any("2024-01.zip" in name for name in held(tmp_path, "quarantine"))


def test_a_file_deleted_from_the_inbox_comes_anew(tmp_path):
    with exchange() as ex:
        get(source_of(ex, tmp_path), JANUARY)
        path = tmp_path / "inbox/binance/data/futures" / JANUARY_ZIP
        received = path.read_bytes()
        path.unlink()
        ex.log.clear()
        same(ex, JANUARY, get(source_of(ex, tmp_path), JANUARY).frame)
        assert [f"/data/futures/{JANUARY_ZIP}"] == ex.bodies()
        assert received == path.read_bytes()
        assert [path.name, f"{path.name}.CHECKSUM", f"{path.name}.record.json"] == held(tmp_path, "2024-01")


def test_another_mirror_is_not_taken_for_the_one_that_was_asked(tmp_path):
    with exchange() as ex, exchange(seed=1) as other:
        first = get(source_of(ex, tmp_path), JANUARY)
        ex.log.clear()
        second = get(source_of(other, tmp_path), JANUARY)
        same(other, JANUARY, second.frame)
        assert not first.frame.equals(second.frame)
        assert ([], [f"/data/futures/{JANUARY_ZIP}"]) == (ex.log, other.bodies(".zip"))
        (kept, record) = held(tmp_path, "superseded")
        (before,), (now,) = first.origins, second.origins
        assert before.sha256 is not None
        assert (f"{Path(JANUARY_ZIP).name}.{before.sha256[:8]}", f"{kept}.record.json") == (kept, record)
        stored = tmp_path / "inbox/binance/data/futures" / JANUARY_ZIP
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == now.sha256


def test_a_mirror_that_lacks_a_file_costs_nothing_that_another_gave(tmp_path):
    with exchange() as ex, exchange(faults=[Status("/monthly/", 404)]) as other:
        for hours, each in enumerate((ex, other, ex)):
            each.now = NOW + timedelta(hours=hours)
            each.log.clear()
            same(each, JANUARY, get(source_of(each, tmp_path), JANUARY, each.now).frame)
        assert [] == ex.bodies(".zip")


def test_what_was_asked_while_the_clock_was_ahead_is_asked_again(tmp_path):
    with exchange(faults=[Status("2024-02.zip", 404)], now=NOW + 365 * DAY) as ex:
        assert 29 == len(get(source_of(ex, tmp_path), FEBRUARY, ex.now).origins)
        ex.faults.clear()
        ex.now = NOW
        assert 1 == len(get(source_of(ex, tmp_path), FEBRUARY).origins)


def test_the_fingerprint_of_an_open_month_changes_with_a_closed_candle_and_not_before(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)

        def fingerprint(minutes) -> str:
            ex.now = NOW + timedelta(minutes=minutes)
            source.prepare([MARCH], as_of=ex.now)
            return source.fingerprint(MARCH, as_of=ex.now)

        first = fingerprint(0)
        ex.faults.append(more_volume("none"))
        assert first != fingerprint(11)  # 10:18, the candle of 10:00 has closed
        assert fingerprint(11) == fingerprint(21)  # 10:28, asked again: the next has not


def test_a_day_from_rest_gives_way_to_its_file(tmp_path):
    with exchange() as ex:
        source = source_of(ex, tmp_path)
        get(source, MARCH)
        ex.now = utc(date(2024, 3, 6)) + timedelta(hours=5)
        delivery = get(source, MARCH, ex.now)
        same(ex, MARCH, delivery.frame)
        assert ["BTCUSDT-15m-2024-03-05.zip", "20240306-20240307.json"] == [
            one.name.rsplit("/", 1)[1] for one in delivery.origins[-2:]
        ]


# --- faults: what the operator sees, what is stored, and that a second attempt completes ---

PASSING = {
    "500 storm": Status(JANUARY_ZIP, 500),
    "reset mid-body": Reset(JANUARY_ZIP),
    "slow drip": SlowDrip(JANUARY_ZIP),
    "429 for good": Status(JANUARY_ZIP, 429, Retry_After="0"),
    "banned": Status(JANUARY_ZIP, 418, Retry_After="86400"),
    "forbidden": Status(JANUARY_ZIP, 403),
}
SEEN = {
    "500 storm": "no answer in up to 3 attempts, at last status 500",
    "reset mid-body": "no answer in up to 3 attempts, at last ReadError",
    "slow drip": "no answer in up to 3 attempts, at last TimeoutError",
    "429 for good": "at last status 429, 0 s of pause asked for",
    "banned": "status 418, the host asks for a pause of 86,400 s",
    "forbidden": "the host does not serve this machine",
}


@pytest.mark.parametrize("name", PASSING)
def test_trouble_on_the_way_fails_its_slice_alone_and_leaves_nothing(tmp_path, name):
    patience = replace(QUICK, total_s=0.3, budget_s=1.5)
    with exchange(faults=[PASSING[name]]) as ex:
        source = source_of(ex, tmp_path, patience=patience)
        source.prepare([JANUARY, FEBRUARY], as_of=NOW)
        with pytest.raises(SourceError, match=SEEN[name]):
            source.fetch(JANUARY, as_of=NOW)
        with pytest.raises(SourceError, match=r"2024-01\.zip"):
            source.fingerprint(JANUARY, as_of=NOW)
        same(ex, FEBRUARY, source.fetch(FEBRUARY, as_of=NOW).frame)
        assert held(tmp_path, "2024-01") == []
        completes(ex, tmp_path, FEBRUARY)


BROKEN = {
    "truncated zip": (truncated_zip(JANUARY_ZIP), "is no whole zip"),
    "zip bomb": (zip_bomb(JANUARY_ZIP), "unpack to .*bomb"),
    "two members": (two_members(JANUARY_ZIP), r"\(2 members\), wanted exactly BTCUSDT-15m-2024-01.csv"),
    "path in a member name": (path_in_member(JANUARY_ZIP), r"holds '\.\./\.\./BTCUSDT-15m-2024-01.csv'"),
    "header change": (header_change(JANUARY_ZIP), "n_fills"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_used_goes_to_quarantine_and_comes_anew(tmp_path, name):
    fault, seen = BROKEN[name]
    with exchange(faults=[fault]) as ex:
        source = source_of(ex, tmp_path)
        source.prepare([JANUARY, FEBRUARY], as_of=NOW)
        with pytest.raises(
            SourceError, match=rf"2024-01.zip: fits its checksum but cannot be used: .*{seen}.*; kept at "
        ):
            source.fetch(JANUARY, as_of=NOW)
        assert held(tmp_path, "inbox/binance/data/futures/um/monthly/klines/BTCUSDT/15m/BTCUSDT-15m-2024-01") == []
        reasons = list((tmp_path / "quarantine/inbox").rglob("*.json"))
        assert json.loads(reasons[0].read_text())["url"].endswith(JANUARY_ZIP)
        assert len(held(tmp_path, "quarantine")) == 2
        assert len(list(tmp_path.parent.rglob("BTCUSDT-15m-2024-01.csv"))) == 0
        completes(ex, tmp_path, FEBRUARY)


def test_a_wrong_checksum_once_is_fetched_again(tmp_path):
    with exchange(faults=[WrongChecksum(JANUARY_ZIP, times=1)]) as ex:
        same(ex, JANUARY, get(source_of(ex, tmp_path), JANUARY).frame)
        assert len(ex.bodies("2024-01.zip")) == 2
        assert len(held(tmp_path, "quarantine")) == 2


def test_a_wrong_checksum_always_names_file_sums_place_and_what_to_do(tmp_path):
    with exchange(faults=[WrongChecksum(JANUARY_ZIP)]) as ex:
        source = source_of(ex, tmp_path)
        source.prepare([JANUARY, FEBRUARY], as_of=NOW)
        with pytest.raises(SourceError) as caught:
            source.fetch(JANUARY, as_of=NOW)
        text = str(caught.value)
        (bad, _) = held(tmp_path, "quarantine")
        assert [True] * 4 == [part in text for part in (JANUARY_ZIP, "downloaded 2 times", bad, "run again later")]
        assert 2 == len({word for word in text.split() if len(word) == 64})
        assert len(ex.bodies("2024-01.zip")) == 2
        completes(ex, tmp_path, FEBRUARY)


def test_a_file_without_a_checksum_is_not_used(tmp_path):
    with exchange(faults=[Status(f"{JANUARY_ZIP}.CHECKSUM", 404)]) as ex:
        assert "has no .CHECKSUM beside it, so it cannot be verified" in refusal(source_of(ex, tmp_path), JANUARY)
        assert held(tmp_path, "2024-01") == []
        completes(ex, tmp_path)


def completes(ex, root, *good: Slice) -> None:
    """A second attempt with the fault gone gets January, and downloads nothing again that was good."""
    ex.faults.clear()
    ex.log.clear()
    same(ex, JANUARY, get(source_of(ex, root), JANUARY).frame)
    source = source_of(ex, root)
    source.prepare([JANUARY, *good], as_of=NOW)
    assert [f"/data/futures/{JANUARY_ZIP}"] == ex.bodies(".zip")
    for one in good:
        same(ex, one, source.fetch(one, as_of=NOW).frame)


def test_a_month_that_is_not_there_is_made_of_its_days(tmp_path):
    with exchange(faults=[Status(JANUARY_ZIP, 404)]) as ex:
        delivery = get(source_of(ex, tmp_path), JANUARY)
        same(ex, JANUARY, delivery.frame)
        assert 31 == len(delivery.origins)
        assert ex.count("/fapi/v1/klines") == 0


def test_days_that_no_file_is_about_come_from_rest_and_say_so(tmp_path):
    with exchange(faults=[Status(JANUARY_ZIP, 404), Status(f"{JANUARY_DAYS}-1", 404)]) as ex:
        delivery = get(source_of(ex, tmp_path), JANUARY)
        same(ex, JANUARY, delivery.frame)
        assert 10 == sum(one.name.startswith("rest/") for one in delivery.origins)
        ex.log.clear()
        ex.faults.clear()
        again = get(source_of(ex, tmp_path), JANUARY, LATER)
        same(ex, JANUARY, again.frame)
        assert (1, 1) == (len(again.origins), len(ex.bodies("2024-01")))


def test_days_that_nobody_has_are_told_as_absent(tmp_path):
    days = [Status(f"{JANUARY_DAYS}-{n:02d}", 404) for n in (7, 8)]
    start, end = utc(date(2024, 1, 7)), utc(date(2024, 1, 9))
    nobody = without("/fapi/v1/klines", start, end)
    with exchange(faults=[Status(JANUARY_ZIP, 404), *days, nobody]) as ex:
        delivery = get(source_of(ex, tmp_path), JANUARY)
        (absent,) = [one for one in delivery.origins if one.sha256 is None]
        assert (absent.start, absent.end) == (start, end)
        true = ex.closed(UM, "BTCUSDT", JANUARY.start, JANUARY.end)
        assert_frame_equal(true.filter(~pl.col("open_at").is_between(start, end, closed="left")), delivery.frame)


def test_days_that_the_month_lacks_come_from_their_files(tmp_path):
    with exchange(faults=[without(JANUARY_ZIP, utc(date(2024, 1, 7)), utc(date(2024, 1, 9)))]) as ex:
        delivery = get(source_of(ex, tmp_path), JANUARY)
        same(ex, JANUARY, delivery.frame)
        assert ["2024-01.zip", "2024-01-07.zip", "2024-01-08.zip"] == [
            one.name[len("data/futures/um/monthly/klines/BTCUSDT/15m/BTCUSDT-15m-") :]
            if "monthly" in one.name
            else one.name.rsplit("15m-", 1)[1]
            for one in delivery.origins
        ]


def test_a_day_without_a_row_does_not_spoil_the_month_beside_it(tmp_path):
    start = utc(date(2024, 1, 10))
    with exchange(faults=[without("2024-01", start, start + DAY)]) as ex:
        ex.faults.append(Reissued(f"{JANUARY_DAYS}-10", lambda file, _: kline_zip(file, UM.table.empty())))
        delivery = get(source_of(ex, tmp_path), JANUARY)
        assert 2976 - 96 == delivery.frame.height
        month, day = delivery.origins
        assert (True, None, start) == (month.sha256 is not None, day.sha256, day.start)
        assert 2 == len(held(tmp_path, "quarantine"))


def test_a_day_that_cannot_be_had_still_fails_the_month_that_is_short_of_it(tmp_path):
    start = utc(date(2024, 1, 10))
    with exchange(faults=[without(JANUARY_ZIP, start, start + DAY), Status(f"{JANUARY_DAYS}-10", 500)]) as ex:
        assert "at last status 500" in refusal(source_of(ex, tmp_path), JANUARY)


def test_an_outage_that_days_and_month_agree_on_stays_a_hole(tmp_path):
    start = utc(date(2024, 1, 7)) + timedelta(hours=3)
    with exchange(faults=[without("2024-01", start, start + timedelta(hours=2))]) as ex:
        delivery = get(source_of(ex, tmp_path), JANUARY)
        assert 2976 - 8 == delivery.frame.height
        assert ex.count("/fapi/v1/klines") == 0


def test_duplicate_rows_are_kept_for_the_gates(tmp_path):
    with exchange(faults=[duplicate_rows(JANUARY_ZIP)]) as ex:
        rows = get(source_of(ex, tmp_path), JANUARY).frame
        assert (2979, 2976) == (rows.height, rows["open_at"].n_unique())
        assert rows["open_at"].is_sorted()


def test_rows_out_of_order_are_put_in_order(tmp_path):
    with exchange(faults=[out_of_order_rows("klines")]) as ex:
        source = source_of(ex, tmp_path)
        for wanted, n_rows in ((JANUARY, 2976), (MARCH, 424)):
            rows = get(source, wanted).frame
            same(ex, wanted, rows)
            assert (n_rows, n_rows) == (rows.height, rows["open_at"].n_unique())
            assert rows["open_at"].is_sorted()


def test_a_day_repeated_shows_as_duplicates_and_its_victim_comes_from_its_own_file(tmp_path):
    with exchange(faults=[day_repeated(JANUARY_ZIP, utc(date(2024, 1, 7)))]) as ex:
        rows = get(source_of(ex, tmp_path), JANUARY).frame
        assert 2976 + 96 == rows.height
        same(ex, JANUARY, rows.unique(maintain_order=True))


def test_rest_rows_of_another_time_are_refused(tmp_path):
    def late(rows) -> pl.DataFrame:
        return rows.with_columns(pl.col("open_at") - timedelta(days=60))

    with exchange(faults=[OtherRows("/fapi/v1/klines", late)]) as ex:
        assert "does not page as documented" in refusal(source_of(ex, tmp_path), MARCH)


def test_an_answer_that_is_no_list_is_refused(tmp_path):
    with exchange(faults=[Status("/fapi/v1/klines", 200, body=b"<html>log in</html>")]) as ex:
        assert "b'<html>log in</html>' is not a JSON list of rows; check the base URL" in refusal(
            source_of(ex, tmp_path), MARCH
        )


def test_a_window_whose_second_page_is_not_there_is_refused(tmp_path):
    class FromSecond(Status):
        def strikes(self, path) -> bool:
            return super().strikes(path) and ex.count("/fapi/v1/klines") > 0

    with exchange(page_limit=20, faults=[FromSecond("/fapi/v1/klines", 404)]) as ex:
        assert "20 rows, then nothing" in refusal(source_of(ex, tmp_path), MARCH)
        ex.faults.clear()
        same(ex, MARCH, get(source_of(ex, tmp_path), MARCH).frame)


def test_a_settlement_that_rest_skips_is_a_hole_in_the_month_and_not_its_end(tmp_path):
    wanted, skipped = Slice.of_month(FUNDING, "BTCUSDT", "2024-03"), utc(date(2024, 3, 2)) + timedelta(hours=8)
    with exchange(faults=[without("fundingRate", skipped, skipped + timedelta(hours=1))]) as ex:
        true = ex.closed(FUNDING, "BTCUSDT", wanted.start, wanted.end).filter(pl.col("settled_at") != skipped)
        assert_frame_equal(true, get(source_of(ex, tmp_path), wanted).frame)


@pytest.mark.parametrize(
    ("dataset", "where"), [(UM, "/fapi/v1/exchangeInfo"), (SPOT, "exchangeInfo"), (SPOT, "klines")]
)
def test_an_answer_that_cannot_be_read_is_not_kept(tmp_path, dataset, where):
    with exchange(faults=[Status(where, 200, body=b"<html>log in</html>")]) as ex:
        with pytest.raises(SourceError, match=r"<html>|not JSON"):
            source_of(ex, tmp_path).listing(dataset, "BTCUSDT")
        ex.faults.clear()
        assert source_of(ex, tmp_path).listing(dataset, "BTCUSDT") == Listing(JANUARY.start)


def test_a_full_disk_or_a_closed_folder_fails_the_slice_and_says_what_to_do(tmp_path):
    (tmp_path / "inbox").write_text("a file where a folder should be")
    with exchange() as ex:
        assert "the inbox cannot be used" in refusal(source_of(ex, tmp_path), JANUARY)
        for ask in (source_of(ex, tmp_path).listing, source_of(ex, tmp_path).span):
            with pytest.raises(SourceError, match=r"raw_um_ohlcv BTCUSDT: the inbox cannot be used .*; make room"):
                ask(UM, "BTCUSDT")


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
        same(ex, FEBRUARY, get(source, FEBRUARY).frame)
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
        same(ex, wanted, get(source, wanted).frame)
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
        same(ex, JANUARY, get(source, JANUARY, ex.now).frame)


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
        same(ex, JANUARY, get(source_of(ex, tmp_path, force=force), JANUARY, ex.now).frame)


# --- many at once, and killed ---


def test_many_slices_come_at_once_but_no_more_than_eight_requests_at_a_time(tmp_path):
    symbols = ("BTCUSDT", "ETHUSDT")
    slices = [
        Slice.of_month(dataset, symbol, month)
        for symbol in symbols
        for dataset in REQUIRED
        for month in ("2024-01", "2024-02")
    ]
    with exchange(symbols=symbols, delay_s=0.01) as ex:
        source = source_of(ex, tmp_path)
        source.prepare([*slices, *slices], as_of=NOW)
        assert 12 == len(ex.bodies(".zip"))
        assert 4 <= ex.most_at_once <= 8
        for one in slices:
            same(ex, one, source.fetch(one, as_of=NOW).frame)


CHILD = """
import sys
from datetime import datetime
from pathlib import Path
from backtest_assets.sources.base import Dataset, Slice
from backtest_assets.sources.binance.source import BinanceSource
from backtest_assets.sources.binance.urls import BinanceUrls
base, root, now = sys.argv[1:]
now = datetime.fromisoformat(now)
source = BinanceSource(BinanceUrls(base, base, base), Path(root), as_of=now)
print("ready", flush=True)
source.prepare([Slice.of_month(Dataset.UM_OHLCV, "BTCUSDT", m) for m in ("2024-01", "2024-02", "2024-03")], as_of=now)
"""


@pytest.mark.parametrize("n_requests", [1, 20, 50, 68])
def test_killed_at_any_moment_a_second_attempt_completes_and_repeats_no_whole_file(tmp_path, n_requests):
    with exchange(faults=[Status("/monthly/klines/BTCUSDT/15m/BTCUSDT-15m-2024-02", 404)], delay_s=0.01) as ex:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, ex.base, str(tmp_path), NOW.isoformat()], stdout=subprocess.PIPE
        )
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            deadline = time.monotonic() + 20
            while len(ex.log) < n_requests and time.monotonic() < deadline:
                time.sleep(0.001)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        assert len(ex.log) >= n_requests
        whole = {path.name.removesuffix(".record.json") for path in tmp_path.rglob("*.zip.record.json")}
        time.sleep(0.1)
        ex.log.clear()
        source = source_of(ex, tmp_path)
        for wanted in (JANUARY, FEBRUARY, MARCH):
            same(ex, wanted, get(source, wanted).frame)
        assert not whole & {path.rsplit("/", 1)[1] for path in ex.bodies(".zip")}
        assert list(tmp_path.rglob("*.part")) == []
