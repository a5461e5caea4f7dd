"""Dependence over time: the effective sample size of a series, the length of its blocks, whether days hang together.

The deciding inference uses none of it (days are its clusters, `clustered.py`). Keep the demand on the effective sample
size out (`gates/`).
"""

import math
from dataclasses import dataclass

import numpy as np

from backtest_assets.stats.arrays import FloatArray, complete_series
from backtest_assets.stats.multiplicity import max_t

_LAGS_PER_OBSERVATION = 10
"""Lags up to n // 10: a longer one has too few pairs to mean anything."""

_BAND = 1.96
"""Half-width of the 95 % white-noise band of an autocorrelation, times sqrt(n)."""

_LEAST_FOR_BLOCKS = 10
"""Below, there are too few lags for a block length [observations]."""

_RELATIVE_ROUNDING = 1e-12
"""Products of neighbouring days below this share of the squares are rounding."""


@dataclass(frozen=True, slots=True)
class EffectiveSampleSize:
    """Effective number of observations.

    Attributes:
        ess: at most n [observations]; NaN below two observations or if the series is constant.
        n: observations.
        last_lag: last lag whose autocorrelation was used; 0 if none [observations].
        is_cut_short: the largest allowed lag was used and is still significantly positive, so `ess` is too high.
    """

    ess: float
    n: int
    last_lag: int
    is_cut_short: bool


