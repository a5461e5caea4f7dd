"""The composition root: settings, resources and assets become Dagster definitions."""

import dagster as dg

from backtest_assets.defs import assets
from backtest_assets.defs.jobs import JOBS
from backtest_assets.defs.resources import LakeResource, Observer, Silent
from backtest_assets.defs.top_up import DAILY_TOP_UP, market_top_up
from backtest_assets.lake.store import Lake
from backtest_assets.settings import Settings, settings_from_environment


def build_defs(settings: Settings, *, observer: Observer | None = None) -> dg.Definitions:
    """Assemble the graph over one data root.

    Args:
        settings: where the lake lies.
        observer: told of every settled partition; the command line shows its progress with it.
    """
    lake = LakeResource(Lake(settings.data_root), settings, observer or Silent())
    return dg.Definitions(
        assets=assets.ALL,
        jobs=[*JOBS, market_top_up],
        schedules=[DAILY_TOP_UP],
        resources={"lake": dg.ResourceDefinition.hardcoded_resource(lake)},
        executor=dg.in_process_executor,
    )


defs = build_defs(settings_from_environment())
