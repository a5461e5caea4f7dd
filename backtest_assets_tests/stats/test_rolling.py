"""Trailing windows against a naive reference that rebuilds every window."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_assets.stats.rolling import (
    rolling_count,
    rolling_max,
    rolling_mean,
    rolling_median,
    rolling_min,
    rolling_quantile,
    rolling_std,
)


def q90(values, window, min_count):
    return rolling_quantile(values, window, min_count, 0.9)


def q0(values, window, min_count):
    return rolling_quantile(values, window, min_count, 0.0)


def q1(values, window, min_count):
    return rolling_quantile(values, window, min_count, 1.0)


def sample_std(present):
    return np.std(present, ddof=1) if present.size > 1 else np.nan


NAIVE: dict[Callable, Callable] = {
    rolling_count: np.size,
    rolling_mean: np.mean,
    rolling_std: sample_std,
    rolling_max: np.max,
    rolling_min: np.min,
    rolling_median: lambda present: np.quantile(present, 0.5),
    q90: lambda present: np.quantile(present, 0.9),
    q0: np.min,
    q1: np.max,
}
EXACT = {rolling_count, rolling_max, rolling_min, q90, q0, q1, rolling_median}
every = pytest.mark.parametrize("function", NAIVE, ids=lambda function: function.__name__)


def naive(function, values, window, min_count):
    result = np.full(values.size, np.nan)
    for t in range(values.size):
        seen = values[max(0, t - window + 1) : t + 1]
        present = seen[~np.isnan(seen)]
        if present.size >= min_count:
            result[t] = NAIVE[function](present)
    return result


def gappy(seed, n, *, share=0.2, decimals=None):
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, n) * np.exp(np.cumsum(rng.normal(0, 0.05, n)))
    values = values if decimals is None else np.round(values, decimals)
    values[rng.random(n) < share] = np.nan
    return values


# Numbers known from elsewhere.


def test_the_textbook_window_of_three():
    values = np.array([1.0, 2.0, 4.0, np.nan, 3.0])
    np.testing.assert_array_equal([np.nan, 1.5, 7 / 3, 3.0, 3.5], rolling_mean(values, 3, 2))
    np.testing.assert_allclose(
        [np.nan, np.sqrt(0.5), np.sqrt(7 / 3), np.sqrt(2), np.sqrt(0.5)], rolling_std(values, 3, 2)
    )
    np.testing.assert_array_equal([np.nan, 2.0, 4.0, 4.0, 4.0], rolling_max(values, 3, 2))
    np.testing.assert_array_equal([np.nan, 1.0, 1.0, 2.0, 3.0], rolling_min(values, 3, 2))
    np.testing.assert_array_equal([np.nan, 1.5, 2.0, 3.0, 3.5], rolling_median(values, 3, 2))
    np.testing.assert_array_equal([np.nan, 1.25, 1.5, 2.5, 3.25], rolling_quantile(values, 3, 2, 0.25))
    np.testing.assert_array_equal([1.0, 2.0, 3.0, 2.0, 2.0], rolling_count(values, 3))


# Brute force.


@every
@pytest.mark.parametrize("decimals", [None, 0], ids=["distinct", "ties"])
@pytest.mark.parametrize(("window", "min_count"), [(1, 1), (2, 1), (7, 3), (7, 7), (64, 20), (500, 5)])
def test_every_window_equals_the_naive_one(function, window, min_count, decimals):
    values = gappy(1, 400, decimals=decimals)
    expected = naive(function, values, window, min_count)
    if function in EXACT:
        np.testing.assert_array_equal(expected, function(values, window, min_count))
    else:
        np.testing.assert_allclose(expected, function(values, window, min_count), rtol=1e-11, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.just(np.nan), st.floats(-1e6, 1e6), st.integers(-2, 2).map(float)), max_size=60),
    window=st.integers(1, 70),
    q=st.floats(0, 1),
    data=st.data(),
)
def test_any_quantile_of_any_series_equals_numpys(values, window, q, data):
    series = np.array(values, dtype=np.float64)
    min_count = data.draw(st.integers(1, window))
    expected = np.full(series.size, np.nan)
    for t in range(series.size):
        seen = series[max(0, t - window + 1) : t + 1]
        present = seen[~np.isnan(seen)]
        if present.size >= min_count:
            expected[t] = np.quantile(present, q)
    np.testing.assert_array_equal(expected, rolling_quantile(series, window, min_count, q))


def test_long_windows_equal_the_naive_ones_at_sampled_bars():
    values = gappy(2, 30_000, share=0.05)
    for window in (2_880, 17_280):
        median, quantile, std = (
            rolling_median(values, window, 96),
            rolling_quantile(values, window, 96, 0.99),
            rolling_std(values, window, 96),
        )
        for t in range(500, values.size, 1_777):
            seen = values[max(0, t - window + 1) : t + 1]
            assert np.nanquantile(seen, 0.5) == median[t]
            assert np.nanquantile(seen, 0.99) == quantile[t]
            assert np.nanstd(seen, ddof=1) == pytest.approx(std[t], rel=1e-11)


# Laws.


@every
@pytest.mark.parametrize("cut", [0, 1, 6, 7, 8, 13, 14, 15, 99, 250])
def test_the_past_does_not_change_when_the_future_is_cut_off(function, cut):
    values = gappy(3, 300, decimals=1)
    np.testing.assert_array_equal(function(values, 7, 2)[:cut], function(values[:cut], 7, 2))
    np.testing.assert_array_equal(function(values, 200, 2)[:cut], function(values[:cut], 200, 2))


@every
def test_what_left_the_window_leaves_no_trace(function):
    values = gappy(4, 300)
    shocked = values.copy()
    shocked[100] = 1e15
    after = slice(100 + 50, None)
    np.testing.assert_allclose(
        function(values, 50, 5)[after], function(shocked, 50, 5)[after], rtol=1e-13, atol=0, equal_nan=True
    )


@every
def test_a_gap_gives_nan_only_where_too_few_values_are_left(function):
    values = np.arange(20.0)
    values[5:15] = np.nan
    result = function(values, 4, 2)
    expected = np.array([t in {0, *range(7, 16)} for t in range(20)])
    np.testing.assert_array_equal(expected, np.isnan(result))


@every
def test_a_series_of_gaps_is_all_nan(function):
    result = function(np.full(10, np.nan), 4, 1)
    np.testing.assert_array_equal(np.full(10, np.nan), result)


@every
def test_an_empty_series_stays_empty(function):
    assert function(np.array([]), 4, 1).shape == (0,)


@every
def test_the_input_is_left_as_it_was(function):
    values = gappy(5, 50)
    kept = values.copy()
    function(values, 7, 2)
    np.testing.assert_array_equal(kept, values)


@every
@pytest.mark.parametrize(("window", "min_count"), [(0, 1), (3, 4), (3, -1)])
def test_an_impossible_window_is_refused(function, window, min_count):
    with pytest.raises(ValueError, match="min_count"):
        function(np.zeros(5), window, min_count)


@every
def test_an_infinity_is_refused(function):
    with pytest.raises(ValueError, match="infinity"):
        function(np.array([1.0, np.inf]), 2, 1)


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan])
def test_a_level_outside_zero_to_one_is_refused(q):
    with pytest.raises(ValueError, match="q is"):
        rolling_quantile(np.zeros(3), 2, 1, q)


def test_the_default_count_is_never_nan():
    np.testing.assert_array_equal([0.0, 1.0, 1.0, 0.0], rolling_count(np.array([np.nan, 1, np.nan, np.nan]), 2))


def test_the_deviation_of_a_constant_is_exactly_zero_and_its_mean_exact():
    values = np.full(100, 0.1)
    np.testing.assert_array_equal(np.full(99, 0.0), rolling_std(values, 13, 2)[1:])
    np.testing.assert_array_equal(values, rolling_mean(values, 13, 1))


def test_one_value_alone_has_no_deviation():
    np.testing.assert_array_equal([np.nan, np.nan], rolling_std(np.array([1.0, np.nan]), 2, 1))


def test_a_far_offset_does_not_spoil_the_deviation():
    noise = np.random.default_rng(6).standard_normal(5_000)
    np.testing.assert_allclose(rolling_std(noise, 96, 96), rolling_std(noise + 1e9, 96, 96), rtol=1e-6)
