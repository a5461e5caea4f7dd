"""Where a value stands within its own trailing window.

Keep quantiles out (`rolling.py`) and ranks across series (`research/`).
"""

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
