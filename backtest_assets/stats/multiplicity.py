"""Many hypotheses, one decision: family-wise p-values from a joint bootstrap, and false-discovery-rate p-values.

An unknown statistic (NaN) never helps a hypothesis: its p counts as 1. Keep levels out (`gates/`).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from backtest_assets.stats.arrays import FloatArray

_LEAST_DAYS = 3
"""ln ln of the number of days must be positive [days]."""


def romano_wolf(t: FloatArray, t_star: NDArray[np.floating], *, n_days: int) -> FloatArray:
    """Adjust the p-values of all hypotheses together, step by step from the largest t down.

    A hypothesis far below the null (t < -sqrt(2 ln ln n_days)) cannot be the luckiest one, so its draws are shifted by
    its own t: the many losers of a net-of-cost family then do not hide a winner.

    Args:
        t: (n_hypotheses,), larger is better; NaN = unknown.
        t_star: (n_draws, n_hypotheses), draws of the same statistics under their joint null; a column with NaN = unknown.
        n_days: days of the sample, at least 3 [days].

    Returns:
        (n_hypotheses,) adjusted p in [1 / (n_draws + 1), 1], non-decreasing as t falls; 1 for an unknown hypothesis. The
        smallest is the p of the superior predictive ability test of all hypotheses.

    Raises:
        ValueError: if shapes do not fit, there is no draw, or `n_days` is below 3.

    Source:
        Romano and Wolf (2005, 2016), step-down with (1 + count) / (1 + draws); recentring of Hansen (2005).
    """
    _check_draws(t_star)
    if t.shape != t_star.shape[1:]:
        message = f"t {t.shape} and t_star {t_star.shape} must have one column per hypothesis"
        raise ValueError(message)
    if n_days < _LEAST_DAYS:
        message = f"n_days is {n_days}; give at least {_LEAST_DAYS} days"
        raise ValueError(message)
    bar = -math.sqrt(2.0 * math.log(math.log(n_days)))
    known = np.flatnonzero(~(np.isnan(t) | np.isnan(t_star).any(axis=0)))
    upwards = known[np.argsort(t[known], kind="stable")]
    adjusted = np.ones(t.size)
    n_draws = t_star.shape[0]
    luckiest = np.full(n_draws, -np.inf)
    for hypothesis in upwards:
        shift = t[hypothesis] if t[hypothesis] < bar else 0.0
        np.maximum(luckiest, t_star[:, hypothesis] + shift, out=luckiest)
        adjusted[hypothesis] = (1 + np.count_nonzero(luckiest >= t[hypothesis])) / (1 + n_draws)
    downwards = upwards[::-1]
    adjusted[downwards] = np.maximum.accumulate(adjusted[downwards])
    return adjusted


def max_t(t: FloatArray, t_star: NDArray[np.floating]) -> FloatArray:
    """Adjust two-sided p-values of a few statistics together: by the largest |t| of each draw, in one step.

    Args:
        t: (n_hypotheses,); NaN = unknown.
        t_star: (n_draws, n_hypotheses), draws of the same statistics under their joint null; a column with NaN = unknown.

    Returns:
        (n_hypotheses,) adjusted p in [1 / (n_draws + 1), 1]; 1 for an unknown hypothesis.

    Raises:
        ValueError: if shapes do not fit or there is no draw.

    Source:
        Westfall and Young (1993), single-step maxT.
    """
    _check_draws(t_star)
    if t.shape != t_star.shape[1:]:
        message = f"t {t.shape} and t_star {t_star.shape} must have one column per hypothesis"
        raise ValueError(message)
    known = ~(np.isnan(t) | np.isnan(t_star).any(axis=0))
    adjusted = np.ones(t.size)
    if known.any():
        luckiest = np.sort(np.abs(t_star[:, known]).max(axis=1))
        n_below = np.searchsorted(luckiest, np.abs(t[known]), side="left")
        adjusted[known] = (1 + t_star.shape[0] - n_below) / (1 + t_star.shape[0])
    return adjusted


def luckiest_null(t_star: NDArray[np.floating]) -> float:
    """Average the largest statistic of each draw: the t that the luckiest of these hypotheses shows without any edge.

    Args:
        t_star: (n_draws, n_hypotheses), draws under the joint null; columns with NaN are left out.

    Returns:
        The mean over draws of the maximum over hypotheses [standard errors], to 9 decimals so that another number of
        threads gives the same number; NaN if no column is known.

    Raises:
        ValueError: if `t_star` is not 2-D or has no draw.

    Source:
        The recipe's step 6 (M).
    """
    _check_draws(t_star)
    known = t_star[:, ~np.isnan(t_star).any(axis=0)]
    return round(float(known.max(axis=1).mean()), 9) if known.shape[1] else math.nan


def benjamini_hochberg(p: FloatArray) -> FloatArray:
    """Adjust p-values for the false discovery rate under independence or positive dependence.

    Args:
        p: (n_hypotheses,) in [0, 1]; NaN = unknown, counts as 1 and still counts as a hypothesis.

    Returns:
        (n_hypotheses,) adjusted p, never NaN.

    Raises:
        ValueError: if `p` is not 1-D or a value lies outside [0, 1].

    Source:
        Benjamini and Hochberg (1995); `scipy.stats.false_discovery_control`.
    """
    known = _known_p(p)
    return np.asarray(stats.false_discovery_control(known, method="bh"), dtype=np.float64) if p.size else known


def benjamini_yekutieli(p: FloatArray) -> FloatArray:
    """Adjust p-values for the false discovery rate under any dependence.

    Args:
        p: (n_hypotheses,) in [0, 1]; NaN = unknown, counts as 1 and still counts as a hypothesis.

    Returns:
        (n_hypotheses,) adjusted p, never NaN.

    Raises:
        ValueError: if `p` is not 1-D or a value lies outside [0, 1].

    Source:
        Benjamini and Yekutieli (2001); `scipy.stats.false_discovery_control`.
    """
    known = _known_p(p)
    return np.asarray(stats.false_discovery_control(known, method="by"), dtype=np.float64) if p.size else known


def _known_p(p: FloatArray) -> FloatArray:
    known = np.where(np.isnan(p), 1.0, p)
    if p.ndim != 1 or bool(((known < 0) | (known > 1)).any()):
        message = "p must be 1-D with values in [0, 1] or NaN"
        raise ValueError(message)
    return known


def _check_draws(t_star: NDArray[np.floating]) -> None:
    if t_star.ndim != 2 or t_star.shape[0] == 0:  # noqa: PLR2004  # draws by hypotheses
        message = f"t_star has shape {t_star.shape}; give (n_draws, n_hypotheses) with at least one draw"
        raise ValueError(message)
