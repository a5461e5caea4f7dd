"""Step-down p-values and false discovery rates."""

import math

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.bootstrap import wild_day_bootstrap
from backtest_assets.stats.clustered import accrual_t
from backtest_assets.stats.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    luckiest_null,
    max_t,
    romano_wolf,
)

BH_1995 = np.array(
    [1e-4, 4e-4, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
)


def draws(seed, n_draws=999, n_hypotheses=20, rho=0.3):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n_draws, 1))
    return math.sqrt(rho) * common + math.sqrt(1 - rho) * rng.standard_normal((n_draws, n_hypotheses))


# Published numbers (statistics.md C6).


def test_the_example_of_benjamini_and_hochberg():
    expected = [0.0015, 0.0030, 0.0095, 0.035625, 0.0603, 0.06386, 0.06386, 0.0645, 0.0765, 0.486]
    np.testing.assert_allclose(expected, benjamini_hochberg(BH_1995)[:10], atol=5e-6)
    assert np.count_nonzero(benjamini_hochberg(BH_1995) <= 0.05) == 4


def test_the_example_of_benjamini_and_yekutieli():
    np.testing.assert_allclose([0.00498, 0.00995, 0.03152, 0.11821], benjamini_yekutieli(BH_1995)[:4], atol=5e-6)
    assert np.count_nonzero(benjamini_yekutieli(BH_1995) <= 0.05) == 3


def test_the_expected_maximum_of_independent_normals():
    # statistics.md C3, exact by quadrature: 10 -> 1.5388, 100 -> 2.5076.
    for n, expected in ((10, 1.5388), (100, 2.5076)):
        t_star = np.random.default_rng(n).standard_normal((20_000, n))
        assert expected == pytest.approx(luckiest_null(t_star), abs=0.015)


# False discovery rates.


@pytest.mark.parametrize("adjust", [benjamini_hochberg, benjamini_yekutieli])
def test_an_unknown_p_counts_as_one(adjust):
    expected = adjust(np.array([0.01, 1.0, 0.02]))
    np.testing.assert_array_equal(expected, adjust(np.array([0.01, np.nan, 0.02])))


@pytest.mark.parametrize("adjust", [benjamini_hochberg, benjamini_yekutieli])
def test_no_hypothesis_gives_no_p(adjust):
    assert adjust(np.array([])).shape == (0,)


@pytest.mark.parametrize("adjust", [benjamini_hochberg, benjamini_yekutieli])
@pytest.mark.parametrize("p", [np.array([-0.1]), np.array([1.1]), np.zeros((1, 1))])
def test_what_is_no_p_is_refused(adjust, p):
    with pytest.raises(ValueError, match="p must be"):
        adjust(p)


# Step-down, by definition.


def reject_by_definition(t, t_star, level, bar):
    """Romano and Wolf's rounds: reject all above the maximum's critical value, drop them, repeat."""
    shifted = t_star + np.where(t < bar, t, 0.0)
    active = list(range(t.size))
    rejected = set()
    while active:
        maximum = shifted[:, active].max(axis=1)
        new = [h for h in active if (1 + np.sum(maximum >= t[h])) / (1 + len(t_star)) <= level]
        if not new:
            break
        rejected |= set(new)
        active = [h for h in active if h not in rejected]
    return rejected


@pytest.mark.parametrize("seed", range(8))
def test_adjusted_p_values_reject_what_the_rounds_reject(seed):
    rng = np.random.default_rng(100 + seed)
    t_star = draws(seed)
    t = rng.standard_normal(20) + np.where(rng.random(20) < 0.3, 3.0, 0.0) - np.where(rng.random(20) < 0.3, 4.0, 0.0)
    adjusted = romano_wolf(t, t_star, n_days=1_000)
    for level in (0.01, 0.05, 0.1, 0.2, 0.5, 0.9):
        expected = reject_by_definition(t, t_star, level, -math.sqrt(2 * math.log(math.log(1_000))))
        assert expected == set(np.flatnonzero(adjusted <= level).tolist())


