"""How many independent observations a series of outcomes is worth.

Inference does not use it (days are its clusters, `clustered.py`); it is a demand on the amount of data. Keep that
demand's size out (`gates/`).
"""

import math
from dataclasses import dataclass

import numpy as np

from backtest_assets.stats.arrays import FloatArray, complete_series

_LAGS_PER_OBSERVATION = 10
"""Lags up to n // 10: a longer one has too few pairs to mean anything."""

_BAND = 1.96
"""Half-width of the 95 % white-noise band of an autocorrelation, times sqrt(n)."""


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
