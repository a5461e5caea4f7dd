"""`gates`, `report` and `sql`: looking at what was made."""

import json
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import polars as pl
from rich.markup import escape
from rich.table import Table as Grid

from backtest_assets.cli.flags import CONTEXT
from backtest_assets.cli.run import report_path
from backtest_assets.cli.session import OUT, open_session, open_settings
from backtest_assets.defs.desk import frozen_run
from backtest_assets.defs.guard import Judged, judgements
from backtest_assets.defs.reads import READS
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.scope import window_partitions
from backtest_assets.domain.market import Partition
from backtest_assets.errors import RefusedError
from backtest_assets.lake.catalog import open_catalog, query
from backtest_assets.lake.store import Lake
from backtest_assets.settings import settings_from_environment
from backtest_assets.tables.registry import TABLES


@click.command(context_settings=CONTEXT)
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def gates(run_id: str, *, as_json: bool) -> None:
    """Show the newest verdict of every gate on every partition of a run; ends with 1 if a strict gate is red."""
    with open_session() as session:
        partition = Partition.of_run(run_id)
        if session.lake.current("research_run", partition) is None:
            message = f'run {run_id} does not exist here; list runs with: backtest-assets sql "from research_run select distinct run_id"'
            raise RefusedError(message)
        resource = LakeResource(session.lake, settings_from_environment())
        months = window_partitions(frozen_run(session.instance, resource, run_id))
        rows = [
            judged
            for table in READS
            if TABLES[table].layer == "market" or session.lake.current(table, partition) is not None
            for judged in judgements(
                session.instance, table, months if TABLES[table].layer == "market" else [partition]
            )
        ]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        _say_judgements(rows)
    optional = {read.table for reads in READS.values() for read in reads if read.is_optional} | {"raw_spot_ohlcv"}
    if any(not row.passed and row.severity == "ERROR" and row.table not in optional for row in rows):
        raise SystemExit(RefusedError.exit_code)


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
    grid = Grid(*(escape(name) for name in answer.columns))
    for row in answer.select(pl.all().cast(pl.String, strict=False)).iter_rows():
        grid.add_row(*("" if value is None else escape(value) for value in row))
    OUT.print(grid)


def _say_judgements(rows: Sequence[Judged]) -> None:
    """Show research verdicts one by one, and market verdicts as counts with the red ones below."""
    columns = ("table", "partition", "gate", "severity", "verdict", "observed", "limit", "unit", "detail")
    grid = Grid(*columns)
    groups: dict[tuple[str, str], list[Judged]] = {}
    for row in rows:
        groups.setdefault((row.table, row.gate), []).append(row)
    for (table, gate), members in groups.items():
        red = [row for row in members if not row.passed]
        if len(members) > 1 and len(red) < len(members):
            count = f"{len(members) - len(red)} months"
            grid.add_row(table, count, gate, members[0].severity, "[green]pass", "", "", "", "")
        for row in red if len(members) > 1 else members:
            grid.add_row(*_judged_cells(row))
    OUT.print(grid)


def _judged_cells(row: Judged) -> Sequence[Any]:
    verdict = "[green]pass" if row.passed else "[red]FAIL" if row.severity == "ERROR" else "[yellow]remark"
    texts = (row.table, row.partition, row.gate, row.severity, verdict, row.observed, row.limit, row.unit)
    return (*texts, escape(row.detail))
