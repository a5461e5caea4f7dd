"""Trailing-window statistics of one series with gaps: the window of bar t is t and the `window` - 1 bars before it.

All functions are causal (bar t sees nothing later), skip NaN, and give NaN where fewer than `min_count` values are
present, also at the start. The current value counts; a caller who needs a lagged window lags the answer. Windows are
rows, not time. Keep ranks out (`rank.py`) and anything that pairs two series (`research/`).
"""

import numpy as np

from backtest_assets.stats.arrays import FloatArray, IntArray, check_window, series_with_gaps
from backtest_assets.stats.kernel import kernel
from backtest_assets.stats.order import dense_labels, trailing_quantile


def rolling_count(values: FloatArray, window: int, min_count: int = 0) -> FloatArray:
    """Count the present values of each trailing window.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: counts below it become NaN [bars].

    Returns:
        (n_observations,) float64 [bars]; NaN below `min_count`, which the default never gives.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 0 <= min_count <= window.

    Source:
        Definition; as pandas `rolling(window).count()`.
    """
    series = series_with_gaps(values, "values")
    check_window(window, min_count, least=0)
    counts = _counts(series, window)
    return np.where(counts >= min_count, counts.astype(np.float64), np.nan)


def rolling_mean(values: FloatArray, window: int, min_count: int) -> FloatArray:
    """Average the present values of each trailing window.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: present values needed, at least 1 [bars].

    Returns:
        (n_observations,) in the unit of `values`; NaN below `min_count`. No drift: no value is ever subtracted back.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 1 <= min_count <= window.

    Source:
        Welford (1962) updates, merged by Chan, Golub and LeVeque (1979) over van Herk (1992) blocks.
    """
    series = series_with_gaps(values, "values")
    check_window(window, min_count)
    mean, _ = _moments(series, min(window, max(series.size, 1)))
    return _present(mean, series, window, min_count)


def rolling_std(values: FloatArray, window: int, min_count: int) -> FloatArray:
    """Estimate the standard deviation (ddof = 1) of each trailing window.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: present values needed, at least 1; one value alone gives NaN all the same [bars].

    Returns:
        (n_observations,) in the unit of `values`; NaN below max(min_count, 2); exactly 0 on a constant window.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 1 <= min_count <= window.

    Source:
        Welford (1962) updates, merged by Chan, Golub and LeVeque (1979) over van Herk (1992) blocks.
    """
    series = series_with_gaps(values, "values")
    check_window(window, min_count)
    _, squares = _moments(series, min(window, max(series.size, 1)))
    degrees = np.maximum(_counts(series, window) - 1, 1)
    return _present(np.sqrt(squares / degrees), series, window, max(min_count, 2))


def rolling_max(values: FloatArray, window: int, min_count: int) -> FloatArray:
    """Take the largest present value of each trailing window.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: present values needed, at least 1 [bars].

    Returns:
        (n_observations,) in the unit of `values`; NaN below `min_count`.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 1 <= min_count <= window.

    Source:
        van Herk (1992), Gil and Werman (1993): block prefix and suffix maxima.
    """
    series = series_with_gaps(values, "values")
    check_window(window, min_count)
    filled = np.where(np.isnan(series), -np.inf, series)
    return _present(_maxima(filled, min(window, max(series.size, 1))), series, window, min_count)


def rolling_min(values: FloatArray, window: int, min_count: int) -> FloatArray:
    """Take the smallest present value of each trailing window.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: present values needed, at least 1 [bars].

    Returns:
        (n_observations,) in the unit of `values`; NaN below `min_count`.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 1 <= min_count <= window.

    Source:
        van Herk (1992), Gil and Werman (1993), on the negated series.
    """
    return -rolling_max(-series_with_gaps(values, "values"), window, min_count)


