"""The settings that a run was frozen with: written once, read by everyone, never replaced."""

import json
from dataclasses import MISSING

import dagster as dg
import polars as pl

from backtest_assets.defs.guard import check_unaltered, inspect, refusal_failure
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun, run_from_dict, settings_fields
from backtest_assets.errors import RefusedError, SettingsError
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES


def settings_frame(run: ResearchRun) -> pl.DataFrame:
    """Return the settings as rows of table research_run."""
    values = run.to_dict()
    rows = [
        {
            "setting": item.name,
            "value_json": json.dumps(values[item.name]),
            "default_json": None if item.default is MISSING else json.dumps(item.default),
            "is_override": item.name in run.non_production_overrides,
            "about": item.metadata["about"],
            "settings_digest": run.digest,
        }
        for item in settings_fields()
    ]
    return pl.DataFrame(rows, schema=TABLES["research_run"].schema)


def settings_of(rows: pl.DataFrame) -> ResearchRun:
    """Read rows of table research_run back; what `settings_frame` wrote.

    Raises:
        RefusedError: if another version of this program froze them, which knew other settings.
    """
    values = {name: json.loads(text) for name, text in rows.select("setting", "value_json").iter_rows()}
    try:
        return run_from_dict(values)
    except (SettingsError, TypeError) as error:  # TypeError: a setting without default that was not known then
        message = (
            f"run {values.get('run_id')} was frozen by another version of this program, whose settings this one cannot read "
            f"({error}); use a new run_id"
        )
        raise RefusedError(message) from error


def frozen_run(instance: dg.DagsterInstance, lake: LakeResource, run_id: str) -> ResearchRun:
    """Read the frozen settings of a run through the guard.

    Raises:
        dagster.Failure: if the run was never frozen, or its settings may not be read.
        RefusedError: as `settings_of`.
    """
    asked = inspect(instance, lake, "research_run", [Partition.of_run(run_id)])
    if asked.refused:
        raise refusal_failure(asked.refused)
    return settings_of(lake.lake.scan([asked.admitted[0].publication]).collect())


def check_unchanged(instance: dg.DagsterInstance, lake: Lake, run: ResearchRun) -> None:
    """Refuse settings that differ from those the run_id was first frozen with, whatever was published since.

    Raises:
        RefusedError: listing every setting that differs; or as `settings_of`.
        TamperedError: if the frozen settings were removed or altered.
    """
    partition = Partition.of_run(run.run_id)
    if check_unaltered(instance, lake, "research_run", partition) is None:
        return
    first = lake.history("research_run", partition)[-1]
    lake.verify(first)
    difference = settings_of(lake.scan([first]).collect()).difference(run)
    if difference:
        listed = "\n".join(f"  {line}" for line in difference)
        message = f"run_id {run.run_id} is frozen with other settings; use a new run_id (R52). Differences, frozen -> asked:\n{listed}"
        raise RefusedError(message)
