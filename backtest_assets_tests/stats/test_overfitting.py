"""Luckiest trials, effective trials and the probability of backtest overfitting."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.overfitting import (
    approximate_maximum,
    effective_rank,
    effective_rank_of,
    maximum_moments,
    minimum_backtest_years,
    overfitting_probability,
)


def twenty():
    returns = np.random.default_rng(12345).standard_normal((1000, 20)) * 0.01
    returns[:, 0] += 0.001
    return returns


# statistics.md C3.


@pytest.mark.parametrize(
    ("n", "approximate", "exact"),
    [
        (2, 0.5198, 0.5642), (5, 1.1926, 1.1630), (10, 1.5746, 1.5388), (45, 2.2356, 2.2077),
        (100, 2.5306, 2.5076), (1000, 3.2551, 3.2414), (10000, 3.8607, 3.8516),
    ],
)  # fmt: skip
def test_the_expected_maximum_by_formula_and_by_quadrature(n, approximate, exact):
    assert (approximate, exact) == pytest.approx((approximate_maximum(n), maximum_moments(n)[0]), abs=5e-5)


@pytest.mark.parametrize(
    ("n", "variance"), [(2, 0.6817), (5, 0.4475), (10, 0.3443), (20, 0.2757), (100, 0.1844), (1000, 0.1235)]
)
def test_the_variance_of_the_maximum(n, variance):
    assert variance == pytest.approx(maximum_moments(n)[1], abs=7e-5)


def test_two_trials_have_the_closed_form():
    assert (1 / math.sqrt(math.pi), 1 - 1 / math.pi) == pytest.approx(maximum_moments(2), abs=1e-9)
    assert (0.0, 1.0) == pytest.approx(maximum_moments(1), abs=1e-9)
    assert approximate_maximum(1) == 0.0
    assert 0.0 <= approximate_maximum(1.01) < approximate_maximum(2)


@pytest.mark.parametrize(("n", "years"), [(10, 2.479), (45, 4.998), (100, 6.404)])
def test_five_years_allow_forty_five_trials(n, years):
    assert years == pytest.approx(minimum_backtest_years(n), abs=5e-4)
    assert minimum_backtest_years(n) < 2 * math.log(n)
    assert years / 4 == pytest.approx(minimum_backtest_years(n, 2.0), abs=5e-4)


def test_the_effective_rank_of_the_paper():
    assert effective_rank(np.eye(3)) == pytest.approx(3.0)
    matrix = np.array([[10.0, 1, 7], [1, 10, 8], [7, 8, 10]]) / 10
    assert pytest.approx(effective_rank(matrix), abs=5e-3) == 1.84


# statistics.md C4.


@pytest.mark.parametrize(("n_blocks", "probability", "logit"), [(8, 20 / 70, 0.98511), (16, 0.277078, 1.226632)])
def test_the_overfitting_of_twenty_series_with_one_edge(n_blocks, probability, logit):
    result = overfitting_probability(twenty(), n_blocks=n_blocks)
    assert (probability, logit) == pytest.approx((result.probability, result.mean_logit), abs=2e-6)
    assert (math.comb(n_blocks, n_blocks // 2), 20) == (result.n_halves, result.n_trials)


@pytest.mark.parametrize(("n_blocks", "probability"), [(8, 0.571429), (16, 0.633333)])
def test_the_overfitting_of_nineteen_series_of_noise(n_blocks, probability):
    # A library that counts < 0 finds .485714 and .552758: the median is a rank of an odd number of trials.
    assert probability == pytest.approx(
        overfitting_probability(twenty()[:, 1:], n_blocks=n_blocks).probability, abs=1e-6
    )


def test_dominated_trials_never_overfit():
    base = np.random.default_rng(1).standard_normal((1000, 1)) * 0.01
    result = overfitting_probability(np.arange(10) * 0.01 + base, n_blocks=8)
    assert (0.0, math.log(10)) == pytest.approx((result.probability, result.mean_logit))


def test_noise_scatters_around_a_half():
    found = [
        overfitting_probability(np.random.default_rng(seed).standard_normal((400, 20)), n_blocks=8).probability
        for seed in range(60)
    ]
    assert np.mean(found) == pytest.approx(0.547, abs=0.084)  # .547 with standard error .028
    assert np.std(found) == pytest.approx(0.21, abs=0.07)


# Brute force.


def slow_overfitting(returns, n_blocks):
    blocks = np.array_split(returns, n_blocks)
    lost, logits = 0, []
    for chosen in itertools.combinations(range(n_blocks), n_blocks // 2):
        inside = np.concatenate([blocks[b] for b in chosen])
        outside = np.concatenate([blocks[b] for b in range(n_blocks) if b not in chosen])
        best = int(np.argmax(inside.mean(axis=0) / inside.std(axis=0)))
        share = stats.rankdata(outside.mean(axis=0) / outside.std(axis=0))[best] / (returns.shape[1] + 1)
        logits.append(math.log(share / (1 - share)))
        lost += logits[-1] <= 0
    return lost / len(logits), float(np.mean(logits))


@pytest.mark.parametrize(("n_trials", "n_blocks"), [(2, 2), (3, 4), (8, 6)])
def test_every_half_is_judged_as_by_hand(n_trials, n_blocks):
    returns = np.random.default_rng(n_trials).standard_normal((n_blocks * 11, n_trials)) + 0.05 * np.arange(n_trials)
    result = overfitting_probability(returns, n_blocks=n_blocks)
    assert slow_overfitting(returns, n_blocks) == pytest.approx((result.probability, result.mean_logit))


def test_effective_trials_are_the_rank_of_the_correlations_from_either_side():
    rng = np.random.default_rng(2)
    wide, tall = rng.standard_normal((12, 40)), rng.standard_normal((400, 7)) @ rng.standard_normal((7, 7))
    for series in (wide, tall):
        expected = effective_rank(np.atleast_2d(np.corrcoef(series.T)))
        assert expected == pytest.approx(effective_rank_of(series))
    assert 1 <= effective_rank_of(wide) <= 11


# Laws and edges.


def test_copies_and_mirror_images_are_no_new_trials():
    x = np.random.default_rng(3).standard_normal((300, 5))
    assert effective_rank_of(x) == pytest.approx(effective_rank_of(np.hstack([x, -x, 3.0 * x])))
    assert effective_rank_of(x[:, [0, 0, 0]]) == pytest.approx(1.0)


def test_what_cannot_be_known_is_nan():
    assert math.isnan(effective_rank_of(np.zeros((5, 3))))
    assert math.isnan(effective_rank_of(np.zeros((5, 0))))
    assert math.isnan(effective_rank(np.zeros((2, 2))))
    x = np.random.default_rng(4).standard_normal((40, 2))
    assert effective_rank_of(x) == effective_rank_of(np.column_stack([x, np.full(40, 0.1)]))
    lone = overfitting_probability(np.column_stack([x[:, 0], np.full(40, 0.1)]), n_blocks=4)
    assert math.isnan(lone.probability)
    assert math.isnan(lone.mean_logit)
    assert lone.n_trials == 1


def test_impossible_arguments_are_refused():
    for function in (approximate_maximum, maximum_moments, minimum_backtest_years):
        for n in (0.5, math.nan):
            with pytest.raises(ValueError, match="n_trials"):
                function(n)
    with pytest.raises(ValueError, match="target"):
        minimum_backtest_years(5, 0.0)
    for n_blocks in (0, 3, 20):
        with pytest.raises(ValueError, match="n_blocks"):
            overfitting_probability(np.zeros((100, 2)), n_blocks=n_blocks)
    for returns in (np.zeros((7, 2)), np.zeros(100), np.full((100, 2), np.nan)):
        with pytest.raises(ValueError, match="returns"):
            overfitting_probability(returns, n_blocks=4)
    with pytest.raises(ValueError, match="square"):
        effective_rank(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        effective_rank_of(np.full((3, 2), np.nan))
