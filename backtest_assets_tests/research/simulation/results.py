"""A whole execution of a random little market, stage by stage, for the tests of slices, promotions and gates."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from backtest_assets.domain.event import SideRule
from backtest_assets.domain.run import ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.trials import count_trials
from backtest_assets.research.promotions.decide import promote
from backtest_assets.research.simulation.ledger import Simulation
from backtest_assets.research.walkforward.backtest import measure
from backtest_assets.research.walkforward.splits import plan_table, slice_metrics, summarise
from backtest_assets_tests.research.hypotheses.listed import ledger_of
from backtest_assets_tests.research.simulation.market import (
    A,
    B,
    a_run,
    blueprint,
    blueprints_of,
    context_of,
    funding_at,
    random_bars,
    random_events,
)


@dataclass(frozen=True)
class Results:
    run: ResearchRun
    frames: dict[str, pl.DataFrame]


def random_results(seed: int = 7, *, n_days: int = 60, n_events: int = 240, run: ResearchRun | None = None) -> Results:
    rng = np.random.default_rng(seed)
    run = run or a_run(n_days)
    bars = random_bars(rng, n_bars=n_days * 96)
    funding = funding_at({s: rng.normal(0, 5e-4, 3 * n_days + 1).tolist() for s in (A, B)})
    events = random_events(rng, n_events, n_bars=n_days * 96)
    specs = blueprints_of(
        blueprint("a", stop=0.01, target=0.02, time_stop=16, scale=0.4, cost=run.cost),
        blueprint(
            "b", side_rule=SideRule.WITH_EVENT, time_stop=24, delay=4, stop=0.02, target=0.01, scale=0.4, cost=run.cost
        ),
        blueprint("c", time_stop=4, scale=0.3, symbols=[A], cooldown=9, conditions=["vol_regime_mid"], cost=run.cost),
    )
    context = context_of(bars)
    done = Simulation.of(bars, funding, events, context, specs, run=run)
    ledger, trades = done.ledger, done.trades
    train, validation, test = (slice_metrics(ledger, trades, context, specs, run=run, split=split) for split in Split)
    summary = summarise(train, validation)
    ledgers = pl.concat([ledger_of("t", ["h0", "h1", "h2"]), ledger_of("other", ["h1"], "d2")])
    return Results(
        run,
        {
            "bars_um": bars,
            "settlements_um": funding,
            "event_registry": events,
            "market_context": context,
            "blueprints": specs,
            "simulation_ledger": ledger,
            "trades": trades,
            "backtest_metrics": measure(ledger, trades, specs, run=run),
            "walkforward_splits": plan_table(run=run),
            "walkforward_train": train,
            "walkforward_validation": validation,
            "walkforward_test": test,
            "walkforward_summary": summary,
            "promotions": promote(summary, specs, run=run),
            "trial_ledger": ledgers,
            "trial_counts": count_trials(ledgers, "d1"),
        },
    )
