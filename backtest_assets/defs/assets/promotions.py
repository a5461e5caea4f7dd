"""The promotion decision."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.promotions.decide import promote


@table_asset("promotions")
def promotions(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every executed blueprint with every gate; default rejected."""
    desk = Desk(context, lake, "promotions")
    yield from desk.publish(promote(desk["walkforward_summary"], desk["blueprints"], run=desk.run))
