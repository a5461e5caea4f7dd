"""Blueprints compiled from the selected hypotheses."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.blueprints.compile import compile_blueprints
from backtest_assets.research.hypotheses.candidates import promoted_of


@table_asset("blueprints")
def blueprints(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Executable rules; none unless the checklist says PROMOTE (R64, R85)."""
    desk = Desk(context, lake, "blueprints")
    yield from desk.publish(
        compile_blueprints(
            promoted_of(desk["hypotheses"], desk["edge_candidates"]), desk["research_checklist"], run=desk.run
        )
    )
