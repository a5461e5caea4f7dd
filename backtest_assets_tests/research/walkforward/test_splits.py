import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError
from backtest_assets.research.simulation.ledger import Simulation
from backtest_assets.research.walkforward.backtest import measure
from backtest_assets.research.walkforward.splits import REGIME_LEAD, slice_metrics, summarise
from backtest_assets.stats.drawdown import loss_clusters
from backtest_assets_tests.research.simulation.market import (
    START,
    A,
    a_run,
    blueprint,
    blueprints_of,
    context_of,
    events_at,
    features_of,
    no_funding,
    set_bars,
)
from backtest_assets_tests.research.simulation.results import random_results

RUN = a_run(60, symbols=A)
DONE = random_results()


def day_trades(moves, *, run, scale):
    """One trade a day from day 1 on, entered at 10:00 at 100 and left an hour later at 100 + move."""
    n_days = (run.window[1] - run.window[0]).days
    entries = [96 * (d + 1) + 40 for d in range(len(moves))]
    bars = set_bars({bar + 4: (100 + move,) * 4 for bar, move in zip(entries, moves, strict=True)}, n_bars=n_days * 96)
    specs = blueprints_of(
        blueprint(scale=scale, cost=run.cost),
        blueprint("idle", conditions=["vol_regime_high", "vol_regime_low"], cost=run.cost),
    )
    context = context_of(bars)
    done = Simulation.of(
        bars, no_funding(n_days, symbols=[A]), events_at(entries), context, specs, features=features_of(bars), run=run
    )
    return done, context, specs, bars


def metrics(moves, split=Split.TRAIN, name="bp", run=RUN, scale=0.5):
    done, context, specs, bars = day_trades(moves, run=run, scale=scale)
    found = slice_metrics(done.ledger, done.trades, context, specs, bars, run=run, split=split).filter(
        blueprint_id=name
    )
    return dict(found.select("metric", "value").iter_rows())


FREE = a_run(60, symbols=A, fees_bps=0.0, slippage_bps=0.0)
LONG = a_run(160, symbols=A, fees_bps=0.0, slippage_bps=0.0)


def test_r59_r99_sums_costs_and_stress_of_a_worked_slice():
    found = metrics([2.0, -1.0, 3.0])
    cost = 3 * 0.5 * 12e-4
    expected = {
        "n_trades": 3,
        "win_rate": 2 / 3,
        "gross": 0.02,
        "cost": cost,
        "net": 0.02 - cost,
        "stressed_net": 0.02 - 2 * cost,
        "cost_ratio": cost / 0.02,
        "expectancy_bps": 1e4 * 0.04 / 3 - 12,
        "turnover": 3.0,
        "exposure_frac": 15 / (36 * 96),
    }
    assert pytest.approx(expected, abs=1e-12) == {name: found[name] for name in expected}


def test_r62_r96_losing_days_cluster_over_the_days_with_a_position_on_unit_exposure():
    # days: + - - 0 - + - - - : clusters of 2, 1 and 3 days with losses 3, 1 and 4.5
    moves = [1, -1, -2, 0, -1, 1, -1, -1.5, -2]
    found = metrics(moves, run=FREE)
    assert (
        found["loss_cluster_count"],
        found["max_loss_cluster_len"],
        found["cluster_loss_concentration"],
    ) == (3, 3, None)
    assert pytest.approx(np.quantile([2, 1, 3], 0.95)) == found["p95_loss_cluster_len"]
    daily = np.zeros(36)
    daily[1 : 1 + len(moves)] = np.array(moves) / 100
    equity = np.cumprod(1 + daily)
    drawdown = equity / np.maximum(np.maximum.accumulate(equity), 1.0) - 1
    tail = drawdown[drawdown <= np.quantile(drawdown, 0.05)].mean()
    assert pytest.approx(tail) == found["tail_conditional_drawdown"]


def test_unit_exposure_makes_loss_metrics_independent_of_the_position_size():
    moves = [1, -1, -2, 1, -1, 1, -3, 1, -1, 1, -2, 1] * 5
    small, large = metrics(moves, run=LONG, scale=0.05), metrics(moves, run=LONG, scale=1.0)
    for name in ("max_loss_cluster_len", "cluster_loss_concentration", "tail_conditional_drawdown"):
        assert pytest.approx(large[name], rel=1e-9) == small[name]


def test_r28_r97_concentration_is_the_share_of_the_largest_clusters():
    moves = [-1, 1] * 20 + [-9, 1, -1, -8, 1]  # 22 clusters, the largest three lose 9, 9 and 1
    assert pytest.approx(19 / 38) == metrics(moves, run=LONG)["cluster_loss_concentration"]


def test_few_loss_clusters_are_judged_on_train_and_validation_together_or_not_at_all():
    assert metrics([-1, 1] * 15, run=LONG)["cluster_loss_concentration"] is None
    spread = [-1, 1] * 16 + [1] * 64 + [-1, 1] * 6  # 16 clusters on train, 6 on validation
    both = [
        metrics(spread, run=LONG, split=split)["cluster_loss_concentration"]
        for split in (Split.TRAIN, Split.VALIDATION)
    ]
    assert both == [pytest.approx(3 / 22), pytest.approx(3 / 22)]


