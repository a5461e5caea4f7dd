"""Effective sample sizes, block lengths and neighbouring days."""

import math

import numpy as np
import pytest

from backtest_assets.stats.dependence import (
    day_lag,
    effective_sample_size,
    effective_sample_size_of,
    optimal_block_length,
)


def autoregression(phi, n, seed):
    x = np.random.default_rng(seed).standard_normal(n)
    for t in range(1, n):
        x[t] += phi * x[t - 1]
    return x


# statistics.md C7.


@pytest.mark.parametrize(
    ("phi", "n_lags", "expected", "is_cut_short"),
    [(0.5, 100, 333.33, False), (0.5, 24, 333.33, False), (0.9, 300, 52.63, False), (0.9, 24, 56.93, True)],
)
def test_the_numbers_of_an_autoregression(phi, n_lags, expected, is_cut_short):
    result = effective_sample_size_of(np.array([phi**lag for lag in range(1, n_lags + 1)], dtype=np.float64), 1_000)
    assert expected == pytest.approx(result.ess, abs=0.005)
    assert (n_lags, is_cut_short) == (result.last_lag, result.is_cut_short)


def test_negative_dependence_is_capped_at_n():
    # Uncapped it would be 1000 x 1.3 / 0.7 = 1857.
    assert effective_sample_size_of(np.power(-0.3, np.arange(1.0, 25.0)), 1_000).ess == 1_000.0


def test_arviz_finds_the_same_in_a_long_autoregression():
    # arviz 0.23.4 ess(method="mean"), which adds a monotone envelope: 943.91.
    result = effective_sample_size(autoregression(0.9, 20_000, 0), 200)
    assert pytest.approx(result.ess, rel=1e-3) == 943.91


# Brute force.


