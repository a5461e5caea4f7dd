"""The neighbours of the blueprints, the promotion decision and the strategy candidates that it leaves."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.promotions.allocate import allocate
from backtest_assets.research.promotions.decide import promote
from backtest_assets.research.promotions.evidence import MeasuredBlueprints, PromotionSources
from backtest_assets.research.promotions.neighbours import simulate_neighbours
from backtest_assets.research.promotions.strategies import StrategySources, describe_strategies, list_strategies


@table_asset("blueprint_neighbours")
def blueprint_neighbours(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]
) -> Iterator[AssetEvent]:
    """Every executed blueprint and its +-10 % neighbours, simulated alone."""
    desk = Desk(context, lake, "blueprint_neighbours")
    inputs = (desk[n] for n in ("bars_um", "settlements_um", "event_registry", "market_context", "blueprints"))
    yield from desk.publish(simulate_neighbours(*inputs, features=desk["features"], run=desk.run))


@table_asset("promotions")
def promotions(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every executed blueprint with every gate; default rejected."""
    desk = Desk(context, lake, "promotions")
    measured = MeasuredBlueprints.of(PromotionSources.of(desk.frames()), run=desk.run)
    yield from desk.publish(promote(desk["walkforward_summary"], desk["blueprints"], measured, run=desk.run))


@table_asset("capital_allocation")
def capital_allocation(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """What share of capital each promoted blueprint gets; the rest is cash."""
    desk = Desk(context, lake, "capital_allocation")
    read = ("promotions", "blueprints", "hypotheses", "simulation_ledger", "trades")
    yield from desk.publish(allocate(*(desk[name] for name in read), run=desk.run))


@table_asset("strategy_candidates")
def strategy_candidates(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]
) -> Iterator[AssetEvent]:
    """Promoted blueprints, then edge candidates; none is a result (R68-R73, R85)."""
    desk = Desk(context, lake, "strategy_candidates")
    sources = StrategySources.of(desk.frames())
    strategies = list_strategies(sources, run=desk.run)
    yield from desk.publish(strategies, notes=describe_strategies(strategies, sources, run=desk.run))
