"""Shrinking many means."""

import math

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.shrinkage import shrink_means

MANY = 100_000


def shrunken(z, n_days=MANY):
    return shrink_means(z, np.ones(z.size), np.full(z.size, n_days))


# Collapse to known cases.


def test_normal_effects_are_shrunk_as_james_and_stein_say():
    # Effects N(0, 4), errors 1: the posterior mean is 4/5 of each estimate, whatever its size.
    rng = np.random.default_rng(1)
    effect = rng.normal(0.0, 2.0, 20_000)
    z = effect + rng.standard_normal(20_000)
    result = shrunken(z)
    loss = np.mean((result.mean - effect) ** 2)
    assert loss == pytest.approx(0.8, abs=0.02)
    assert np.mean((z - effect) ** 2) == pytest.approx(1.0, abs=0.03)
    middle = np.abs(z) < 4
    np.testing.assert_allclose(0.8 * z[middle], result.mean[middle], atol=0.3)


def test_noise_alone_leaves_nothing():
    result = shrunken(np.random.default_rng(2).standard_normal(400))
    assert result.null_share > 0.99
    assert np.abs(result.mean).max() < 0.01


def test_a_lone_winner_is_not_shrunk_like_the_losers_around_it():
    z = np.random.default_rng(3).standard_normal(400)
    z[0] = 9.0
    linear = 1.0 - (z.size - 2) / float(z @ z)  # James and Stein's own factor
    assert linear < 0.3
    result = shrunken(z)
    assert result.factor[0] > 0.75
    assert np.abs(result.mean[1:]).max() < 1.0


def test_the_posterior_is_that_of_the_mixture_it_found():
    rng = np.random.default_rng(4)
    z = rng.standard_normal(3_000) + np.where(rng.random(3_000) < 0.2, rng.normal(0, 3, 3_000), 0)
    result = shrunken(z)
    # Truth: a fifth N(0, 9), the rest nothing.
    weight = 0.2 * stats.norm.pdf(z, scale=math.sqrt(10)) / (
        0.2 * stats.norm.pdf(z, scale=math.sqrt(10)) + 0.8 * stats.norm.pdf(z)
    )  # fmt: skip
    assert np.mean(np.abs(result.mean - weight * 0.9 * z)) < 0.1
    assert result.null_share == pytest.approx(0.8, abs=0.15)


# Laws and edges.


def test_unit_and_sign_do_not_matter_and_the_order_neither():
    z = np.random.default_rng(5).standard_normal(200) * 2
    expected = shrunken(z).mean
    turned = shrink_means(-7.0 * z, np.full(200, 7.0), np.full(200, MANY)).mean / -7.0
    np.testing.assert_allclose(expected, turned, rtol=1e-9)
    np.testing.assert_allclose(expected, shrunken(z[::-1]).mean[::-1], rtol=1e-6)


def test_a_larger_statistic_keeps_a_larger_part_and_none_keeps_all():
    result = shrunken(np.linspace(0.0, 8.0, 300))
    assert (np.diff(result.factor) >= -1e-12).all()
    assert 0 <= result.factor[0] <= result.factor[-1] < 1


def test_few_days_count_for_less():
    z = np.r_[np.full(20, 4.0), np.random.default_rng(6).standard_normal(200)]
    days = np.where(np.arange(220) == 0, 8, MANY)
    result = shrink_means(z, np.ones(220), days)
    assert result.mean[0] < result.mean[1]


def test_the_unknown_stays_unknown_and_disturbs_nobody():
    z = np.random.default_rng(7).standard_normal(50) * 3
    result = shrink_means(np.r_[z, np.nan, 1.0], np.r_[np.ones(50), 1.0, np.nan], np.full(52, MANY))
    np.testing.assert_array_equal([*shrunken(z).mean, np.nan, np.nan], result.mean)
    nothing = shrink_means(np.full(2, np.nan), np.ones(2), np.full(2, 9))
    assert math.isnan(nothing.null_share)
    np.testing.assert_array_equal([np.nan, np.nan], nothing.mean)
    assert shrink_means(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)).mean.shape == (0,)


def test_shapes_and_errors_are_checked():
    with pytest.raises(ValueError, match="one length"):
        shrink_means(np.zeros(2), np.ones(3), np.full(2, 9))
    with pytest.raises(ValueError, match="above 0"):
        shrink_means(np.zeros(2), np.zeros(2), np.full(2, 9))
    with pytest.raises(ValueError, match="finite"):
        shrink_means(np.array([np.inf]), np.ones(1), np.full(1, 9))


# Monte Carlo: the winner's curse, before and after.


def test_the_best_of_many_is_honest_after_shrinking():
    rng = np.random.default_rng(8)
    raw, kept = [], []
    for _ in range(150):
        effect = np.where(rng.random(400) < 0.1, rng.normal(0, 2.5, 400), 0.0)
        z = effect + rng.standard_normal(400)
        best = int(np.argmax(z))
        raw.append(z[best] - effect[best])
        kept.append(shrunken(z).mean[best] - effect[best])
    assert np.mean(raw) > 0.4
    assert np.mean(kept) == pytest.approx(0.0, abs=0.25)