def naive(x, max_lag):
    n = len(x)
    limit = min(max_lag, n // 10)
    mean = sum(x) / n
    variance = sum((v - mean) ** 2 for v in x)
    rho = [sum((x[i] - mean) * (x[i + k] - mean) for i in range(n - k)) / variance for k in range(limit + 1)]
    total, lag = 0.0, 0
    while lag <= limit:
        pair = rho[lag] + (rho[lag + 1] if lag + 1 <= limit else 0.0)
        if pair <= 0:
            break
        total += pair
        lag += 2
    return min(n, n / max(2 * total - 1, 1.0)), max(min(lag, limit + 1) - 1, 0)


@pytest.mark.parametrize("phi", [-0.9, -0.3, 0.0, 0.5, 0.9])
@pytest.mark.parametrize(("n", "max_lag"), [(9, 24), (45, 24), (200, 7), (200, 24)])
def test_every_series_equals_the_naive_one(phi, n, max_lag):
    x = autoregression(phi, n, 3)
    expected_ess, expected_lag = naive(x.tolist(), max_lag)
    result = effective_sample_size(x, max_lag)
    assert expected_ess == pytest.approx(result.ess, rel=1e-10)
    assert (expected_lag, n) == (result.last_lag, result.n)


# Laws and edges.


def test_r11_a_tenth_of_the_series_limits_the_lags():
    assert effective_sample_size(np.arange(50.0), 24).last_lag <= 5


def test_too_few_observations_for_a_lag_are_taken_as_they_are():
    result = effective_sample_size(np.array([1.0, 2.0, 4.0]), 24)
    assert (result.ess, result.last_lag, result.is_cut_short) == (3.0, 0, False)


def test_unit_and_origin_do_not_matter():
    x = autoregression(0.5, 400, 4)
    assert effective_sample_size(x, 24).ess == pytest.approx(effective_sample_size(3e4 * x - 7e5, 24).ess, rel=1e-6)


@pytest.mark.parametrize("x", [np.array([]), np.array([1.0]), np.full(50, 0.1)])
def test_without_scatter_nothing_is_known(x):
    result = effective_sample_size(x, 24)
    assert math.isnan(result.ess)
    assert (x.size, False) == (result.n, result.is_cut_short)


def test_gaps_infinities_and_negative_lags_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        effective_sample_size(np.array([1.0, np.nan]), 24)
    with pytest.raises(ValueError, match="infinity"):
        effective_sample_size(np.array([1.0, np.inf]), 24)
    with pytest.raises(ValueError, match="max_lag"):
        effective_sample_size(np.zeros(3), -1)
    with pytest.raises(ValueError, match="n is 0"):
        effective_sample_size_of(np.array([0.1]), 0)


# Monte Carlo.


@pytest.mark.parametrize(("phi", "theory"), [(0.0, 2_000.0), (0.5, 2_000 / 3)])
def test_the_average_estimate_is_near_the_theory(phi, theory):
    found = [effective_sample_size(autoregression(phi, 2_000, seed), 24).ess for seed in range(40)]
    assert theory == pytest.approx(np.mean(found), rel=0.12)


def test_the_variance_of_the_mean_is_what_the_estimate_says():
    means = [autoregression(0.5, 500, seed).mean() for seed in range(600)]
    expected = (1 / (1 - 0.25)) / effective_sample_size_of(np.power(0.5, np.arange(1.0, 25.0)), 500).ess
    assert expected == pytest.approx(np.var(means), rel=0.2)


def test_a_slow_series_is_flagged_at_short_lags_and_noise_is_not():
    slow = [effective_sample_size(autoregression(0.97, 1_000, seed), 24).is_cut_short for seed in range(30)]
    noise = [effective_sample_size(autoregression(0.0, 1_000, seed), 24).is_cut_short for seed in range(30)]
    assert np.mean(slow) > 0.8
    assert np.mean(noise) < 0.05


# Block lengths, statistics.md C7.


@pytest.mark.parametrize(
    ("phi", "expected"),
    [(0.0, (1.268, 1.452)), (0.3, (13.409, 15.349)), (0.7, (35.543, 40.686)), (0.9, (92.683, 106.095))],
)
def test_the_block_lengths_of_arch(phi, expected):
    result = optimal_block_length(autoregression(phi, 5_000, 7)[:, np.newaxis])
    assert expected == pytest.approx((result.stationary[0], result.circular[0]), abs=6e-4)


def test_every_series_has_its_own_block_length_and_a_constant_one_none():
    series = [autoregression(phi, 500, seed) for phi, seed in ((0.0, 1), (0.5, 2), (0.9, 3))]
    together = optimal_block_length(np.column_stack([*series, np.full(500, 0.1)]))
    alone = [optimal_block_length(x[:, np.newaxis]).stationary[0] for x in series]
    np.testing.assert_allclose([*alone, np.nan], together.stationary)
    assert together.stationary[0] < together.stationary[1] < together.stationary[2]


def test_a_block_is_at_most_three_roots_long_and_its_kinds_differ_by_one_factor():
    slow = optimal_block_length(autoregression(0.8, 40, 0)[:, np.newaxis])
    assert (14.0, 14.0) == (slow.stationary[0], slow.circular[0])
    short = optimal_block_length(autoregression(0.5, 2_000, 5)[:, np.newaxis])
    assert pytest.approx(short.circular[0] / short.stationary[0], abs=5e-5) == 1.1447


def test_too_few_observations_or_gaps_have_no_block_length():
    assert np.isfinite(optimal_block_length(autoregression(0.5, 10, 6)[:, np.newaxis]).stationary[0])
    with pytest.raises(ValueError, match="at least 10"):
        optimal_block_length(np.zeros((9, 1)))
    with pytest.raises(ValueError, match="finite"):
        optimal_block_length(np.full((20, 1), np.nan))


# Neighbouring days.


def test_the_lag_of_days_equals_the_sums_by_hand():
    u = np.array([[1.0, 0.0], [2.0, 3.0], [-1.0, 0.0], [0.5, 2.0]])
    result = day_lag(u, np.random.default_rng(1), n_draws=99)
    products = [1 * 2, 2 * -1, -1 * 0.5]
    assert sum(products) / (1 + 4 + 1 + 0.25) == pytest.approx(result.rho[0])
    assert sum(products) / math.sqrt(sum(v * v for v in products)) == pytest.approx(result.z[0])
    assert math.isnan(result.rho[1])
    assert math.isnan(result.z[1])


def test_days_without_neighbours_say_nothing():
    assert day_lag(np.array([[1.0], [0.0], [2.0]]), np.random.default_rng(1), n_draws=9).p == 1.0
    assert day_lag(np.zeros((5, 0)), np.random.default_rng(1), n_draws=9).p == 1.0
    with pytest.raises(ValueError, match="finite"):
        day_lag(np.full((5, 1), np.nan), np.random.default_rng(1), n_draws=9)
    with pytest.raises(ValueError, match="at least one draw"):
        day_lag(np.ones((5, 1)), np.random.default_rng(1), n_draws=0)


def test_honest_days_are_seldom_called_dependent_and_dependent_ones_are():
    rng = np.random.default_rng(8)
    wild = rng.standard_normal((300, 120, 6)) * np.exp(rng.standard_normal((300, 120, 1)))  # days of unequal size
    p = np.array([day_lag(u, rng, n_draws=199).p for u in wild])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.038)
    smooth = wild[:50, 1:] + 0.5 * wild[:50, :-1]
    assert np.mean([day_lag(u, rng, n_draws=199).p <= 0.05 for u in smooth]) > 0.9
