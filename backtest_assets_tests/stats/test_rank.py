"""Percentile rank against scipy's ranking of every window."""

import numpy as np
import pytest
from scipy import stats

from backtest_assets.stats.rank import rolling_percentile_rank, share_below


def naive(values, window, min_count):
    result = np.full(values.size, np.nan)
    for t in range(values.size):
        seen = values[max(0, t - window + 1) : t + 1]
        present = seen[~np.isnan(seen)]
        if present.size >= min_count and not np.isnan(values[t]):
            result[t] = stats.rankdata(present)[-1] / present.size
    return result


def gappy(seed, n, decimals):
    rng = np.random.default_rng(seed)
    values = np.cumsum(rng.standard_normal(n)).round(decimals)
    values[rng.random(n) < 0.2] = np.nan
    return values


def test_the_example_of_the_pandas_manual():
    # pandas Rolling.rank: Series([1, 4, 2, 3, 5, 3]).rolling(3).rank() is NaN NaN 2 2 3 1.5
    values = np.array([1.0, 4.0, 2.0, 3.0, 5.0, 3.0])
    np.testing.assert_allclose([np.nan, np.nan, 2 / 3, 2 / 3, 1.0, 1.5 / 3], rolling_percentile_rank(values, 3, 3))


@pytest.mark.parametrize("decimals", [0, 9], ids=["ties", "distinct"])
@pytest.mark.parametrize(("window", "min_count"), [(1, 1), (2, 2), (7, 3), (64, 20), (500, 5)])
def test_every_window_equals_the_naive_one(window, min_count, decimals):
    values = gappy(1, 400, decimals)
    np.testing.assert_allclose(
        naive(values, window, min_count), rolling_percentile_rank(values, window, min_count), rtol=1e-14
    )


def test_a_long_window_equals_the_naive_one_at_sampled_bars():
    values = gappy(2, 20_000, 2)
    result = rolling_percentile_rank(values, 2_880, 96)
    for t in range(200, values.size, 997):
        seen = values[max(0, t - 2_879) : t + 1]
        present = seen[~np.isnan(seen)]
        expected = np.nan if np.isnan(values[t]) else stats.rankdata(present)[-1] / present.size
        np.testing.assert_allclose(expected, result[t], rtol=1e-14)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 99, 250])
def test_the_past_does_not_change_when_the_future_is_cut_off(cut):
    values = gappy(3, 300, 1)
    np.testing.assert_array_equal(
        rolling_percentile_rank(values, 50, 2)[:cut], rolling_percentile_rank(values[:cut], 50, 2)
    )


def test_a_missing_value_has_no_rank_and_does_not_count():
    values = np.array([1.0, np.nan, 2.0, np.nan, 0.0])
    np.testing.assert_allclose([1.0, np.nan, 1.0, np.nan, 1 / 2], rolling_percentile_rank(values, 3, 1))


def test_a_constant_stands_in_the_middle():
    np.testing.assert_allclose(5.5 / 10, rolling_percentile_rank(np.ones(30), 10, 10)[9:])


def test_rank_depends_on_order_alone():
    values = gappy(4, 300, 1)
    np.testing.assert_array_equal(
        rolling_percentile_rank(values, 40, 5), rolling_percentile_rank(np.exp(values / 10), 40, 5)
    )


def test_nothing_in_is_nothing_out():
    assert rolling_percentile_rank(np.array([]), 5, 1).shape == (0,)
    np.testing.assert_array_equal(np.full(4, np.nan), rolling_percentile_rank(np.full(4, np.nan), 2, 1))


def test_an_impossible_window_or_value_is_refused():
    with pytest.raises(ValueError, match="min_count"):
        rolling_percentile_rank(np.zeros(3), 2, 0)
    with pytest.raises(ValueError, match="infinity"):
        rolling_percentile_rank(np.array([np.inf]), 2, 1)


@pytest.mark.parametrize("decimals", [0, 9], ids=["ties", "distinct"])
@pytest.mark.parametrize(("window", "min_count"), [(1, 1), (7, 3), (90, 30)])
def test_the_share_below_counts_strictly_smaller_earlier_values(window, min_count, decimals):
    values = gappy(4, 400, decimals)
    expected = np.full(values.size, np.nan)
    for t in range(values.size):
        seen = values[max(0, t - window) : t]
        present = seen[~np.isnan(seen)]
        if present.size >= min_count and not np.isnan(values[t]):
            expected[t] = np.mean(present < values[t])
    np.testing.assert_array_equal(expected, share_below(values, window, min_count))


def test_of_a_series_that_stands_still_nothing_is_below():
    np.testing.assert_array_equal([np.nan, np.nan, 0.0, 0.0], share_below(np.ones(4), 3, 2))


def test_an_empty_series_has_no_shares():
    assert 0 == share_below(np.zeros(0), 3, 1).size
