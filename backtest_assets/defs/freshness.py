"""Whether a partition is up to date: same code, same inputs, same source; what is fresh is not made again."""

from collections.abc import Iterable, Mapping

import dagster as dg

from backtest_assets.defs.code_version import code_version
from backtest_assets.defs.guard import Admitted, Refusal, inspect
from backtest_assets.defs.reads import READS
from backtest_assets.defs.scope import Look, admit
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.lake.publication import Publication
from backtest_assets.lake.store import Lake
from backtest_assets.sources.base import Dataset, Source
from backtest_assets.tables.registry import TABLES


def stale_raw(
    instance: dg.DagsterInstance, lake: Lake, source: Source, dataset: Dataset, partitions: Iterable[Partition]
) -> tuple[list[Partition], list[Refusal]]:
    """Sort out what must be ingested.

    Returns:
        The partitions that are absent, altered, of other code or whose source changed since; and the refusals of those
        that are red and would be red again, because code and source are what they were.
    """
    asked = tuple(partitions)
    inspection = inspect(instance, lake, dataset.value, asked)
    fresh = {
        one.publication.partition
        for one in inspection.admitted
        if _is_unchanged(
            {"code_version": one.publication.code_version, **one.publication.notes},
            source,
            dataset,
            one.publication.partition,
        )
    }
    still_red = [one for one in inspection.refused if _is_unchanged(one.attempt, source, dataset, one.partition)]
    settled = fresh | {one.partition for one in still_red}
    return [partition for partition in asked if partition not in settled], still_red


def _is_unchanged(attempt: Mapping[str, str], source: Source, dataset: Dataset, partition: Partition) -> bool:
    return (
        attempt.get("code_version") == code_version(TABLES[dataset.value])
        and attempt.get("source") == source.identity
        and attempt.get("fingerprint") == source.fingerprint(dataset, partition["symbol"], partition["month"])
    )


def stale_bars(
    instance: dg.DagsterInstance, lake: Lake, table: str, partitions: Iterable[Partition]
) -> tuple[list[Partition], int]:
    """Sort out which bars must be made.

    Returns:
        The partitions that are not made from the current raw month (those whose raw month is refused stay out), and how
        many are as they would be made now.
    """
    asked = tuple(partitions)
    raw = {one.publication.partition: one for one in inspect(instance, lake, READS[table][0].table, asked).admitted}
    fresh = {
        one.publication.partition
        for one in inspect(instance, lake, table, raw).admitted
        if _same_code(one.publication) and _consumed(one.publication) == _offered([raw[one.publication.partition]])
    }
    return [partition for partition in asked if partition in raw and partition not in fresh], len(fresh)


def is_fresh_research(look: Look, table: str, run: ResearchRun, *, is_promoted: bool) -> bool:
    """Return whether a run's table is admitted, of the current code, and made from what the run would read now."""
    inspection = look(table, [Partition.of_run(run.run_id)])
    if inspection.refused or not _same_code(inspection.admitted[0].publication):
        return False
    try:
        offered = [
            one for read in READS[table] if is_promoted or not read.only_if_promoted for one in admit(look, read, run)
        ]
    except dg.Failure:
        return False
    return _consumed(inspection.admitted[0].publication) == _offered(offered)


def _same_code(publication: Publication) -> bool:
    return publication.code_version == code_version(TABLES[publication.table])


def _consumed(publication: Publication) -> frozenset[tuple[str, str, str]]:
    return frozenset((one.table, one.partition, one.digest) for one in publication.inputs)


def _offered(admitted: Iterable[Admitted]) -> frozenset[tuple[str, str, str]]:
    return frozenset((one.as_input.table, one.as_input.partition, one.as_input.digest) for one in admitted)
