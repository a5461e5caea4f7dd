import errno
import os
import resource
import shutil
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from backtest_assets.errors import LakeError
from backtest_assets.lake.store import Lake
from backtest_assets_tests.lake.shared import AS_OF, publish, publish_run, stage_run, staging_of, version_read

if TYPE_CHECKING:
    from _typeshed import TraceFunction

TRACED = ("/backtest_assets/lake/", "/shutil.py", "/pathlib.py")
CALLS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock"}
FAULTS = {"armed": False, "root": "", "countdown": 0}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_file_call(n_calls):
    left = n_calls

    def on_event(event: str, _: object) -> None:
        nonlocal left
        if event in CALLS:
            left -= 1
            if left == 0:
                die()

    sys.addaudithook(on_event)


def die_at_line(n_lines):
    left = n_lines

    def on_line(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
        nonlocal left
        if not any(part in frame.f_code.co_filename for part in TRACED):
            return None
        left -= event == "line"
        if left == 0:
            die()
        return on_line

    sys.settrace(on_line)


def killed(lake, staged, version, set_trap, n_steps):
    """Publish in a child that is killed (-9) at its n-th step; return whether it was."""
    child = os.fork()
    if child == 0:
        try:
            set_trap(n_steps)
            publish(lake, staged, version)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


# The child runs plain Python and file calls only, so the threads it did not inherit are not missed.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("old", [None, 1])
@pytest.mark.parametrize(
    ("set_trap", "at_least"), [(die_at_file_call, 20), pytest.param(die_at_line, 400, marks=pytest.mark.slow)]
)
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_version(tmp_path, old, set_trap, at_least):
    seen = []
    for n_steps in range(1, 10_000):
        root = tmp_path / str(n_steps)
        lake = Lake(root)
        if old is not None:
            publish_run(lake, old)
        died = killed(lake, stage_run(lake, 2), 2, set_trap, n_steps)
        seen.append(version_read(Lake(root)))
        publish_run(lake, 3)
        assert version_read(lake) == 3
        shutil.rmtree(root)
        if not died:
            break
    switch = seen.index(2)
    assert switch > 0
    assert [old] * switch + [2] * (len(seen) - switch) == seen
    assert len(seen) > at_least


def refuse(event, arguments):
    if not FAULTS["armed"] or event not in {"open", "os.mkdir", "os.rename"} or FAULTS["root"] not in str(arguments[0]):
        return
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    FAULTS["countdown"] -= 1
    if FAULTS["countdown"] == 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))


@pytest.fixture(scope="module")
def hook():
    sys.addaudithook(refuse)  # for good: Python has no way to take it back, so it stays disarmed
    yield
    FAULTS["armed"] = False


def attempt(root, n_calls):
    FAULTS.update(armed=True, root=str(root), countdown=n_calls)
    try:
        publish_run(Lake(root), 2)
    finally:
        FAULTS["armed"] = False


@pytest.mark.usefixtures("hook")
def test_a_full_disk_at_any_file_call_keeps_the_old_version_and_leaves_nothing(tmp_path):
    refusals = []
    root = tmp_path
    for n_calls in range(1, 100):
        root = tmp_path / str(n_calls)
        publish_run(Lake(root), 1)
        try:
            attempt(root, n_calls)
        except LakeError as error:
            refusals.append(str(error))
            assert version_read(Lake(root)) == 1
        else:
            break
        assert staging_of(root) == []
        assert list(root.rglob("*.part")) == []
        publish_run(Lake(root), 3)
        assert version_read(Lake(root)) == 3
    assert version_read(Lake(root)) == 2
    assert all(f"No space left on device at {tmp_path}" in text and "free space" in text for text in refusals)
    assert len(refusals) >= 11  # staging folder, 2 files; 2 data files, manifest, pointer: open and rename; lock


def test_a_file_cut_short_by_the_system_keeps_the_old_version(tmp_path):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = []
    for limit in (1, 50, 300, 500, 900, 1500, 2500, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            publish_run(lake, 2)
        except LakeError as error:
            refused.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert version_read(lake) == (2 if limit == 100_000 else 1)
        assert staging_of(tmp_path) == []
        assert list(tmp_path.rglob("*.part")) == []
    assert len(refused) == 7
    assert all("File too large" in text and str(tmp_path) in text for text in refused)


def test_a_root_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match=r"research_run run_id=123: Not a directory at .*file"):
        stage_run(Lake(tmp_path / "file"), 1)


def test_a_quarantine_that_cannot_be_made_is_named_and_leaves_nothing(tmp_path):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    (tmp_path / "quarantine").write_text("")
    staged = stage_run(lake, 2)
    with pytest.raises(LakeError, match=r"quarantine research_run run_id=123: .*quarantine"):
        lake.quarantine(staged, [], as_of=AS_OF)
    assert staging_of(tmp_path) == []
    assert version_read(lake) == 1
