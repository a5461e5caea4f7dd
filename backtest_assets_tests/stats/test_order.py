"""The labels and the edges of the window's tree; its answers are tested through `rolling` and `rank`."""

import numpy as np
import pytest

from backtest_assets.stats.order import MISSING, dense_labels, trailing_quantile, trailing_rank


def test_labels_are_dense_ranks_and_gaps_have_none():
    labels, distinct = dense_labels(np.array([3.0, np.nan, -1.0, 3.0, 0.0, -0.0]))
    np.testing.assert_array_equal([2, MISSING, 0, 2, 1, 1], labels)
    np.testing.assert_array_equal([-1.0, 0.0, 3.0], distinct)


def test_labels_give_the_series_back():
    series = np.round(np.random.default_rng(0).standard_normal(1_000), 1)
    labels, distinct = dense_labels(series)
    np.testing.assert_array_equal(series, distinct[labels])


@pytest.mark.parametrize("n_labels", [1, 15, 16, 17, 31, 32, 33, 255, 256, 257])
def test_every_number_of_labels_fits_its_blocks(n_labels):
    labels = np.random.default_rng(n_labels).permutation(n_labels).astype(np.int64)
    distinct = np.arange(n_labels, dtype=np.float64)
    for q in (0.0, 0.3, 0.5, 1.0):
        expected = [np.quantile(labels[: t + 1], q) for t in range(n_labels)]
        np.testing.assert_array_equal(expected, trailing_quantile(labels, distinct, n_labels, 1, q))
    expected = [np.mean(labels[: t + 1] <= labels[t]) for t in range(n_labels)]
    np.testing.assert_array_equal(expected, trailing_rank(labels, n_labels, n_labels, 1))
