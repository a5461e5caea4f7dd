"""How capital is shared among return streams: covariance that can be inverted, equal risk, and growth that is not overbet.

Which streams there are, caps and what is not allocated stay out (`research/promotions/allocate`).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize

from backtest_assets.stats.arrays import FloatArray

_MOST_ROUNDS: Final = 10_000
_TOLERANCE: Final = 1e-12
"""Largest change of a weight in a round at which the rounds end, of the largest weight."""


@dataclass(frozen=True, slots=True)
class Covariance:
    """A shrunk covariance.

    Attributes:
        matrix: (n_streams, n_streams), positive definite if any stream moves [returns squared].
        intensity: weight of the target in it, 0 to 1.
    """

    matrix: FloatArray
    intensity: float


def shrunk_covariance(returns: FloatArray) -> Covariance:
    """Shrink the sample covariance towards one correlation for all pairs, as far as the sample is noisy.

    Variances stay those of the sample: a target of equal variances would give the riskiest stream too much.

    Args:
        returns: (n_days, n_streams), finite, at least two days; every stream moves.

    Returns:
        The covariance, with the sample mean removed and n_days as divisor, and the weight of its target; one stream is not
        shrunk.

    Raises:
        ValueError: if the shape is wrong, a return is not finite, or a stream never moves.

    Source:
        Ledoit & Wolf (2004), Honey, I shrunk the sample covariance matrix, appendix B.
    """
    if returns.ndim != 2 or returns.shape[0] < 2 or returns.shape[1] < 1 or not np.isfinite(returns).all():  # noqa: PLR2004  # a matrix
        message = f"returns must be finite, (n_days >= 2, n_streams >= 1), got {returns.shape}"
        raise ValueError(message)
    n_days, n = returns.shape
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / n_days
    deviation = np.sqrt(np.diag(sample))
    if not (deviation > 0).all():
        message = "every stream must move; leave out those that do not"
        raise ValueError(message)
    if n == 1:
        return Covariance(sample, 0.0)
    scale = np.outer(deviation, deviation)
    common = float((sample / scale).sum() - n) / (n * (n - 1))
    target = common * scale
    np.fill_diagonal(target, np.diag(sample))
    squares = centred**2
    noise = squares.T @ squares / n_days - sample**2
    # covariance of each variance's error with each covariance's error, over days
    shared = (centred**3).T @ centred / n_days - np.diag(sample)[:, None] * sample
    crossed = (deviation[None, :] / deviation[:, None]) * shared
    with_target = float(np.trace(noise)) + common * float(crossed.sum() - np.trace(crossed))
    distance = float(((target - sample) ** 2).sum())
    wanted = (float(noise.sum()) - with_target) / distance / n_days if distance > 0 else 0.0
    intensity = min(max(wanted, 0.0), 1.0)
    return Covariance((1.0 - intensity) * sample + intensity * target, intensity)


def risk_parity(covariance: FloatArray) -> FloatArray:
    """Weight streams so that each adds the same to the variance of their sum.

    Args:
        covariance: (n, n), positive definite.

    Returns:
        (n,) weights, above 0, that sum to 1.

    Raises:
        ValueError: if the covariance is not positive definite, or no such weights are found.

    Source:
        Maillard, Roncalli & Teiletche (2010); coordinate descent of Griveau-Billion, Richard & Roncalli (2013).
    """
    _check(covariance)
    n = covariance.shape[0]
    variance = np.diag(covariance)
    weights = 1.0 / np.sqrt(variance)
    budget = 1.0 / n
    for _ in range(_MOST_ROUNDS):
        before = weights.copy()
        for i in range(n):
            others = float(covariance[i] @ weights) - float(variance[i]) * float(weights[i])
            root = math.sqrt(others**2 + 4.0 * float(variance[i]) * budget)
            weights[i] = (root - others) / (2.0 * float(variance[i]))
        if float(np.abs(weights - before).max()) <= _TOLERANCE * float(weights.max()):
            return weights / weights.sum()
    message = f"no weights of equal risk after {_MOST_ROUNDS} rounds; the streams are nearly one and the same"
    raise ValueError(message)


def kelly(mean: FloatArray, covariance: FloatArray, *, fraction: float, cap: float) -> FloatArray:
    """Size streams for the growth of capital, none of them short or above a cap, at a fraction of the full size.

    Maximises w'm - w'Cw/2 over 0 <= w <= cap / fraction, the growth rate of continuously rebalanced capital, and takes the
    fraction of it. The fraction covers that means are estimates; half of Kelly keeps three quarters of the growth at half of
    the risk. The cap stands inside: cut afterwards, the better of two near-twins would leave the other nothing.

    Args:
        mean: (n,) mean return of each stream per day.
        covariance: (n, n), positive definite, of the same days.
        fraction: of the full size, above 0 and at most 1.
        cap: the most of one stream, above 0.

    Returns:
        (n,) sizes from 0 to the cap; they may sum to more than 1.

    Raises:
        ValueError: if the covariance is not positive definite, a mean is not finite, or the fraction or cap is out of range.

    Source:
        Thorp (2006), The Kelly criterion in blackjack, sports betting and the stock market, section 7; the quadratic
        programme as bounded least squares.
    """
    _check(covariance)
    in_range = 0.0 < fraction <= 1.0 and cap > 0
    if mean.shape != covariance.shape[:1] or not np.isfinite(mean).all() or not in_range:
        message = (
            f"means must be finite, one per stream, the fraction within (0, 1], the cap above 0: got {mean.shape}, "
            f"{fraction}, {cap}"
        )
        raise ValueError(message)
    lower, unit = np.linalg.cholesky(covariance), np.sqrt(np.diag(covariance))
    # in units of each stream's own deviation: sizes of quiet and loud streams are then of one order
    solved = optimize.lsq_linear(
        lower.T / unit, np.linalg.solve(lower, mean), bounds=(0.0, unit * cap / fraction), method="bvls", tol=1e-14
    )
    return np.clip(fraction * np.asarray(solved.x, np.float64) / unit, 0.0, cap)


def water_filled(weights: FloatArray, *, cap: float) -> FloatArray:
    """Cut weights at a cap and give what is cut to the others in proportion, as long as one has room.

    Args:
        weights: (n,), at least 0, of a sum of at most 1.
        cap: the most of one, above 0.

    Returns:
        (n,) weights within the cap; of the same sum, or of n times the cap where that is less.

    Raises:
        ValueError: if a weight is negative or not finite, or the cap is not above 0.
    """
    if not np.isfinite(weights).all() or (weights < 0).any() or not cap > 0:
        message = f"weights must be finite and >= 0 and the cap above 0, got {weights} and {cap}"
        raise ValueError(message)
    filled, full = weights.copy(), np.zeros(weights.size, np.bool_)
    for _ in range(weights.size):
        over = filled > cap
        if not over.any():
            break
        full |= over
        spare = float(filled[over].sum()) - cap * int(over.sum())
        filled[over] = cap
        open_to = ~full & (filled > 0)
        if not open_to.any():
            break
        filled[open_to] *= 1.0 + spare / float(filled[open_to].sum())
    return np.minimum(filled, cap)


def risk_shares(weights: FloatArray, covariance: FloatArray) -> FloatArray:
    """Return what share of the variance of the weighted sum each stream adds: (n,), sums to 1; NaN if nothing varies."""
    added = weights * (covariance @ weights)
    total = float(added.sum())
    return added / total if total > 0 else np.full(weights.size, math.nan)


def _check(covariance: FloatArray) -> None:
    is_square = covariance.ndim == 2 and covariance.shape[0] == covariance.shape[1] > 0  # noqa: PLR2004  # a matrix
    if not is_square or not np.isfinite(covariance).all() or not float(np.linalg.eigvalsh(covariance)[0]) > 0:
        message = f"covariance must be positive definite, got shape {covariance.shape}"
        raise ValueError(message)
