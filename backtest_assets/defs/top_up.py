"""The daily top-up: what the current month lacks, what closed since, and what is red, as one backfill for the daemon."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.utils import make_new_backfill_id

from backtest_assets.defs.guard import Guard
from backtest_assets.defs.jobs import MARKET
from backtest_assets.defs.partitions import SYMBOL_MONTHS, partition_from_key
from backtest_assets.defs.reads import READS, lacking
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.verdicts import newest_verdicts
from backtest_assets.domain.clock import month_end, month_of, month_start, months_between
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError
from backtest_assets.lake.store import Lake
from backtest_assets.sources.base import Dataset
from backtest_assets.sources.merge import origins_from_text
from backtest_assets.tables.registry import TABLES

TAG: Final = "backtest_assets/top_up"
REST: Final = "rest/"
"""How the names of origins begin that are no archive files."""
_RAW: Final = tuple(dataset.value for dataset in Dataset)


def due(instance: dg.DagsterInstance, resource: LakeResource, *, as_of: datetime) -> Mapping[str, frozenset[Partition]]:
    """Return the partitions of every market table that a top-up makes again.

    These are: of every symbol that was ingested before and is not delisted, every month after its newest one up to the current;
    its newest one and the one before the current, if they were last ingested while they were open or from REST; every
    partition that was tried and may not be read; and what is made from them.
    """
    found: dict[str, frozenset[Partition]] = {}
    lake, guard = resource.lake, Guard(instance, resource)
    for table in MARKET:
        tried = {partition_from_key(TABLES[table], label) for _, label in newest_verdicts(instance, table)}
        refused = {one.partition for one in guard.inspect(table, tried).refused}
        above = {p for read in READS[table] for p in found[read.table]}
        wanted = {p for p in above if _may_be_made(lake, table, p, found)}
        if table in _RAW:
            wanted = set(_open_months(lake, table, as_of))
        found[table] = frozenset(refused | wanted)
    return found


def _may_be_made(lake: Lake, table: str, partition: Partition, found: Mapping[str, frozenset[Partition]]) -> bool:
    return not lacking(table, lambda name: partition in found[name] or _current(lake, name, partition) is not None)


def _open_months(lake: Lake, table: str, as_of: datetime) -> Iterator[Partition]:
    month = month_of(as_of)
    before = month_of(month_start(month) - timedelta(days=1))
    newest = {partition["symbol"]: partition for partition in sorted(lake.partitions(table))}
    for symbol, partition in newest.items():
        published = _current(lake, table, partition)
        if published is not None and "delisted_at" in published[1]:
            continue
        later = months_between(month_end(partition["month"]), month_end(month))
        yield from (Partition.of_month(symbol, one) for one in {*later, month})
        for label in {partition["month"], before} - {*later, month}:
            last = _current(lake, table, Partition.of_month(symbol, label))
            if last is None or last[0] < month_end(label) or _is_provisional(last[1]):
                yield Partition.of_month(symbol, label)


def _is_provisional(notes: Mapping[str, str]) -> bool:
    """Whether a month still rests on REST pages, or lacks files: the archive's own come in the days after its end."""
    origins = origins_from_text(notes.get("origins", ""))
    return any(one.sha256 is None or one.name.startswith(REST) for one in origins)


def _current(lake: Lake, table: str, partition: Partition) -> tuple[datetime, Mapping[str, str]] | None:
    try:
        publication = lake.current(table, partition)
    except BacktestAssetsError:
        return None
    return None if publication is None else (publication.published_at, publication.notes)


def submit(instance: dg.DagsterInstance, wanted: Mapping[str, Iterable[Partition]], *, as_of: datetime) -> str | None:
    """Hand the daemon one backfill; return its id, or None if there is nothing to do."""
    subsets = {
        dg.AssetKey(table): SYMBOL_MONTHS.subset_with_partition_keys([p.label for p in sorted(partitions)])
        for table, partitions in wanted.items()
        if partitions
    }
    if not subsets:
        return None
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=make_new_backfill_id(),
        backfill_timestamp=as_of.timestamp(),
        tags={TAG: "true"},
        dynamic_partitions_store=instance,
        asset_graph_subset=AssetGraphSubset(partitions_subsets_by_asset_key=subsets),
        title="Market top-up",
        description="The current month of every symbol, and what is red.",
        run_config=None,
    )
    instance.add_backfill(backfill)
    return backfill.backfill_id


@dg.op
def submit_top_up(context: dg.OpExecutionContext, lake: dg.ResourceParam[LakeResource]) -> None:
    """Find what is due and hand it to the daemon as one backfill."""
    if not lake.settings.source:
        message = "refused: market_top_up needs BACKTEST_SOURCE; set it before starting the UI and daemon"
        raise dg.Failure(message, allow_retries=False)
    under_way = context.instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
    running = [backfill.backfill_id for backfill in under_way if TAG in backfill.tags]
    if running:
        context.log.info("backfill %s of an earlier top-up is still under way; nothing is submitted", running[0])
        return
    as_of = lake.clock()
    wanted = due(context.instance, lake, as_of=as_of)
    backfill_id = submit(context.instance, wanted, as_of=as_of)
    counts = {table: len(partitions) for table, partitions in wanted.items() if partitions}
    context.add_output_metadata(
        {"backfill": backfill_id or "nothing is due", "partitions": dg.MetadataValue.json(counts)}
    )


@dg.job(name="market_top_up", description="Bring the current month of every symbol, and what is red, up to date.")  # pyright: ignore[reportUnknownMemberType]  # Dagster leaves a PathLike unparametrised
def market_top_up() -> None:
    """Submit the top-up."""
    submit_top_up()


DAILY_TOP_UP: Final = dg.ScheduleDefinition(
    name="daily_top_up",
    job=market_top_up,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    description="Every day at 03:30 UTC, after the archive's daily files; stopped until switched on.",
)
