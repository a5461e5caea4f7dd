"""Raw market assets: what a source gave, one partition per symbol and month."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg

from backtest_assets.defs.assets.asset import table_asset
from backtest_assets.defs.config import MarketConfig
from backtest_assets.defs.listing import listing_notes
from backtest_assets.defs.partitions import partition_from_key
from backtest_assets.defs.publish import AssetEvent, Made, publish, published
from backtest_assets.defs.resources import LakeResource
from backtest_assets.domain.clock import parse_day, utc
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError, RefusedError, SourceError, TamperedError
from backtest_assets.lake.store import Lake
from backtest_assets.sources.base import Dataset, Slice, Source
from backtest_assets.sources.merge import merge_delivery, origins_from_text, origins_to_text
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


@table_asset("raw_um_open_interest")
def raw_um_open_interest(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource], config: MarketConfig
) -> Iterator[AssetEvent]:
    """Open interest snapshots; optional."""
    yield from _ingest(context, lake, config, Dataset.UM_OPEN_INTEREST)


@table_asset("raw_um_liquidations")
def raw_um_liquidations(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[LakeResource], config: MarketConfig
) -> Iterator[AssetEvent]:
    """Liquidation orders; optional."""
    yield from _ingest(context, lake, config, Dataset.UM_LIQUIDATIONS)


def _ingest(
    context: dg.AssetExecutionContext, lake: LakeResource, config: MarketConfig, dataset: Dataset
) -> Iterator[AssetEvent]:
    table, as_of = TABLES[dataset.value], lake.clock()
    source = lake.open_source(config.source, as_of=as_of, is_forced=config.force)
    partitions = [partition_from_key(table, key) for key in context.partition_keys]
    foreign = [text for p in partitions if (text := foreign_source(lake.lake, source, dataset, p)) is not None]
    if foreign:  # refused before any verdict: the partitions stay as green as they are
        raise RefusedError("\n".join(foreign))
    slices = {partition: _slice(dataset, partition, config) for partition in partitions}
    source.prepare([one for one in slices.values() if one is not None], as_of=as_of)
    made = ((p, _fetch(lake, source, p, wanted, as_of=as_of)) for p, wanted in slices.items())
    yield from publish(context, lake, table, made, as_of=as_of)


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


def _slice(dataset: Dataset, partition: Partition, config: MarketConfig) -> Slice | None:
    """Return the days of a partition that the config asks for; None if it asks for none of them."""
    month = Slice.of_month(dataset, partition["symbol"], partition["month"])
    first = max(month.start, utc(parse_day("first_day", config.first_day))) if config.first_day else month.start
    last = utc(parse_day("last_day", config.last_day)) + timedelta(days=1) if config.last_day else month.end
    end = min(month.end, last)
    return Slice(dataset, month.symbol, first, end) if first < end else None


def _fetch(
    lake: LakeResource, source: Source, partition: Partition, wanted: Slice | None, *, as_of: datetime
) -> Made | BacktestAssetsError:
    if wanted is None:
        return SourceError(f"no day of {partition['month']} lies between first_day and last_day; nothing was asked for")
    try:
        before = source.fingerprint(wanted, as_of=as_of)
        delivery = source.fetch(wanted, as_of=as_of)
        listing = source.listing(wanted.dataset, wanted.symbol)
        if before != source.fingerprint(wanted, as_of=as_of):
            return SourceError(f"{wanted}: the source changed while it was read; ingest it again")
    except SourceError as error:
        return error
    except Exception as error:  # noqa: BLE001  # one partition's trouble must not take the others of the range with it
        return SourceError(f"{wanted}: {type(error).__name__}: {error}; mend the source's file")
    current = published(lake.lake, wanted.dataset.table, partition)
    kept_origins = () if current is None else origins_from_text(current.publication.notes.get("origins", ""))
    merged = merge_delivery(None if current is None else current.frame, kept_origins, delivery, wanted)
    is_whole = wanted == Slice.of_month(wanted.dataset, wanted.symbol, wanted.month)
    notes = {
        "source": source.identity,
        "fingerprint": before if is_whole else f"part of the month: {wanted}",
        "origins": origins_to_text(merged.origins),
        "repeated_rows": str(merged.n_repeated),
        "rows_kept": str(merged.n_kept),
        "rows_withdrawn": str(merged.n_withdrawn),
        **listing_notes(listing, before=Slice.of_month(wanted.dataset, wanted.symbol, wanted.month).end),
    }
    return Made(merged.frame, notes=notes, listing=listing)
