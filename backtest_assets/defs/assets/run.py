"""The frozen settings of a run."""

import json
from collections.abc import Iterator
from dataclasses import MISSING

import dagster as dg
import polars as pl

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.config import ResearchRunConfig, run_from_config
from backtest_assets.defs.guard import check_unaltered
from backtest_assets.defs.publish import AssetEvent, Made, publish
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun, run_from_dict, settings_fields
from backtest_assets.errors import RefusedError
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES


@table_asset("research_run")
def research_run(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource], config: ResearchRunConfig
) -> Iterator[AssetEvent]:
    """Freeze the settings of a run; the same run_id with other settings is refused."""
    run = run_from_config(context.partition_key, config)
    check_unchanged(context.instance, lake.lake, run)
    made = Made(settings_frame(run), run=run)
    yield from publish(
        context, lake, TABLES["research_run"], [(Partition.of_run(run.run_id), made)], as_of=lake.clock()
    )


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


def check_unchanged(instance: dg.DagsterInstance, lake: Lake, run: ResearchRun) -> None:
    """Refuse settings that differ from those the run_id was first frozen with, whatever was published since.

    Raises:
        RefusedError: listing every setting that differs.
        TamperedError: if the frozen settings were removed or altered.
    """
    partition = Partition.of_run(run.run_id)
    if check_unaltered(instance, lake, "research_run", partition) is None:
        return
    first = lake.history("research_run", partition)[-1]
    lake.verify(first)
    rows = lake.scan([first]).select("setting", "value_json").collect()
    frozen = run_from_dict({name: json.loads(text) for name, text in rows.iter_rows()})
    difference = frozen.difference(run)
    if difference:
        listed = "\n".join(f"  {line}" for line in difference)
        message = f"run_id {run.run_id} is frozen with other settings; use a new run_id (R52). Differences, frozen -> asked:\n{listed}"
        raise RefusedError(message)
