"""Which partitions a run or a month reads; the same answer for reading, for staleness and for the driver."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TypeAlias

from backtest_assets.defs.admission import Admitted, Inspection, Refusal
from backtest_assets.defs.guard import Guard, refusal_failure
from backtest_assets.defs.reads import READS, Read, lacking
from backtest_assets.domain.clock import months_between
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import WARMUP_DAYS, ResearchRun
from backtest_assets.errors import RefusedError
from backtest_assets.sources.open import source_identity
from backtest_assets.tables.registry import TABLES


def window_partitions(run: ResearchRun) -> tuple[Partition, ...]:
    """Return the market partitions that the run's window touches."""
    months = months_between(*run.window)
    return tuple(Partition.of_month(symbol, month) for symbol in run.symbol_list for month in months)


def warmup_partitions(run: ResearchRun) -> tuple[Partition, ...]:
    """Return the market partitions before the window that features may use where they exist."""
    start, _ = run.window
    months = [
        m for m in months_between(start - timedelta(days=WARMUP_DAYS), start) if m not in months_between(*run.window)
    ]
    return tuple(Partition.of_month(symbol, month) for symbol in run.symbol_list for month in months)


Look: TypeAlias = Callable[[str, Iterable[Partition]], Inspection]
"""`Guard.inspect`: asks about partitions of a table."""


def admit_months(
    look: Look, table: str, asked: Iterable[Partition]
) -> Mapping[Partition, tuple[Admitted, ...] | RefusedError]:
    """Return what each month of a derived market table is made from, in the order of its inputs, or why it may not be."""
    months = tuple(asked)
    admitted: dict[Partition, dict[str, Admitted]] = {partition: {} for partition in months}
    refused: dict[Partition, dict[str, Refusal]] = {partition: {} for partition in months}
    for read in READS[table]:
        seen = look(read.table, months)
        for one in seen.admitted:
            admitted[one.publication.partition][read.table] = one
        for refusal in seen.refused:
            refused[refusal.partition][read.table] = refusal
    return {p: _made_from(table, admitted[p], refused[p]) for p in months}


def _made_from(
    table: str, admitted: Mapping[str, Admitted], refused: Mapping[str, Refusal]
) -> tuple[Admitted, ...] | RefusedError:
    missing = lacking(table, admitted.__contains__)
    if missing:
        return RefusedError(f"its input may not be read: {'; '.join(str(refused[name]) for name in missing)}")
    return tuple(admitted.values())


def admit(guard: Guard, read: Read, run: ResearchRun) -> tuple[Admitted, ...]:
    """Return what the run may read of one input.

    Of a market table the window's months are required (unless the read is optional); of the months before it, the
    unbroken stretch of admitted months that ends at the window is taken. Data of another source than the run is frozen
    on are refused (R53). Of a chronicle every run's partition is required, the run's own among them.

    Raises:
        dagster.Failure: if a required partition is refused.
    """
    look = guard.inspect
    if read.is_of_all_runs:
        found = guard.inspect_chronicles(read.table, [Partition.of_run(run.run_id)])
        if found.refused:
            raise refusal_failure(found.refused)
        return found.admitted
    if TABLES[read.table].layer == "research":
        asked = look(read.table, [Partition.of_run(run.run_id)])
        if asked.refused:
            raise refusal_failure(asked.refused)
        return asked.admitted
    window = _of_source(look(read.table, window_partitions(run)), run)
    if window.refused and not read.is_optional:
        raise refusal_failure(window.refused)
    before = _of_source(look(read.table, warmup_partitions(run)), run)
    admitted = [*_unbroken(run, before.admitted), *window.admitted]
    return tuple(sorted(admitted, key=lambda one: one.publication.partition))


def _of_source(seen: Inspection, run: ResearchRun) -> Inspection:
    wanted = source_identity(run.source)
    foreign = [one for one in seen.admitted if one.publication.notes.get("source") != wanted]
    refused = [
        Refusal(
            one.publication.table,
            one.publication.partition,
            f"it holds data of {one.publication.notes.get('source')}, run {run.run_id} is frozen on {wanted}; "
            "use another BACKTEST_DATA_ROOT or another run_id (R53)",
        )
        for one in foreign
    ]
    return Inspection(tuple(one for one in seen.admitted if one not in foreign), (*seen.refused, *refused))


def _unbroken(run: ResearchRun, admitted: tuple[Admitted, ...]) -> list[Admitted]:
    by_partition = {one.publication.partition: one for one in admitted}
    kept: list[Admitted] = []
    for symbol in run.symbol_list:
        mine = [partition for partition in warmup_partitions(run) if partition["symbol"] == symbol]
        for partition in reversed(mine):
            if partition not in by_partition:
                break
            kept.append(by_partition[partition])
    return kept
