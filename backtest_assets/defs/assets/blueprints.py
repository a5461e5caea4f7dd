"""Blueprints compiled from the selected hypotheses, and why the others are none."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.blueprints.compile import compile_blueprints, reject_hypotheses
from backtest_assets.research.blueprints.told import describe_blueprints, describe_rejections


def _inputs(desk: Desk) -> tuple[pl.DataFrame, ...]:
    names = ("hypotheses", "research_checklist", "event_registry", "market_context", "bars_um")
    return tuple(desk[name] for name in names)


def _evidence(desk: Desk) -> dict[str, pl.DataFrame]:
    given = {"features": "features", "edge_candidates": "edge_candidates", "naive": "naive_entry"}
    return {name: desk[table] for name, table in given.items()}


@table_asset("blueprints")
def blueprints(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Executable rules; none unless the checklist says PROMOTE or is overridden (R64, R85)."""
    desk = Desk(context, lake, "blueprints")
    compiled = compile_blueprints(*_inputs(desk), **_evidence(desk), run=desk.run)
    yield from desk.publish(compiled, notes=describe_blueprints(compiled, decision=desk.decision))


@table_asset("blueprint_rejections")
def blueprint_rejections(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]
) -> Iterator[AssetEvent]:
    """Every tested hypothesis that is no blueprint, with the reason (R65-R67)."""
    desk = Desk(context, lake, "blueprint_rejections")
    rejections = reject_hypotheses(*_inputs(desk), **_evidence(desk), run=desk.run)
    yield from desk.publish(rejections, notes=describe_rejections(rejections))