def test_losses_by_chance_alone_keep_the_concentration_limit():
    rng = np.random.default_rng(5)
    for n_clusters in (22, 23, 25, 30, 31, 50):
        losses = np.stack(
            [rng.exponential(size=2000 * n_clusters).reshape(2000, -1), np.zeros((2000, n_clusters))], axis=2
        )
        failed = [loss_clusters(-row.ravel(), top_frac=0.10).concentration > 0.5 for row in losses]
        assert np.mean(failed) <= 0.05, n_clusters


def test_losses_in_other_regimes_do_not_spread_a_profit():
    moves = [3, -1, -1] * 4  # low wins, mid and high lose
    assert metrics(moves, run=FREE)["max_regime_share"] == 1.0


def test_r61_r94_regime_shares_are_of_profit_by_the_market_regime_a_day_before_the_trigger():
    assert timedelta(days=1) == REGIME_LEAD
    moves = [3, 0, 1, 3, 0, 1, 3, 0, 1, 3, 0, 1]  # triggers on days 1.., whose day before is low, mid, high, low, ...
    found = metrics(moves, run=FREE)
    assert pytest.approx({"low": 0.75, "mid": 0.0, "high": 0.25, "unknown": 0.0}) == {
        regime: found[f"regime_share_vol_{regime}"] for regime in ("low", "mid", "high", "unknown")
    }
    assert pytest.approx(0.75) == found["max_regime_share"]


def test_too_few_trades_have_no_regime_shares_and_no_gross_profit_has_no_cost_ratio():
    found = metrics([-1.0] * 9)
    assert (found["max_regime_share"], found["cost_ratio"]) == (None, None)


def test_a_blueprint_that_never_traded_is_listed_with_zeros_and_nulls():
    found = metrics([1.0, 2.0], name="idle")
    assert (found["n_trades"], found["net"], found["ending_equity"], found["max_drawdown"]) == (0, 0, 1, 0)
    for name in (
        "win_rate",
        "cost_ratio",
        "max_regime_share",
        "max_loss_cluster_len",
        "tail_conditional_drawdown",
        "sharpe_daily_annualised",
    ):
        assert found[name] is None


def test_r29_r98_equity_compounds_the_bars_of_the_portfolio():
    found = metrics([10.0, -10.0], run=FREE, scale=1.0, name="portfolio")
    assert pytest.approx(1.1 * 0.9) == found["ending_equity"]
    assert pytest.approx(-0.1) == found["max_drawdown"]


def test_r60_a_slice_is_the_ledger_of_its_split_and_the_portfolio_the_sum_of_its_blueprints():
    ledger = DONE.frames["simulation_ledger"]
    for split in Split:
        found = DONE.frames[f"walkforward_{split.value}"].filter(metric="net")
        values = dict(found.select("blueprint_id", "value").iter_rows())
        assert {"portfolio", "a", "b", "c"} == set(values)
        of_split = DONE.frames["trades"].filter(split=split.value)
        booked = ledger.join(of_split, on="trade_id", how="semi")
        assert math.isclose(values["portfolio"], booked["net_pnl"].sum(), abs_tol=1e-12)
        assert math.isclose(values["portfolio"], values["a"] + values["b"] + values["c"], abs_tol=1e-12)


def test_the_summary_is_train_and_validation_and_refuses_unequal_sets():
    train, validation = DONE.frames["walkforward_train"], DONE.frames["walkforward_validation"]
    summary = summarise(train, validation)
    assert (["train", "validation"], 2 * train.height) == (summary["split"].unique().sort().to_list(), summary.height)
    for pair in ((train.filter(pl.col("blueprint_id") != "c"), validation), (train.clear(), validation.clear())):
        with pytest.raises(RefusedError, match="walkforward_summary"):
            summarise(*pair)


def test_the_backtest_metrics_never_look_at_the_test_window():
    frames, run = DONE.frames, DONE.run
    opened = run.splits[Split.TEST].start
    late_rows, late = pl.col("known_at") > opened, frames["trades"].filter(pl.col("known_at") > opened)["trade_id"]
    of_late = pl.col("trade_id").is_in(late.implode())
    poisoned = (
        frames["simulation_ledger"].with_columns(pl.when(of_late).then(9.9).otherwise("net_pnl").alias("net_pnl")),
        frames["trades"].with_columns(pl.when(late_rows).then(9.9).otherwise("net_pnl").alias("net_pnl")),
    )
    assert late.len() > 20
    assert frames["backtest_metrics"].equals(measure(*poisoned, frames["blueprints"], frames["bars_um"], run=run))


def test_discovery_is_train_validation_and_the_purged_between_them():
    frames, run = DONE.frames, DONE.run
    before = frames["trades"].filter(pl.col("known_at") <= run.splits[Split.TEST].start)
    net = frames["backtest_metrics"].filter(scope="portfolio", split="discovery", metric="net")["value"][0]
    assert math.isclose(before["net_pnl"].sum(), net, abs_tol=1e-12)
    assert {"train", "validation", "purged"} == set(before["split"])


def test_days_without_a_position_count_in_the_sharpe_ratio():
    found = metrics([1.0, -0.5, 2.0], run=FREE, scale=1.0)
    days = np.zeros(36)
    days[1:4] = [0.01, -0.005, 0.02]
    assert pytest.approx(days.mean() / days.std(ddof=1) * math.sqrt(365)) == found["sharpe_daily_annualised"]
    assert FREE.splits[Split.TRAIN].end == START + 36 * 96 * BAR
