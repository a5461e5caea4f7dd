"""Drawdowns and runs of losses."""

import math

import numpy as np
import pytest

from backtest_assets.stats.drawdown import LossClusters, loss_clusters, max_drawdown, tail_conditional_drawdown

# Four losing runs: (1, 2), (0.5), (4), (0.25 x 4); lengths 2, 1, 1, 4; losses 3, 0.5, 4, 1.
PNL = np.array([-1, -2, 3, -0.5, 0, -4, 1, -0.25, -0.25, -0.25, -0.25]) / 100


def naive_clusters(pnl, top_frac):
    runs, run = [], []
    for x in [*pnl, 0.0]:
        if x < 0:
            run.append(x)
        elif run:
            runs.append(run)
            run = []
    if not runs:
        return LossClusters(0, 0, 0.0)
    losses = sorted((abs(sum(run)) for run in runs), reverse=True)
    top = max(1, math.ceil(round(len(losses) * top_frac, 9)))
    return LossClusters(len(runs), max(map(len, runs)), sum(losses[:top]) / sum(losses))


def naive_tail(pnl, q):
    equity, peak, drawdowns = 1.0, 1.0, []
    for x in pnl:
        equity = equity * max(1 + x, 0.0)
        peak = max(peak, equity)
        drawdowns.append((equity - peak) / peak)
    bar = np.quantile(drawdowns, q)
    return np.mean([d for d in drawdowns if d <= bar])


def test_four_runs_by_hand():
    result = loss_clusters(PNL, top_frac=0.5)
    assert (result.n, result.longest_days) == (4, 4)
    assert pytest.approx(result.concentration, rel=1e-12) == 7 / 8.5


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("top_frac", [0.01, 0.1, 0.5, 1.0])
def test_runs_equal_the_naive_ones(seed, top_frac):
    rng = np.random.default_rng(seed)
    pnl = rng.normal(0, 0.01, 300) * (rng.random(300) < 0.8)
    expected, actual = naive_clusters(pnl, top_frac), loss_clusters(pnl, top_frac=top_frac)
    assert (expected.n, expected.longest_days) == (actual.n, actual.longest_days)
    assert expected.concentration == pytest.approx(actual.concentration, rel=1e-10)


def test_ten_percent_of_thirty_runs_are_three():
    pnl = np.tile([-1.0, 1.0], 30) / 100
    assert pytest.approx(loss_clusters(pnl, top_frac=0.1).concentration, rel=1e-12) == 3 / 30
    assert (
        pytest.approx(loss_clusters(np.tile([-1.0, 1.0], 100) / 100, top_frac=0.07).concentration, rel=1e-12) == 7 / 100
    )


@pytest.mark.parametrize("pnl", [np.array([]), np.zeros(5), np.array([0.1, 0.0, 0.2])])
def test_without_a_loss_there_is_no_run(pnl):
    assert LossClusters(0, 0, 0.0) == loss_clusters(pnl, top_frac=0.1)


def test_one_run_holds_all_losses():
    assert LossClusters(1, 3, 1.0) == loss_clusters(np.array([-1.0, -2.0, -3.0]), top_frac=0.1)


def test_a_fall_by_hand():
    assert max_drawdown(np.array([1.0, 2.0, 1.5, 1.0, 3.0, 2.0])) == -0.5


def test_a_rising_curve_never_falls():
    assert max_drawdown(np.arange(1.0, 9.0)) == 0.0


def test_ruin_is_minus_one():
    assert max_drawdown(np.array([1.0, 0.0, 0.0])) == -1.0


def test_the_deepest_fall_equals_the_naive_one():
    equity = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, 400)))
    expected = min(equity[j] / equity[i] - 1 for i in range(400) for j in range(i, 400))
    assert expected == pytest.approx(max_drawdown(equity), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("q", [0.01, 0.05, 0.5])
def test_the_tail_equals_the_naive_one(seed, q):
    pnl = np.random.default_rng(seed).normal(0, 0.02, 300)
    assert naive_tail(pnl, q) == pytest.approx(tail_conditional_drawdown(pnl, q=q), rel=1e-12)


def test_a_loss_on_the_first_day_is_a_drawdown():
    assert pytest.approx(tail_conditional_drawdown(np.array([-0.1, 0.0]), q=0.05), rel=1e-12) == -0.1


def test_losses_compound():
    assert pytest.approx(tail_conditional_drawdown(np.array([-0.1, -0.1]), q=0.05), rel=1e-12) == -0.19


def test_a_loss_beyond_all_capital_stays_ruin():
    assert tail_conditional_drawdown(np.array([-1.5, 3.0, -2.0, 1.0]), q=0.3) == -1.0


def test_the_tail_is_never_deeper_than_the_deepest_fall():
    pnl = np.random.default_rng(9).normal(0, 0.02, 300)
    deepest = max_drawdown(np.concatenate(([1.0], np.cumprod(1 + pnl))))
    tails = [tail_conditional_drawdown(pnl, q=q) for q in (1e-6, 0.05, 0.2, 0.9)]
    assert deepest == pytest.approx(tails[0], rel=1e-12)
    assert sorted(tails) == tails


def test_no_day_is_unknown():
    assert math.isnan(max_drawdown(np.array([])))
    assert math.isnan(tail_conditional_drawdown(np.array([]), q=0.05))


def test_impossible_arguments_are_refused():
    for equity in (np.array([0.0, 1.0]), np.array([1.0, -0.1])):
        with pytest.raises(ValueError, match="equity must start"):
            max_drawdown(equity)
    for function, argument in ((loss_clusters, "top_frac"), (tail_conditional_drawdown, "q")):
        for value in (0.0, 1.1, math.nan):
            with pytest.raises(ValueError, match=f"{argument} is"):
                function(np.zeros(3), **{argument: value})
        with pytest.raises(ValueError, match="NaN"):
            function(np.array([np.nan]), **{argument: 0.1})
