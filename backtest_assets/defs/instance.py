"""The one Dagster instance: inside the data root unless DAGSTER_HOME says otherwise, initialised once."""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dagster import DagsterInstance

from backtest_assets.settings import Settings

_CONFIG: Final = """\
# Written once by backtest_assets; edit freely, it is never overwritten.
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {{base_dir: "{home}/storage"}}
event_log_storage:
  module: backtest_assets.defs.event_storage
  class: PooledSqliteEventLogStorage
  config: {{base_dir: "{home}/storage"}}
schedule_storage:
  module: dagster._core.storage.schedules
  class: SqliteScheduleStorage
  config: {{base_dir: "{home}/storage"}}
# Two runs at a time: SQLite has one writer, and this is sized for one machine.
concurrency:
  runs: {{max_concurrent_runs: 2}}
telemetry: {{enabled: false}}
nux: {{enabled: false}}
"""


@contextmanager
def open_instance(settings: Settings) -> Generator[DagsterInstance]:
    """Open the instance that webserver, daemon and command line share.

    The first opener creates its databases under a lock: concurrent first openers are known to break SQLite migrations.
    """
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".init.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write_config(home)
        instance = DagsterInstance.from_config(str(home))
        instance.get_runs_count()
        instance.get_dynamic_partitions("run_id")
    with instance:
        yield instance


def _write_config(home: Path) -> None:
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_CONFIG.format(home=home), encoding="utf-8")
