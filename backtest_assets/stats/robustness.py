"""Whether an edge survives small changes of its rule: a later entry, a shifted threshold.

An unknown mean never helps. Keep the grids and the re-pricing (`research/hypotheses`) and the limits (`gates/`) out.
"""

import math
from dataclasses import dataclass

import numpy as np

from backtest_assets.stats.arrays import FloatArray, series_with_gaps

_RATIO_WEIGHT = 0.7
"""Weight of the share of positive means in the delay score; the rest is steadiness."""

_LEAST_SCALE = 1e-9
"""Floor of a denominator, in the unit of the means."""


@dataclass(frozen=True, slots=True)
class DelayRobustness:
    """How a mean holds when the entry is late.

    Attributes:
        positive_ratio: share of delays with a mean above 0; an unknown mean is not positive.
        dispersion: population standard deviation of the means; NaN if one is unknown.
        score: 0.7 positive_ratio + 0.3 max(0, 1 - dispersion / |mean of means|); NaN if a mean is unknown.
    """

    positive_ratio: float
    dispersion: float
    score: float


@dataclass(frozen=True, slots=True)
class Curvature:
    """How a mean falls when a parameter is shifted.

    Attributes:
        penalty: max(0, centre - worst neighbour) / |centre|; NaN if anything is unknown or there is no neighbour.
        n_positive: means above 0, the centre included.
        n: means, the centre included.
    """

    penalty: float
    n_positive: int
    n: int


def delay_robustness(means: FloatArray) -> DelayRobustness:
    """Score the mean outcomes of the same trades entered at several delays.

    Args:
        means: (n_delays,), mean net outcome of each applicable delay; NaN = unknown [bps].

    Returns:
        Ratio, dispersion and score; without any delay ratio 0 and the others NaN.

    Raises:
        ValueError: if `means` is not 1-D or holds an infinity.

    Source:
        reference_2 section 1.6 (delay grid), with unknown means closed.
    """
    known = series_with_gaps(means, "means")
    if known.size == 0:
        return DelayRobustness(0.0, math.nan, math.nan)
    ratio = float(np.mean(known > 0))
    dispersion = float(known.std())
    steadiness = 1.0 - dispersion / max(abs(float(known.mean())), _LEAST_SCALE)
    score = math.nan if math.isnan(steadiness) else _RATIO_WEIGHT * ratio + (1.0 - _RATIO_WEIGHT) * max(0.0, steadiness)
    return DelayRobustness(ratio, dispersion, score)


def curvature_penalty(centre: float, neighbours: FloatArray) -> Curvature:
    """Measure how far the worst neighbour of a parameter falls below the centre.

    Args:
        centre: mean outcome at the parameter itself; NaN = unknown [bps].
        neighbours: (n_neighbours,), mean outcomes at shifted parameters; NaN = unknown [bps].

    Returns:
        Penalty (0 = no fall, 1 = down to zero) and counts; the penalty is NaN if anything is unknown or no neighbour is given.

    Raises:
        ValueError: if `neighbours` is not 1-D or holds an infinity.

    Source:
        reference_2 section 1.6 (curvature), with unknown means closed.
    """
    shifted = series_with_gaps(neighbours, "neighbours")
    n_positive = int(centre > 0) + int(np.count_nonzero(shifted > 0))
    if shifted.size == 0 or math.isnan(centre) or bool(np.isnan(shifted).any()):
        return Curvature(math.nan, n_positive, shifted.size + 1)
    fall = max(0.0, centre - float(shifted.min()))
    return Curvature(fall / max(abs(centre), _LEAST_SCALE), n_positive, shifted.size + 1)
