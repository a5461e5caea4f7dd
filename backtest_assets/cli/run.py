"""`run`, `discover`, `demo` and `backfill`: work, its progress and its verdict."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import polars as pl
from rich.markup import escape
from rich.table import Table as Grid

from backtest_assets.cli.flags import CONTEXT, market_flags, run_flags, take_market_flags
from backtest_assets.cli.session import ERR, OUT, open_session
from backtest_assets.defs.desk import PROMOTE
from backtest_assets.defs.driver import (
    MarketOrder,
    Session,
    Work,
    check_source,
    decision_of,
    drive_market,
    drive_run,
    run_publication,
    run_rows,
)
from backtest_assets.defs.frozen import check_unchanged
from backtest_assets.defs.scope import warmup_partitions, window_partitions
from backtest_assets.domain.clock import day_window, months_between
from backtest_assets.domain.market import Partition, parse_symbols
from backtest_assets.domain.run import ResearchRun, run_from_dict
from backtest_assets.domain.source import DEMO_SPEC, KNOWN
from backtest_assets.errors import RefusedError, SettingsError, UsageError
from backtest_assets.settings import settings_from_environment
from backtest_assets.tables.report import PAGE

DEMO: Final[dict[str, Any]] = {
    "run_id": "DEMO",
    "symbols": "SYNAUSDT,SYNBUSDT",
    "start": "2020-01-01",
    "end": "2024-12-31",
    "source": DEMO_SPEC,
}


@click.command(context_settings=CONTEXT)
@run_flags
@market_flags
def run(**flags: Any) -> None:  # noqa: ANN401  # click hands over the flags by name
    """Bring a run from its source to its report; ends with 1 and the decision if the checklist keeps it in research."""
    _drive(flags, until_blueprints=False)


@click.command(context_settings=CONTEXT)
@run_flags
@market_flags
def discover(**flags: Any) -> None:  # noqa: ANN401  # click hands over the flags by name
    """Bring a run from its source to its blueprints; KEEP_RESEARCH is a result, not a failure."""
    _drive(flags, until_blueprints=True)


@click.command(context_settings=CONTEXT)
@market_flags
def demo(**flags: Any) -> None:  # noqa: ANN401  # click hands over the flags by name
    """Run the whole chain on the embedded synthetic market with a planted edge."""
    _drive(DEMO | flags, until_blueprints=False)


@click.command(context_settings=CONTEXT)
@click.option("--symbols", required=True, help="Comma list of symbols.")
@click.option("--start", required=True, help="First day, YYYY-MM-DD.")
@click.option("--end", required=True, help="Last day, inclusive, YYYY-MM-DD.")
@click.option("--source", help=f"{KNOWN}; default: BACKTEST_SOURCE.")
@click.option(
    "--only_days",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="1: ingest only the days from start to end and keep what else the months hold; 0: whole months.",
)
@market_flags
def backfill(symbols: str, start: str, end: str, source: str | None, *, only_days: int, **flags: Any) -> None:  # noqa: ANN401  # click hands over the flags by name
    """Ingest and clean market partitions; those that are up to date are left alone."""
    first, last = day_window(start, end)
    if first > datetime.now(UTC):  # noqa: TID251  # a month in the future is refused against the wall clock
        message = f"start {start} lies in the future; there is nothing to ingest yet"
        raise SettingsError(message)
    datasets, is_forced = take_market_flags(flags)
    spec = source or settings_from_environment().source
    if not spec:
        message = "no source: give --source, or set BACKTEST_SOURCE"
        raise UsageError(message)
    order = MarketOrder(
        source=spec,
        required=[
            Partition.of_month(name, month) for name in parse_symbols(symbols) for month in months_between(first, last)
        ],
        datasets=datasets,
        is_forced=is_forced,
        first_day=start if only_days else "",
        last_day=end if only_days else "",
    )
    with open_session() as session:
        work = drive_market(session, order)
    _say_work(work)
    if work.refusals:
        raise RefusedError("\n".join(work.refusals))


def _drive(flags: dict[str, Any], *, until_blueprints: bool) -> None:
    datasets, is_forced = take_market_flags(flags)
    settings = run_from_dict(flags)
    clock = datetime.now(UTC)  # noqa: TID251  # a window in the future is refused against the wall clock
    if settings.window[1] > clock:
        message = f"end {settings.end} lies in the future; the last whole day is the latest end"
        raise SettingsError(message)
    order = MarketOrder(
        source=settings.source,
        required=window_partitions(settings),
        optional=warmup_partitions(settings),
        datasets=datasets,
        is_forced=is_forced,
    )
    with open_session() as session:
        check_unchanged(session.instance, session.lake, settings)
        check_source(session.resource.open_source(settings.source, as_of=clock), settings)
        market = drive_market(session, order)
        work = market + drive_run(session, settings, until_blueprints=until_blueprints, is_forced=is_forced)
        decision = decision_of(session, settings)
    for refusal in market.refusals:
        ERR.print(f"[yellow]remark:[/] {escape(refusal.removeprefix('refused: '))}", highlight=False, soft_wrap=True)
    _say_work(work)
    _say_verdict(session, settings, decision, until_blueprints=until_blueprints)
    if decision != PROMOTE and not until_blueprints:
        raise SystemExit(RefusedError.exit_code)


def _say_work(work: Work) -> None:
    if work.n_made == 0 and not work.refusals:
        OUT.print(f"Nothing to do: {work.n_fresh} partitions are as they would be made now.")
    else:
        OUT.print(f"{work.n_made} partitions published, {work.n_fresh} were up to date.")


def _say_verdict(session: Session, settings: ResearchRun, decision: str, *, until_blueprints: bool) -> None:
    run_id = settings.run_id
    checklist = run_rows(session, "research_checklist", run_id)
    _say_gates("Checklist", checklist)
    for gate, detail in checklist.filter(~pl.col("is_passed")).select("gate", "detail").iter_rows():
        OUT.print(f"  [red]{gate}[/]: {escape(detail)}", highlight=False)
    named = f"[bold]{decision}[/]  run {run_id} ({class_text(settings)})"
    if until_blueprints:
        OUT.print(f"{named}: discovery is complete.", soft_wrap=True, highlight=False)
        OUT.print(_found(session, run_id), soft_wrap=True, highlight=False)
        return
    outcome = "execution stays closed, the checklist says why"
    if decision == PROMOTE:
        gates = run_rows(session, "promotions", run_id)
        for name, rows in gates.group_by("blueprint_id", maintain_order=True):
            _say_gates(f"{name[0]}: {'promoted' if rows['is_promoted'][0] else 'rejected'}", rows)
        outcome = f"{gates.filter('is_promoted')['blueprint_id'].n_unique()} blueprint(s) promoted"
    OUT.print(f"{named}: {outcome}.", soft_wrap=True, highlight=False)
    OUT.print(f"Report: {report_files(session, run_id)[PAGE]}", soft_wrap=True, highlight=False)


def class_text(settings: ResearchRun) -> str:
    """Say whether a run is production, or diagnostic and by which overrides (R84)."""
    overrides = settings.non_production_overrides
    return settings.run_class + (f"; overrides: {', '.join(overrides)}" if overrides else "")


def trials_text(totals: Mapping[str, float]) -> str:
    """Say how many trials were made over all runs of the lake.

    Args:
        totals: `n_trials_all`, `n_hypotheses_all` and `effective_trials_all`.
    """
    return (
        f"Trials over all runs: {totals['n_trials_all']} distinct, {totals['n_hypotheses_all']} of them hypotheses, "
        f"worth at most {totals['effective_trials_all']:.1f} independent ones"
    )


def trial_totals(counts: pl.DataFrame) -> Mapping[str, float]:
    """Return the totals that every row of table trial_counts has; without rows nothing was ever tried."""
    if counts.is_empty():
        return {"n_trials_all": 0, "n_hypotheses_all": 0, "effective_trials_all": 0.0}
    return counts.select("n_trials_all", "n_hypotheses_all", "effective_trials_all").row(0, named=True)


def _found(session: Session, run_id: str) -> str:
    """Say what discovery found, stage by stage."""
    hypotheses, edges = (run_rows(session, name, run_id) for name in ("hypotheses", "edge_candidates"))
    n_blueprints = run_rows(session, "blueprints", run_id).height
    return (
        f"Hypotheses: {hypotheses.height} asked for, {hypotheses['is_eligible'].sum()} tested, "
        f"{(hypotheses['status'] == 'selected').sum()} selected\n"
        f"Edge candidates: {edges.height}, {(edges['status'] == 'PROMOTED').sum()} of them PROMOTED\n"
        f"Blueprints: {n_blueprints}\n{trials_text(trial_totals(run_rows(session, 'trial_counts', run_id)))}"
    )


def report_files(session: Session, run_id: str) -> Mapping[str, Path]:
    """Return where the page of a run and its exports lie, by name, through the guard.

    Raises:
        RefusedError: if the run has no report, or none that may be read.
    """
    publication = run_publication(session, "report", run_id)
    return {file.name: session.lake.attachment(publication, file.name) for file in publication.attachments}


def _say_gates(title: str, rows: pl.DataFrame) -> None:
    grid = Grid(title=escape(title), title_justify="left")
    grid.add_column("gate", no_wrap=True)
    for name in ("observed", "", "limit", "unit", "verdict"):
        grid.add_column(name)
    for row in rows.to_dicts():
        observed = "unknown" if row["observed"] is None else f"{row['observed']:.6g}"
        verdict = "[green]pass" if row["is_passed"] else "[red]FAIL"
        grid.add_row(
            row["gate"], observed, row.get("comparator", ">="), f"{row['limit']:.6g}", escape(row["unit"]), verdict
        )
    OUT.print(grid)
