"""Runs whose process is gone: nobody would ever end them, and two of them would fill the queue for good.

Every process that runs something holds a lock file while it lives; the kernel drops the lock with the process, however it
dies. Runs of the command line bear the name of their lock, all others belong to the one `backtest-assets ui`.
"""

import fcntl
import os
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import GRPC_INFO_TAG

from backtest_assets.errors import UsageError

TAG: Final = "backtest_assets/process"
_UI: Final = "ui"
_BEGUN: Final = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@contextmanager
def sign_of_life(home: Path) -> Generator[Mapping[str, str]]:
    """Hold a lock while a process runs something; gives the tag that its runs bear."""
    name = uuid.uuid4().hex
    lock = _lock(home, name)
    try:
        yield {TAG: name}
    finally:
        _path(home, name).unlink(missing_ok=True)
        os.close(lock)


def hold_ui(home: Path) -> int:
    """Hold the lock of webserver and daemon until this process, the one that replaces it, and all that inherit it end.

    Returns:
        The descriptor to inherit.

    Raises:
        UsageError: if another process holds it: two daemons over one instance would launch everything twice.
    """
    try:
        lock = _lock(home, _UI)
    except BlockingIOError:
        message = f"another `backtest-assets ui` runs over {home}; use that one, or stop it first"
        raise UsageError(message) from None
    os.set_inheritable(lock, True)
    return lock


def report_lost_runs(instance: dg.DagsterInstance, home: Path, *, as_ui: bool = False) -> tuple[str, ...]:
    """Report every run as failed that has begun and whose process is gone.

    Args:
        instance: the one that the runs are in.
        home: its folder.
        as_ui: this process holds the lock of the ui and has launched nothing yet.

    Returns:
        Their Dagster run ids.
    """
    lost: list[str] = []
    for run in instance.get_runs(RunsFilter(statuses=_BEGUN)):
        owner = run.tags.get(TAG) or (_UI if GRPC_INFO_TAG in run.tags else None)
        if owner is None:
            continue  # begun by another program, for example `dagster asset materialize`
        if (as_ui and owner == _UI) or not _is_held(home, owner):
            instance.report_run_failed(run, message="its process was killed; what it published stands, run it again")
            lost.append(run.run_id)
    return tuple(lost)


def _is_held(home: Path, name: str) -> bool:
    try:
        descriptor = os.open(_path(home, name), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(home: Path, name: str) -> int:
    path = _path(home, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _path(home: Path, name: str) -> Path:
    # A tag is free text: only its own characters may name a file.
    safe = "".join(letter for letter in name if letter.isalnum())[:64]
    return home / "alive" / f"{safe}.lock"
