"""The plain rule of every tested hypothesis: next open, fixed hold, real costs once, nothing else (R74-R77).

Keep exits, sizing and caps out (`research/simulation`).
"""

from enum import StrEnum
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from backtest_assets.domain.cost import BPS
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.members import RULE, members_of
from backtest_assets.stats.drawdown import max_drawdown
from backtest_assets.stats.sharpe import DAYS_PER_YEAR
from backtest_assets.tables.candidates import NAIVE_ENTRY


class NaiveStatus(StrEnum):
    """What the plain rule came to; NOT_RUN is neither a pass nor a failure of it."""

    PASS = "PASS"  # noqa: S105  # a verdict
    FAIL = "FAIL"
    NOT_RUN = "NOT_RUN"


NAIVE_NUMBERS: Final = (
    "net_mean_train_bps",
    "net_mean_validation_bps",
    "net_mean_bps",
    "sharpe_annual",
    "max_drawdown",
)
"""What is unknown where the plain rule was not run."""


def enter_naively(
    hypotheses: pl.DataFrame,
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    *,
    run: ResearchRun,
) -> pl.DataFrame:
    """Trade every tested hypothesis plainly and hold what came of it against the run's limits.

    Every event is entered at the next open after `known_at` and the hypothesis' own delay, with one unit of notional,
    overlapping or not, and left at the time exit.

    Args:
        hypotheses: table hypotheses.
        outcomes: table event_outcomes.
        events: table event_registry.
        context: table market_context.
        run: gives costs and limits, and whether the rule is evaluated at all.

    Returns:
        Table naive_entry, one row per tested hypothesis. Trades are counted over the run window; returns are of train and
        validation only.

    Raises:
        TableError: if outcomes and events do not belong together (see `trades`).

    Knows:
        outcomes of train and validation; of test only how many events there are.
    """
    tested = hypotheses.filter(pl.col("is_eligible"))
    named = tested.select("hypothesis_id", *RULE, "n_run", "n_train", "n_validation")
    if run.run_naive_entry_eval and not tested.is_empty():
        numbers = _measure(members_of(tested, outcomes, events, context, run=run).joined(), run)
    else:
        numbers = pl.DataFrame(schema={"hypothesis_id": pl.String, **dict.fromkeys(NAIVE_NUMBERS, pl.Float64)})
    measured = named.join(numbers, on="hypothesis_id", how="left")
    return NAIVE_ENTRY.conform(measured.with_columns(**_verdicts(run)))


def _measure(trades: pl.DataFrame, run: ResearchRun) -> pl.DataFrame:
    """Return the numbers of every hypothesis over its trades, which are in the order in which they became known."""
    net, years = pl.col("net"), _years(run)
    means = trades.group_by("hypothesis_id", maintain_order=True).agg(
        net_mean_train_bps=net.filter(pl.col("split") == Split.TRAIN).mean(),
        net_mean_validation_bps=net.filter(pl.col("split") == Split.VALIDATION).mean(),
        net_mean_bps=net.mean(),
        sharpe_annual=net.mean() / pl.when(net.std() > 0).then(net.std()) * (pl.len() / years).sqrt(),
    )
    # What became known at one instant is entered at one instant: its order among symbols means nothing.
    steps = trades.group_by("hypothesis_id", "known_at", maintain_order=True).agg(net.sum())
    fallen = steps.group_by("hypothesis_id", maintain_order=True).agg(net)
    drawdowns = [_drawdown(np.array(moves, dtype=np.float64)) for moves in fallen["net"].to_list()]
    return means.with_columns(max_drawdown=pl.Series(drawdowns, dtype=pl.Float64).fill_nan(None))


def _drawdown(net_bps: NDArray[np.float64]) -> float:
    """Return the deepest fall of 1 + the running sum from its peak; an account at 0 is ruined."""
    return max_drawdown(np.maximum(1.0 + BPS * np.concatenate(([0.0], net_bps.cumsum())), 0.0))


def _years(run: ResearchRun) -> float:
    days = run.splits[Split.TRAIN].n_days + run.splits[Split.VALIDATION].n_days
    return days / DAYS_PER_YEAR


def _verdicts(run: ResearchRun) -> dict[str, pl.Expr]:
    asked = {
        f"naive_min_trades {run.naive_min_trades}": pl.col("n_run") >= run.naive_min_trades,
        f"naive_min_expectancy_after_cost {run.naive_min_expectancy_after_cost:g}": pl.col("net_mean_bps") * BPS
        >= run.naive_min_expectancy_after_cost,
        f"naive_max_drawdown {run.naive_max_drawdown:g}": pl.col("max_drawdown") >= run.naive_max_drawdown,
    }
    kept = {name: rule.fill_null(value=False) for name, rule in asked.items()}
    red = pl.concat_list(pl.when(~rule).then(pl.lit(name)) for name, rule in kept.items()).list.drop_nulls()
    if not run.run_naive_entry_eval:
        never = pl.lit("run_naive_entry_eval 0")
        return {"status": pl.lit(NaiveStatus.NOT_RUN.value), "is_passed": pl.lit(value=False), "fail_reasons": never}
    is_passed = pl.all_horizontal(kept.values())
    status = pl.when(is_passed).then(pl.lit(NaiveStatus.PASS.value)).otherwise(pl.lit(NaiveStatus.FAIL.value))
    return {"status": status, "is_passed": is_passed, "fail_reasons": red.list.join(",")}
