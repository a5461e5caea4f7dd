"""`gates`, `report` and `sql`: looking at what was made."""

import json
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

import click
from rich.markup import escape
from rich.table import Table as Grid

from backtest_assets.cli.flags import CONTEXT
from backtest_assets.cli.run import report_path
from backtest_assets.cli.session import OUT, open_session, open_settings
from backtest_assets.defs.driver import Session, run_rows
from backtest_assets.defs.guard import Guard, Judged, Refusal, judgements
from backtest_assets.defs.reads import READS
from backtest_assets.defs.scope import window_partitions
from backtest_assets.domain.clock import months_between, parse_day, utc
from backtest_assets.domain.market import Partition, parse_symbols
from backtest_assets.domain.run import run_from_dict
from backtest_assets.errors import RefusedError, UsageError
from backtest_assets.lake.catalog import open_catalog, query
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES

_WIDE: Final = 10  # columns from which on a record is printed line by line


def _needed(table: str) -> frozenset[str]:
    """Return a table and everything that it cannot do without."""
    return frozenset({table}).union(*(_needed(read.table) for read in READS[table] if not read.is_optional))


_NEEDED: Final[frozenset[str]] = frozenset[str]().union(
    *(_needed(table) for table in READS if TABLES[table].layer == "research")
)
"""Tables that a run cannot do without; a red verdict on another one is shown and does not count."""


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

    Ends with 1 if a strict gate is red on anything a run needs; what is optional (spot) is listed and does not count.
    """
    with open_session() as session:
        if run_id is not None:
            rows, closed = _of_run(session, run_id)
        elif symbols and start and end:
            rows, closed = _of_market(session, _partitions(symbols, start, end)), []
        else:
            message = "name a run, or give --symbols, --start and --end for the market"
            raise UsageError(message)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _say_judgements(rows, is_full=is_full)
        for refusal in closed:
            OUT.print(f"[red]closed[/] {escape(str(refusal))}", soft_wrap=True, highlight=False)
    if closed or any(not row.passed and row.severity == "ERROR" and row.table in _NEEDED for row in rows):
        raise SystemExit(RefusedError.exit_code)


def _partitions(symbols: str, start: str, end: str) -> list[Partition]:
    months = months_between(utc(parse_day("start", start)), utc(parse_day("end", end)) + timedelta(days=1))
    return [Partition.of_month(symbol, month) for symbol in parse_symbols(symbols) for month in months]


def _of_market(session: Session, partitions: Sequence[Partition]) -> list[Judged]:
    """Return the verdicts of the market tables that were ever made for these partitions."""
    judged = (judgements(session.instance, table, partitions) for table in READS if TABLES[table].layer == "market")
    return [row for table in judged if any(row.dagster_run_id for row in table) for row in table]


def _of_run(session: Session, run_id: str) -> tuple[list[Judged], list[Refusal]]:
    """Return the verdicts of a run and of its window, and what of the run may not be read."""
    partition = Partition.of_run(run_id)
    if session.lake.current("research_run", partition) is None:
        message = f'run {run_id} does not exist here; list runs with: backtest-assets sql "from research_run select distinct run_id"'
        raise RefusedError(message)
    frozen = run_rows(session, "research_run", run_id)
    run = run_from_dict({name: json.loads(text) for name, text in frozen.select("setting", "value_json").iter_rows()})
    look = Guard(session.instance, session.resource).inspect
    judged = {
        table: judgements(session.instance, table, [partition]) for table in READS if TABLES[table].layer == "research"
    }
    made = {table: rows for table, rows in judged.items() if any(row.dagster_run_id for row in rows)}
    closed = [refusal for table in made for refusal in look(table, [partition]).refused]
    return [*_of_market(session, window_partitions(run)), *(row for rows in made.values() for row in rows)], closed


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@click.option("--open", "is_opened", is_flag=True, help="Open it in the browser.")
def report(run_id: str, *, is_opened: bool) -> None:
    """Print where the report of a run lies."""
    with open_session() as session:
        path = report_path(session, Partition.of_run(run_id)["run_id"])
    OUT.print(path, soft_wrap=True, highlight=False)
    if is_opened:
        webbrowser.open(Path(path).as_uri())


@click.command(context_settings=CONTEXT)
@click.argument("statement")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def sql(statement: str, *, as_json: bool) -> None:
    """Ask DuckDB: one view per table, all runs, with run_id, symbol and month as columns; read-only."""
    lake = Lake(open_settings().data_root)
    answer = query(open_catalog(lake, tuple(TABLES.values())), statement)
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
