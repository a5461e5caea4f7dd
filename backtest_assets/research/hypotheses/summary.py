"""What the joint inference of a run rests on: numbers of all tested hypotheses together, shown beside the deciding ones.

Nothing here decides; the deciding chain lives in `inference`.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import EventType, SideRule, Variant
from backtest_assets.domain.run import SEED, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.criteria import MAX_ADJUSTED_P
from backtest_assets.research.hypotheses.days import DaySums, book_days
from backtest_assets.research.hypotheses.inference import clustered_means, day_gains, draw_luckiest
from backtest_assets.research.hypotheses.rules import HypothesisRule
from backtest_assets.research.hypotheses.study import eligible_rules
from backtest_assets.research.hypotheses.trades import asked_events, priced_trades, run_conditions, train_drift
from backtest_assets.stats.bootstrap import N_DRAWS
from backtest_assets.stats.dependence import day_lag, optimal_block_length
from backtest_assets.stats.overfitting import effective_rank_of
from backtest_assets.stats.spa import N_DRAWS as N_SPA_DRAWS
from backtest_assets.stats.spa import superior_ability
from backtest_assets.tables.hypotheses import INFERENCE_SUMMARY

SUMMARY: Final = {
    "n_tested": "hypotheses",
    "luckiest_null_t": "standard errors",
    "n_wild_draws": "draws",
    "effective_rank": "trials",
    "spa_statistic": "standard errors",
    "spa_p_lower": "probability",
    "spa_p_consistent": "probability",
    "spa_p_upper": "probability",
    "spa_block_length": "days",
    "n_spa_draws": "draws",
    "day_lag_mean": "correlation",
    "day_lag_p": "probability",
}
"""What is shown, with its unit, in the order of reading."""

_SHOWN_STREAM: Final = 1
"""Second word of the seed: what is shown draws nothing from the stream that decides."""


def summarise_inference(
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    hypotheses: pl.DataFrame,
    *,
    run: ResearchRun,
    queue: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Say how hard the tested hypotheses of a run were to pass together, and whether the bootstrap's assumption holds.

    Args:
        outcomes: table event_outcomes.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um; gives each symbol's drift on train.
        hypotheses: table hypotheses; says which were tested. Where the run enumerates one family alone, the others, which it
            adjusts for too, are found again.
        run: gives families and costs.
        queue: table hypothesis_queue; needed where the run obeys it and enumerates one family alone, else not looked at.

    Returns:
        Table inference_summary, one row per number of `SUMMARY`; null where it is unknown, all but the first if nothing
        was tested.

    Raises:
        TableError: if the tables do not belong together (see `trades`, `days`), or the queue is missing.

    Knows:
        outcomes of train; of validation only how many events there are.
    """
    is_whole = set(run.phase2_families) == set(run.event_types)
    rules = (
        tested_rules(hypotheses) if is_whole else eligible_rules(outcomes, events, context, bars, run=run, queue=queue)
    )
    found: dict[str, float] = {"n_tested": float(len(rules))}
    if rules:
        own = outcomes.filter(
            pl.col("variant") == Variant.CENTRE,
            pl.col("delay_bars").is_in(run.entry_delays),
            pl.col("split") == Split.TRAIN,
        )
        trades = priced_trades(own, asked_events(events, context, run=run), train_drift(bars, run=run), run=run)
        found |= _numbers(rules, book_days(trades, run_conditions(run), run=run, split=Split.TRAIN), run)
    values = [found.get(name, math.nan) for name in SUMMARY]
    frame = pl.DataFrame({"statistic": list(SUMMARY), "value": values, "unit": list(SUMMARY.values())})
    read = pl.Series("detail", [_reading(name, found) for name in SUMMARY])
    return INFERENCE_SUMMARY.conform(frame.with_columns(pl.col("value").fill_nan(None), read))


def tested_rules(hypotheses: pl.DataFrame) -> tuple[HypothesisRule, ...]:
    """Return the rules of the hypotheses that were tested.

    Args:
        hypotheses: table hypotheses.

    Returns:
        One rule per eligible row, in the order of its rows.

    Knows:
        counts of train and validation.
    """
    rows = hypotheses.filter(pl.col("is_eligible")).select(
        "event_type", "condition", "side_rule", "hold_bars", "delay_bars"
    )
    return tuple(
        HypothesisRule(EventType(family), Condition(condition), SideRule(side), hold, delay)
        for family, condition, side, hold, delay in rows.iter_rows()
    )


def _numbers(rules: Sequence[HypothesisRule], sums: DaySums, run: ResearchRun) -> dict[str, float]:
    cost = run.cost.round_trip_bps
    luckiest = draw_luckiest(rules, sums, np.random.default_rng(SEED))
    rng = np.random.default_rng((SEED, _SHOWN_STREAM))
    gains, residuals = day_gains(rules, sums, cost_bps=cost).T, clustered_means(rules, sums, cost_bps=cost).residuals.T
    lengths = optimal_block_length(gains).stationary
    known = lengths[~np.isnan(lengths)]
    block = max(1.0, float(np.median(known))) if known.size else 1.0
    ability = superior_ability(gains, rng, block_length=block)
    lag = day_lag(residuals, rng, n_draws=N_DRAWS)
    rho = lag.rho[~np.isnan(lag.rho)]
    return {
        "luckiest_null_t": luckiest,
        "n_wild_draws": float(N_DRAWS),
        "effective_rank": effective_rank_of(residuals),
        "spa_statistic": ability.statistic,
        "spa_p_lower": ability.p_lower,
        "spa_p_consistent": ability.p_consistent,
        "spa_p_upper": ability.p_upper,
        "spa_block_length": block,
        "n_spa_draws": float(N_SPA_DRAWS),
        "day_lag_mean": float(rho.mean()) if rho.size else math.nan,
        "day_lag_p": lag.p,
    }


def _reading(name: str, found: dict[str, float]) -> str:
    """Say in words what a number means here."""
    n = found["n_tested"]
    if not n:
        return "no hypothesis was tested"
    if math.isnan(found[name]):
        return "unknown: no tested hypothesis shows scatter on train"
    is_better = found["spa_p_consistent"] <= MAX_ADJUSTED_P
    is_apart = found["day_lag_p"] > MAX_ADJUSTED_P
    return {
        "n_tested": "hypotheses with enough events and days; the adjustment is over all of them",
        "luckiest_null_t": f"t that the luckiest of {n:.0f} hypotheses shows without any edge; the penalty is k x se x this",
        "n_wild_draws": "draws of the shared wild day bootstrap, which decides",
        "effective_rank": f"what {n:.0f} correlated hypotheses are worth in independent ones: effective rank of their days",
        "spa_statistic": "largest studentised mean per day; shown, not deciding",
        "spa_p_lower": "too small by construction: the losers are left out",
        "spa_p_consistent": (
            f"the best of {n:.0f} is {'better' if is_better else 'no better'} than luck at {MAX_ADJUSTED_P}; "
            "shown, not deciding"
        ),
        "spa_p_upper": "too large by construction: the losers count as harmless (reality check)",
        "spa_block_length": "median over hypotheses of the length that suits their day sums (Politis and White)",
        "n_spa_draws": "draws of the stationary bootstrap",
        "day_lag_mean": "mean over hypotheses of the correlation between residuals of neighbouring days",
        "day_lag_p": (
            "neighbouring days are uncorrelated, as the wild day bootstrap takes for granted"
            if is_apart
            else "neighbouring days hang together: the p-values that decide may be too small"
        ),
    }[name]
