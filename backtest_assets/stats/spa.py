"""The test of superior predictive ability: is the best of many series better than nothing, counted for having been sought.

Series are studentised by the long-run variance that the stationary bootstrap itself gives them, so a wild series of great
variance hides no steady one. Shown beside the recipe, never deciding (`multiplicity.py` decides). Keep the choice of the
block length (`dependence.py`) out.
"""

import math
from dataclasses import dataclass

import numpy as np

from backtest_assets.stats.arrays import FloatArray, IntArray

N_DRAWS = 1000
"""Draws [draws]: the standard error of a p of .05 is then .007."""

_LEAST_DAYS = 3
"""ln ln of the number of days must be positive [days]."""

_SERIES_AT_ONCE = 256
"""Series per Fourier transform [series]: 256 x 2,048 complex numbers are 8 MB."""

_RELATIVE_ROUNDING = 1e-12
"""A long-run deviation below this share of the largest value is rounding, not scatter."""


@dataclass(frozen=True, slots=True)
class SuperiorAbility:
    """The joint test of several series against a mean at or below 0.

    Attributes:
        statistic: largest studentised mean, at least 0; NaN if no series is known, as the probabilities.
        p_lower: p if every series with a negative mean has a mean of 0 in truth, bar none: too small.
        p_consistent: p if a series far below 0 is taken for what it shows.
        p_upper: p if all series have a mean of 0 in truth (the studentised reality check): too large.
        n_known: series with scatter; the others are left out.
    """

    statistic: float
    p_lower: float
    p_consistent: float
    p_upper: float
    n_known: int


def superior_ability(
    gains: FloatArray, rng: np.random.Generator, *, block_length: float, n_draws: int = N_DRAWS
) -> SuperiorAbility:
    """Test whether any of several series has a mean above 0.

    With n days, mean d and long-run deviation w of each series: T = max(0, max sqrt(n) d / w). A draw recentres d at
    max(d, 0) (lower), at d unless d < -w / sqrt(n) sqrt(2 ln ln n) and then at 0 (consistent), at d (upper).

    Args:
        gains: (n_days, n_series), what each series earned on each day, finite; days without a position as 0.
        rng: source of the draws.
        block_length: mean length of a block, at least 1 [days].
        n_draws: draws, at least 1 [draws].

    Returns:
        T and its three p-values, each (1 + draws at or above T) / (1 + draws).

    Raises:
        ValueError: if `gains` is not 2-D and finite, has fewer than three days, or a setting is below 1.

    Source:
        Hansen (2005), "A test for superior predictive ability", with the variance of its equation for the stationary
        bootstrap of Politis and Romano (1994). `arch.bootstrap.SPA` 8.0.0 does not studentise.
    """
    if gains.ndim != 2 or gains.shape[0] < _LEAST_DAYS or not bool(np.isfinite(gains).all()):  # noqa: PLR2004  # days by series
        message = f"gains {gains.shape} must be finite, (n_days, n_series), with at least {_LEAST_DAYS} days"
        raise ValueError(message)
    if not block_length >= 1 or n_draws < 1:
        message = f"block_length {block_length} and n_draws {n_draws} must be at least 1"
        raise ValueError(message)
    n_days = gains.shape[0]
    deviation = long_run_deviation(gains, block_length=block_length)
    is_known = deviation > _RELATIVE_ROUNDING * np.abs(gains).max(axis=0, initial=0.0)
    if not bool(is_known.any()):
        return SuperiorAbility(math.nan, math.nan, math.nan, math.nan, 0)
    known = gains[:, is_known] / deviation[is_known]
    mean = known.mean(axis=0)
    root = math.sqrt(n_days)
    score = root * mean
    statistic = max(0.0, float(score.max()))
    drawn = stationary_counts(n_days, rng, block_length=block_length, n_draws=n_draws) @ ((known - mean) / root)
    bar = -math.sqrt(2.0 * math.log(math.log(n_days)))
    shifts = (np.minimum(score, 0.0), np.where(score < bar, score, 0.0), np.zeros(score.size))
    p = [
        (1 + int(np.count_nonzero(np.maximum((drawn + shift).max(axis=1), 0.0) >= statistic))) / (1 + n_draws)
        for shift in shifts
    ]
    return SuperiorAbility(statistic, p[0], p[1], p[2], int(np.count_nonzero(is_known)))


def long_run_deviation(gains: FloatArray, *, block_length: float) -> FloatArray:
    """Return the standard deviation of sqrt(n) times the mean that the stationary bootstrap gives each series.

    Args:
        gains: (n_days, n_series), finite, at least one day.
        block_length: mean length of a block, at least 1 [days].

    Returns:
        (n_series,) sqrt(g(0) + 2 sum of k(i) g(i)), g the autocovariances with divisor n and
        k(i) = (1 - i/n) (1 - p)^i + (i/n) (1 - p)^(n - i), p = 1 / block length; 0 for a constant series.

    Source:
        Politis and Romano (1994), lemma 1; the draws' exact variance, not an estimate of it.
    """
    n_days, n_series = gains.shape
    lag = np.arange(n_days, dtype=np.float64)
    stay = 1.0 - 1.0 / block_length
    kernel = 2.0 * ((1 - lag / n_days) * stay**lag + lag / n_days * stay ** (n_days - lag))
    kernel[0] = 1.0
    size = 1 << (2 * n_days - 1).bit_length()
    variance = np.empty(n_series)
    for first in range(0, n_series, _SERIES_AT_ONCE):
        some = gains[:, first : first + _SERIES_AT_ONCE]
        spectrum = np.fft.rfft(some - some.mean(axis=0), size, axis=0)
        products = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size, axis=0)[:n_days]
        variance[first : first + _SERIES_AT_ONCE] = kernel @ products / n_days
    return np.sqrt(np.maximum(variance, 0.0))


def stationary_counts(n_days: int, rng: np.random.Generator, *, block_length: float, n_draws: int) -> FloatArray:
    """Draw how often each day appears in each resample of the stationary bootstrap.

    Args:
        n_days: days of the series, which is taken as a circle.
        rng: source of the draws.
        block_length: mean length of a block, at least 1 [days].
        n_draws: resamples [draws].

    Returns:
        (n_draws, n_days) counts; every row sums to `n_days`.

    Source:
        Politis and Romano (1994): blocks begin anywhere and end each day with probability 1 / block length.
    """
    place = np.arange(n_days)
    begins = rng.random((n_draws, n_days)) < 1.0 / block_length
    begins[:, 0] = True
    first: IntArray = rng.integers(0, n_days, (n_draws, n_days))
    last_begin = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    day = (np.take_along_axis(first, last_begin, axis=1) + place - last_begin) % n_days
    flat = (day + np.arange(n_draws)[:, np.newaxis] * n_days).ravel()
    return np.bincount(flat, minlength=n_draws * n_days).reshape(n_draws, n_days).astype(np.float64)
