"""What happened after events and controls, on train and validation."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.outcomes.barriers import measure_barriers
from backtest_assets.research.outcomes.measure import measure_outcomes


@table_asset("event_outcomes")
def event_outcomes(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Outcomes; test stays sealed."""
    desk = Desk(context, lake, "event_outcomes")
    yield from desk.publish(
        measure_outcomes(
            desk["bars_um"], desk["settlements_um"], desk["event_registry"], desk["event_controls"], run=desk.run
        )
    )


@table_asset("event_barriers")
def event_barriers(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """When the price first moved by a daily sigma; test stays sealed."""
    desk = Desk(context, lake, "event_barriers")
    yield from desk.publish(
        measure_barriers(
            desk["bars_um"], desk["features"], desk["event_registry"], desk["event_controls"], run=desk.run
        )
    )
