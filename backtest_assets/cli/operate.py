"""`ui` and `doctor`: starting Dagster, and finding out why it does not start."""

import os
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import click
import dagster as dg
from rich.markup import escape
from rich.table import Table as Grid

from backtest_assets.cli.flags import CONTEXT
from backtest_assets.cli.session import OUT, open_settings
from backtest_assets.defs.event_storage import PooledSqliteEventLogStorage
from backtest_assets.defs.instance import open_instance
from backtest_assets.defs.lost_runs import hold_ui, report_lost_runs
from backtest_assets.errors import BacktestAssetsError, RefusedError
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings, check_data_root, settings_from_environment
from backtest_assets.tables.registry import TABLES

_State: TypeAlias = Literal["ok", "remark", "BAD"]
_MIN_FREE_GB: Final = 2.0
_FIRST_SANE_YEAR: Final = 2025
_ABANDONED: Final = timedelta(hours=6)


@click.command(context_settings=CONTEXT)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, type=click.IntRange(1, 65535), show_default=True, help="Port to listen on.")
def ui(host: str, port: int) -> None:
    """Open the Dagster webserver and daemon over the data root; Ctrl-C stops them."""
    settings = open_settings()
    with open_instance(settings) as instance:
        lock = hold_ui(settings.dagster_home)
        report_lost_runs(instance, settings.dagster_home, as_ui=True)
        OUT.print(f"Dagster on http://{host}:{port} over {settings.data_root}", highlight=False)
    arguments = [sys.executable, "-m", "backtest_assets.defs.dev", str(lock), "-h", host, "-p", str(port)]
    os.execve(sys.executable, arguments, settings.environment())  # noqa: S606  # replaces this process by our own module


@click.command(context_settings=CONTEXT)
def doctor() -> None:
    """Check Python, data root, disk, clock, instance and lake; ends with 1 if something must be mended."""
    settings = settings_from_environment()
    rows = list(_examine(settings))
    grid = Grid("what", "state", "found", "do")
    colours = {"ok": "green", "remark": "yellow", "BAD": "red"}
    for what, state, found, todo in rows:
        grid.add_row(what, f"[{colours[state]}]{state}", escape(found), escape(todo))
    OUT.print(grid)
    if any(state == "BAD" for _, state, _, _ in rows):
        raise SystemExit(RefusedError.exit_code)


def _examine(settings: Settings) -> Iterator[tuple[str, _State, str, str]]:
    yield "python", "ok", sys.version.split()[0], ""
    try:
        check_data_root(settings)
    except BacktestAssetsError as error:
        yield "data root", "BAD", str(settings.data_root), str(error)
        return
    yield "data root", "ok", str(settings.data_root), ""
    free_gb = shutil.disk_usage(settings.data_root).free / 1e9
    yield (
        "disk",
        "ok" if free_gb >= _MIN_FREE_GB else "BAD",
        f"{free_gb:.1f} GB free",
        "" if free_gb >= _MIN_FREE_GB else "free some space",
    )
    clock = datetime.now(UTC)  # noqa: TID251  # the clock itself is examined
    sane = clock.year >= _FIRST_SANE_YEAR
    yield "clock", "ok" if sane else "BAD", f"{clock:%Y-%m-%d %H:%M} UTC", "" if sane else "set the machine's clock"
    yield from _examine_instance(settings)
    yield from _examine_lake(Lake(settings.data_root), clock)


def _examine_instance(settings: Settings) -> Iterator[tuple[str, _State, str, str]]:
    with open_instance(settings) as instance:
        pooled = isinstance(instance.event_log_storage, PooledSqliteEventLogStorage)
        found = f"{type(instance.event_log_storage).__name__} in {settings.dagster_home}, dagster {dg.__version__}"
        yield (
            "instance",
            "ok" if pooled else "remark",
            found,
            "" if pooled else "dagster.yaml names another storage: slower, otherwise fine",
        )
        daemons = instance.get_daemon_statuses()
        alive = sorted(name for name, status in daemons.items() if status.healthy)
        advice = "" if alive else "needed for backfills from the UI only: `backtest-assets ui` starts it"
        yield "daemon", "ok" if alive else "remark", ", ".join(alive) or "not running", advice


def _examine_lake(lake: Lake, clock: datetime) -> Iterator[tuple[str, _State, str, str]]:
    n_partitions, broken = 0, list[str]()
    for table in TABLES:
        for partition in lake.partitions(table):
            n_partitions += 1
            try:
                publication = lake.current(table, partition)
                if publication is not None:
                    lake.verify(publication)
            except BacktestAssetsError as error:
                broken.append(str(error))
    yield "lake", "BAD" if broken else "ok", f"{n_partitions} partitions, {len(broken)} altered", "; ".join(broken[:3])
    swept = lake.sweep(older_than=clock - _ABANDONED)
    yield "staging", "ok", f"{len(swept)} abandoned folders removed", ""
