"""Scans along one series: what is the first bar that ..., which of these may stand, how far did it go between.

All positions are row numbers. Trailing windows live in `rolling.py`; what a row means lives in `research/`.
"""

import numpy as np

from backtest_assets.stats.arrays import BoolArray, FloatArray, IntArray
from backtest_assets.stats.kernel import kernel

NEVER = np.iinfo(np.int64).max
"""The position of something that does not happen within the series."""


def lagged(values: FloatArray, n_bars: int = 1) -> FloatArray:
    """Move a series `n_bars` later, so that bar t shows what was there at t - `n_bars`.

    Args:
        values: (n_observations,).
        n_bars: at least 0 [bars].

    Returns:
        (n_observations,) float64 with NaN in the first `n_bars`.

    Raises:
        ValueError: if `n_bars` is negative: that would show the future.

    Source:
        Definition.
    """
    if n_bars < 0:
        message = f"n_bars is {n_bars}; a lag below 0 would show the future"
        raise ValueError(message)
    result = np.full(values.size, np.nan)
    result[n_bars:] = values[: max(values.size - n_bars, 0)]
    return result


def next_present(values: FloatArray) -> IntArray:
    """Find, for every position, the first one at or after it that holds a value.

    Args:
        values: (n_observations,), NaN = missing.

    Returns:
        (n_observations,), `NEVER` where nothing follows.

    Source:
        Definition.
    """
    at = np.where(np.isnan(values), NEVER, np.arange(values.size, dtype=np.int64))
    return np.minimum.accumulate(at[::-1])[::-1].astype(np.int64)


def last_present(values: FloatArray) -> FloatArray:
    """Carry the last value forward over missing ones.

    Args:
        values: (n_observations,), NaN = missing.

    Returns:
        (n_observations,), NaN before the first value.

    Source:
        Definition.
    """
    if not values.size:
        return values
    at = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(values.size)))
    return values[at]


def first_run_end(flags: BoolArray, starts: IntArray, length: int) -> IntArray:
    """Find where the first unbroken run of `length` true bars after each start is complete.

    Args:
        flags: (n_observations,).
        starts: (n_starts,) positions; the run begins after them.
        length: bars in the run, at least 1 [bars].

    Returns:
        (n_starts,) position of the run's last bar, `NEVER` if no run completes within the series.

    Raises:
        ValueError: if `length` is below 1.

    Source:
        Definition.
    """
    if length < 1:
        message = f"length is {length}; a run has at least 1 bar"
        raise ValueError(message)
    total = np.cumsum(flags, dtype=np.int64)
    total[length:] -= total[:-length].copy()
    ends = next_present(np.where(total == length, 1.0, np.nan))
    padded = np.append(ends, np.full(length + 1, NEVER, dtype=np.int64))
    return padded[np.minimum(starts + length, flags.size)]


def accept_spaced(starts: IntArray, free_from: IntArray) -> BoolArray:
    """Accept candidates in order, each only once the last accepted one has set the series free.

    Args:
        starts: (n_candidates,) ascending positions.
        free_from: (n_candidates,) first position at which another may be accepted after this one.

    Returns:
        (n_candidates,) true where accepted.

    Raises:
        ValueError: if shapes differ or `starts` descend.

    Source:
        Definition (greedy, first come first served).
    """
    if starts.shape != free_from.shape or bool((np.diff(starts) < 0).any()):
        message = f"starts {starts.shape} must ascend and match free_from {free_from.shape}"
        raise ValueError(message)
    return _accept(starts.astype(np.int64), free_from.astype(np.int64))


def first_beyond(values: FloatArray, starts: IntArray, levels: FloatArray, signs: IntArray, horizon: int) -> IntArray:
    """Find the first bar after each start whose value lies beyond a level.

    Args:
        values: (n_observations,), NaN never counts.
        starts: (n_starts,) positions; the search covers start + 1 .. start + horizon.
        levels: (n_starts,) in the unit of `values`; NaN gives `NEVER`.
        signs: (n_starts,), +1 to look above the level, -1 below.
        horizon: at least 1 [bars].

    Returns:
        (n_starts,) positions, `NEVER` if none within the horizon or the series.

    Raises:
        ValueError: if the starts' arrays differ in shape or `horizon` is below 1.

    Source:
        Definition.
    """
    if not starts.shape == levels.shape == signs.shape or horizon < 1:
        message = f"starts {starts.shape}, levels {levels.shape}, signs {signs.shape} must agree, and horizon {horizon} be at least 1"
        raise ValueError(message)
    return _first_beyond(values, starts.astype(np.int64), levels, signs.astype(np.int64), horizon)


