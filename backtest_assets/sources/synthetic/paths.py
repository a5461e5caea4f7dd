"""Shock paths with the texture of crypto returns; prices, volume and funding stay out."""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from backtest_assets.domain.clock import BARS_PER_DAY

Array: TypeAlias = npt.NDArray[np.float64]

_JUMP_RATE: Final = 1 / 300  # jumps per bar
_JUMP_MIN: Final = 2.0  # smallest jump, in units of the bar's volatility [sigma]
_JUMP_MEAN: Final = 4.0  # mean excess over the smallest, exponential [sigma]
_NEWS_CAP: Final = 8.0  # a shock feeds the volatility of later bars up to this size [sigma]
_FAST: Final = (0.94, 0.06)  # memory per bar (half-life 3 h) and news weight of log variance
_BURST_RATE: Final = 1 / 500  # bursts of activity per bar
_BURST_MEAN: Final = 1.2  # mean kick of a burst to log volatility, exponential
_BURST_MEMORY: Final = 0.90  # per bar; half-life 1.6 hours
_FLICKER: Final = (0.8, 0.5)  # memory per bar and spread of short-lived log volatility
_SLOW: Final = (0.999, 0.025)  # the same with a half-life of 7 days
_REGIMES: Final = (-0.45, 0.0, 0.45)  # quiet, usual, wild: added to log volatility
_REGIME_DAYS: Final = 12.0  # mean length of a regime [days]
_INTRADAY: Final = 0.22  # swing of log volatility over the UTC day, peak 15:00
_PEAK_BAR: Final = 60  # 15:00 UTC [bars]
_LOG_SD_CAP: Final = 2.2  # log volatility stays within this of its level
_LEVEL: Final = 0.47  # makes the long-run variance of the returns about 1


@dataclass(frozen=True, slots=True)
class Path:
    """A path of shocks with long-run variance about 1.

    Attributes:
        returns: shock of each bar, mean zero given the past (n_bars,).
        sd: volatility of each bar, known before it opens (n_bars,).
    """

    returns: Array
    sd: Array


def draw_path(rng: np.random.Generator, n_bars: int, jump_skew: float = 0.0) -> Path:
    """Draw an EGARCH path with jumps, regimes and an intraday pattern.

    Args:
        rng: randomness.
        n_bars: length [bars].
        jump_skew: excess of upward over downward jumps in [-1, 1]; their mean is taken out again [fraction].

    Returns:
        The path; the first bar is at midnight UTC.

    Source:
        Nelson (1991), Econometrica 59, 347-370: log variance linear in |shock|, here with two speeds.
    """
    jumps = np.where(rng.random(n_bars) < _JUMP_RATE, _JUMP_MIN + rng.exponential(_JUMP_MEAN, n_bars), 0.0)
    signs = np.where(rng.random(n_bars) < (1 + jump_skew) / 2, 1.0, -1.0)
    compensator = _JUMP_RATE * (_JUMP_MIN + _JUMP_MEAN) * jump_skew
    shocks = rng.standard_normal(n_bars) + jumps * signs - compensator
    news = np.minimum(np.abs(shocks), _NEWS_CAP) - np.sqrt(2 / np.pi)
    log_sd = 0.5 * (_learned(news, *_FAST) + _learned(news, *_SLOW)) + _activity(rng, n_bars) + _regimes(rng, n_bars)
    swing = _INTRADAY * np.cos(2 * np.pi * (np.arange(n_bars) % BARS_PER_DAY - _PEAK_BAR) / BARS_PER_DAY)
    sd = _LEVEL * np.exp(np.clip(log_sd, -_LOG_SD_CAP, _LOG_SD_CAP) + swing)
    return Path(sd * shocks, sd)


def fading_sum(shocks: Array, memory: float) -> Array:
    """Return x_t = memory * x_{t-1} + shock_t, started at zero (n,)."""
    return np.asarray(lfilter([1.0], [1.0, -memory], shocks), dtype=np.float64)


def steady_state(rng: np.random.Generator, n: int, memory: float) -> Array:
    """Draw an autoregression of order one with unit variance and no transient (n,)."""
    shocks = rng.standard_normal(n) * np.sqrt(1 - memory**2)
    shocks[0] /= np.sqrt(1 - memory**2)
    return fading_sum(shocks, memory)


def _learned(news: Array, memory: float, weight: float) -> Array:
    # Shifted by a bar: a bar's volatility is known before it opens.
    return weight * np.concatenate(([0.0], fading_sum(news, memory)[:-1]))


def _activity(rng: np.random.Generator, n_bars: int) -> Array:
    memory, spread = _FLICKER
    kicks = np.where(rng.random(n_bars) < _BURST_RATE, rng.exponential(_BURST_MEAN, n_bars), 0.0)
    return fading_sum(kicks, _BURST_MEMORY) + spread * steady_state(rng, n_bars, memory)


def _regimes(rng: np.random.Generator, n_bars: int) -> Array:
    switches = rng.random(n_bars) < 1 / (_REGIME_DAYS * BARS_PER_DAY)
    levels = rng.choice(np.asarray(_REGIMES), int(switches.sum()) + 1)
    return levels[np.cumsum(switches)]
