"""What became of the best of a run's tested hypotheses on days it was not chosen on; the limit stays out (`promotions`).

The configurations are what was selected among: every tested hypothesis of the run, by its days of train and validation.
They are taken before costs. A cost is booked to both halves of time alike: rules that trade often would rank below in both,
and every search, of nothing too, would look robust. Before costs each rule has its mirror image beside it, so the median is
about nothing, and the share says how often the best rule of one half is worth nothing in the other. Costs have gates of
their own.
"""

from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.event import Variant
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.days import book_days
from backtest_assets.research.hypotheses.inference import day_gains
from backtest_assets.research.hypotheses.summary import tested_rules
from backtest_assets.research.hypotheses.trades import asked_events, priced_trades, run_conditions, train_drift
from backtest_assets.stats.overfitting import Overfitting, overfitting_probability

N_BLOCKS: Final = 10
"""Blocks of time [blocks]: 252 halves. Of noise the share scatters by .2 from market to market, however many there are."""


def search_overfitting(
    outcomes: pl.DataFrame,
    events: pl.DataFrame,
    context: pl.DataFrame,
    bars: pl.DataFrame,
    hypotheses: pl.DataFrame,
    *,
    run: ResearchRun,
) -> Overfitting:
    """Estimate how often the best of the tested hypotheses on half of the days is no better than the median on the others.

    Args:
        outcomes: table event_outcomes.
        events: table event_registry.
        context: table market_context.
        bars: table bars_um; gives each symbol's drift on train.
        hypotheses: table hypotheses; says which were tested.
        run: gives families, delays and splits.

    Returns:
        Probability, mean logit and counts; NaN with fewer than two hypotheses that show scatter, or than two days a block.

    Raises:
        TableError: if the tables do not belong together (see `trades`, `days`).

    Knows:
        outcomes of train and validation.
    """
    rules = tested_rules(hypotheses)
    if not rules:
        return Overfitting(float("nan"), float("nan"), 0, 0)
    own = outcomes.filter(
        pl.col("variant") == Variant.CENTRE,
        pl.col("control_no") == 0,
        pl.col("delay_bars").is_in(run.entry_delays),
        pl.col("event_type").is_in({rule.event_type.value for rule in rules}),
    )
    trades = priced_trades(own, asked_events(events, context, run=run), train_drift(bars, run=run), run=run)
    asked = {rule.condition.name for rule in rules}
    conditions = [name for name in run_conditions(run) if name in asked]
    days = [
        day_gains(rules, book_days(trades, conditions, run=run, split=split), cost_bps=0.0)
        for split in (Split.TRAIN, Split.VALIDATION)
    ]
    returns = np.concatenate(days, axis=1).T
    if returns.shape[0] < 2 * N_BLOCKS:
        return Overfitting(float("nan"), float("nan"), returns.shape[1], 0)
    return overfitting_probability(returns, n_blocks=N_BLOCKS)
