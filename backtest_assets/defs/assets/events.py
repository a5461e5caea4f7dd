"""Event candidates, the events among them and their matched controls."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.events.accepted import register_events
from backtest_assets.research.events.controls import match_controls
from backtest_assets.research.events.detect import detect_events
from backtest_assets.research.events.eligibility import drop_ineligible
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.events.told import controls_by_family, events_by_family, fates_by_family
from backtest_assets.research.events.view import MarketView


@table_asset("event_candidates")
def event_candidates(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Candidates of every family, with their fate."""
    desk = Desk(context, lake, "event_candidates")
    found = detect_events(MarketView(desk["bars_um"], desk["features"], desk["settlements_um"]), run=desk.run)
    candidates = drop_ineligible(found, desk["universe"])
    yield from desk.publish(candidates, shown={"families": fates_by_family(candidates, run=desk.run)})


@table_asset("event_families")
def event_families(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """What became of every family."""
    desk = Desk(context, lake, "event_families")
    families = summarise_families(desk["event_candidates"], desk["features"], run=desk.run)
    yield from desk.publish(families, shown={"families": families})


@table_asset("event_registry")
def event_registry(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """The events, sparse."""
    desk = Desk(context, lake, "event_registry")
    events = register_events(desk["event_candidates"])
    yield from desk.publish(events, shown={"families": events_by_family(events, run=desk.run)})


@table_asset("event_controls")
def event_controls(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Matched controls from the past."""
    desk = Desk(context, lake, "event_controls")
    events = desk["event_registry"]
    controls = match_controls(desk["bars_um"], desk["features"], events, run=desk.run)
    yield from desk.publish(controls, shown={"families": controls_by_family(controls, events, run=desk.run)})
