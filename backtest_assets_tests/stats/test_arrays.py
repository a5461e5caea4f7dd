"""What arrays are refused, and with which words."""

import numpy as np
import pytest

from backtest_assets.stats.arrays import check_window, complete_series, same_shape, series_with_gaps


def test_a_list_of_integers_becomes_float64():
    series = series_with_gaps(np.array([1, 2]), "values")
    assert np.float64 == series.dtype


def test_a_strided_series_becomes_contiguous():
    assert series_with_gaps(np.arange(10.0)[::2], "values").flags.c_contiguous


def test_a_gap_is_kept_where_gaps_are_allowed():
    np.testing.assert_array_equal([1.0, np.nan], series_with_gaps(np.array([1.0, np.nan]), "values"))


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.float64(1.0)])
def test_only_one_dimension_is_a_series(values):
    with pytest.raises(ValueError, match="give one series"):
        series_with_gaps(values, "values")


def test_an_infinity_is_not_a_missing_value():
    with pytest.raises(ValueError, match="x holds an infinity"):
        series_with_gaps(np.array([1.0, -np.inf]), "x")


def test_a_gap_is_refused_where_it_has_no_meaning():
    with pytest.raises(ValueError, match="x holds NaN"):
        complete_series(np.array([1.0, np.nan]), "x")


def test_two_arrays_must_have_one_shape():
    with pytest.raises(ValueError, match="must be 2-D of one shape"):
        same_shape(np.zeros((2, 3)), np.zeros((3, 2)), ("a", "b"), n_dimensions=2)


def test_two_arrays_must_be_finite():
    with pytest.raises(ValueError, match="b holds NaN"):
        same_shape(np.zeros(2), np.array([0.0, np.nan]), ("a", "b"), n_dimensions=1)


@pytest.mark.parametrize(("window", "min_count"), [(0, 0), (3, 4), (3, 0), (-1, -1)])
def test_an_impossible_window_is_refused(window, min_count):
    with pytest.raises(ValueError, match="min_count"):
        check_window(window, min_count)
