"""What is kept, trusted and asked again; by many at once, and after a kill."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import utc
from backtest_assets.errors import SourceError
from backtest_assets.sources.base import Slice
from backtest_assets_tests.archive_files import REQUIRED
from backtest_assets_tests.exchange import NOW, exchange
from backtest_assets_tests.exchange_faults import Status, more_volume
from backtest_assets_tests.sources.loopback import (
    DAY,
    FEBRUARY,
    JANUARY,
    JANUARY_ZIP,
    LATER,
    MARCH,
    assert_same,
    get,
    held,
    source_of,
)


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
        assert_same(ex, JANUARY, get(source_of(ex, tmp_path), JANUARY, LATER).frame)
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
        assert_same(ex, JANUARY, get(source, JANUARY).frame)
        assert any("2024-01.zip" in name for name in held(tmp_path, "quarantine"))


def test_a_file_deleted_from_the_inbox_comes_anew(tmp_path):
    with exchange() as ex:
        get(source_of(ex, tmp_path), JANUARY)
        path = tmp_path / "inbox/binance/data/futures" / JANUARY_ZIP
        received = path.read_bytes()
        path.unlink()
        ex.log.clear()
        assert_same(ex, JANUARY, get(source_of(ex, tmp_path), JANUARY).frame)
        assert [f"/data/futures/{JANUARY_ZIP}"] == ex.bodies()
        assert received == path.read_bytes()
        assert [path.name, f"{path.name}.CHECKSUM", f"{path.name}.record.json"] == held(tmp_path, "2024-01")


def test_another_mirror_is_not_taken_for_the_one_that_was_asked(tmp_path):
    with exchange() as ex, exchange(seed=1) as other:
        first = get(source_of(ex, tmp_path), JANUARY)
        ex.log.clear()
        second = get(source_of(other, tmp_path), JANUARY)
        assert_same(other, JANUARY, second.frame)
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
            assert_same(each, JANUARY, get(source_of(each, tmp_path), JANUARY, each.now).frame)
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
        assert_same(ex, MARCH, delivery.frame)
        assert ["BTCUSDT-15m-2024-03-05.zip", "20240306-20240307.json"] == [
            one.name.rsplit("/", 1)[1] for one in delivery.origins[-2:]
        ]


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
            assert_same(ex, one, source.fetch(one, as_of=NOW).frame)


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
            assert_same(ex, wanted, get(source, wanted).frame)
        assert not whole & {path.rsplit("/", 1)[1] for path in ex.bodies(".zip")}
        assert list(tmp_path.rglob("*.part")) == []