def extremes_between(
    low: FloatArray, high: FloatArray, begin: IntArray, end: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Take the lowest low and the highest high of the bars [begin, end).

    Args:
        low: (n_observations,), NaN = missing.
        high: (n_observations,), NaN = missing.
        begin: (n_spans,) first position.
        end: (n_spans,) position after the last.

    Returns:
        Two arrays (n_spans,), NaN where a span holds no value.

    Raises:
        ValueError: if a span leaves the series or the shapes differ.

    Source:
        Definition.
    """
    spans_fit = begin.shape == end.shape and low.shape == high.shape
    if not spans_fit or (begin.size and (begin.min() < 0 or end.max() > low.size)):
        message = f"spans {begin.shape}, {end.shape} must agree and stay within {low.shape}, {high.shape} bars"
        raise ValueError(message)
    return _extremes(low, high, begin.astype(np.int64), end.astype(np.int64))


def mean_square_between(values: FloatArray, begin: IntArray, end: IntArray) -> tuple[FloatArray, IntArray]:
    """Average the squares of what is present in [begin, end).

    Args:
        values: (n_observations,), NaN = missing.
        begin: (n_spans,) first position.
        end: (n_spans,) position after the last.

    Returns:
        Two arrays (n_spans,): the mean square, NaN where a span holds no value, and how many values it holds.

    Raises:
        ValueError: if a span leaves the series or the shapes differ.

    Source:
        Definition.
    """
    if begin.shape != end.shape or (begin.size and (begin.min() < 0 or end.max() > values.size)):
        message = f"spans {begin.shape}, {end.shape} must agree and stay within {values.shape} observations"
        raise ValueError(message)
    return _mean_square(values, begin.astype(np.int64), end.astype(np.int64))


def first_touches(
    low: FloatArray, high: FloatArray, spans: tuple[IntArray, IntArray], barriers: tuple[FloatArray, FloatArray]
) -> tuple[IntArray, IntArray]:
    """Find the first bar of each span whose low lies below a floor, and the first whose high lies above a ceiling.

    Args:
        low: (n_observations,), NaN never counts.
        high: (n_observations,), NaN never counts.
        spans: first position and position after the last, each (n_spans,).
        barriers: floor and ceiling, each (n_spans,) in the unit of the series; NaN is never passed.

    Returns:
        Two arrays (n_spans,) of positions, floor first; `NEVER` where the span does not get there.

    Raises:
        ValueError: if a span leaves the series or the shapes differ.

    Source:
        Definition.
    """
    (begin, end), (floor, ceiling) = spans, barriers
    fit = begin.shape == end.shape == floor.shape == ceiling.shape and low.shape == high.shape
    if not fit or (begin.size and (begin.min() < 0 or end.max() > low.size)):
        message = (
            f"spans {begin.shape}, {end.shape} and barriers {floor.shape}, {ceiling.shape} must agree and stay within "
            f"{low.shape}, {high.shape} bars"
        )
        raise ValueError(message)
    return _touches(low, high, (begin.astype(np.int64), end.astype(np.int64)), barriers)


@kernel
def _accept(starts: IntArray, free_from: IntArray) -> BoolArray:
    accepted = np.zeros(starts.size, dtype=np.bool_)
    free = np.iinfo(np.int64).min
    for i in range(starts.size):
        if starts[i] >= free:
            accepted[i] = True
            free = free_from[i]
    return accepted


@kernel
def _first_beyond(values: FloatArray, starts: IntArray, levels: FloatArray, signs: IntArray, horizon: int) -> IntArray:
    result = np.full(starts.size, np.iinfo(np.int64).max, dtype=np.int64)
    for i in range(starts.size):
        for t in range(starts[i] + 1, min(starts[i] + horizon + 1, values.size)):
            if (values[t] - levels[i]) * signs[i] > 0.0:  # false for NaN
                result[i] = t
                break
    return result


@kernel
def _extremes(low: FloatArray, high: FloatArray, begin: IntArray, end: IntArray) -> tuple[FloatArray, FloatArray]:
    lowest = np.full(begin.size, np.nan)
    highest = np.full(begin.size, np.nan)
    for i in range(begin.size):
        bottom, top = np.inf, -np.inf
        for t in range(begin[i], end[i]):
            bottom = min(bottom, low[t]) if low[t] == low[t] else bottom  # false for NaN
            top = max(top, high[t]) if high[t] == high[t] else top  # false for NaN
        if bottom <= top:
            lowest[i], highest[i] = bottom, top
    return lowest, highest


@kernel
def _mean_square(values: FloatArray, begin: IntArray, end: IntArray) -> tuple[FloatArray, IntArray]:
    mean = np.full(begin.size, np.nan)
    count = np.zeros(begin.size, dtype=np.int64)
    for i in range(begin.size):
        total = 0.0
        for t in range(begin[i], end[i]):
            if values[t] == values[t]:  # false for NaN
                total += values[t] * values[t]
                count[i] += 1
        if count[i]:
            mean[i] = total / count[i]
    return mean, count


@kernel
def _touches(
    low: FloatArray, high: FloatArray, spans: tuple[IntArray, IntArray], barriers: tuple[FloatArray, FloatArray]
) -> tuple[IntArray, IntArray]:
    (begin, end), (floor, ceiling) = spans, barriers
    down = np.full(begin.size, np.iinfo(np.int64).max, dtype=np.int64)
    up = np.full(begin.size, np.iinfo(np.int64).max, dtype=np.int64)
    for i in range(begin.size):
        for t in range(end[i] - 1, begin[i] - 1, -1):
            if low[t] < floor[i]:  # false for NaN
                down[i] = t
            if high[t] > ceiling[i]:
                up[i] = t
    return down, up
