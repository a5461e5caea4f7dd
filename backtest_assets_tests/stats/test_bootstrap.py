"""The shared wild day bootstrap."""

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.bootstrap import wild_day_bootstrap
from backtest_assets.stats.clustered import accrual_t
from backtest_assets.stats.multiplicity import romano_wolf


def market(seed, n_hypotheses=12, n_days=120):
    rng = np.random.default_rng(seed)
    shares = rng.poisson(0.8, (n_hypotheses, n_days)) * rng.uniform(0.2, 1.0, (n_hypotheses, n_days))
    day = rng.standard_t(4, n_days) * 50.0
    return shares * (day + rng.normal(0.0, 30.0, (n_hypotheses, n_days))), shares


def naive(residuals, shares, signs):
    """Flip, then compute t from the flipped day sums by the definition of `accrual_t`, in float64."""
    draws = np.empty((len(signs), residuals.shape[1]))
    for b, e in enumerate(signs):
        flipped = accrual_t((e[:, np.newaxis] * residuals).T, shares.T)
        draws[b] = flipped.t
    return draws


def signs_of(rng, n_draws, n_days):
    return rng.integers(0, 2, size=(n_draws, n_days), dtype=np.int8) * 2.0 - 1.0


def draws_of(seed, **keywords: int):
    sums, shares = market(seed)
    test = accrual_t(sums, shares)
    return test, wild_day_bootstrap(test.residuals.T, shares.T, np.random.default_rng(11), **keywords)


def test_every_draw_is_the_t_of_the_flipped_days():
    sums, shares = market(1)
    residuals = accrual_t(sums, shares).residuals.T
    actual = wild_day_bootstrap(residuals, shares.T, np.random.default_rng(5), n_draws=300)
    expected = naive(residuals, shares.T, signs_of(np.random.default_rng(5), 300, 120))
    np.testing.assert_allclose(expected, actual, rtol=2e-5, atol=2e-6)


def test_single_precision_does_not_change_the_adjusted_p_values():
    sums, shares = market(2)
    test = accrual_t(sums, shares)
    single = wild_day_bootstrap(test.residuals.T, shares.T, np.random.default_rng(6), n_draws=2_000)
    double = naive(test.residuals.T, shares.T, signs_of(np.random.default_rng(6), 2_000, 120))
    expected, actual = romano_wolf(test.t, double, n_days=120), romano_wolf(test.t, single, n_days=120)
    np.testing.assert_allclose(expected, actual, atol=1.01 / 2_001)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_unit_of_money_does_not_matter(scale):
    sums, shares = market(3)
    residuals = accrual_t(sums, shares).residuals.T
    expected = wild_day_bootstrap(residuals, shares.T, np.random.default_rng(1), n_draws=100)
    actual = wild_day_bootstrap(residuals * scale, shares.T, np.random.default_rng(1), n_draws=100)
    np.testing.assert_allclose(expected, actual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("draws_at_once", [1, 7, 999, 5_000])
def test_the_chunk_changes_memory_and_nothing_else(draws_at_once):
    _, expected = draws_of(4, n_draws=1_000)
    _, actual = draws_of(4, n_draws=1_000, draws_at_once=draws_at_once)
    np.testing.assert_allclose(expected, actual, rtol=2e-5, atol=2e-6)


def test_the_same_seed_draws_the_same():
    np.testing.assert_array_equal(draws_of(5)[1], draws_of(5)[1])


def test_the_default_is_two_thousand_draws_in_single_precision():
    test, draws = draws_of(6)
    assert (2_000, test.t.size) == draws.shape
    assert np.float64 == draws.dtype


def test_hypotheses_on_the_same_days_move_together():
    sums, shares = market(7)
    test = accrual_t(np.vstack([sums[0], sums[0], -sums[0]]), np.vstack([shares[0]] * 3))
    draws = wild_day_bootstrap(test.residuals.T, np.vstack([shares[0]] * 3).T, np.random.default_rng(1))
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    np.testing.assert_array_equal(draws[:, 0], -draws[:, 2])


def test_a_hypothesis_of_one_day_or_without_scatter_is_unknown():
    residuals = np.zeros((5, 3))
    shares = np.zeros((5, 3))
    shares[0, 1] = 1.0
    shares[:, 2] = 1.0
    draws = wild_day_bootstrap(residuals, shares, np.random.default_rng(1), n_draws=10)
    np.testing.assert_array_equal(np.full((10, 3), np.nan), draws)


def test_two_equal_days_can_leave_no_variance():
    draws = wild_day_bootstrap(np.array([[1.0], [-1.0]]), np.ones((2, 1)), np.random.default_rng(1), n_draws=50)
    assert {-np.inf, 0.0, np.inf} == set(draws[:, 0].tolist())


@pytest.mark.parametrize("keywords", [{"n_draws": 0}, {"draws_at_once": 0}])
def test_no_draw_is_refused(keywords):
    with pytest.raises(ValueError, match="at least 1"):
        draws_of(8, **keywords)


def test_a_gap_or_another_shape_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        wild_day_bootstrap(np.full((2, 1), np.nan), np.ones((2, 1)), np.random.default_rng(1))
    with pytest.raises(ValueError, match="one shape"):
        wild_day_bootstrap(np.ones((2, 1)), np.ones((1, 2)), np.random.default_rng(1))


def test_independent_days_draw_students_t():
    x = np.random.default_rng(9).standard_normal((400, 1))
    draws = wild_day_bootstrap(x - x.mean(), np.ones((400, 1)), np.random.default_rng(2), n_draws=20_000)
    for level in (0.5, 0.9, 0.95, 0.99):
        assert level == pytest.approx(np.mean(draws <= stats.t.ppf(level, 399)), abs=0.01)


def test_one_hypothesis_at_a_time_keeps_the_size():
    # 600 markets of one hypothesis with 25 to 60 event-days, unequal shares and heavy tails.
    rng = np.random.default_rng(10)
    shares = (rng.random((600, 90)) < 0.5) * rng.integers(1, 7, (600, 90)).astype(np.float64)
    test = accrual_t(shares * rng.standard_t(4, (600, 90)), shares)
    draws = wild_day_bootstrap(test.residuals.T, shares.T, rng, n_draws=999)
    p = (1 + np.count_nonzero(draws >= test.t, axis=0)) / 1_000
    for level, tolerance in ((0.05, 0.025), (0.2, 0.05), (0.5, 0.06)):
        assert level == pytest.approx(np.mean(p <= level), abs=tolerance)
