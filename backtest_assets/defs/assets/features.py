"""Causal features of every bar of a run, and which symbols may be traded in which month."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.clock import months_between
from backtest_assets.research.features.build import build_features
from backtest_assets.research.features.universe import build_universe


@table_asset("features")
def features(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Features."""
    desk = Desk(context, lake, "features")
    inputs = (desk[name] for name in ("bars_um", "bars_spot", "settlements_um", "positioning_um"))
    yield from desk.publish(build_features(*inputs))


@table_asset("universe")
def universe(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Which symbols may be traded in which month."""
    desk = Desk(context, lake, "universe")
    rows = build_universe(
        desk["bars_um"],
        symbols=desk.run.symbol_list,
        months=months_between(*desk.run.window),
        listings=desk.listings,
        top_n=desk.run.universe_top_n,
        lookback_days=desk.run.universe_lookback_days,
    )
    yield from desk.publish(rows)
