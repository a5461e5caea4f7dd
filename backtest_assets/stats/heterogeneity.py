"""Whether groups share one mean: Cochran's Q. Keep the grouping (`research/hypotheses`) and the limits out."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import special

from backtest_assets.stats.arrays import FloatArray, IntArray

_DIMENSIONS = 2
_LEAST_GROUPS = 2
"""One group cannot differ from itself [groups]."""


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """How far the groups of several hypotheses scatter beyond their errors.

    Attributes:
        q: (n_hypotheses,) Cochran's Q; NaN below two known groups.
        p: (n_hypotheses,) chance of a Q as large if all groups share one mean; NaN where `q` is.
        mean: (n_hypotheses,) mean of the groups weighted by inverse variance, in their unit; NaN without a known group.
        n_groups: (n_hypotheses,) groups known.
    """

    q: FloatArray
    p: FloatArray
    mean: FloatArray
    n_groups: IntArray


def cochran_q(means: FloatArray, errors: FloatArray) -> Heterogeneity:
    """Test for each hypothesis whether its groups share one mean.

    The errors count as known: with few observations in a group the test rejects a little too often.

    Args:
        means: (n_hypotheses, n_groups), NaN for a group that is not there.
        errors: (n_hypotheses, n_groups), standard errors above 0 in the unit of `means`; NaN for an unknown one.

    Returns:
        Q = sum w (mean - pooled mean)^2 with w = 1 / error^2, held against chi squared with n_groups - 1 degrees of freedom.

    Raises:
        ValueError: if shapes differ or are not 2-D, a value is infinite, or an error is not above 0.

    Source:
        Cochran (1954), "The combination of estimates from different experiments".
    """
    if means.ndim != _DIMENSIONS or means.shape != errors.shape:
        message = f"means {means.shape} and errors {errors.shape} must be 2-D of one shape"
        raise ValueError(message)
    if bool(np.isinf(means).any() | np.isinf(errors).any() | (errors <= 0).any()):
        message = "means and errors must be finite or NaN, and errors above 0; leave out a group without scatter"
        raise ValueError(message)
    known = np.isfinite(means) & np.isfinite(errors)
    weights = np.where(known, 1.0 / np.square(np.where(known, errors, 1.0)), 0.0)
    values = np.where(known, means, 0.0)
    n_groups = known.sum(axis=1).astype(np.int64)
    total = weights.sum(axis=1)
    mean = (weights * values).sum(axis=1) / np.where(total > 0, total, np.nan)
    scatter = (weights * np.square(values - np.nan_to_num(mean)[:, np.newaxis])).sum(axis=1)
    q = np.where(n_groups >= _LEAST_GROUPS, scatter, np.nan)
    p = cast("FloatArray", special.chdtrc(np.maximum(n_groups - 1, 1).astype(np.float64), q))
    return Heterogeneity(q, p, mean, n_groups)
