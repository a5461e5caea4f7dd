import resource
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Timer

import pytest

from backtest_assets.errors import SourceError
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.record import RECHECK, TRUST, Record, file_trust, record_from_text, record_to_text

AT = datetime(2024, 3, 5, tzinfo=UTC)
KEY = "data/spot/X-2024-01.zip"
RECORD = Record(
    url="http://x/y", status=200, published_sha256="a" * 64, etag='"e"', n_rows=3, fetched_at=AT, checked_at=AT
)


@pytest.fixture
def inbox(tmp_path):
    return Inbox(tmp_path)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_record_survives_its_text():
    assert record_from_text(record_to_text(RECORD)) == RECORD


def test_a_torn_record_is_none_at_every_length():
    text = record_to_text(RECORD)
    assert [None] * len(text) == [record_from_text(text[:n]) for n in range(len(text))]


def test_what_is_stored_is_read_back_page_by_page(inbox):
    stored = inbox.store(KEY, (b"one", b"two"), RECORD)
    assert (inbox.record(KEY), inbox.read(KEY, stored.sha256)) == (stored, (b"one", b"two"))
    assert (stored.size, stored.n_pages) == (6, 2)


def test_an_absence_is_remembered_without_bytes(inbox, tmp_path):
    inbox.store(KEY, (), replace(RECORD, status=404))
    assert not inbox.record(KEY).is_held
    assert files(tmp_path) == [f"inbox/binance/{KEY}.record.json"]


def test_bytes_without_a_record_were_never_received(inbox, tmp_path):
    path = tmp_path / "inbox" / "binance" / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    assert inbox.record(KEY) is None


def test_bytes_that_changed_on_disk_go_to_quarantine_and_are_as_good_as_not_there(inbox, tmp_path):
    stored = inbox.store(KEY, (b"good",), RECORD)
    (tmp_path / "inbox" / "binance" / KEY).write_bytes(b"evil")
    with pytest.raises(SourceError, match="is not what was received"):
        inbox.read(KEY, stored.sha256)
    assert inbox.record(KEY) is None
    assert [path.read_bytes() for path in (tmp_path / "quarantine").rglob("X-2024-01.zip.????????")] == [b"evil"]


def test_a_newer_version_moves_the_old_one_aside_with_its_record(inbox, tmp_path):
    old = inbox.store(KEY, (b"old",), RECORD)
    new = inbox.store(KEY, (b"new",), RECORD)
    assert inbox.read(KEY, new.sha256) == (b"new",)
    kept = f"inbox/superseded/binance/{KEY}.{old.sha256[:8]}"
    assert [kept, f"{kept}.record.json"] == [name for name in files(tmp_path) if "superseded" in name]
    assert (tmp_path / kept).read_bytes() == b"old"


def test_leftovers_of_a_dead_process_are_removed_and_those_of_a_living_one_stay(inbox, tmp_path):
    folder = (tmp_path / "inbox" / "binance" / KEY).parent
    folder.mkdir(parents=True)
    dead, alive = folder / ".X-2024-01.zip.99999999.part", folder / ".X-2024-01.zip.1.part"
    dead.write_bytes(b"h")
    alive.write_bytes(b"h")
    inbox.store(KEY, (b"new",), RECORD)
    assert (dead.exists(), alive.exists()) == (False, True)


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "a//b", "a/.b", "a/b c", "a/\x00", ""])
def test_only_names_of_the_layout_become_paths(inbox, key):
    with pytest.raises(SourceError, match="cannot be a path"):
        inbox.store(key, (b"x",), RECORD)


def test_answers_are_trusted_for_ten_minutes_and_old_ones_for_a_day():
    assert (TRUST, RECHECK) == (file_trust(AT, AT + timedelta(days=60)), file_trust(AT, AT + timedelta(days=61)))
    due = [RECORD.is_due(TRUST, as_of=AT + timedelta(minutes=n), force=False) for n in (-5, 0, 9, 10)]
    assert [False, False, False, True] == due
    assert not RECORD.is_due(TRUST, as_of=AT, force=True)
    assert RECORD.is_due(TRUST, as_of=AT + timedelta(seconds=1), force=True)


