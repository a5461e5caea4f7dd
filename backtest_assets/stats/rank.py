"""Where a value stands among those of its own trailing window.

Keep quantiles out (`rolling.py`) and ranks across series (`research/`).
"""

import numpy as np

from backtest_assets.stats.arrays import FloatArray, check_window, series_with_gaps
from backtest_assets.stats.order import dense_labels, trailing_rank


def rolling_percentile_rank(values: FloatArray, window: int, min_count: int) -> FloatArray:
    """Rank each value within its trailing window, itself included, as a share of the values present.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: present values needed, at least 1 [bars].

    Returns:
        (n_observations,) in (0, 1]: average rank over count, so 1 is the strict maximum and 1/n the strict minimum;
        NaN below `min_count` and where the value itself is missing.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 1 <= min_count <= window.

    Source:
        pandas `rolling(window, min_periods).rank(pct=True)` (average ties), by a Fenwick (1994) tree.
    """
    series = series_with_gaps(values, "values")
    check_window(window, min_count)
    labels, distinct = dense_labels(series)
    return trailing_rank(labels, distinct.size, window, min_count)


def share_below(values: FloatArray, window: int, min_count: int) -> FloatArray:
    """Tell which share of the `window` values before each one is strictly smaller than it.

    Unlike a rank it gives ties nothing: a series that stands still scores 0, not the middle.

    Args:
        values: (n_observations,), NaN = missing.
        window: earlier observations compared with, at least 1 [observations].
        min_count: present values needed among them, at least 1 [observations].

    Returns:
        (n_observations,) in [0, 1]; NaN below `min_count` and where the value itself is missing.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 1 <= min_count <= window.

    Source:
        Definition; cost and memory grow with `window`: for settlements, not for bars.
    """
    series = series_with_gaps(values, "values")
    check_window(window, min_count)
    before = np.lib.stride_tricks.sliding_window_view(np.concatenate([np.full(window, np.nan), series]), window)[:-1]
    n_present = (~np.isnan(before)).sum(axis=1)
    n_below = (before < series[:, None]).sum(axis=1)  # false for NaN
    is_known = (n_present >= min_count) & ~np.isnan(series)
    return np.divide(n_below, n_present, out=np.full(series.size, np.nan), where=is_known)
