"""Opening the project for one command, and showing how its work proceeds."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from backtest_assets.definitions import build_defs
from backtest_assets.defs.driver import Session
from backtest_assets.defs.instance import open_instance
from backtest_assets.defs.lost_runs import report_lost_runs, sign_of_life
from backtest_assets.defs.resources import LakeResource, Outcome
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings, check_data_root, settings_from_environment

_PIPE_WIDTH = 200
"""Width of tables where the output is no terminal [characters]; Rich would cut them at 80."""

OUT = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
ERR = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH)


@dataclass(slots=True)
class _Line:
    task: TaskID
    n_refused: int = 0


class ProgressObserver:
    """Shows one bar per table on standard error; plain text where that is not a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines: dict[str, _Line] = {}

    def expect(self, table: str, n_partitions: int) -> None:
        """Add a bar, or lengthen the table's bar."""
        self._progress.start()
        if table in self._lines:
            task = self._lines[table].task
            self._progress.update(task, total=(self._progress.tasks[task].total or 0) + n_partitions)
            return
        is_first = all(task.finished for task in self._progress.tasks)
        self._lines[table] = _Line(self._progress.add_task(table, total=n_partitions, note="", start=is_first))

    def settle(self, table: str, partition: str, outcome: Outcome) -> None:
        """Advance the table's bar."""
        if table not in self._lines:
            self.expect(table, 1)
        line = self._lines[table]
        line.n_refused += outcome == "refused"
        note = f"[red]{line.n_refused} refused" if line.n_refused else "up to date" if outcome == "fresh" else partition
        self._progress.start_task(line.task)
        self._progress.update(line.task, advance=1, note=note)
        waiting = next((task for task in self._progress.tasks if not task.finished), None)
        if waiting is not None and waiting.start_time is None:
            self._progress.start_task(waiting.id)


@contextmanager
def open_session() -> Generator[Session]:
    """Open lake, instance and definitions over the environment's data root.

    Raises:
        SettingsError: if the data root is absent or not writable.
    """
    settings = open_settings()
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    progress = Progress(*columns, console=ERR)
    with open_instance(settings) as instance, sign_of_life(settings.dagster_home) as tags:
        report_lost_runs(instance, settings.dagster_home)
        observer = ProgressObserver(progress)
        resource = LakeResource(Lake(settings.data_root), settings, observer)
        try:
            yield Session(build_defs(settings, observer=observer), instance, resource, tags)
        finally:
            if progress.live.is_started:  # a stop without a start prints an empty line
                progress.stop()


def open_settings() -> Settings:
    """Read the environment and check the data root.

    Raises:
        SettingsError: if the data root is absent or not writable.
    """
    settings = settings_from_environment()
    check_data_root(settings)
    return settings
