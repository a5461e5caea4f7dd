"""The one Dagster instance: inside the data root unless DAGSTER_HOME says otherwise, initialised once."""

import fcntl
import json
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dagster import DagsterError, DagsterInstance
from sqlalchemy.exc import SQLAlchemyError

from backtest_assets.settings import Settings

_HEADER: Final = "# Written by backtest_assets;"
_BASE_DIR: Final = re.compile(r'base_dir: "[^"]*"')
_CONFIG: Final = """\
# Written by backtest_assets; edit freely, only base_dir follows the data root.
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {base_dir: {storage}}
event_log_storage:
  module: backtest_assets.defs.event_storage
  class: PooledSqliteEventLogStorage
  config: {base_dir: {storage}}
schedule_storage:
  module: dagster._core.storage.schedules
  class: SqliteScheduleStorage
  config: {base_dir: {storage}}
# The assets print nothing; capturing their output would start three processes for every step.
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
# Two runs at a time: SQLite has one writer, and this is sized for one machine.
concurrency:
  runs: {max_concurrent_runs: 2}
telemetry: {enabled: false}
nux: {enabled: false}
"""


@contextmanager
def open_instance(settings: Settings) -> Generator[DagsterInstance]:
    """Open the instance that webserver, daemon and command line share.

    The first opener creates its databases under a lock: concurrent first openers are known to break SQLite migrations. An
    initialisation that was killed half-way is begun anew: databases that never were ready hold nothing of anybody.
    """
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".init.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_ours, ready = _write_config(home), home / ".ready"
        try:
            instance = _open(home)
        except (DagsterError, SQLAlchemyError):
            if ready.exists() or not is_ours:
                raise
            shutil.rmtree(home / "storage")
            instance = _open(home)
        ready.touch()
    with instance:
        yield instance


def _open(home: Path) -> DagsterInstance:
    """Open the instance and touch each of its databases, so that a broken one shows here."""
    instance = DagsterInstance.from_config(str(home))
    instance.get_runs_count()
    instance.get_dynamic_partitions("run_id")
    instance.all_instigator_state()
    return instance


def _write_config(home: Path) -> bool:
    """Write dagster.yaml if there is none, and follow a data root that was moved; return whether the file is ours."""
    config = home / "dagster.yaml"
    if config.exists():
        text = config.read_text(encoding="utf-8")
        if not text.startswith(_HEADER):
            return False
        wanted = _BASE_DIR.sub(lambda _: f"base_dir: {json.dumps(f'{home}/storage')}", text)
    else:
        text, wanted = "", _CONFIG.replace("{storage}", json.dumps(f"{home}/storage"))
    if text != wanted:
        fresh = config.with_suffix(".part")
        fresh.write_text(wanted, encoding="utf-8")
        fresh.replace(config)
    return True