def effective_sample_size(x: FloatArray, max_lag: int) -> EffectiveSampleSize:
    """Estimate how many independent observations the mean of a series is worth.

    Args:
        x: (n_observations,) in time order, finite.
        max_lag: longest lag; n // 10 if that is shorter [observations].

    Returns:
        n / (1 + 2 sum of autocorrelations), truncated and capped as in `effective_sample_size_of`; NaN for a constant
        series or below two observations.

    Raises:
        ValueError: if `x` is not 1-D, holds NaN or an infinity, or `max_lag` is negative.

    Source:
        Geyer (1992), initial positive sequence; autocorrelations with divisor n.
    """
    series = complete_series(x, "x")
    if max_lag < 0:
        message = f"max_lag is {max_lag}; give at least 0"
        raise ValueError(message)
    n = series.size
    if n == 0 or bool((series == series[0]).all()):
        return EffectiveSampleSize(math.nan, n, 0, is_cut_short=False)
    centred = series - series.mean()
    variance = float(centred @ centred)
    lags = range(1, min(max_lag, n // _LAGS_PER_OBSERVATION) + 1)
    rho = np.array([float(centred[lag:] @ centred[:-lag]) / variance for lag in lags], dtype=np.float64)
    return effective_sample_size_of(rho, n)


def effective_sample_size_of(autocorrelations: FloatArray, n: int) -> EffectiveSampleSize:
    """Turn autocorrelations into an effective sample size.

    Lags are taken in pairs (0, 1), (2, 3), ... while the pair's sum is positive; a last lag without a partner counts if
    it is positive.

    Args:
        autocorrelations: (n_lags,), of lags 1, 2, ..., all that may be used; finite.
        n: observations, at least 1.

    Returns:
        n / (1 + 2 sum of the used autocorrelations), at most n: negative dependence earns nothing.

    Raises:
        ValueError: if `autocorrelations` is not 1-D or not finite, or `n` is below 1.

    Source:
        Geyer (1992), initial positive sequence.
    """
    rho = np.concatenate(([1.0], complete_series(autocorrelations, "autocorrelations")))
    if n < 1:
        message = f"n is {n}; give at least 1 observation"
        raise ValueError(message)
    pairs = np.add.reduceat(rho, np.arange(0, rho.size, 2))
    stops = np.flatnonzero(pairs <= 0)
    used = min(2 * int(stops[0]), rho.size) if stops.size else rho.size
    inflation = 2.0 * float(rho[:used].sum()) - 1.0
    last_lag = max(used - 1, 0)
    is_cut_short = 0 < last_lag == rho.size - 1 and float(rho[last_lag]) > _BAND / math.sqrt(n)
    return EffectiveSampleSize(n / max(inflation, 1.0), n, last_lag, is_cut_short)


@dataclass(frozen=True, slots=True)
class BlockLength:
    """Mean block lengths that suit the mean of each series best.

    Attributes:
        stationary: (n_series,) for blocks of random length [observations]; NaN for a constant series.
        circular: (n_series,) for blocks of one length [observations]; NaN for a constant series.
    """

    stationary: FloatArray
    circular: FloatArray


def optimal_block_length(x: FloatArray) -> BlockLength:
    """Estimate the block length at which a block bootstrap errs least about the variance of the mean.

    Args:
        x: (n_observations, n_series) in time order, finite, at least 10 observations.

    Returns:
        Block lengths, at most min(3 sqrt(n), n / 3) rounded up; they may be below 1 for an independent series.

    Raises:
        ValueError: if `x` is not 2-D and finite or is shorter than 10 observations.

    Source:
        Politis and White (2004), "Automatic block-length selection for the dependent bootstrap", with the correction of
        Patton, Politis and White (2009): flat-top kernel, lags up to the first run of insignificant autocorrelations.
    """
    if x.ndim != 2 or x.shape[0] < _LEAST_FOR_BLOCKS or not bool(np.isfinite(x).all()):  # noqa: PLR2004  # time by series
        message = (
            f"x {x.shape} must be finite, (n_observations, n_series), with at least {_LEAST_FOR_BLOCKS} observations"
        )
        raise ValueError(message)
    n, n_series = x.shape
    centred = x - x.mean(axis=0)
    centred[:, np.ptp(x, axis=0) == 0] = 0.0
    quiet = max(5, int(math.log10(n)))
    top = min(math.ceil(math.sqrt(n)) + quiet, n - 1)
    products = np.empty((top + 1, n_series))
    rho = np.empty((top + 1, n_series))
    with np.errstate(divide="ignore", invalid="ignore"):
        for lag in range(top + 1):
            products[lag] = (centred[lag:] * centred[: n - lag]).sum(axis=0)
            ahead, behind = centred[lag + 1 :], centred[: n - lag - 1]
            rho[lag] = np.abs(products[lag]) / np.sqrt((ahead * ahead).sum(axis=0) * (behind * behind).sum(axis=0))
    is_quiet = rho < 2.0 * math.sqrt(math.log10(n) / n)
    runs = np.lib.stride_tricks.sliding_window_view(is_quiet[:top], quiet, axis=0).all(axis=-1)
    first = np.where(runs.any(axis=0), runs.argmax(axis=0), top)
    last = np.minimum(np.where(runs.any(axis=0), 2 * np.maximum(first, 1), top), top)
    lags = np.arange(1, top + 1)[:, np.newaxis]
    weight = 2.0 * np.clip(2.0 * (1.0 - lags / last), 0.0, 1.0)
    covariance = products / n
    slope = (weight * lags * covariance[1:]).sum(axis=0)
    level = covariance[0] + (weight * covariance[1:]).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        stationary = np.cbrt(slope * slope / (level * level) * n)
    longest = math.ceil(min(3.0 * math.sqrt(n), n / 3.0))
    is_known = covariance[0] > 0
    lengths = np.where(is_known, stationary, np.nan)
    return BlockLength(np.minimum(lengths, longest), np.minimum(np.cbrt(1.5) * lengths, longest))


@dataclass(frozen=True, slots=True)
class DayLag:
    """Whether the residuals of neighbouring days belong together.

    Attributes:
        rho: (n_hypotheses,) autocorrelation at lag one day; NaN without any pair of neighbouring days.
        z: (n_hypotheses,) sum of products over the root of the sum of their squares; NaN where `rho` is.
        p: smallest p of all |z| together, adjusted for their number; 1 if none is known.
    """

    rho: FloatArray
    z: FloatArray
    p: float


def day_lag(residuals: FloatArray, rng: np.random.Generator, *, n_draws: int) -> DayLag:
    """Test what the wild day bootstrap takes for granted: that the residuals of neighbouring days are uncorrelated.

    If the sign of each day is free, so is that of each product of neighbours: a draw flips them for all hypotheses alike.

    Args:
        residuals: (n_days, n_hypotheses), every calendar day, 0 where nothing was held; finite.
        rng: source of the signs.
        n_draws: draws, at least 1 [draws].

    Returns:
        Autocorrelations, their studentised sums, and one p over all of them.

    Raises:
        ValueError: if `residuals` is not 2-D and finite, or there is no draw.

    Source:
        Sign-flip test of products with the single-step maximum (Westfall and Young 1993); stat_recipe section 4h.
    """
    if residuals.ndim != 2 or not bool(np.isfinite(residuals).all()):  # noqa: PLR2004  # days by hypotheses
        message = f"residuals {residuals.shape} must be finite, (n_days, n_hypotheses)"
        raise ValueError(message)
    products = residuals[1:] * residuals[:-1]
    length = np.sqrt((products * products).sum(axis=0))
    squares = (residuals * residuals).sum(axis=0)
    is_known = length > _RELATIVE_ROUNDING * squares
    unit = products / np.where(is_known, length, np.nan)
    z = unit.sum(axis=0)
    signs = rng.integers(0, 2, size=(n_draws, products.shape[0]), dtype=np.int8) * np.int8(2) - np.int8(1)
    p = max_t(z, signs.astype(np.float64) @ unit)
    rho = products.sum(axis=0) / np.where(is_known, squares, np.nan)
    return DayLag(rho, z, float(p.min(initial=1.0)))
