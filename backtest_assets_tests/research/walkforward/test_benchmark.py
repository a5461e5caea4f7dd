"""Buy and hold, by hand and bar by bar."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.research.walkforward.benchmark import Benchmark
from backtest_assets_tests.research.simulation.market import START, A, B, random_bars, set_bars

DAY = 96
FOUR_DAYS = START + timedelta(days=4)


def by_hand(bars: pl.DataFrame, symbols, start, end):
    """Walk bar by bar: each symbol's share is cash until its first open, then worth its last known close."""
    rows = {
        (s, at): (first, last) for s, at, first, last in bars.select("symbol", "open_at", "open", "close").iter_rows()
    }
    bought, value, curve, daily = {}, dict.fromkeys(symbols, 1.0), [1.0], []
    at, before = start, 1.0
    while at < end:
        for symbol in symbols:
            first, last = rows.get((symbol, at), (None, None))
            if last is not None:
                value[symbol] = last / bought.setdefault(symbol, first)
        curve.append(sum(value.values()) / len(symbols))
        at += BAR
        if (at - start) % timedelta(days=1) == timedelta(0):
            daily.append(curve[-1] / before - 1)
            before = curve[-1]
    return np.array(curve), np.array(daily)


@pytest.mark.parametrize("first_day", [0, 3])
def test_it_is_the_walk_by_hand_over_gaps_and_late_listings(first_day):
    bars = random_bars(np.random.default_rng(first_day), n_bars=12 * DAY, gap_share=0.2)
    late = bars.filter((pl.col("symbol") == A) | (pl.col("open_at") >= START + timedelta(days=5, hours=7)))
    start, end = START + timedelta(days=first_day), START + timedelta(days=9)
    held = Benchmark.hold(late, (A, B), start, end)
    curve, daily = by_hand(late, (A, B), start, end)
    np.testing.assert_allclose(curve, held.equity, rtol=1e-13)
    np.testing.assert_allclose(daily, held.daily, rtol=0, atol=1e-13)
    assert held.n_bought == 2


def test_half_of_it_in_each_of_two_and_no_rebalancing():
    up = set_bars({n: (100, 100, 100, 150) if n == 0 else (150,) * 4 for n in range(4 * DAY)}, n_bars=4 * DAY)
    down = set_bars({n: (100,) * 4 if n < 2 * DAY else (50,) * 4 for n in range(4 * DAY)}, n_bars=4 * DAY, symbol=B)
    held = Benchmark.hold(pl.concat([up, down]), (A, B), START, FOUR_DAYS)
    np.testing.assert_allclose([0.25, 0.0, -0.2, 0.0], held.daily, rtol=1e-13)
    told = {m.name: m.value for m in held.metrics(held.daily)}
    assert pytest.approx({"benchmark_return": 0.0, "benchmark_max_drawdown": -0.2, "beta": 1.0, "alpha_annual": 0.0}) == {
        name: told[name] for name in ("benchmark_return", "benchmark_max_drawdown", "beta", "alpha_annual")
    }  # fmt: skip
    sharpe = held.daily.mean() / held.daily.std(ddof=1) * math.sqrt(365)
    assert pytest.approx(sharpe) == told["benchmark_sharpe_annualised"]


def test_a_symbol_without_a_bar_stays_in_cash_and_without_any_nothing_is_known():
    up = set_bars({n: (100, 100, 100, 150) if n == 0 else (150,) * 4 for n in range(4 * DAY)}, n_bars=4 * DAY)
    held = Benchmark.hold(up, (A, B), START, FOUR_DAYS)
    assert (1, 1.25) == (held.n_bought, held.equity[-1])
    none = Benchmark.hold(up.clear(), (A, B), START, FOUR_DAYS)
    assert {None} == {m.value for m in none.metrics(np.array([0.1, -0.1, 0.0, 0.2]))}
    assert [m.name for m in none.metrics(held.daily)] == [m.name for m in held.metrics(held.daily)]


def test_a_slice_that_never_moved_has_no_beta_but_its_benchmark_stands():
    bars = random_bars(np.random.default_rng(2), n_bars=4 * DAY)
    told = {m.name: m.value for m in Benchmark.hold(bars, (A, B), START, FOUR_DAYS).metrics(np.zeros(4))}
    unknown = {name for name, value in told.items() if value is None}
    assert {"beta", "benchmark_correlation", "alpha_annual", "alpha_annual_se"} == unknown


def test_no_bar_outside_the_window_is_read():
    bars = random_bars(np.random.default_rng(3), n_bars=12 * DAY)
    window = START + timedelta(days=3), START + timedelta(days=8)
    inside = pl.col("open_at").is_between(*window, closed="left")
    poison = [pl.when(inside).then(name).otherwise(9e9).alias(name) for name in ("open", "close")]
    seen = [Benchmark.hold(frame, (A, B), *window) for frame in (bars, bars.with_columns(poison), bars.filter(inside))]
    for other in seen[1:]:
        np.testing.assert_array_equal(seen[0].equity, other.equity)


def test_neither_the_order_of_rows_nor_of_symbols_matters():
    bars = random_bars(np.random.default_rng(5), n_bars=4 * DAY)
    one = Benchmark.hold(bars, (A, B), START, FOUR_DAYS)
    other = Benchmark.hold(bars.sample(fraction=1.0, shuffle=True, seed=1), (B, A), START, FOUR_DAYS)
    np.testing.assert_allclose(one.equity, other.equity, rtol=1e-14)
