"""What searching makes of nothing: the luckiest of many trials, what trials are worth, the best of one half in the other.

Keep what a Sharpe ratio itself is worth (`sharpe.py`) and every limit (`research/promotions/`) out.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import linalg, special
from threadpoolctl import threadpool_limits

from backtest_assets.stats.arrays import FloatArray

MAX_BLOCKS: Final = 18
"""Blocks [blocks]: 18 give 48,620 halves; two more would quadruple them and no answer changes."""

_EULER: Final = 0.5772156649015329

_REACH: Final = 40.0
_NODES: Final = 4001
"""Grid of the quadrature of a maximum of normals: +-40 standard errors in steps of .02, errors below 1e-10."""

_RELATIVE_ROUNDING: Final = 1e-12
"""A scatter below this share of the largest value is rounding."""


def approximate_maximum(n_trials: float) -> float:
    """Approximate the largest of independent standard normal statistics.

    Args:
        n_trials: how many, at least 1; an effective number need not be whole.

    Returns:
        (1 - g) Z^-1(1 - 1/n) + g Z^-1(1 - 1/(n e)), g Euler's constant; 0 for one trial. Too small only near two trials.

    Raises:
        ValueError: if `n_trials` is below 1 or NaN.

    Source:
        Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio", from the extreme value theorem.
    """
    _check_trials(n_trials)
    if n_trials == 1:
        return 0.0
    usual, rare = float(special.ndtri(1.0 - 1.0 / n_trials)), float(special.ndtri(1.0 - 1.0 / (n_trials * math.e)))
    return max(0.0, (1.0 - _EULER) * usual + _EULER * rare)


def maximum_moments(n_trials: float) -> tuple[float, float]:
    """Integrate mean and variance of the largest of independent standard normal statistics.

    Args:
        n_trials: how many, at least 1; an effective number need not be whole.

    Returns:
        Mean and variance of the density n z Z^(n - 1).

    Raises:
        ValueError: if `n_trials` is below 1 or NaN.

    Source:
        Definition, by the trapezoid rule, which is exact to rounding for so smooth a density.
    """
    _check_trials(n_trials)
    x = np.linspace(-_REACH, _REACH, _NODES)
    log_density = (n_trials - 1.0) * np.asarray(special.log_ndtr(x), dtype=np.float64) - 0.5 * x * x
    density = n_trials / math.sqrt(2.0 * math.pi) * (x[1] - x[0]) * np.exp(log_density)
    mean = float(density @ x)
    return mean, float(density @ (x - mean) ** 2)


def minimum_backtest_years(n_trials: float, target: float = 1.0) -> float:
    """Return the years below which so many trials without any edge are expected to show an annual Sharpe ratio.

    Args:
        n_trials: independent trials, at least 1.
        target: annual Sharpe ratio of the best, above 0.

    Returns:
        (expected maximum / target)^2 [years].

    Raises:
        ValueError: if `n_trials` is below 1 or `target` is not above 0.

    Source:
        Bailey, Borwein, Lopez de Prado and Zhu (2014), "Pseudo-mathematics and financial charlatanism".
    """
    if not target > 0:
        message = f"target is {target}; give an annual Sharpe ratio above 0"
        raise ValueError(message)
    return (approximate_maximum(n_trials) / target) ** 2


def effective_rank(matrix: FloatArray) -> float:
    """Return over how many dimensions the variance of a covariance or correlation matrix is spread.

    Args:
        matrix: (n, n), symmetric and positive semi-definite, finite.

    Returns:
        exp of the entropy of the eigenvalues' shares, in [1, n]; NaN if the matrix is empty or 0.

    Raises:
        ValueError: if the matrix is not square and finite.

    Source:
        Roy and Vetterli (2007), "The effective rank".
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not bool(np.isfinite(matrix).all()):  # noqa: PLR2004
        message = f"matrix {matrix.shape} must be square and finite"
        raise ValueError(message)
    if matrix.shape[0] == 0 or not float(np.trace(matrix)) > 0:
        return math.nan
    # Values alone are cheapest by QR iteration; the default (MRRR) takes several times as long on these matrices. Threads that
    # wait for each other on a busy machine made 900 days cost 4 s instead of 0.04 s.
    with threadpool_limits(limits=1, user_api="blas"):
        values = np.maximum(np.asarray(linalg.eigvalsh(matrix, driver="ev"), dtype=np.float64), 0.0)
    shares = values / values.sum()
    positive = shares[shares > 0]
    return math.exp(-float(positive @ np.log(positive)))


