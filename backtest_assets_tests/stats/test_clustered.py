"""Day-clustered means."""

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.clustered import accrual_t, day_matrix


def naive(sums, shares):
    """The recipe's step 4, one hypothesis, day by day."""
    held = [(s, n) for s, n in zip(sums, shares, strict=True) if n > 0]
    g = len(held)
    mean = sum(s for s, _ in held) / sum(n for _, n in held)
    squares = sum((s - mean * n) ** 2 for s, n in held)
    error = (squares * g / (g - 1)) ** 0.5 / sum(n for _, n in held)
    return mean, error, mean / error, stats.t.sf(mean / error, g - 1), g


def market(seed, n_hypotheses=6, n_days=80):
    rng = np.random.default_rng(seed)
    shares = rng.poisson(0.7, (n_hypotheses, n_days)) * rng.uniform(0.2, 1.0, (n_hypotheses, n_days))
    return shares * rng.normal(3.0, 50.0, (n_hypotheses, n_days)), shares


def test_every_hypothesis_equals_the_naive_one():
    sums, shares = market(1)
    result = accrual_t(sums, shares)
    for k in range(len(sums)):
        expected = naive(sums[k], shares[k])
        actual = (result.mean[k], result.standard_error[k], result.t[k], result.p[k], result.n_days[k])
        np.testing.assert_allclose(expected, actual, rtol=1e-12)


def test_one_trade_a_day_is_the_one_sample_t_test():
    x = np.random.default_rng(2).normal(0.3, 1.0, 50)
    expected = stats.ttest_1samp(x, 0.0, alternative="greater")
    result = accrual_t(x[np.newaxis], np.ones((1, 50)))
    np.testing.assert_allclose(float(expected.statistic), result.t[0], rtol=1e-12)
    np.testing.assert_allclose(float(expected.pvalue), result.p[0], rtol=1e-12)


def test_days_without_a_share_count_nowhere():
    sums, shares = market(3)
    empty = np.zeros((len(sums), 40))
    lone, padded = accrual_t(sums, shares), accrual_t(np.hstack([empty, sums]), np.hstack([empty, shares]))
    np.testing.assert_array_equal(lone.n_days, padded.n_days)
    np.testing.assert_allclose(lone.p, padded.p, rtol=1e-12)


def test_copies_of_a_trade_on_one_day_are_no_new_evidence():
    x = np.random.default_rng(4).normal(0.3, 1.0, (1, 50))
    once, ten_times = accrual_t(x, np.ones((1, 50))), accrual_t(10 * x, np.full((1, 50), 10.0))
    np.testing.assert_allclose(once.t, ten_times.t, rtol=1e-12)
    np.testing.assert_allclose(once.n_trades * 10, ten_times.n_trades)


def test_residuals_sum_to_zero_and_rebuild_the_sums():
    sums, shares = market(5)
    result = accrual_t(sums, shares)
    np.testing.assert_allclose(np.zeros(len(sums)), result.residuals.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(sums, result.residuals + result.mean[:, np.newaxis] * shares, atol=1e-9)


def test_the_short_side_mirrors_the_long_one():
    sums, shares = market(6)
    long, short = accrual_t(sums, shares), accrual_t(-sums, shares)
    np.testing.assert_allclose(-long.t, short.t, rtol=1e-12)
    np.testing.assert_allclose(1.0 - long.p, short.p, rtol=1e-9)


def test_what_cannot_be_known_is_nan():
    sums = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.3, 0.6, 0.9]])
    shares = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
    result = accrual_t(sums, shares)
    np.testing.assert_allclose([np.nan, 5.0, 3.0], result.mean)
    np.testing.assert_array_equal([np.nan] * 3, result.standard_error)
    np.testing.assert_array_equal([np.nan] * 3, result.t)
    np.testing.assert_array_equal([np.nan] * 3, result.p)
    np.testing.assert_array_equal([0, 1, 3], result.n_days)


def test_profit_without_a_share_is_refused():
    with pytest.raises(ValueError, match="last day held"):
        accrual_t(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0]]))


def test_a_negative_share_a_gap_or_another_shape_is_refused():
    with pytest.raises(ValueError, match="negative"):
        accrual_t(np.array([[1.0]]), np.array([[-1.0]]))
    with pytest.raises(ValueError, match="NaN"):
        accrual_t(np.array([[np.nan]]), np.array([[1.0]]))
    with pytest.raises(ValueError, match="one shape"):
        accrual_t(np.zeros((1, 2)), np.zeros((2, 1)))


def test_no_hypothesis_gives_no_answer():
    assert accrual_t(np.zeros((0, 5)), np.zeros((0, 5))).t.shape == (0,)


def test_sparse_entries_of_one_cell_add_up():
    rows, days, values = np.array([0, 1, 0, 0]), np.array([2, 0, 2, 1]), np.array([1.0, 2.0, 3.0, -1.0])
    expected = [[0.0, -1.0, 4.0], [2.0, 0.0, 0.0]]
    np.testing.assert_array_equal(expected, day_matrix(rows, days, values, n_hypotheses=2, n_days=3))


def test_no_entry_is_a_matrix_of_zeros():
    none = np.array([], dtype=np.int64)
    np.testing.assert_array_equal(np.zeros((2, 3)), day_matrix(none, none, np.array([]), n_hypotheses=2, n_days=3))


@pytest.mark.parametrize(
    ("row", "day", "value"), [(2, 0, 1.0), (0, 3, 1.0), (-1, 0, 1.0), (0, -1, 1.0), (0, 0, np.nan)]
)
def test_an_entry_outside_the_matrix_or_unknown_is_refused(row, day, value):
    with pytest.raises(ValueError, match="outside"):
        day_matrix(np.array([row]), np.array([day]), np.array([value]), n_hypotheses=2, n_days=3)


def test_entries_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        day_matrix(np.array([0]), np.array([0, 1]), np.array([1.0]), n_hypotheses=2, n_days=3)


@pytest.mark.parametrize(("level", "tolerance"), [(0.05, 0.008), (0.01, 0.004)])
def test_bursts_of_overlapping_trades_keep_the_size(level, tolerance):
    # Bursts: six trades opened on one day, held over two, all on the same price; 40 bursts of 5,000 markets.
    rng = np.random.default_rng(7)
    n_markets, n_bursts = 5_000, 40
    first_part = rng.uniform(0.1, 0.9, (n_markets, n_bursts, 6))
    moves = rng.standard_t(5, (n_markets, n_bursts, 2))
    first = (np.sqrt(first_part) * moves[..., :1]).sum(axis=2)
    second = (np.sqrt(1 - first_part) * moves[..., 1:]).sum(axis=2)
    shares = np.stack([first_part.sum(axis=2), (1 - first_part).sum(axis=2)], axis=2)
    sums = np.stack([first, second], axis=2)
    p = accrual_t(sums.reshape(n_markets, -1), shares.reshape(n_markets, -1)).p
    assert level == pytest.approx(np.mean(p <= level), abs=tolerance)
