"""A whole execution of a random little market, stage by stage, for the tests of slices, promotions and gates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from backtest_assets.domain.blueprint import Blueprint, Confirmation, Invalidation, Overlay
from backtest_assets.domain.event import SideRule
from backtest_assets.domain.run import HOLD_GRID_BARS, ResearchRun
from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.trials import count_trials
from backtest_assets.research.outcomes.measure import measure_outcomes
from backtest_assets.research.promotions.allocate import allocate
from backtest_assets.research.promotions.decide import promote
from backtest_assets.research.promotions.evidence import MeasuredBlueprints, PromotionSources
from backtest_assets.research.promotions.neighbours import simulate_neighbours
from backtest_assets.research.simulation.ledger import Simulation
from backtest_assets.research.walkforward.backtest import measure
from backtest_assets.research.walkforward.splits import plan_table, slice_metrics, summarise
from backtest_assets.tables.events import EVENT_CONTROLS
from backtest_assets.tables.hypotheses import HYPOTHESES
from backtest_assets_tests.research.hypotheses.listed import ledger_of
from backtest_assets_tests.research.simulation.market import (
    SHOCK,
    A,
    B,
    a_run,
    blueprint,
    blueprints_of,
    context_of,
    features_of,
    funding_at,
    random_bars,
    random_events,
)


@dataclass(frozen=True)
class Results:
    run: ResearchRun
    frames: dict[str, pl.DataFrame]


def every_field(run: ResearchRun) -> tuple[Blueprint, ...]:
    """Blueprints that use, together, every field that execution obeys."""
    guards = [
        Overlay("liquidity_guard", (("min_notional", 200.0),)),
        Overlay("cross_venue_guard", (("max_desync_bps", 12.0),)),
        Overlay("session_guard", (("session", "eu"),)),
        Overlay("risk_throttle", (("size_scale", 0.5),)),
    ]
    confirmed = (Confirmation("breakout_confirmation", "entry"), Confirmation("cross_venue_consensus_pass"))
    return (
        blueprint(
            "a", time_stop=32, cost=run.cost, overlays=guards, delay=2, entry={"arm_bars": 3, "reentry_lockout_bars": 5},
            leave={"stop_type": "atr", "stop_value": 1.5, "trailing_stop_type": "range_pct", "trailing_stop_value": 0.4},
            sizing={"mode": "fixed_risk", "position_scale": None, "risk_per_trade": 0.004, "max_position_scale": 0.5},
        ),
        blueprint(
            "b", side_rule=SideRule.WITH_EVENT, time_stop=32, stop=0.012, target=0.03, cost=run.cost, delay=2,
            entry={"confirmations": confirmed}, overlays=[Overlay("cross_venue_guard", (("max_desync_bps", 12.0),))],
            leave={"break_even_r": 0.8},
            sizing={"mode": "vol_target", "position_scale": None, "target_vol": 0.2, "max_position_scale": 0.4},
        ),
        blueprint(
            "c", side_rule=SideRule.SHORT, time_stop=32, cost=run.cost, scale=0.3, symbols=[A],
            leave={"invalidation": Invalidation("basis_bps", ">", 15.0), "target_type": "range_pct", "target_value": 0.8},
            sizing={"symbol_risk_budget": 0.9, "portfolio_risk_budget": 0.9},
        ),
    )  # fmt: skip


def telling_features(bars: pl.DataFrame) -> pl.DataFrame:
    """Features that are simple functions of the bar, unknown on gaps."""
    move = pl.col("close") / pl.col("open") - 1
    return features_of(
        bars, range_96_frac=0.02 + move.abs(), basis_bps=move * 2000, rv_96=0.004 + move.abs(), logret_1=move
    )


def random_results(
    seed: int = 7,
    *,
    n_days: int = 60,
    n_events: int = 240,
    run: ResearchRun | None = None,
    specs: Callable[[ResearchRun], Sequence[Blueprint]] | None = None,
    bars_from: Mapping[str, datetime] | None = None,
) -> Results:
    rng = np.random.default_rng(seed)
    run = run or a_run(n_days)
    bars = random_bars(rng, n_bars=n_days * 96)
    for symbol, listed in (bars_from or {}).items():
        bars = bars.filter((pl.col("symbol") != symbol) | (pl.col("open_at") >= listed))
    funding = funding_at({s: rng.normal(0, 5e-4, 3 * n_days + 1).tolist() for s in (A, B)})
    events = random_events(rng, n_events, n_bars=n_days * 96)
    plain = (
        blueprint("a", stop=0.01, target=0.02, time_stop=16, scale=0.4, cost=run.cost),
        blueprint(
            "b", side_rule=SideRule.WITH_EVENT, time_stop=24, delay=4, stop=0.02, target=0.01, scale=0.4, cost=run.cost
        ),
        blueprint("c", time_stop=4, scale=0.3, symbols=[A], cooldown=9, conditions=["vol_regime_mid"], cost=run.cost),
    )
    context = context_of(bars)
    bars = bars.with_columns(volume_quote=pl.col("close") * (1 + pl.col("open") % 3))
    features = telling_features(bars)
    table = blueprints_of(*(specs(run) if specs else plain))
    done = Simulation.of(bars, funding, events, context, table, features=features, run=run)
    ledger, trades = done.ledger, done.trades
    train, validation, test = (
        slice_metrics(ledger, trades, context, table, bars, run=run, split=split) for split in Split
    )
    summary = summarise(train, validation)
    neighbours = simulate_neighbours(bars, funding, events, context, table, features=features, run=run)
    outcomes = measure_outcomes(bars, funding, events, EVENT_CONTROLS.empty(), run=run)
    ledgers = pl.concat([ledger_of("t", ["h0", "h1", "h2"]), ledger_of("other", ["h1"], "d2")])
    frames = {
        "bars_um": bars,
        "settlements_um": funding,
        "event_registry": events,
        "market_context": context,
        "features": features,
        "blueprints": table,
        "simulation_ledger": ledger,
        "trades": trades,
        "backtest_metrics": measure(ledger, trades, table, bars, run=run),
        "walkforward_splits": plan_table(run=run),
        "walkforward_train": train,
        "walkforward_validation": validation,
        "walkforward_test": test,
        "walkforward_summary": summary,
        "blueprint_neighbours": neighbours,
        "event_outcomes": outcomes,
        "hypotheses": tested_shocks(rng),
        "trial_ledger": ledgers,
        "trial_counts": count_trials(ledgers, "d1"),
    }
    held = [symbol for symbol in run.symbol_list if symbol in set(bars["symbol"])]
    tested = replace(run, symbols=",".join(held))  # hypotheses are never tested on a symbol without bars
    measured = MeasuredBlueprints.of(PromotionSources.of(frames), run=tested)
    frames["promotions"] = promote(summary, table, measured, run=run)
    read = ("promotions", "blueprints", "hypotheses", "simulation_ledger", "trades")
    frames["capital_allocation"] = allocate(*(frames[name] for name in read), run=run)
    return Results(run, frames)


def tested_shocks(rng: np.random.Generator) -> pl.DataFrame:
    """Hypotheses on the events of these markets as if they had been tested, with what they showed on train."""
    cells = [
        (condition, side, hold)
        for condition in ("all", "vol_regime_low", "vol_regime_mid")
        for side in ("long", "short")
        for hold in HOLD_GRID_BARS
    ]
    shown = rng.normal(-12.0, 9.0, len(cells))
    return HYPOTHESES.conform(
        HYPOTHESES.sample(1, len(cells)).with_columns(
            pl.DataFrame(cells, schema=["condition", "side_rule", "hold_bars"], orient="row").cast(
                {"hold_bars": pl.Int32}
            ),
            event_type=pl.lit(SHOCK.value),
            is_eligible=pl.lit(value=True),
            delay_bars=pl.lit(0, pl.Int32),
            excess_mean_train_bps=pl.Series(shown),
            se_train_bps=pl.Series(rng.uniform(6.0, 9.0, len(cells))),
        )
    )