def effective_rank_of(series: FloatArray) -> float:
    """Return how many independent trials a set of correlated ones is worth: the effective rank of their correlations.

    Args:
        series: (n_observations, n_trials), outcomes over the same observations, finite.

    Returns:
        In [1, n_trials], rounded to 9 decimals; trials without scatter count as nothing; NaN if none is known.

    Raises:
        ValueError: if `series` is not 2-D and finite.

    Source:
        Effective rank of Roy and Vetterli (2007), of the smaller of the two Gram matrices: their eigenvalues are the same.
    """
    if series.ndim != 2 or not bool(np.isfinite(series).all()):  # noqa: PLR2004  # observations by trials
        message = f"series {series.shape} must be finite, (n_observations, n_trials)"
        raise ValueError(message)
    if 0 in series.shape:
        return math.nan
    centred = series - series.mean(axis=0)
    length = np.sqrt((centred * centred).sum(axis=0))
    is_known = length > _RELATIVE_ROUNDING * math.sqrt(series.shape[0]) * np.abs(series).max(axis=0)
    unit = centred[:, is_known] / length[is_known]
    return round(effective_rank(unit.T @ unit if unit.shape[1] <= unit.shape[0] else unit @ unit.T), 9)


@dataclass(frozen=True, slots=True)
class Overfitting:
    """What becomes of the best of several trials on data it was not chosen on.

    Attributes:
        probability: share of halves in which the trial that is best inside is at or below the median outside; NaN if
            fewer than two trials are known, as `mean_logit`.
        mean_logit: mean over halves of ln(w / (1 - w)), w the outside rank over (trials + 1); above 0 is good.
        n_halves: ways to choose half of the blocks.
        n_trials: trials with a known ratio in every half.
    """

    probability: float
    mean_logit: float
    n_halves: int
    n_trials: int


def overfitting_probability(returns: FloatArray, *, n_blocks: int) -> Overfitting:
    """Estimate the probability of backtest overfitting by combinatorially symmetric cross-validation.

    Time is cut into blocks; in every half of the blocks the trial of the highest Sharpe ratio is ranked by its ratio in the
    other half. One number near .5 says little: between samples of noise it scatters by .2.

    Args:
        returns: (n_observations, n_trials) in time order, finite.
        n_blocks: blocks of equal length, even, from 2 to `MAX_BLOCKS`; observations left over at the end are not used.

    Returns:
        Probability, mean logit and counts. Equal ratios share their rank; the first of equal winners is taken.

    Raises:
        ValueError: if `returns` is not 2-D and finite, blocks are odd or too many, or a block has fewer than two
            observations.

    Source:
        Bailey, Borwein, Lopez de Prado and Zhu (2017), "The probability of backtest overfitting": P[logit <= 0].
    """
    if n_blocks % 2 or not 2 <= n_blocks <= MAX_BLOCKS:  # noqa: PLR2004  # two halves
        message = f"n_blocks is {n_blocks}; give an even number from 2 to {MAX_BLOCKS}"
        raise ValueError(message)
    if returns.ndim != 2 or returns.shape[0] < 2 * n_blocks or not bool(np.isfinite(returns).all()):  # noqa: PLR2004
        message = f"returns {returns.shape} must be finite, (n_observations, n_trials), two observations a block"
        raise ValueError(message)
    length = returns.shape[0] // n_blocks
    blocks = returns[: length * n_blocks].reshape(n_blocks, length, -1)
    centre = blocks.mean(axis=(0, 1))  # taken out, or the squares of near-constant returns would cancel
    totals, squares = (blocks - centre).sum(axis=1), ((blocks - centre) ** 2).sum(axis=1)
    halves = list(itertools.combinations(range(n_blocks), n_blocks // 2))
    is_inside = np.zeros((len(halves), n_blocks))
    np.put_along_axis(is_inside, np.array(halves), 1.0, axis=1)
    inside, outside = (
        _ratios(half @ totals, half @ squares, centre, count=length * n_blocks // 2)
        for half in (is_inside, 1 - is_inside)
    )
    is_known = ~(np.isnan(inside) | np.isnan(outside)).any(axis=0)
    n_trials = int(np.count_nonzero(is_known))
    if n_trials < 2:  # noqa: PLR2004  # a rank of one
        return Overfitting(math.nan, math.nan, len(halves), n_trials)
    winner = inside[:, is_known].argmax(axis=1)
    others = outside[:, is_known]
    own = np.take_along_axis(others, winner[:, np.newaxis], axis=1)
    rank = (others < own).sum(axis=1) + ((others == own).sum(axis=1) + 1) / 2.0
    share = rank / (n_trials + 1)
    logit: FloatArray = np.log(share / (1.0 - share))
    n_lost = int(np.count_nonzero(logit <= 0))
    return Overfitting(n_lost / len(halves), float(logit.mean()), len(halves), n_trials)


def _ratios(totals: FloatArray, squares: FloatArray, centre: FloatArray, *, count: int) -> FloatArray:
    shift, power = totals / count, squares / count
    variance = power - shift * shift
    is_known = variance > _RELATIVE_ROUNDING * (centre * centre + power)
    return (centre + shift) / np.sqrt(np.where(is_known, variance, np.nan))


def _check_trials(n_trials: float) -> None:
    if not n_trials >= 1:
        message = f"n_trials is {n_trials}; give at least 1"
        raise ValueError(message)
