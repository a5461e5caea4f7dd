"""The shared wild day bootstrap: what the t statistics of all hypotheses show together when none has an edge.

One draw gives every day one sign for all hypotheses, so their dependence is kept, whatever it is. Keep the decision
(`multiplicity.py`) and the t of the data (`clustered.py`) out.
"""

import numpy as np
from numpy.typing import NDArray

from backtest_assets.stats.arrays import FloatArray, same_shape

N_DRAWS = 2000
"""Draws [draws]: the standard error of an adjusted p of .05 is then .005."""

_DRAWS_AT_ONCE = 256
"""Draws per matrix product [draws]: 256 x 1,000 hypotheses are 2 MB per temporary."""

_ROUNDING = 1e-9
"""A variance below this share of the data's own is rounding: the draw has none."""

Draws = NDArray[np.float64]


def wild_day_bootstrap(
    residuals: FloatArray,
    shares: FloatArray,
    rng: np.random.Generator,
    *,
    n_draws: int = N_DRAWS,
    draws_at_once: int = _DRAWS_AT_ONCE,
) -> Draws:
    """Draw the t statistics of all hypotheses under their joint null.

    A draw flips the sign of each day's residuals and recomputes t, its standard error included: with e the signs,
    delta = sum e u / sum N, variance = sum u^2 - 2 delta sum e u N + delta^2 sum N^2, T = sum e u / sqrt(variance G / (G - 1)).
    The other side of a hypothesis has -T in the same draw: pass one side only and mirror the columns.

    Args:
        residuals: (n_days, n_hypotheses), day sums minus mean times share, as `accrual_t` gives them, transposed.
        shares: (n_days, n_hypotheses), part of the holds that fell on each day, at least 0 [trades].
        rng: source of the signs; `n_draws` x `n_days` int8 draws are taken, whatever the number of hypotheses.
        n_draws: draws, at least 1 [draws].
        draws_at_once: draws per matrix product; changes memory, not the signs [draws].

    Returns:
        (n_draws, n_hypotheses). A column is NaN if the hypothesis has fewer than two days or only zero residuals.
        Infinite where a draw leaves no variance, which needs a handful of days.

    Raises:
        ValueError: if shapes differ, a value is not finite, or `n_draws` or `draws_at_once` is below 1.

    Source:
        Wild cluster bootstrap-t with Rademacher weights: Cameron, Gelbach and Miller (2008); the recipe's step 5.
    """
    same_shape(residuals, shares, ("residuals", "shares"), n_dimensions=2)
    if n_draws < 1 or draws_at_once < 1:
        message = f"n_draws {n_draws} and draws_at_once {draws_at_once} must be at least 1"
        raise ValueError(message)
    n_days, n_hypotheses = residuals.shape
    signs = rng.integers(0, 2, size=(n_draws, n_days), dtype=np.int8) * np.int8(2) - np.int8(1)
    days = np.count_nonzero(shares, axis=0)
    length = np.sqrt((residuals * residuals).sum(axis=0))
    is_known = (days > 1) & (length > 0)
    # Residuals scaled to length 1 and shares to sum 1: every term of the variance is then of order 1.
    u = residuals / np.where(is_known, length, np.nan)
    n = shares / np.where(is_known, shares.sum(axis=0), np.nan)
    cross = u * n
    squares = (n * n).sum(axis=0)
    factor = np.sqrt(np.maximum(days - 1, 0) / np.maximum(days, 1))
    draws = np.empty((n_draws, n_hypotheses), dtype=np.float64)
    for first in range(0, n_draws, draws_at_once):
        some = signs[first : first + draws_at_once].astype(np.float64)
        delta = some @ u
        variance = 1.0 + delta * (delta * squares - 2.0 * (some @ cross))
        with np.errstate(divide="ignore"):
            draws[first : first + draws_at_once] = delta * factor / np.sqrt(np.where(variance > _ROUNDING, variance, 0))
    return draws
