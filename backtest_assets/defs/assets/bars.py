"""Clean bars, each month from its own raw month."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.guard import inspect
from backtest_assets.defs.partitions import partition_from_key
from backtest_assets.defs.publish import AssetEvent, Made, publish
from backtest_assets.defs.reads import READS
from backtest_assets.defs.resources import LakeResource, now
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError, BrokenError, RefusedError
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.tables.registry import TABLES


@table_asset("bars_um")
def bars_um(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """USD-M bars."""
    yield from _clean(context, lake, "bars_um")


@table_asset("bars_spot")
def bars_spot(context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource]) -> Iterator[AssetEvent]:
    """Spot bars."""
    yield from _clean(context, lake, "bars_spot")


def _clean(context: dg.AssetExecutionContext, lake: LakeResource, name: str) -> Iterator[AssetEvent]:
    table = TABLES[name]
    partitions = [partition_from_key(table, key) for key in context.partition_keys]
    as_of = now()  # one instant for the whole step: a bar that closes meanwhile must not divide rows and gates
    yield from publish(
        context, lake, table, _cleaned(context.instance, lake, READS[name][0].table, partitions, as_of), as_of=as_of
    )


def _cleaned(
    instance: dg.DagsterInstance, lake: LakeResource, raw_table: str, partitions: Sequence[Partition], as_of: datetime
) -> Iterator[tuple[Partition, Made | BacktestAssetsError]]:
    inspection = inspect(instance, lake.lake, raw_table, partitions)
    for refusal in inspection.refused:
        yield refusal.partition, RefusedError(f"its raw month may not be read: {refusal}")
    for admitted in inspection.admitted:
        partition = admitted.publication.partition
        raw = lake.lake.scan([admitted.publication]).collect()
        try:
            frame = clean_klines(raw, symbol=partition["symbol"], month=partition["month"], as_of=as_of)
        except BacktestAssetsError as error:
            yield partition, error
            continue
        except Exception as error:  # noqa: BLE001  # one partition's trouble must not take the others of the range with it
            yield partition, BrokenError(f"{raw_table} {partition}: {type(error).__name__}: {error}")
            continue
        yield (
            partition,
            Made(frame, [admitted.as_input], {raw_table: raw}, notes={"source": admitted.publication.notes["source"]}),
        )
