"""`gates`, `report` and `sql`: looking at what was made."""

import json
import shutil
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from rich.markup import escape
from rich.table import Table as Grid

from backtest_assets.cli.flags import CONTEXT
from backtest_assets.cli.run import class_text, report_files
from backtest_assets.cli.session import ERR, OUT, open_session, open_settings
from backtest_assets.defs.admission import Refusal
from backtest_assets.defs.driver import Session, run_rows
from backtest_assets.defs.frozen import settings_of
from backtest_assets.defs.guard import Guard
from backtest_assets.defs.judgements import Judged, judgements
from backtest_assets.defs.partitions import RUNS
from backtest_assets.defs.reads import READS
from backtest_assets.defs.scope import Look, window_partitions
from backtest_assets.domain.clock import day_window, months_between
from backtest_assets.domain.market import Partition, parse_symbols
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError, UsageError
from backtest_assets.lake.catalog import named_in, open_catalog, query
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES
from backtest_assets.tables.report import PAGE

_WIDE: Final = 10  # columns from which on a record is printed line by line


def _needed(table: str) -> frozenset[str]:
    """Return a table and everything that it cannot do without."""
    return frozenset({table}).union(*(_needed(read.table) for read in READS[table] if not read.is_optional))


_NEEDED: Final[frozenset[str]] = frozenset[str]().union(
    *(_needed(table) for table in READS if TABLES[table].layer == "research")
)
"""Tables that a run cannot do without; a red verdict on another one is shown and does not count."""

_DECIDING: Final[frozenset[str]] = _needed("research_checklist")
"""Tables without which a run has no decision: none of them may be missing, whatever was decided."""


@click.command(context_settings=CONTEXT)
@click.argument("run_id", required=False)
@click.option("--symbols", help="Without a run: the symbols whose market partitions are shown.")
@click.option("--start", help="Without a run: first day, YYYY-MM-DD.")
@click.option("--end", help="Without a run: last day, YYYY-MM-DD.")
@click.option("--json", "as_json", is_flag=True, help="Print every verdict as one JSON array.")
@click.option("--all", "is_full", is_flag=True, help="List the green verdicts too.")
def gates(
    run_id: str | None, symbols: str | None, start: str | None, end: str | None, *, as_json: bool, is_full: bool
) -> None:
    """Show the newest verdict of every gate on every partition of a run, or of the market alone.

    Everything is asked as a reader would ask, bytes and lineage too: `may_be_read` is red where it would be refused.
    Ends with 1 if a strict gate is red on anything a run needs; what is optional (spot) is listed and does not count.
    """
    run: ResearchRun | None = None
    with open_session() as session:
        look = Guard(session.instance, session.resource).inspect
        if run_id is not None:
            run = _frozen(session, run_id)
            rows = _of_run(session, look, run)
        elif symbols and start and end:
            rows = _of_market(session, look, _partitions(symbols, start, end))
        else:
            message = "name a run, or give --symbols, --start and --end for the market"
            raise UsageError(message)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _say_judgements(rows, is_full=is_full)
        if run is not None:
            OUT.print(f"run {run.run_id} ({class_text(run)})", soft_wrap=True, highlight=False)
    if any(not row.passed and row.severity == "ERROR" and row.table in _NEEDED for row in rows):
        raise SystemExit(RefusedError.exit_code)


def _partitions(symbols: str, start: str, end: str) -> list[Partition]:
    months = months_between(*day_window(start, end))
    return [Partition.of_month(symbol, month) for symbol in parse_symbols(symbols) for month in months]


def _of_market(session: Session, look: Look, partitions: Sequence[Partition]) -> list[Judged]:
    """Return the verdicts of everything that was ever tried for these partitions, and what a run needs and cannot read."""
    tables = [table for table in READS if TABLES[table].layer == "market"]
    return [row for t in tables for row in _of_table(session, look, t, partitions, is_needed=t in _NEEDED)]


def _of_table(
    session: Session, look: Look, table: str, partitions: Sequence[Partition], *, is_needed: bool
) -> list[Judged]:
    """Return the verdicts of the partitions that were ever tried, and `may_be_read` where no gate says why it may not."""
    judged = judgements(session.instance, table, partitions)
    tried = {row.partition for row in judged if row.dagster_run_id}
    rows = [row for row in judged if row.partition in tried]
    explained = {row.partition for row in rows if not row.passed and row.severity == "ERROR" and row.dagster_run_id}
    asked = [partition for partition in partitions if is_needed or partition.label in tried]
    refused = (one for one in look(table, asked).refused if one.partition.label not in explained)
    return [*rows, *(_may_not_be_read(one) for one in refused)]


def _may_not_be_read(one: Refusal) -> Judged:
    """Say a refusal in the form of a verdict."""
    return Judged(
        one.table, one.partition.label, "may_be_read", "ERROR",
        passed=False, observed="", limit="", unit="", detail=one.reason, dagster_run_id="",
    )  # fmt: skip


def _frozen(session: Session, run_id: str) -> ResearchRun:
    _existing(session, run_id)
    return settings_of(run_rows(session, "research_run", run_id))


def _of_run(session: Session, look: Look, run: ResearchRun) -> list[Judged]:
    """Return the verdicts of a run's tables that were tried, of its window, and what its decision lacks."""
    partition = Partition.of_run(run.run_id)
    tables = [table for table in READS if TABLES[table].layer == "research"]
    made = [row for t in tables for row in _of_table(session, look, t, [partition], is_needed=t in _DECIDING)]
    return [*_of_market(session, look, window_partitions(run)), *made]


