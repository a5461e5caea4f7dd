"""What remains of many estimated means once it is allowed for that the best of them are looked at.

Keep the selection itself (`multiplicity.py`) and costs (`research/hypotheses`) out.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special

from backtest_assets.stats.arrays import FloatArray, IntArray

_NULL_WEIGHT: Final = 10.0
"""Prior count of effects that are exactly nothing, against one of every other size: errs towards nothing."""

_STEP: Final = math.sqrt(2.0)
"""Ratio of neighbouring sizes of effects on the grid."""

_SMALLEST: Final = 0.25
"""Smallest size of an effect on the grid [standard errors]: a smaller one shows in no data."""

_MOST_ROUNDS: Final = 2000
_TOLERANCE: Final = 1e-7
"""Change of a share at which the rounds end; the problem is concave, so no start is better than another."""


@dataclass(frozen=True, slots=True)
class Shrunken:
    """Means shrunk towards nothing.

    Attributes:
        mean: (n_hypotheses,) posterior means, in the unit of the means; NaN where the input is unknown.
        factor: (n_hypotheses,) posterior over estimated mean, in [0, 1); NaN where the input is unknown.
        null_share: share of hypotheses whose effect is exactly nothing, as estimated; NaN if no hypothesis is known.
    """

    mean: FloatArray
    factor: FloatArray
    null_share: float


def shrink_means(mean: FloatArray, standard_error: FloatArray, n_days: IntArray) -> Shrunken:
    """Shrink the means of many hypotheses towards nothing by what all of them show together.

    Effects, in standard errors, are drawn from nothing and centred normals of many sizes, in shares that make the observed
    statistics likeliest. A mean without its peers' support shrinks almost to nothing; a strong one hardly. Selecting the
    best afterwards does not bias a posterior mean. Correlated hypotheses leave the shares honest and less certain.

    Args:
        mean: (n_hypotheses,), of an effect whose sign is arbitrary: before costs, one side of each pair; NaN = unknown.
        standard_error: (n_hypotheses,), above 0 or NaN = unknown.
        n_days: (n_hypotheses,), days behind each statistic, whose Student's t has one degree of freedom less [days].

    Returns:
        Posterior means, factors and the share of nothing.

    Raises:
        ValueError: if shapes differ, a value is infinite, or a standard error is not above 0.

    Source:
        Stephens (2017), "False discovery rates: a new deal" (adaptive shrinkage, statistics in standard errors, penalised
        share of nothing); the sparse sibling of James and Stein (1961), which would shrink one winner among many losers
        like a loser.
    """
    if not mean.shape == standard_error.shape == n_days.shape or mean.ndim != 1:
        message = (
            f"mean {mean.shape}, standard_error {standard_error.shape}, n_days {n_days.shape} must be 1-D of one length"
        )
        raise ValueError(message)
    if bool(np.isinf(mean).any() or np.isinf(standard_error).any() or (standard_error <= 0).any()):
        message = "mean and standard_error must be finite or NaN, and standard_error above 0"
        raise ValueError(message)
    is_known = ~(np.isnan(mean) | np.isnan(standard_error)) & (n_days > 1)
    factor = np.full(mean.size, np.nan)
    if not bool(is_known.any()):
        return Shrunken(factor.copy(), factor, math.nan)
    freedom = (n_days[is_known] - 1).astype(np.float64)
    t = np.abs(mean[is_known] / standard_error[is_known])
    z = -np.asarray(special.ndtri(np.maximum(special.stdtr(freedom, -t), np.finfo(np.float64).tiny)), dtype=np.float64)
    sizes = _grid(float(z.max()))
    spread = 1.0 + sizes * sizes
    fit = -0.5 * (z * z)[:, np.newaxis] / spread - 0.5 * np.log(spread)
    likelihood = np.exp(fit - fit.max(axis=1, keepdims=True))
    shares = _shares(likelihood)
    posterior = likelihood * shares
    kept = (posterior @ (sizes * sizes / spread)) / posterior.sum(axis=1)
    factor[is_known] = kept
    return Shrunken(mean * factor, factor, float(shares[0]))


def _grid(largest: float) -> FloatArray:
    top = max(2.0 * math.sqrt(max(largest * largest - 1.0, 0.0)), 2.0 * _SMALLEST)
    n_steps = math.ceil(math.log(top / _SMALLEST) / math.log(_STEP))
    return np.concatenate(([0.0], _SMALLEST * _STEP ** np.arange(n_steps + 1)))


def _shares(likelihood: FloatArray) -> FloatArray:
    """Return the shares of the grid's sizes by expectation and maximisation."""
    n, n_sizes = likelihood.shape
    shares = np.full(n_sizes, 1.0 / n_sizes)
    extra = np.zeros(n_sizes)
    extra[0] = _NULL_WEIGHT - 1.0
    for _ in range(_MOST_ROUNDS):
        weights = 1.0 / (likelihood @ shares)
        updated = (shares * (weights @ likelihood) + extra) / (n + extra[0])
        is_settled = float(np.abs(updated - shares).max()) < _TOLERANCE
        shares = updated
        if is_settled:
            break
    return shares
