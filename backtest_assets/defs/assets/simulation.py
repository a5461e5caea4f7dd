"""The ledger, its trades and its metrics."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.simulation.ledger import simulate_ledger, simulate_trades
from backtest_assets.research.walkforward.backtest import measure


def _inputs(desk: Desk) -> tuple[pl.DataFrame, ...]:
    return tuple(desk[name] for name in ("bars_um", "settlements_um", "event_registry", "market_context", "blueprints"))


@table_asset("simulation_ledger")
def simulation_ledger(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Bar by bar P&L of the one causal pass."""
    desk = Desk(context, lake, "simulation_ledger")
    yield from desk.publish(simulate_ledger(*_inputs(desk), features=desk["features"], run=desk.run))


@table_asset("trades")
def trades(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """One row per trade; sums to the ledger."""
    desk = Desk(context, lake, "trades")
    yield from desk.publish(simulate_trades(*_inputs(desk), features=desk["features"], run=desk.run))


@table_asset("backtest_metrics")
def backtest_metrics(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Metrics before the test window."""
    desk = Desk(context, lake, "backtest_metrics")
    frames = (desk[name] for name in ("simulation_ledger", "trades", "blueprints", "bars_um"))
    yield from desk.publish(measure(*frames, run=desk.run))
