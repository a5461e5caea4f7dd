"""Faults: what the operator sees, what is stored, and that a second attempt completes."""

import json
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import utc
from backtest_assets.domain.market import Listing
from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Slice
from backtest_assets_tests.archive_files import kline_zip
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
    out_of_order_rows,
    path_in_member,
    truncated_zip,
    two_members,
    without,
    zip_bomb,
)
from backtest_assets_tests.sources.loopback import (
    DAY,
    FEBRUARY,
    FUNDING,
    JANUARY,
    JANUARY_DAYS,
    JANUARY_ZIP,
    LATER,
    MARCH,
    SPOT,
    UM,
    assert_same,
    get,
    held,
    refusal,
    source_of,
)

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
        assert_same(ex, FEBRUARY, source.fetch(FEBRUARY, as_of=NOW).frame)
        assert held(tmp_path, "2024-01") == []
        assert_completes(ex, tmp_path, FEBRUARY)


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
        assert_completes(ex, tmp_path, FEBRUARY)


def test_a_wrong_checksum_once_is_fetched_again(tmp_path):
    with exchange(faults=[WrongChecksum(JANUARY_ZIP, times=1)]) as ex:
        assert_same(ex, JANUARY, get(source_of(ex, tmp_path), JANUARY).frame)
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
        assert_completes(ex, tmp_path, FEBRUARY)


def test_a_file_without_a_checksum_is_not_used(tmp_path):
    with exchange(faults=[Status(f"{JANUARY_ZIP}.CHECKSUM", 404)]) as ex:
        assert "has no .CHECKSUM beside it, so it cannot be verified" in refusal(source_of(ex, tmp_path), JANUARY)
        assert held(tmp_path, "2024-01") == []
        assert_completes(ex, tmp_path)


def assert_completes(ex, root, *good: Slice) -> None:
    """A second attempt with the fault gone gets January, and downloads nothing again that was good."""
    ex.faults.clear()
    ex.log.clear()
    assert_same(ex, JANUARY, get(source_of(ex, root), JANUARY).frame)
    source = source_of(ex, root)
    source.prepare([JANUARY, *good], as_of=NOW)
    assert [f"/data/futures/{JANUARY_ZIP}"] == ex.bodies(".zip")
    for one in good:
        assert_same(ex, one, source.fetch(one, as_of=NOW).frame)


def test_a_month_that_is_not_there_is_made_of_its_days(tmp_path):
    with exchange(faults=[Status(JANUARY_ZIP, 404)]) as ex:
        delivery = get(source_of(ex, tmp_path), JANUARY)
        assert_same(ex, JANUARY, delivery.frame)
        assert 31 == len(delivery.origins)
        assert ex.count("/fapi/v1/klines") == 0


def test_days_that_no_file_is_about_come_from_rest_and_say_so(tmp_path):
    with exchange(faults=[Status(JANUARY_ZIP, 404), Status(f"{JANUARY_DAYS}-1", 404)]) as ex:
        delivery = get(source_of(ex, tmp_path), JANUARY)
        assert_same(ex, JANUARY, delivery.frame)
        assert 10 == sum(one.name.startswith("rest/") for one in delivery.origins)
        ex.log.clear()
        ex.faults.clear()
        again = get(source_of(ex, tmp_path), JANUARY, LATER)
        assert_same(ex, JANUARY, again.frame)
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
        assert_same(ex, JANUARY, delivery.frame)
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
            assert_same(ex, wanted, rows)
            assert (n_rows, n_rows) == (rows.height, rows["open_at"].n_unique())
            assert rows["open_at"].is_sorted()


def test_a_day_repeated_shows_as_duplicates_and_its_victim_comes_from_its_own_file(tmp_path):
    with exchange(faults=[day_repeated(JANUARY_ZIP, utc(date(2024, 1, 7)))]) as ex:
        rows = get(source_of(ex, tmp_path), JANUARY).frame
        assert 2976 + 96 == rows.height
        assert_same(ex, JANUARY, rows.unique(maintain_order=True))


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
        assert_same(ex, MARCH, get(source_of(ex, tmp_path), MARCH).frame)


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
