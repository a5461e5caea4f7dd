"""The report."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.desk import Desk
from backtest_assets.defs.publish import AssetEvent
from backtest_assets.defs.resources import LakeResource
from backtest_assets.research.report.build import build_report
from backtest_assets.research.report.inputs import inputs_from


@table_asset("report")
def report(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """The page and its numbers."""
    desk = Desk(context, lake, "report")
    made = build_report(inputs_from(desk.frames(), lineage=desk.lineage()), run=desk.run)
    yield from desk.publish(made.rows, attachments=made.files)