def test_an_answer_of_a_clock_that_was_ahead_is_not_believed():
    due = [RECORD.is_due(TRUST, as_of=AT - age, force=False) for age in (timedelta(minutes=9), TRUST, RECHECK)]
    assert [False, True, True] == due
    assert RECORD.is_due(RECHECK, as_of=AT - timedelta(seconds=1), force=True)


def test_an_absence_never_displaces_bytes(inbox):
    stored = inbox.store(KEY, (b"good",), RECORD)
    absent = inbox.store(KEY, (), replace(RECORD, url="http://mirror/y", status=404, published_sha256=None))
    assert (False, stored) == (absent.is_held, inbox.record(KEY))
    assert inbox.read(KEY, stored.sha256) == (b"good",)


def test_what_another_process_is_storing_is_looked_at_again_before_it_is_condemned(inbox, tmp_path):
    stored = inbox.store(KEY, (b"good",), RECORD)
    path = tmp_path / "inbox" / "binance" / KEY
    for ask, expected in ((inbox.record, stored), (lambda key: inbox.read(key, stored.sha256), (b"good",))):
        path.unlink()
        Timer(0.02, path.write_bytes, [b"good"]).start()
        assert expected == ask(KEY)


def test_a_file_that_comes_again_with_the_same_bytes_is_never_away(inbox, tmp_path):
    stored = inbox.store(KEY, (b"good",), RECORD)
    before = (tmp_path / f"inbox/binance/{KEY}.record.json").stat().st_ino
    inbox._supersede(KEY, stored)
    assert before == (tmp_path / f"inbox/binance/{KEY}.record.json").stat().st_ino


@pytest.mark.parametrize("published", [None, "a" * 64])
def test_what_another_process_has_moved_aside_need_not_be_moved(inbox, tmp_path, published):
    stored = inbox.store(KEY, (b"old",), RECORD)
    (tmp_path / "inbox" / "binance" / KEY).unlink()
    inbox._supersede(KEY, replace(stored, sha256="b" * 64, published_sha256=published))
    inbox._supersede(KEY, replace(stored, sha256="b" * 64, published_sha256=published))
    assert inbox.record(KEY) is None


def test_a_file_that_there_is_no_room_for_leaves_nothing_half_written(inbox, tmp_path):
    inbox.store("data/spot/other.zip", (b"small",), RECORD)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            inbox.store(KEY, (b"x" * 200_000,), RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [] == list(tmp_path.rglob("*.part"))


# Stores three versions and dies at the n-th time it opens, renames or removes something below the root.
DIES = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.record import Record
root, left = sys.argv[1], int(sys.argv[2])
def hook(event, arguments):
    global left
    if event in ("open", "os.rename", "os.remove") and str(arguments[0]).startswith(root):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
at = datetime(2024, 3, 5, tzinfo=UTC)
for version in (b"one", b"two", b"three"):
    record = Record(url="http://x/y", status=200, published_sha256="a" * 64, fetched_at=at, checked_at=at)
    Inbox(Path(root)).store("data/spot/X-2024-01.zip", (version, version), record)
"""


def test_killed_at_any_file_operation_the_inbox_has_a_whole_version_or_none_and_goes_on(tmp_path):
    for n in count():
        root = tmp_path / str(n)
        done = subprocess.run([sys.executable, "-c", DIES, str(root), str(n)], check=False)
        inbox = Inbox(root)
        record = inbox.record(KEY)
        if record is not None:
            assert inbox.read(KEY, record.sha256) in [(version, version) for version in (b"one", b"two", b"three")]
        again = inbox.store(KEY, (b"four",), RECORD)
        assert inbox.read(KEY, again.sha256) == (b"four",)
        assert list(root.rglob("*.part")) == []
        assert list((root / "quarantine").rglob("*")) == []
        if done.returncode == 0:
            assert n > 20
            return