def test_one_hypothesis_has_its_own_bootstrap_p():
    t_star = draws(1, n_hypotheses=1)
    expected = (1 + np.sum(t_star >= 1.5)) / 1_000
    np.testing.assert_array_equal([expected], romano_wolf(np.array([1.5]), t_star, n_days=500))


def test_copies_of_one_hypothesis_cost_nothing():
    t_star = np.repeat(draws(2, n_hypotheses=1), 50, axis=1)
    expected = romano_wolf(np.array([2.0]), t_star[:, :1], n_days=500)[0]
    np.testing.assert_array_equal(np.full(50, expected), romano_wolf(np.full(50, 2.0), t_star, n_days=500))


def test_independent_hypotheses_cost_what_sidak_says_and_no_more_than_bonferroni():
    t_star = np.random.default_rng(3).standard_normal((50_000, 10))
    t = np.array([2.5, *np.linspace(-0.5, 0.5, 9)])
    p = stats.norm.sf(2.5)
    adjusted = romano_wolf(t, t_star, n_days=500)[0]
    assert 1 - (1 - p) ** 10 == pytest.approx(adjusted, abs=0.004)
    assert adjusted < 10 * p + 0.002


def test_dependence_makes_it_cheaper_than_bonferroni():
    t_star = draws(4, n_draws=20_000, n_hypotheses=40, rho=0.9)
    adjusted = romano_wolf(np.array([2.5, *np.zeros(39)]), t_star, n_days=500)[0]
    assert adjusted < 0.5 * 40 * stats.norm.sf(2.5)


def test_adjusted_p_values_rise_as_t_falls_and_exceed_the_single_ones():
    t_star, t = draws(5), np.random.default_rng(5).normal(0.5, 1.5, 20)
    adjusted = romano_wolf(t, t_star, n_days=1_000)
    single = (1 + np.count_nonzero(t_star >= t, axis=0)) / 1_000
    assert (np.diff(adjusted[np.argsort(-t)]) >= 0).all()
    assert (adjusted >= single - 1e-12).all()


def test_the_order_of_the_hypotheses_does_not_matter():
    t_star, t = draws(6), np.random.default_rng(6).normal(0.5, 1.5, 20)
    order = np.random.default_rng(7).permutation(20)
    expected = romano_wolf(t, t_star, n_days=1_000)[order]
    np.testing.assert_array_equal(expected, romano_wolf(t[order], t_star[:, order], n_days=1_000))


def test_a_hopeless_crowd_does_not_hide_a_winner():
    t_star = np.random.default_rng(8).standard_normal((4_999, 500))
    crowd = np.array([3.0, *np.full(499, -5.0)])
    alone = romano_wolf(crowd[:1], t_star[:, :1], n_days=1_000)[0]
    assert alone == pytest.approx(romano_wolf(crowd, t_star, n_days=1_000)[0], abs=5e-4)
    near = np.array([3.0, *np.full(499, -1.0)])
    assert romano_wolf(near, t_star, n_days=1_000)[0] > 0.3


def test_the_bar_of_recentring_is_that_of_the_days():
    t_star = np.random.default_rng(9).standard_normal((999, 2))
    bar = -math.sqrt(2 * math.log(math.log(876)))
    assert pytest.approx(bar, abs=5e-4) == -1.956
    above = romano_wolf(np.array([0.5, bar + 1e-9]), t_star, n_days=876)[0]
    below = romano_wolf(np.array([0.5, bar - 1e-9]), t_star, n_days=876)[0]
    assert below < above


def test_an_unknown_hypothesis_gets_one_and_disturbs_nobody():
    t_star, t = draws(10), np.random.default_rng(10).normal(1.0, 1.0, 20)
    expected = romano_wolf(t[2:], t_star[:, 2:], n_days=1_000)
    t[0] = np.nan
    t_star[3, 1] = np.nan
    actual = romano_wolf(t, t_star, n_days=1_000)
    np.testing.assert_array_equal([1.0, 1.0, *expected], actual)
    assert luckiest_null(t_star) == luckiest_null(np.delete(t_star, 1, axis=1))


