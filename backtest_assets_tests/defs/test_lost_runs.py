"""Who is alive is told by the kernel: a lock goes with its process, however that dies."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test

from backtest_assets.defs.lost_runs import TAG, hold_ui, report_lost_runs, sign_of_life
from backtest_assets.errors import UsageError
from backtest_assets_tests.cli.terminal import call

HOLDER = """
import sys, time
from pathlib import Path
from backtest_assets.defs.lost_runs import TAG, hold_ui, sign_of_life
home = Path(sys.argv[1])
if sys.argv[2] == "ui":
    hold_ui(home)
    print("ui", flush=True)
    time.sleep(600)
with sign_of_life(home) as tags:
    print(tags[TAG], flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(home: Path, kind: str = "run") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that holds a lock; gives it and the lock's name."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(home), kind], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert name
        try:
            yield process, name
        finally:
            process.kill()


def begin(instance: DagsterInstance, **tags: str) -> str:
    return create_run_for_test(instance, "market", tags=tags, status=DagsterRunStatus.STARTED).run_id


def status_of(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def test_a_run_is_lost_when_its_process_is_killed_and_not_before(tmp_path: Path, instance: DagsterInstance):
    with holder(tmp_path) as (process, name):
        run_id = begin(instance, **{TAG: name})
        assert () == report_lost_runs(instance, tmp_path)
        assert DagsterRunStatus.STARTED == status_of(instance, run_id)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (run_id,) == report_lost_runs(instance, tmp_path)
        assert DagsterRunStatus.FAILURE == status_of(instance, run_id)
        assert () == report_lost_runs(instance, tmp_path)


def test_a_run_of_this_process_is_alive_until_it_lets_go(tmp_path: Path, instance: DagsterInstance):
    with sign_of_life(tmp_path) as tags:
        run_id = begin(instance, **tags)
        assert () == report_lost_runs(instance, tmp_path)
    assert (run_id,) == report_lost_runs(instance, tmp_path)
    assert [] == list((tmp_path / "alive").iterdir())


def test_runs_of_the_daemon_live_as_long_as_the_ui_and_no_longer(tmp_path: Path, instance: DagsterInstance):
    run_id = begin(instance, **{GRPC_INFO_TAG: "{}"})
    with holder(tmp_path, "ui"):
        assert () == report_lost_runs(instance, tmp_path)
    assert (run_id,) == report_lost_runs(instance, tmp_path)


def test_a_new_ui_that_has_launched_nothing_knows_that_every_run_of_the_old_one_is_lost(
    tmp_path: Path, instance: DagsterInstance
):
    mine = begin(instance, **{GRPC_INFO_TAG: "{}"})
    with holder(tmp_path) as (_, name):
        other = begin(instance, **{TAG: name})
        assert (mine,) == report_lost_runs(instance, tmp_path, as_ui=True)
        assert DagsterRunStatus.STARTED == status_of(instance, other)


def test_runs_of_other_programs_are_left_alone(tmp_path: Path, instance: DagsterInstance):
    run_id = begin(instance)
    assert () == report_lost_runs(instance, tmp_path, as_ui=True)
    assert DagsterRunStatus.STARTED == status_of(instance, run_id)


def test_a_tag_that_names_a_path_finds_no_file_outside(tmp_path: Path, instance: DagsterInstance):
    (tmp_path / "alive").mkdir()
    run_id = begin(instance, **{TAG: "../../etc/passwd"})
    assert (run_id,) == report_lost_runs(instance, tmp_path)


def test_a_second_ui_over_one_root_is_refused_with_code_2_and_what_to_do(tmp_path: Path):
    root = tmp_path / "data"
    root.mkdir()
    with holder(root / "dagster", "ui"):
        said = call(root, "ui", code=2)
    assert f"another `backtest-assets ui` runs over {root / 'dagster'}; use that one, or stop it first" in said


def test_the_ui_lock_is_free_again_once_its_process_is_killed(tmp_path: Path):
    with holder(tmp_path, "ui") as (process, _):
        with pytest.raises(UsageError, match="another `backtest-assets ui` runs"):
            hold_ui(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        subprocess.run(
            [sys.executable, "-c", HOLDER.replace("time.sleep(600)", "sys.exit()"), str(tmp_path), "ui"], check=True
        )
