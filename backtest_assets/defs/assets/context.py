"""Market regimes of every bar of a run."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.context.build import build_context


@table_asset("market_context")
def market_context(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Regimes."""
    desk = Desk(context, lake, "market_context")
    yield from desk.publish(build_context(desk["features"]))
