"""Age curves, evidence and decision of every family."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.phase1.evidence import weigh_families
from backtest_assets.research.phase1.hazards import build_hazards
from backtest_assets.research.phase1.sets import Measured
from backtest_assets.research.phase1.told import decisions_by_family


@table_asset("phase1_hazards")
def phase1_hazards(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Age curves of the first move by a daily sigma."""
    desk = Desk(context, lake, "phase1_hazards")
    yield from desk.publish(build_hazards(desk["event_barriers"], run=desk.run))


@table_asset("phase1_evidence")
def phase1_evidence(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Every family beside its controls and placebos, with one decision."""
    desk = Desk(context, lake, "phase1_evidence")
    view = MarketView(desk["bars_um"], desk["features"], desk["settlements_um"])
    measured = Measured(desk["event_outcomes"], desk["event_barriers"], desk["event_controls"])
    evidence = weigh_families(measured, desk["event_registry"], desk["event_families"], view, run=desk.run)
    yield from desk.publish(evidence, shown={"families": decisions_by_family(evidence)})
