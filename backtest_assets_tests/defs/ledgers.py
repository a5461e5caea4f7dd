"""Runs of nothing but a trial ledger, its count and a decision on it, published as everything is; for chronicles.

As a program: `python -m backtest_assets_tests.defs.ledgers ROOT RUN_ID DATA..` appends the trials of one run, data set by
data set, in a process of its own.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl

from backtest_assets.defs.admission import Inspection
from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import chronicle_rows
from backtest_assets.defs.guard import Guard, every_row, refusal_failure
from backtest_assets.defs.instance import open_instance
from backtest_assets.defs.publish import AssetEvent, Made, publish
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.market import Partition
from backtest_assets.lake.publication import Input
from backtest_assets.lake.store import Lake
from backtest_assets.research.hypotheses.trials import count_trials, list_trials
from backtest_assets.settings import Settings
from backtest_assets.tables.hypotheses import TRIAL_COUNTS, TRIAL_LEDGER
from backtest_assets_tests.research.hypotheses.listed import eligible_of, run_of

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
IDS = [f"h{i}" for i in range(6)]


class Asked(dg.Config):
    data: str = "d1"


@table_asset("trial_ledger")
def trial_ledger(
    context: dg.AssetExecutionContext, config: Asked, lake: dg.ResourceParam[LakeResource]
) -> Iterator[AssetEvent]:
    run, partition = run_of(context.partition_key), Partition.of_run(context.partition_key)
    previous = every_row(context.instance, lake.lake, "trial_ledger", partition)
    hypotheses = eligible_of(IDS)
    frame = list_trials(hypotheses, config.data, run=run, previous=previous)
    outcomes = Input("event_outcomes", partition.label, config.data, 1)
    made = Made(frame, (outcomes,), {"hypotheses": hypotheses}, run)
    yield from publish(context, lake, TRIAL_LEDGER, [(partition, made)], as_of=AS_OF)


@table_asset("trial_counts")
def trial_counts(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    partition = Partition.of_run(context.partition_key)
    found = Guard(context.instance, lake).inspect_chronicles("trial_ledger", [partition])
    if found.refused:
        raise refusal_failure(found.refused)
    ledgers = chronicle_rows(lake.lake, TRIAL_LEDGER, found.admitted)
    frames = {"trial_ledger": ledgers, "hypotheses": eligible_of(IDS)}
    inputs = [one.input_for("trial_counts") for one in found.admitted]
    latest = ledgers.filter(of_run_id=context.partition_key)["inputs_digest"].sort()[-1]
    made = Made(count_trials(ledgers, latest), inputs, frames, run_of(context.partition_key))
    yield from publish(context, lake, TRIAL_COUNTS, [(partition, made)], as_of=AS_OF)


@dataclass
class Ledgers:
    """An opened lake of trial ledgers."""

    root: Path
    instance: dg.DagsterInstance
    resource: LakeResource

    @property
    def lake(self) -> Lake:
        return self.resource.lake

    def tries(self, run_id: str, data: str = "d1") -> None:
        assert self._made(trial_ledger, run_id, {"ops": {"trial_ledger": {"config": {"data": data}}}})

    def counts(self, run_id: str) -> bool:
        return self._made(trial_counts, run_id, {})

    def asked(self) -> Inspection:
        return Guard(self.instance, self.resource).inspect_chronicles("trial_ledger")

    def refused(self) -> list[str]:
        return [str(one) for one in self.asked().refused]

    def n_trials(self) -> int:
        return chronicle_rows(self.lake, TRIAL_LEDGER, self.asked().admitted)["trial_id"].n_unique()

    def rows(self, table: str, run_id: str) -> pl.DataFrame:
        publication = self.lake.current(table, Partition.of_run(run_id))
        assert publication is not None
        return self.lake.scan([publication]).collect()

    def folder(self, run_id: str, table: str = "trial_ledger") -> Path:
        return self.root / "lake" / table / f"run_id={run_id}"

    def _made(self, asset: dg.AssetsDefinition, run_id: str, config: dict[str, object]) -> bool:
        self.instance.add_dynamic_partitions("run_id", [run_id])
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        done = dg.materialize(
            [asset],
            partition_key=run_id,
            instance=self.instance,
            resources={"lake": self.resource},
            run_config={**quiet, **config},
            raise_on_error=False,
        )
        return done.success


@contextmanager
def open_ledgers(root: Path) -> Iterator[Ledgers]:
    settings = Settings(root, root / "dagster", None)
    with open_instance(settings) as instance:
        yield Ledgers(root, instance, LakeResource(Lake(root), settings))


if __name__ == "__main__":
    with open_ledgers(Path(sys.argv[1])) as opened:
        for tried in sys.argv[3:]:
            opened.tries(sys.argv[2], tried)
