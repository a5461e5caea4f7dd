"""The frozen settings of a run."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.config import ResearchRunConfig, run_from_config
from backtest_assets.defs.frozen import check_unchanged, settings_frame
from backtest_assets.defs.publish import AssetEvent, Made, publish
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.market import Partition
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
