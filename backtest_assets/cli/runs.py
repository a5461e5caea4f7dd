"""`runs`: what was run on this lake, and how many trials that makes; deciding on them is the promotions'."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import click
import polars as pl
from rich.markup import escape
from rich.table import Table as Grid

from backtest_assets.cli.flags import CONTEXT
from backtest_assets.cli.run import trial_totals, trials_text
from backtest_assets.cli.session import ERR, OUT, open_session
from backtest_assets.defs.admission import Refusal
from backtest_assets.defs.desk import chronicle_rows
from backtest_assets.defs.driver import Session
from backtest_assets.defs.frozen import settings_of
from backtest_assets.defs.guard import Guard
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import RefusedError
from backtest_assets.lake.publication import Publication
from backtest_assets.research.hypotheses.trials import count_trials
from backtest_assets.tables.registry import TABLES

_CLOSED: Final = "closed"


@dataclass(frozen=True, slots=True)
class Listed:
    """One run of the lake; None where it cannot be said."""

    run_id: str
    symbols: str | None
    start: str | None
    end: str | None
    phase2_event_type: str | None
    decision: str | None
    run_class: str | None
    non_production_overrides: str | None
    n_trials: int | None
    n_hypotheses: int | None


@click.command(context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="Print runs and totals as one JSON object.")
def runs(*, as_json: bool) -> None:
    """List every run with its decision, its class and its trials, and count the distinct trials of all runs.

    Trials are counted as promotions count them. Ends with 1 if the trial ledger of any run is not whole: then nothing is
    counted.
    """
    with open_session() as session:
        guard = Guard(session.instance, session.resource)
        found = guard.inspect_chronicles("trial_ledger")
        ledgers = chronicle_rows(session.lake, TABLES["trial_ledger"], found.admitted) if found.admitted else None
        listed = _listed(session, guard, ledgers, [one.partition.label for one in found.refused])
    counted = pl.DataFrame() if ledgers is None else count_trials(ledgers, "")
    totals: Mapping[str, float] = {} if found.refused else trial_totals(counted)
    if as_json:
        told = {
            "runs": [asdict(one) for one in listed],
            "totals": totals,
            "refused": [str(one) for one in found.refused],
        }
        click.echo(json.dumps(told, indent=1))
    else:
        _say(listed, totals, found.refused)
    if found.refused:
        raise SystemExit(RefusedError.exit_code)


def _listed(session: Session, guard: Guard, ledgers: pl.DataFrame | None, refused: list[str]) -> list[Listed]:
    partitions = session.lake.partitions("research_run")
    frozen = {one.publication.partition: one.publication for one in guard.inspect("research_run", partitions).admitted}
    decided = {
        one.publication.partition: str(session.lake.scan([one.publication]).collect()["decision"][0])
        for one in guard.inspect("research_checklist", session.lake.partitions("research_checklist")).admitted
    }
    counts = dict[str, tuple[int, int]]() if ledgers is None else _counts(ledgers)
    listed: list[Listed] = []
    known = {one["run_id"] for one in partitions} | set(refused) | set(counts)
    for name in sorted(known):
        partition = Partition.of_run(name)
        run = _run(session, frozen[partition]) if partition in frozen else None
        n_trials, n_hypotheses = (None, None) if name in refused else counts.get(name, (0, 0))
        listed.append(
            Listed(
                name,
                None if run is None else run.symbols,
                None if run is None else run.start,
                None if run is None else run.end,
                None if run is None else run.phase2_event_type,
                decided.get(partition),
                None if run is None else run.run_class,
                None if run is None else ",".join(run.non_production_overrides),
                n_trials,
                n_hypotheses,
            )
        )
    return listed


def _counts(ledgers: pl.DataFrame) -> dict[str, tuple[int, int]]:
    rows = ledgers.group_by("of_run_id").agg(pl.len(), n_tested=(pl.col("kind") == "hypothesis").sum())
    return {name: (n, tested) for name, n, tested in rows.iter_rows()}


def _run(session: Session, publication: Publication) -> ResearchRun | None:
    """Return the settings of a run; None, and why on stderr, where another version of this program froze them."""
    try:
        return settings_of(session.lake.scan([publication]).collect())
    except RefusedError as error:
        ERR.print(f"[red]not shown:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        return None


def _say(listed: list[Listed], totals: Mapping[str, float], refused: tuple[Refusal, ...]) -> None:
    grid = Grid("run", "symbols", "start", "end", "phase 2", "decision", "class", "overrides", "trials", "hypotheses")
    for one in listed:
        grid.add_row(*(escape(_CLOSED if value is None else str(value)) for value in asdict(one).values()))
    OUT.print(grid)
    for refusal in refused:
        ERR.print(f"[red]not counted:[/] {escape(str(refusal))}", soft_wrap=True, highlight=False)
    if not refused:
        OUT.print(trials_text(totals), soft_wrap=True, highlight=False)
