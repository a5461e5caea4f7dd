"""Raw market assets: what a source gave, one partition per symbol and month."""

from collections.abc import Iterator

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.config import MarketConfig
from backtest_assets.defs.partitions import partition_from_key
from backtest_assets.defs.publish import AssetEvent, Made, publish
from backtest_assets.defs.resources import LakeResource, now
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError, RefusedError, SourceError, TamperedError
from backtest_assets.lake.store import Lake
from backtest_assets.sources.base import Dataset, Source
from backtest_assets.sources.open import open_source
from backtest_assets.tables.registry import TABLES


@table_asset("raw_um_ohlcv")
def raw_um_ohlcv(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource], config: MarketConfig
) -> Iterator[AssetEvent]:
    """USD-M perpetual klines."""
    yield from _ingest(context, lake, config, Dataset.UM_OHLCV)


@table_asset("raw_um_funding")
def raw_um_funding(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource], config: MarketConfig
) -> Iterator[AssetEvent]:
    """Funding settlements."""
    yield from _ingest(context, lake, config, Dataset.UM_FUNDING)


@table_asset("raw_spot_ohlcv")
def raw_spot_ohlcv(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource], config: MarketConfig
) -> Iterator[AssetEvent]:
    """Spot klines."""
    yield from _ingest(context, lake, config, Dataset.SPOT_OHLCV)


def _ingest(
    context: dg.AssetExecutionContext, lake: LakeResource, config: MarketConfig, dataset: Dataset
) -> Iterator[AssetEvent]:
    table = TABLES[dataset.value]
    source = open_source(config.source or lake.settings.source or "")
    partitions = [partition_from_key(table, key) for key in context.partition_keys]
    foreign = [text for p in partitions if (text := foreign_source(lake.lake, source, dataset, p)) is not None]
    if foreign:  # refused before any verdict: the partitions stay as green as they are
        raise RefusedError("\n".join(foreign))
    yield from publish(context, lake, table, ((p, _fetch(source, dataset, p)) for p in partitions), as_of=now())


def foreign_source(lake: Lake, source: Source, dataset: Dataset, partition: Partition) -> str | None:
    """Say why a partition may not be ingested from a source: it holds another's data (R53). None if it may."""
    try:
        current = lake.current(dataset.value, partition)
    except TamperedError:
        return None  # ingesting again is the fix
    if current is None or current.notes.get("source") == source.identity:
        return None
    return (
        f"{dataset.value} {partition} holds data of {current.notes.get('source')}, this run brings {source.identity}; "
        "data sets are never mixed: use another BACKTEST_DATA_ROOT (R53)"
    )


def _fetch(source: Source, dataset: Dataset, partition: Partition) -> Made | BacktestAssetsError:
    where = (dataset, partition["symbol"], partition["month"])
    try:
        before, frame, fingerprint = source.fingerprint(*where), source.fetch(*where), source.fingerprint(*where)
    except SourceError as error:
        return error
    except Exception as error:  # noqa: BLE001  # one partition's trouble must not take the others of the range with it
        return SourceError(f"{dataset.value} {partition}: {type(error).__name__}: {error}; mend the source's file")
    if before != fingerprint:
        return SourceError(f"{dataset.value} {partition}: the source changed while it was read; ingest it again")
    return Made(frame, notes={"source": source.identity, "fingerprint": fingerprint})
