"""`run`, `discover`, `demo` and `backfill`: work, its progress and its verdict."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from rich.markup import escape
from rich.table import Table as Grid

from backtest_assets.cli.flags import CONTEXT, run_flags
from backtest_assets.cli.session import ERR, OUT, open_session
from backtest_assets.defs.desk import PROMOTE
from backtest_assets.defs.driver import Session, Work, check_source, decision_of, drive_market, drive_run
from backtest_assets.defs.scope import warmup_partitions, window_partitions
from backtest_assets.domain.clock import months_between, utc
from backtest_assets.domain.market import Partition, parse_symbols
from backtest_assets.domain.run import ResearchRun, run_from_dict
from backtest_assets.errors import RefusedError, SettingsError, UsageError
from backtest_assets.sources.open import open_source
from backtest_assets.sources.synthetic.source import DEMO_SPEC

DEMO: Final[dict[str, Any]] = {
    "run_id": "DEMO",
    "symbols": "SYNAUSDT,SYNBUSDT",
    "start": "2020-01-01",
    "end": "2024-12-31",
    "source": DEMO_SPEC,
}


@click.command(context_settings=CONTEXT)
@run_flags
def run(**settings: Any) -> None:  # noqa: ANN401  # click hands over the flags by name
    """Bring a run from its source to its report; ends with 1 and the decision if the checklist keeps it in research."""
    _drive(run_from_dict(settings), until_blueprints=False)


@click.command(context_settings=CONTEXT)
@run_flags
def discover(**settings: Any) -> None:  # noqa: ANN401  # click hands over the flags by name
    """Bring a run from its source to its blueprints; KEEP_RESEARCH is a result, not a failure."""
    _drive(run_from_dict(settings), until_blueprints=True)


@click.command(context_settings=CONTEXT)
def demo() -> None:
    """Run the whole chain on the embedded synthetic market with a planted edge."""
    _drive(run_from_dict(DEMO), until_blueprints=False)


@click.command(context_settings=CONTEXT)
@click.option("--symbols", required=True, help="Comma list of symbols.")
@click.option("--start", required=True, help="First day, YYYY-MM-DD; its whole month is ingested.")
@click.option("--end", required=True, help="Last day, YYYY-MM-DD; its whole month is ingested.")
@click.option("--source", required=True, help="files:DIR or synthetic[:SEED[:EDGE]].")
def backfill(symbols: str, start: str, end: str, source: str) -> None:
    """Ingest and clean market partitions; those that are up to date are left alone."""
    first, last = _day("start", start), _day("end", end) + timedelta(days=1)
    if first >= last:
        message = f"start {start} lies after end {end}; give start <= end"
        raise SettingsError(message)
    partitions = [
        Partition.of_month(symbol, month) for symbol in parse_symbols(symbols) for month in months_between(first, last)
    ]
    with open_session() as session:
        work = drive_market(session, source, partitions, [])
    _say_work(work)
    if work.refusals:
        raise RefusedError("\n".join(work.refusals))


def _drive(settings: ResearchRun, *, until_blueprints: bool) -> None:
    if settings.window[1] > datetime.now(UTC):  # noqa: TID251  # a window in the future is refused against the wall clock
        message = f"end {settings.end} lies in the future; the last whole day is the latest end"
        raise SettingsError(message)
    with open_session() as session:
        check_source(open_source(settings.source), settings)
        market = drive_market(session, settings.source, window_partitions(settings), warmup_partitions(settings))
        work = market + drive_run(session, settings, until_blueprints=until_blueprints)
        decision = decision_of(session, settings)
    for refusal in market.refusals:
        ERR.print(f"[yellow]remark:[/] {escape(refusal)}", highlight=False)
    _say_work(work)
    _say_verdict(session, settings, decision, until_blueprints=until_blueprints)
    if decision != PROMOTE and not until_blueprints:
        raise SystemExit(RefusedError.exit_code)


def _say_work(work: Work) -> None:
    if work.n_made == 0 and not work.refusals:
        OUT.print(f"Nothing to do: all {work.n_fresh} partitions are up to date.")
    else:
        OUT.print(f"{work.n_made} partitions published, {work.n_fresh} were up to date.")


def _say_verdict(session: Session, settings: ResearchRun, decision: str, *, until_blueprints: bool) -> None:
    where = Partition.of_run(settings.run_id)
    checklist = _rows(session, "research_checklist", where)
    _say_gates("Checklist", checklist, ("gate", "observed", "limit", "unit", "is_passed", "detail"))
    if until_blueprints:
        OUT.print(f"[bold]{decision}[/]  run {settings.run_id}: discovery is complete.")
        return
    promoted: set[str] = set()
    if decision == PROMOTE:
        gates = _rows(session, "promotions", where)
        _say_gates(
            "Promotion gates", gates, ("blueprint_id", "gate", "observed", "comparator", "limit", "unit", "is_passed")
        )
        promoted = {row["blueprint_id"] for row in gates if row["is_promoted"]}
    count = (
        f": {len(promoted)} blueprint(s) promoted"
        if decision == PROMOTE
        else ": execution stays closed, see the checklist"
    )
    OUT.print(f"[bold]{decision}[/]  run {settings.run_id}{count}.")
    OUT.print(f"Report: {report_path(session, settings.run_id)}", soft_wrap=True, highlight=False)


def report_path(session: Session, run_id: str) -> str:
    """Return where the published report of a run lies.

    Raises:
        RefusedError: if the run has no report.
    """
    published = session.lake.current("report", Partition.of_run(run_id))
    if published is None:
        message = f"run {run_id} has no report; `backtest-assets run` makes it"
        raise RefusedError(message)
    session.lake.verify(published)
    return str(session.lake.attachment(published, "report.html"))


def _rows(session: Session, table: str, partition: Partition) -> list[dict[str, Any]]:
    published = session.lake.current(table, partition)
    return [] if published is None else session.lake.scan([published]).collect().to_dicts()


def _say_gates(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    grid = Grid(*columns, title=title, title_justify="left")
    for row in rows:
        grid.add_row(*(_cell(row[name]) for name in columns))
    OUT.print(grid)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "[green]pass" if value else "[red]FAIL"
    if isinstance(value, float):
        return f"{value:.6g}"
    return escape("" if value is None else str(value))


def _day(name: str, text: str) -> datetime:
    try:
        return utc(datetime.fromisoformat(text).date())
    except ValueError:
        message = f"{name} {text!r} is not a day of the form YYYY-MM-DD"
        raise UsageError(message) from None
