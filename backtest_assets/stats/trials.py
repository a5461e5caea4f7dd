"""How many independent trials a search is worth: by what the luckiest of them shows. Keep counting and data out."""

import math
from typing import Final

from scipy import integrate, optimize, special

_MOST_TRIALS: Final = 1e12
"""More trials than any search makes; their luckiest shows 7.1 standard errors [trials]."""

_TAIL: Final = 12.0
"""Beyond so many standard errors the largest of `_MOST_TRIALS` has no probability that float64 knows."""


def expected_maximum(n_trials: float) -> float:
    """Average the largest of independent standard normal trials.

    Args:
        n_trials: at least 1, not necessarily whole [trials].

    Returns:
        The mean of the maximum [standard errors]; 0 for one trial, NaN for NaN.

    Raises:
        ValueError: if `n_trials` is below 1 or above 1e12.

    Source:
        Integral of 1 - cdf^n above 0 and of -cdf^n below; to it Bailey and Lopez de Prado (2014) approximate.
    """
    if n_trials < 1 or n_trials > _MOST_TRIALS:
        message = f"n_trials is {n_trials:g}; give 1 to {_MOST_TRIALS:g}"
        raise ValueError(message)
    if math.isnan(n_trials):
        return math.nan

    def missing(x: float) -> float:
        return -math.expm1(n_trials * float(special.log_ndtr(x)))

    def below(x: float) -> float:
        return math.exp(n_trials * float(special.log_ndtr(x)))

    above = integrate.quad(missing, 0.0, _TAIL, limit=200, epsabs=1e-12)[0]
    return float(above - integrate.quad(below, -_TAIL, 0.0, limit=200, epsabs=1e-12)[0])


def equivalent_trials(luckiest: float) -> float:
    """Count the independent trials whose largest is as large on average as that of dependent ones.

    Args:
        luckiest: mean of the maximum of the dependent trials under their joint null [standard errors].

    Returns:
        At least 1, not whole [trials]; NaN for NaN, infinite beyond what 1e12 trials show.

    Source:
        Inverse of `expected_maximum`: the number that a deflated Sharpe ratio needs, since it asks for the expected maximum
        alone (Bailey and Lopez de Prado 2014).
    """
    if math.isnan(luckiest):
        return math.nan
    if luckiest <= 0.0:
        return 1.0
    if luckiest >= expected_maximum(_MOST_TRIALS):
        return math.inf

    def short(log_n: float) -> float:
        return expected_maximum(max(1.0, min(math.exp(log_n), _MOST_TRIALS))) - luckiest

    return math.exp(float(optimize.brentq(short, 0.0, math.log(_MOST_TRIALS), xtol=1e-10)))