def rolling_quantile(values: FloatArray, window: int, min_count: int, q: float) -> FloatArray:
    """Take the q-quantile of the present values of each trailing window.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: present values needed, at least 1 [bars].
        q: level in [0, 1].

    Returns:
        (n_observations,) in the unit of `values`, by linear interpolation; NaN below `min_count`.

    Raises:
        ValueError: on a bad shape, an infinity, a `q` outside [0, 1], or unless 1 <= min_count <= window.

    Source:
        Hyndman and Fan (1996), definition 7 (numpy's "linear", bit for bit); Fenwick (1994) tree.
    """
    series = series_with_gaps(values, "values")
    check_window(window, min_count)
    if not 0.0 <= q <= 1.0:
        message = f"q is {q}; give a level in [0, 1]"
        raise ValueError(message)
    labels, distinct = dense_labels(series)
    return trailing_quantile(labels, distinct, window, min_count, q)


def rolling_median(values: FloatArray, window: int, min_count: int) -> FloatArray:
    """Take the median of the present values of each trailing window.

    Args:
        values: (n_observations,), NaN = missing.
        window: bars in the window, at least 1 [bars].
        min_count: present values needed, at least 1 [bars].

    Returns:
        (n_observations,) in the unit of `values`, the midpoint of the middle two; NaN below `min_count`.

    Raises:
        ValueError: on a bad shape, an infinity, or unless 1 <= min_count <= window.

    Source:
        `rolling_quantile` at 1/2.
    """
    return rolling_quantile(values, window, min_count, 0.5)


def _counts(series: FloatArray, window: int) -> IntArray:
    counts = np.cumsum(~np.isnan(series), dtype=np.int64)
    counts[window:] -= counts[:-window].copy()
    return counts


def _present(result: FloatArray, series: FloatArray, window: int, min_count: int) -> FloatArray:
    return np.where(_counts(series, window) >= min_count, result, np.nan)


# A window of w bars is a suffix of the block of w bars before it and a prefix of its own block, so two running merges
# replace the subtraction of the leaving value: nothing cancels, and a large value leaves no trace when it is gone.


@kernel
def _moments(series: FloatArray, window: int) -> tuple[FloatArray, FloatArray]:
    """Mean and sum of squared deviations of each window; (0, 0) for an empty one."""
    means = np.zeros(series.size)
    squares = np.zeros(series.size)
    suffix_n = np.zeros(window + 1)
    suffix_mean = np.zeros(window + 1)
    suffix_squares = np.zeros(window + 1)
    n, mean, square = 0.0, 0.0, 0.0
    for t in range(series.size):
        position = t % window
        if position == 0 and t > 0:
            n, mean, square = 0.0, 0.0, 0.0
            for j in range(window - 1, 0, -1):
                x = series[t - window + j]
                if not np.isnan(x):
                    n += 1.0
                    change = x - mean
                    mean += change / n
                    square += change * (x - mean)
                suffix_n[j] = n
                suffix_mean[j] = mean
                suffix_squares[j] = square
            n, mean, square = 0.0, 0.0, 0.0
        x = series[t]
        if not np.isnan(x):
            n += 1.0
            change = x - mean
            mean += change / n
            square += change * (x - mean)
        before = suffix_n[position + 1]
        total = n + before
        if total > 0.0:
            gap = suffix_mean[position + 1] - mean
            share = before / total
            means[t] = mean + gap * share
            squares[t] = square + suffix_squares[position + 1] + gap * gap * n * share
    return means, squares


@kernel
def _maxima(series: FloatArray, window: int) -> FloatArray:
    """Largest value of each window of a series whose gaps are minus infinity."""
    result = np.empty(series.size)
    suffix = np.full(window + 1, -np.inf)
    largest = -np.inf
    for t in range(series.size):
        position = t % window
        if position == 0 and t > 0:
            largest = -np.inf
            for j in range(window - 1, 0, -1):
                largest = max(largest, series[t - window + j])
                suffix[j] = largest
            largest = -np.inf
        largest = max(largest, series[t])
        result[t] = max(largest, suffix[position + 1])
    return result
