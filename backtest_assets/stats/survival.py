"""How long until something happens, when some are not watched to the end. Keep what is waited for out (`research/`)."""

from dataclasses import dataclass

import numpy as np

from backtest_assets.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """Hazard and survival by age; every array is (horizon,), index 0 is age 1.

    Attributes:
        n_at_risk: watched at this age and not hit before it.
        n_hits: of them hit at this age.
        hazard: n_hits / n_at_risk; NaN where nobody is at risk.
        survival: product of 1 - hazard up to this age (Kaplan-Meier); NaN from the first age at which nobody is at risk.
    """

    n_at_risk: IntArray
    n_hits: IntArray
    hazard: FloatArray
    survival: FloatArray


def survival_curve(hit_at: IntArray, watched: IntArray, horizon: int) -> SurvivalCurve:
    """Estimate hazard and survival by age from right-censored observations.

    Args:
        hit_at: (n_observations,) age of the first hit, at least 1; 0 if none while watched.
        watched: (n_observations,) last age at which it was watched, at least 0; who is hit at that age is hit, not
            censored.
        horizon: ages 1 .. horizon are returned.

    Returns:
        The curve; all counts 0 and NaN else without observations.

    Raises:
        ValueError: if shapes differ, `horizon` is below 1, an age is negative or a hit lies after what was watched.

    Source:
        Kaplan and Meier (1958).
    """
    if hit_at.shape != watched.shape or hit_at.ndim != 1 or horizon < 1:
        message = (
            f"hit_at {hit_at.shape} and watched {watched.shape} must be 1-D of one length, horizon {horizon} at least 1"
        )
        raise ValueError(message)
    if bool(((hit_at < 0) | (watched < 0) | (hit_at > watched)).any()):
        message = "an age is negative, or a hit lies after the last age watched; a hit that was not seen is 0"
        raise ValueError(message)
    last = np.minimum(np.where(hit_at > 0, hit_at, watched), horizon)
    left = np.bincount(last, minlength=horizon + 1)[: horizon + 1]
    n_at_risk = np.cumsum(left[::-1])[::-1][1:].astype(np.int64)
    n_hits = np.bincount(hit_at[(hit_at > 0) & (hit_at <= horizon)], minlength=horizon + 1)[1:].astype(np.int64)
    hazard = np.where(n_at_risk > 0, n_hits / np.maximum(n_at_risk, 1), np.nan)
    return SurvivalCurve(n_at_risk, n_hits, hazard, np.cumprod(1.0 - hazard, dtype=np.float64))