def _existing(session: Session, run_id: str) -> Partition:
    """Return the partition of a run that was ever begun here; what is lost of it, the guard says.

    Raises:
        RefusedError: if there never was such a run.
    """
    partition = Partition.of_run(run_id)
    is_begun = session.instance.has_dynamic_partition(str(RUNS.name), run_id)
    if not is_begun and session.lake.current("research_run", partition) is None:
        message = f"run {run_id} does not exist here; list runs with: backtest-assets runs"
        raise RefusedError(message)
    return partition


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@click.option("--open", "is_opened", is_flag=True, help="Open it in the browser.")
@click.option(
    "--export",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the page and the triage files beside it (JSON, CSV) into this folder, which must be new or empty.",
)
def report(run_id: str, folder: Path | None, *, is_opened: bool) -> None:
    """Print where the report of a run lies.

    With --export: summary.json of every run; metrics.json, fee_sensitivity.json, walkforward_summary.json,
    promotion_report.json, equity_curve.csv, allocation_weights.csv and trades_SYMBOL.csv of a run that was executed.
    """
    with open_session() as session:
        files = report_files(session, _existing(session, run_id)["run_id"])
    path = files[PAGE] if folder is None else _exported(files, folder)[PAGE]
    OUT.print(str(path), soft_wrap=True, highlight=False)
    if is_opened:
        webbrowser.open(path.as_uri())


def _exported(files: Mapping[str, Path], folder: Path) -> Mapping[str, Path]:
    """Copy a report's files under their own names into a folder that holds nothing yet."""
    if folder.exists() and any(folder.iterdir()):
        message = (
            f"{folder} is not empty: what an earlier export left there would stand beside this one; give a new folder"
        )
        raise UsageError(message)
    folder.mkdir(parents=True, exist_ok=True)
    return {name: Path(shutil.copyfile(path, folder / name)).resolve() for name, path in files.items()}


@click.command(context_settings=CONTEXT)
@click.argument("statement")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def sql(statement: str, *, as_json: bool) -> None:
    """Ask DuckDB: one view per table, all runs, with run_id, symbol and month as columns; read-only.

    Partitions of the tables named that may not be read are left out, and said so.
    """
    lake = Lake(open_settings().data_root)
    closed = _closed([(table, lake.partitions(table)) for table in named_in(statement, TABLES)])
    for one in closed:
        ERR.print(f"[yellow]left out:[/] {escape(str(one))}", highlight=False, soft_wrap=True)
    answer = query(
        open_catalog(lake, tuple(TABLES.values()), without={(one.table, one.partition) for one in closed}), statement
    )
    if as_json:
        click.echo(answer.write_json())
        return
    texts = [{name: "" if v is None else str(v) for name, v in row.items()} for row in answer.to_dicts()]
    if len(answer.columns) > _WIDE:
        for row in texts:
            OUT.print(
                "\n".join(f"[bold]{escape(name)}[/] {escape(value)}" for name, value in row.items()), "", soft_wrap=True
            )
        return
    grid = Grid(*(escape(name) for name in answer.columns))
    for row in texts:
        grid.add_row(*(escape(value) for value in row.values()))
    OUT.print(grid)


def _closed(held: Sequence[tuple[str, Sequence[Partition]]]) -> list[Refusal]:
    if not any(partitions for _, partitions in held):
        return []
    with open_session() as session:
        look = Guard(session.instance, session.resource).inspect
        return [refusal for table, partitions in held for refusal in look(table, partitions).refused]


def _say_judgements(rows: Sequence[Judged], *, is_full: bool) -> None:
    """Count the verdicts of each table, then list those that are not green."""
    grid = Grid("table", "partitions", "gates", "green", "red", "remarks")
    for table, members in _by_table(rows).items():
        red = sum(not row.passed and row.severity == "ERROR" for row in members)
        remarks = sum(not row.passed and row.severity != "ERROR" for row in members)
        counts = (
            len({row.partition for row in members}),
            len({row.gate for row in members}),
            len(members) - red - remarks,
        )
        grid.add_row(table, *map(str, counts), f"[red]{red}" if red else "0", f"[yellow]{remarks}" if remarks else "0")
    OUT.print(grid)
    told: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if is_full or not row.passed:
            number = f" {row.observed} (limit {row.limit} {row.unit})" if row.observed not in {"", "nan"} else ""
            told.setdefault((_word(row), f"{row.table}[{row.partition}]", row.detail), []).append(row.gate + number)
    for (word, where, detail), names in sorted(told.items(), key=lambda item: item[0][1]):
        OUT.print(
            f"{word} {escape(where)} {escape(', '.join(names))}: {escape(detail)}", soft_wrap=True, highlight=False
        )


def _word(row: Judged) -> str:
    if row.passed:
        return "[green]pass[/]"
    if row.severity != "ERROR":
        return "[yellow]remark[/]"
    return "[red]FAIL (optional input)[/]" if row.table not in _NEEDED else "[red]FAIL[/]"


def _by_table(rows: Sequence[Judged]) -> dict[str, list[Judged]]:
    tables: dict[str, list[Judged]] = {}
    for row in rows:
        tables.setdefault(row.table, []).append(row)
    return tables
