"""The promotion decision and the strategy candidates that it leaves."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.promotions.decide import promote
from backtest_assets.research.promotions.strategies import StrategySources, describe_strategies, list_strategies


@table_asset("promotions")
def promotions(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every executed blueprint with every gate; default rejected."""
    desk = Desk(context, lake, "promotions")
    yield from desk.publish(promote(desk["walkforward_summary"], desk["blueprints"], run=desk.run))


@table_asset("strategy_candidates")
def strategy_candidates(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]
) -> Iterator[AssetEvent]:
    """Promoted blueprints, then edge candidates; none is a result (R68-R73, R85)."""
    desk = Desk(context, lake, "strategy_candidates")
    sources = StrategySources.of(desk.frames())
    strategies = list_strategies(sources, run=desk.run)
    yield from desk.publish(strategies, notes=describe_strategies(strategies, sources, run=desk.run))
