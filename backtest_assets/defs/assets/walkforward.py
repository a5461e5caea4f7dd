"""The split plan and the slices of the one ledger."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.split import Split
from backtest_assets.research.walkforward.splits import plan_table, slice_metrics, summarise


def _slice(desk: Desk, split: Split) -> pl.DataFrame:
    frames = (desk[name] for name in ("simulation_ledger", "trades", "market_context", "blueprints", "bars_um"))
    return slice_metrics(*frames, run=desk.run, split=split)


@table_asset("walkforward_splits")
def walkforward_splits(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """The one split plan."""
    desk = Desk(context, lake, "walkforward_splits")
    yield from desk.publish(plan_table(run=desk.run))


@table_asset("walkforward_train")
def walkforward_train(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Metrics of the train slice."""
    desk = Desk(context, lake, "walkforward_train")
    yield from desk.publish(_slice(desk, Split.TRAIN))


@table_asset("walkforward_validation")
def walkforward_validation(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]
) -> Iterator[AssetEvent]:
    """Metrics of the validation slice."""
    desk = Desk(context, lake, "walkforward_validation")
    yield from desk.publish(_slice(desk, Split.VALIDATION))


@table_asset("walkforward_summary")
def walkforward_summary(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]
) -> Iterator[AssetEvent]:
    """The evidence that promotion decides on."""
    desk = Desk(context, lake, "walkforward_summary")
    yield from desk.publish(summarise(desk["walkforward_train"], desk["walkforward_validation"]))


@table_asset("walkforward_test")
def walkforward_test(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Metrics of the test slice; opened after promotion decided."""
    desk = Desk(context, lake, "walkforward_test")
    yield from desk.publish(_slice(desk, Split.TEST))
