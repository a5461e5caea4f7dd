"""Which partitions a run reads; the same answer for reading, for staleness and for the driver."""

from datetime import timedelta

import dagster as dg

from backtest_assets.defs.guard import Admitted, inspect, refusal_failure, require
from backtest_assets.defs.reads import Read
from backtest_assets.domain.clock import months_between
from backtest_assets.domain.market import Partition
from backtest_assets.domain.run import WARMUP_DAYS, ResearchRun
from backtest_assets.lake.store import Lake
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


def admit(instance: dg.DagsterInstance, lake: Lake, read: Read, run: ResearchRun) -> tuple[Admitted, ...]:
    """Return what the run may read of one input.

    Of a market table the window's months are required (unless the read is optional); of the months before it, the
    unbroken stretch of admitted months that ends at the window is taken.

    Raises:
        dagster.Failure: if a required partition is refused.
    """
    if TABLES[read.table].layer == "research":
        return require(instance, lake, read.table, [Partition.of_run(run.run_id)])
    window = inspect(instance, lake, read.table, window_partitions(run))
    if window.refused and not read.is_optional:
        raise refusal_failure(window.refused)
    before = inspect(instance, lake, read.table, warmup_partitions(run))
    admitted = [*_unbroken(run, before.admitted), *window.admitted]
    return tuple(sorted(admitted, key=lambda one: one.publication.partition))


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
