"""Means of trades whose days are the independent unit: P&L is booked on the day it accrued, and the days are tested.

Overlapping holds make trades dependent, but under a martingale the P&L of different days is uncorrelated, so no lag or
block length is to be chosen. Keep the booking of trades to days (`research/hypotheses`) and the bootstrap out.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import special

from backtest_assets.stats.arrays import FloatArray, IntArray, same_shape

_RELATIVE_ROUNDING = 1e-12
"""A standard error below this share of the mean is rounding, not scatter; a few thousand float64 additions err less."""


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """Day-clustered means of several hypotheses.

    Attributes:
        mean: (n_hypotheses,) P&L per unit of share, so per trade if a trade's shares sum to 1; NaN without any share.
        standard_error: (n_hypotheses,) in the unit of `mean`; NaN below two days or without scatter.
        t: (n_hypotheses,) mean over standard error; NaN where that is NaN.
        p: (n_hypotheses,) one-sided, of a mean at or below 0 against one above it, from Student's t with n_days - 1
            degrees of freedom; NaN where t is.
        n_days: (n_hypotheses,) days with a share above 0 [days].
        n_trades: (n_hypotheses,) sum of shares [trades].
        residuals: (n_hypotheses, n_days_all) day sums minus mean times share; 0 where there is no mean.
    """

    mean: FloatArray
    standard_error: FloatArray
    t: FloatArray
    p: FloatArray
    n_days: IntArray
    n_trades: FloatArray
    residuals: FloatArray


def accrual_t(sums: FloatArray, shares: FloatArray) -> ClusteredMean:
    """Test the mean of each hypothesis against 0 with days as clusters.

    Args:
        sums: (n_hypotheses, n_days), P&L accrued on each day, all trades and symbols together [bps of notional].
        shares: (n_hypotheses, n_days), part of the holds that fell on each day, at least 0 [trades].

    Returns:
        mean = sum S / sum N, residuals u = S - mean N, se = sqrt(sum u^2 G / (G - 1)) / sum N over the G days with a
        share. Days without a share count nowhere. NaN (unknown) below two days and where the days show no scatter.

    Raises:
        ValueError: if shapes differ, a value is not finite, a share is negative, or P&L lies on a day without a share.

    Source:
        Ratio estimator with cluster-robust variance and the G / (G - 1) correction (Liang and Zeger 1986); the recipe's
        step 4.
    """
    same_shape(sums, shares, ("sums", "shares"), n_dimensions=2)
    if bool((shares < 0).any()):
        message = "shares holds a negative value; a share is the part of a hold that fell on the day, at least 0"
        raise ValueError(message)
    if bool(((shares == 0) & (sums != 0)).any()):
        message = "sums holds P&L on a day with share 0; book it on the last day held"
        raise ValueError(message)
    n_days = np.count_nonzero(shares, axis=1).astype(np.int64)
    n_trades = shares.sum(axis=1)
    mean = _divided(sums.sum(axis=1), n_trades)
    residuals = sums - np.nan_to_num(mean)[:, np.newaxis] * shares
    correction = np.where(n_days > 1, n_days / np.maximum(n_days - 1, 1), np.nan)
    error = _divided(np.sqrt((residuals * residuals).sum(axis=1) * correction), n_trades)
    error = np.where(error > _RELATIVE_ROUNDING * np.abs(mean), error, np.nan)
    t = mean / error
    p = cast("FloatArray", special.stdtr(np.maximum(n_days - 1, 1).astype(np.float64), -t))
    return ClusteredMean(mean, error, t, p, n_days, n_trades, residuals)


def day_matrix(rows: IntArray, days: IntArray, values: FloatArray, *, n_hypotheses: int, n_days: int) -> FloatArray:
    """Add sparse entries up to the dense matrix that `accrual_t` takes.

    Args:
        rows: (n_entries,), hypothesis of each entry, in [0, n_hypotheses).
        days: (n_entries,), day of each entry, in [0, n_days).
        values: (n_entries,), finite; entries of one cell add up.
        n_hypotheses: rows of the result.
        n_days: columns of the result [days].

    Returns:
        (n_hypotheses, n_days), 0 where no entry lies.

    Raises:
        ValueError: if lengths differ, an index is out of range, or a value is not finite.

    Source:
        Definition.
    """
    if not rows.shape == days.shape == values.shape or rows.ndim != 1:
        message = f"rows {rows.shape}, days {days.shape} and values {values.shape} must be 1-D of one length"
        raise ValueError(message)
    in_range = (rows >= 0) & (rows < n_hypotheses) & (days >= 0) & (days < n_days)
    if not bool((in_range & np.isfinite(values)).all()):
        message = f"an entry lies outside {n_hypotheses} hypotheses x {n_days} days or is not finite; drop or fix it"
        raise ValueError(message)
    flat = np.bincount(rows * n_days + days, weights=values, minlength=n_hypotheses * n_days)
    return flat.astype(np.float64).reshape(n_hypotheses, n_days)


def _divided(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return numerator / np.where(denominator > 0, denominator, np.nan)
