"""Whether a partition is up to date: same code, same inputs, same source, same limits; what is fresh is not made again."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import dagster as dg

from backtest_assets.defs.admission import Admitted, Refusal
from backtest_assets.defs.code_version import code_version
from backtest_assets.defs.guard import Guard, inspect
from backtest_assets.defs.listing import LIFE, listing_notes
from backtest_assets.defs.reads import READS
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.scope import admit, admit_months
from backtest_assets.domain.clock import month_end
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.errors import BacktestAssetsError, RefusedError, SourceError
from backtest_assets.lake.publication import Publication
from backtest_assets.sources.base import Dataset, Slice, Source
from backtest_assets.tables.registry import TABLES


def stale_raw(
    instance: dg.DagsterInstance,
    lake: LakeResource,
    source: Source,
    dataset: Dataset,
    partitions: Iterable[Partition],
    *,
    as_of: datetime,
) -> tuple[list[Partition], list[Refusal]]:
    """Sort out what must be ingested.

    Returns:
        The partitions that are absent, altered, of other code or limits, made before their month was over, or whose
        source changed since; and the refusals of those that are red and would be red again, because all of that is what
        it was.
    """
    asked = tuple(partitions)
    inspection = inspect(instance, lake, dataset.value, asked)

    def is_unchanged(attempt: Mapping[str, str], partition: Partition) -> bool:
        return (
            attempt.get("code_version") == code_version(TABLES[dataset.value])
            and attempt.get("source") == source.identity
            and attempt.get("limits_digest") == lake.settings.limits.digest
            and (attempt.get("fingerprint"), {name: attempt[name] for name in LIFE if name in attempt})
            == _offer(source, dataset, partition, as_of)
        )

    fresh = {
        one.publication.partition
        for one in inspection.admitted
        if not _is_outdated(one.publication, as_of)
        and is_unchanged({"code_version": one.publication.code_version, **one.publication.notes}, one.publication.partition)
    }  # fmt: skip
    still_red = [one for one in inspection.refused if is_unchanged(one.attempt, one.partition)]
    settled = fresh | {one.partition for one in still_red}
    return [partition for partition in asked if partition not in settled], still_red


def _offer(
    source: Source, dataset: Dataset, partition: Partition, as_of: datetime
) -> tuple[str, Mapping[str, str]] | None:
    """Return the fingerprint of what a source has for a month, and what it knows of the instrument's life."""
    wanted = Slice.of_month(dataset, partition["symbol"], partition["month"])
    try:
        listing = source.listing(dataset, wanted.symbol)
        return source.fingerprint(wanted, as_of=as_of), listing_notes(listing, before=wanted.end)
    except SourceError:
        return None  # ingesting will say why


def _is_outdated(publication: Publication, as_of: datetime) -> bool:
    """Whether a month was open when it was ingested, and is over or an hour older now: its age is to be judged again."""
    was_open = publication.published_at < month_end(publication.partition["month"])
    return was_open and as_of - publication.published_at > _OPEN_TRUST


def stale_derived(
    instance: dg.DagsterInstance,
    lake: LakeResource,
    table: str,
    partitions: Iterable[Partition],
    *,
    as_of: datetime,
    is_forced: bool,
) -> tuple[list[Partition], int]:
    """Sort out which months of a table that is made from raw months must be made.

    Returns:
        The partitions that are not made from what their inputs hold now (all of them if forced), and how many are as they
        would be made now; those whose inputs are refused are in neither.
    """
    guard = Guard(instance, lake)
    answers = admit_months(guard.inspect, table, partitions)
    offered = {partition: inputs for partition, inputs in answers.items() if not isinstance(inputs, RefusedError)}
    if is_forced:
        return list(offered), 0
    fresh = {
        one.publication.partition
        for one in guard.inspect(table, offered).admitted
        if _same_code(one.publication)
        and not _closed_since(one.publication, as_of)
        and _consumed(one.publication) == _offered(offered[one.publication.partition], table)
    }
    return [partition for partition in offered if partition not in fresh], len(fresh)


_OPEN_TRUST: Final = timedelta(hours=1)
"""How long an open month is taken for up to date, as long as its source is unchanged; four bars."""


def _closed_since(publication: Publication, as_of: datetime) -> bool:
    """Whether a month was still open when it was published, and is over now."""
    return publication.published_at < month_end(publication.partition["month"]) <= as_of


def is_fresh_research(guard: Guard, table: str, run: ResearchRun, *, is_promoted: bool) -> bool:
    """Return whether a run's table is admitted, of the current code, and made from what the run would read now."""
    inspection = guard.inspect(table, [Partition.of_run(run.run_id)])
    if inspection.refused or not _same_code(inspection.admitted[0].publication):
        return False
    try:
        offered = [
            one for read in READS[table] if is_promoted or not read.only_if_promoted for one in admit(guard, read, run)
        ]
    except (dg.Failure, BacktestAssetsError):
        return False
    return _consumed(inspection.admitted[0].publication) == _offered(offered, table)


def _same_code(publication: Publication) -> bool:
    return publication.code_version == code_version(TABLES[publication.table])


_Read: TypeAlias = tuple[str, str, str, str]


def _consumed(publication: Publication) -> frozenset[_Read]:
    return frozenset((one.table, one.partition, one.digest, one.facts) for one in publication.inputs)


def _offered(admitted: Iterable[Admitted], reader: str) -> frozenset[_Read]:
    inputs = (one.input_for(reader) for one in admitted)
    return frozenset((one.table, one.partition, one.digest, one.facts) for one in inputs)
