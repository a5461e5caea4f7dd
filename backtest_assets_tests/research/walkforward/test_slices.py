"""What every slice is asked, on hand-set trades and against brute force over random ones."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from scipy import stats

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.cost import CostModel
from backtest_assets.domain.event import SideRule
from backtest_assets.domain.split import Split
from backtest_assets.research.simulation.ledger import Simulation
from backtest_assets.research.walkforward.backtest import measure
from backtest_assets.research.walkforward.costs import COST_MULTIPLES
from backtest_assets.research.walkforward.splits import slice_metrics
from backtest_assets_tests.research.simulation.market import (
    START,
    A,
    B,
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
from backtest_assets_tests.research.walkforward.test_splits import metrics

RUN = a_run(60)
TRAIN_BARS = 36 * 96
DONE = random_results()


def two_sided():
    """A long blueprint of A and a short one of B: 8 and 4 bars held, one loss each, twice at the same time."""
    cost = CostModel(4.0, 2.0)
    bars = pl.concat(
        [
            set_bars({136: (102,) * 4, 140: (99, 103, 99, 101), 240: (99,) * 4}, n_bars=60 * 96),
            set_bars({140: (97,) * 4, 236: (101,) * 4}, n_bars=60 * 96, symbol=B),
        ]
    )
    specs = blueprints_of(
        blueprint("up", time_stop=8, scale=0.5, symbols=[A], cost=cost),
        blueprint("down", side_rule=SideRule.SHORT, time_stop=4, scale=0.25, symbols=[B], cost=cost),
    )
    events = pl.concat([events_at([128, 232]), events_at([136, 232], symbol=B)])
    context = context_of(bars)
    done = Simulation.of(bars, no_funding(60), events, context, specs, features=features_of(bars), run=RUN)
    found = slice_metrics(done.ledger, done.trades, context, specs, bars, run=RUN, split=Split.TRAIN)
    return {name: dict(found.filter(blueprint_id=name).select("metric", "value").iter_rows()) for name in ("portfolio", "up", "down")}  # fmt: skip


def test_exposure_and_pnl_by_side_and_by_symbol_of_a_worked_slice():
    told = two_sided()
    # up: 128 -> 136 at 102 (+1 %), 232 -> 240 at 99 (-0.5 %); down: 136 -> 140 at 97 (+0.75 %), 232 -> 236 at 101 (-0.25 %)
    long_net, short_net = 0.01 - 0.005 - 2 * 0.5 * 12e-4, 0.0075 - 0.0025 - 2 * 0.25 * 12e-4
    expected = {
        "n_trades": 4,
        "long_share": 0.5,
        "short_share": 0.5,
        "hold_mean_bars": 6,
        "hold_median_bars": 6,
        "net_long": long_net,
        "net_short": short_net,
        f"net_of_{A}": long_net,
        f"net_of_{B}": short_net,
        "long_exposure_mean": 16 * 0.5 / TRAIN_BARS,
        "short_exposure_mean": 8 * 0.25 / TRAIN_BARS,
        "gross_exposure_mean": 10 / TRAIN_BARS,
        "net_exposure_mean": 6 / TRAIN_BARS,
        "gross_exposure_max": 0.75,
        f"gross_exposure_mean_of_{A}": 8 / TRAIN_BARS,
        f"gross_exposure_mean_of_{B}": 2 / TRAIN_BARS,
        f"net_exposure_mean_of_{B}": -2 / TRAIN_BARS,
    }
    assert pytest.approx(expected, abs=1e-15) == {name: told["portfolio"][name] for name in expected}
    assert (0.0, 0.0, 0.5) == (told["up"]["net_short"], told["up"][f"net_of_{B}"], told["up"]["gross_exposure_max"])


def test_excursions_are_the_mean_of_the_trades_in_bps_of_the_entry():
    told = two_sided()["up"]  # leaves at 102 and at 99: best moves 2 % and 0, worst 0 and 1 %
    assert pytest.approx((50.0, 100.0)) == (told["mae_mean_bps"], told["mfe_mean_bps"])


def test_the_same_trades_at_other_costs_and_where_they_break_even():
    told = metrics([2.0, -1.0, 3.0])
    cost = 3 * 0.5 * 12e-4
    assert pytest.approx([0.02 - m * cost for m in COST_MULTIPLES], abs=1e-15) == [
        told[f"net_at_{m:g}x_costs"] for m in COST_MULTIPLES
    ]
    assert (told["net"], told["stressed_net"]) == pytest.approx((told["net_at_1x_costs"], told["net_at_2x_costs"]))
    assert pytest.approx(1e4 * 0.02 / 3.0) == told["break_even_bps"]  # a turnover of 6 fills of a half


def test_trades_that_break_even_at_a_cost_end_at_nothing_when_they_are_simulated_at_it():
    even = metrics([2.0, -1.0, 3.0])["break_even_bps"]
    again = metrics([2.0, -1.0, 3.0], run=a_run(60, symbols=A, fees_bps=even, slippage_bps=0.0))
    assert abs(again["net"]) < 1e-15


@pytest.mark.parametrize("moves", [[], [-1.0, -2.0], [1.0, -1.0]])
def test_what_earns_nothing_before_costs_has_no_cost_at_which_it_breaks_even(moves):
    assert metrics(moves)["break_even_bps"] is None


def test_without_a_trade_sums_are_zero_and_all_else_is_unknown_but_the_benchmark():
    told = metrics([1.0, 2.0], name="idle")
    zero = {name for name, value in told.items() if value == 0}
    assert {"net_long", f"net_of_{A}", "gross_exposure_max", "net_at_3x_costs", "annual_growth"} <= zero
    for name in (
        "long_share",
        "hold_mean_bars",
        "mae_mean_bps",
        "psr_2012",
        "sortino_daily_annualised",
        "calmar",
        "beta",
    ):
        assert told[name] is None, name
    assert told["benchmark_return"] is not None


def test_growth_calmar_sortino_and_the_probability_of_a_worked_slice():
    run = a_run(60, symbols=A, fees_bps=0.0, slippage_bps=0.0)
    told = metrics([10.0, -10.0, 4.0], run=run, scale=1.0)
    days = np.zeros(36)
    days[1:4] = (0.1, -0.1, 0.04)
    growth = (1.1 * 0.9 * 1.04) ** (365 / 36) - 1
    assert pytest.approx((growth, growth / 0.1)) == (told["annual_growth"], told["calmar"])
    assert pytest.approx(days.mean() / (0.1 / 6) * math.sqrt(365)) == told["sortino_daily_annualised"]
    sr, skew, kurtosis = days.mean() / days.std(ddof=1), stats.skew(days), stats.kurtosis(days, fisher=False)
    shape = 1 - skew * sr + (kurtosis - 1) / 4 * sr**2
    assert pytest.approx(stats.norm.cdf(sr * math.sqrt(35 / shape))) == told["psr_2012"]
    assert pytest.approx(1 + shape * (stats.norm.ppf(0.95) / sr) ** 2) == told["min_track_record_2012"]


def test_a_sharpe_ratio_below_zero_has_no_track_record_that_would_prove_it():
    told = metrics([-1.0, 0.5, -2.0])
    assert told["psr_2012"] < 0.5
    assert told["min_track_record_2012"] is None


def test_the_line_is_of_the_slices_days_on_those_of_buy_and_hold():
    run = DONE.run
    window = run.splits[Split.TRAIN]
    found = DONE.frames["walkforward_train"].filter(blueprint_id="portfolio")
    told = dict(found.select("metric", "value").iter_rows())
    trades = DONE.frames["trades"].filter(split="train")
    ledger = DONE.frames["simulation_ledger"].join(trades, on="trade_id", how="semi")
    own, market, at, worth = [], [], window.start, 1.0
    bars = (
        DONE.frames["bars_um"].filter(pl.col("close").is_not_null(), pl.col("open_at") >= window.start).sort("open_at")
    )
    first = dict(bars.group_by("symbol", maintain_order=True).agg(pl.col("open").first()).iter_rows())
    while at < window.end:
        after = at + timedelta(days=1)
        today = ledger.filter(pl.col("open_at") >= at, pl.col("open_at") < after)
        own.append(math.prod(1 + x for x in today.group_by("open_at").agg(pl.col("net_pnl").sum())["net_pnl"]) - 1)
        last = dict(bars.filter(pl.col("open_at") < after).group_by("symbol", maintain_order=True).agg(pl.col("close").last()).iter_rows())  # fmt: skip
        now = sum(last[s] / first[s] for s in (A, B)) / 2
        market.append(now / worth - 1)
        at, worth = after, now
    line = stats.linregress(market, own)
    assert pytest.approx((line.slope, line.rvalue, 365 * line.intercept, worth - 1)) == tuple(
        told[name] for name in ("beta", "benchmark_correlation", "alpha_annual", "benchmark_return")
    )


def test_parts_add_up_and_every_split_and_scope_has_the_same_metrics():
    frames = [DONE.frames[f"walkforward_{split.value}"] for split in Split]
    named = DONE.frames["backtest_metrics"].select("split", pl.col("scope").alias("blueprint_id"), "metric")
    sets = [named.filter(split=split, blueprint_id=scope)["metric"].to_list() for split in named["split"].unique() for scope in ("portfolio", "a", "b", "c")]  # fmt: skip
    assert all(names == sets[0] for names in sets)
    for frame in frames:
        wide = frame.pivot("metric", index="blueprint_id", values="value")
        assert set(sets[0]) <= set(wide.columns)
        for row in wide.to_dicts():
            assert pytest.approx(row["net"], abs=1e-12) == row["net_long"] + row["net_short"]
            assert pytest.approx(row["net"], abs=1e-12) == row[f"net_of_{A}"] + row[f"net_of_{B}"]
            gross, net = row["gross_exposure_mean"], row["net_exposure_mean"]
            assert pytest.approx((gross, net)) == (
                row["long_exposure_mean"] + row["short_exposure_mean"],
                row["long_exposure_mean"] - row["short_exposure_mean"],
            )
            assert pytest.approx(gross) == row[f"gross_exposure_mean_of_{A}"] + row[f"gross_exposure_mean_of_{B}"]


def test_bars_at_and_after_the_test_window_change_no_metric_before_it():
    frames, run = DONE.frames, DONE.run
    opened = run.splits[Split.TEST].start
    late = pl.col("open_at") >= opened
    other = frames["bars_um"].with_columns(
        pl.when(late).then(pl.col(name) * 7).otherwise(name).alias(name) for name in ("open", "high", "low", "close")
    )
    tables = (frames["simulation_ledger"], frames["trades"])
    for seen in (other, frames["bars_um"].filter(~late)):
        assert frames["backtest_metrics"].equals(measure(*tables, frames["blueprints"], seen, run=run))
        for split in (Split.TRAIN, Split.VALIDATION):
            again = slice_metrics(*tables, frames["market_context"], frames["blueprints"], seen, run=run, split=split)
            assert frames[f"walkforward_{split.value}"].equals(again)
    test = slice_metrics(*tables, frames["market_context"], frames["blueprints"], other, run=run, split=Split.TEST)
    assert not frames["walkforward_test"].equals(test)
    assert opened == START + 48 * 96 * BAR
