"""What phase 2 tests when the run obeys the queue, and in which order. Keep making the queue out (`build`)."""

from collections.abc import Mapping

import polars as pl

from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.sensor import Bucket
from backtest_assets.errors import TableError
from backtest_assets.research.hypotheses.queue.mechanism import BUCKET_HOLDS
from backtest_assets.research.hypotheses.rules import HypothesisRule, declared_rules


def rank_rules(run: ResearchRun, queue: pl.DataFrame) -> Mapping[HypothesisRule, int]:
    """Return the declared hypotheses that the queue asks for, each with the best rank that asks for it.

    A row that is tested asks for both sides of its family, at the holds of its bucket, under its condition or under all.

    Args:
        run: gives what is declared.
        queue: table hypothesis_queue.

    Returns:
        By rank, in declared order within one; empty if nothing is asked for.

    Raises:
        TableError: if the queue says nothing of a family of the run.

    Knows:
        the queue, no outcome.
    """
    silent = [family.value for family in run.event_types if family not in set(queue["event_type"].to_list())]
    if silent:
        message = (
            f"table hypothesis_queue, run {run.run_id}: no row of {', '.join(silent)}; make hypothesis_queue again "
            "with this run's settings"
        )
        raise TableError(message)
    asked: dict[tuple[str, int, str], int] = {}
    tested = queue.filter(pl.col("is_tested")).sort("rank").select("event_type", "horizon_bucket", "condition", "rank")
    for family, bucket, condition, rank in tested.iter_rows():
        for hold in BUCKET_HOLDS[Bucket(bucket)]:
            asked.setdefault((family, hold, condition), rank)
    found = {rule: _best(rule, asked) for rule in declared_rules(run)}
    ranked = sorted((rank, number, rule) for number, (rule, rank) in enumerate(found.items()) if rank is not None)
    return {rule: rank for rank, _, rule in ranked}


def queued_rules(run: ResearchRun, queue: pl.DataFrame) -> tuple[HypothesisRule, ...]:
    """Return the hypotheses that phase 2 tests when it obeys the queue, in the order of the queue.

    Args:
        run: gives what is declared.
        queue: table hypothesis_queue.

    Returns:
        A subset of `declared_rules`.

    Raises:
        TableError: if the queue says nothing of a family of the run.

    Knows:
        the queue, no outcome.
    """
    return tuple(rank_rules(run, queue))


def _best(rule: HypothesisRule, asked: Mapping[tuple[str, int, str], int]) -> int | None:
    keys = ((rule.event_type.value, rule.hold_bars, name) for name in (rule.condition.name, ""))
    ranks = [asked[key] for key in keys if key in asked]
    return min(ranks, default=None)