def test_nothing_known_is_nothing_found():
    assert math.isnan(luckiest_null(np.full((5, 2), np.nan)))
    assert math.isnan(luckiest_null(np.zeros((5, 0))))
    np.testing.assert_array_equal([1.0, 1.0], romano_wolf(np.zeros(2), np.full((5, 2), np.nan), n_days=100))
    assert romano_wolf(np.zeros(0), np.zeros((5, 0)), n_days=100).shape == (0,)


def test_the_smallest_p_is_one_over_draws_plus_one():
    np.testing.assert_array_equal([1 / 1_000], romano_wolf(np.array([99.0]), draws(11, n_hypotheses=1), n_days=100))


def test_shapes_draws_and_days_are_checked():
    with pytest.raises(ValueError, match="one column"):
        romano_wolf(np.zeros(3), np.zeros((5, 2)), n_days=100)
    with pytest.raises(ValueError, match="at least one draw"):
        romano_wolf(np.zeros(3), np.zeros((0, 3)), n_days=100)
    with pytest.raises(ValueError, match="at least one draw"):
        luckiest_null(np.zeros(3))
    with pytest.raises(ValueError, match="n_days is 2"):
        romano_wolf(np.zeros(3), np.zeros((5, 3)), n_days=2)


# Monte Carlo of the chain: day sums -> t -> shared bootstrap -> step-down, both sides of every hypothesis.


def smallest_p(rng, edge=0.0):
    """One market: 25 hypotheses on common heavy-tailed days; `edge` on the first, in standard errors."""
    n_hypotheses, n_days = 25, 150
    shares = (rng.random((n_hypotheses, n_days)) < 0.5) * rng.integers(1, 4, (n_hypotheses, n_days)).astype(np.float64)
    moves = rng.standard_t(5, n_days) + rng.standard_normal((n_hypotheses, n_days))
    moves[0] += edge * moves[0].std() * np.sqrt((shares[0] ** 2).sum()) / shares[0].sum()
    test = accrual_t(shares * moves, shares)
    t_star = wild_day_bootstrap(
        test.residuals.T, shares.T, rng, n_draws=399, draws_at_once=57
    )  # small products: no BLAS threads
    t, both = np.concatenate([test.t, -test.t]), np.hstack([t_star, -t_star])
    return romano_wolf(t, both, n_days=n_days)


def test_the_smallest_adjusted_p_is_uniform_under_the_null():
    rng = np.random.default_rng(12)
    p = np.array([smallest_p(rng).min() for _ in range(2_000)])
    for level, tolerance in ((0.05, 0.015), (0.1, 0.02), (0.2, 0.027), (0.5, 0.034), (0.8, 0.027)):
        assert level == pytest.approx(np.mean(p <= level), abs=tolerance)


def test_a_strong_edge_is_found_and_only_that_one():
    rng = np.random.default_rng(13)
    p = np.array([smallest_p(rng, edge=5.0) for _ in range(120)])
    assert np.mean(p[:, 0] <= 0.05) > 0.9
    assert np.mean((p[:, 1:] <= 0.05).any(axis=1)) < 0.11


def test_max_t_agrees_with_a_count_over_draws_and_an_unknown_statistic_never_helps():
    rng = np.random.default_rng(3)
    draws, t = rng.standard_normal((500, 4)), np.array([2.5, -1.0, np.nan, 0.3])
    draws[:, 2] = 9.0  # of the unknown one: it must not count for the others
    luckiest = np.abs(draws[:, [0, 1, 3]]).max(axis=1)
    expected = [(1 + sum(luckiest >= abs(x))) / 501 if not np.isnan(x) else 1.0 for x in t]
    assert expected == max_t(t, draws).tolist()
    draws[:, 1] = np.nan
    assert 1.0 == max_t(t, draws)[1]
    assert [1.0] == max_t(np.array([np.nan]), np.zeros((5, 1))).tolist()
    with pytest.raises(ValueError, match="one column per hypothesis"):
        max_t(t[:2], draws)
