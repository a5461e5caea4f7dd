"""Causal features of every bar of a run."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.features.build import build_features


@table_asset("features")
def features(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Features."""
    desk = Desk(context, lake, "features")
    yield from desk.publish(build_features(desk["bars_um"], desk["bars_spot"], desk["raw_um_funding"]))
