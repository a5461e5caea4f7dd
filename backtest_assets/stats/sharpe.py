"""Sharpe ratios of a daily series and how far they can be believed.

Ratios are per day unless a name says annual. Keep the choice of a benchmark and the number of trials out.
"""

import math
from dataclasses import dataclass

from scipy import special

from backtest_assets.stats.arrays import FloatArray, complete_series

DAYS_PER_YEAR = 365
"""These markets trade every day [days per year]."""

_LEAST_DAYS = 3
"""Below three days a skew and a kurtosis say nothing [days]."""

_ROUNDING = 1e-9
"""Slack of kurtosis >= 1 + skew^2, which a series of two values meets exactly."""


@dataclass(frozen=True, slots=True)
class SharpeEstimate:
    """A Sharpe ratio with its interval.

    Attributes:
        annual: annualised ratio, mean / standard deviation (ddof = 1) of days times sqrt(days per year), no risk-free rate.
        annual_low: lower end of the interval.
        annual_high: upper end of the interval.
        daily: the ratio per day.
        skew: population skewness of the days.
        kurtosis: population raw kurtosis of the days (3 = normal).
        n_days: observations [days].
        All ratios and moments are NaN below three days or if the days are constant.
    """

    annual: float
    annual_low: float
    annual_high: float
    daily: float
    skew: float
    kurtosis: float
    n_days: int


def annual_sharpe(
    daily_returns: FloatArray, *, confidence: float = 0.95, days_per_year: int = DAYS_PER_YEAR
) -> SharpeEstimate:
    """Estimate the annualised Sharpe ratio of a daily series with a two-sided interval.

    The standard error is that of independent days of any shape, sqrt((1 - skew SR + (kurtosis - 1) / 4 SR^2) / (n - 1)) per
    day; the lower end at 95 % is thus the benchmark at which the 2012 probabilistic Sharpe ratio is .975. Serial
    correlation of days is not corrected for.

    Args:
        daily_returns: (n_days,), every calendar day, days without a position as 0 [fraction of capital].
        confidence: two-sided level in (0, 1).
        days_per_year: days per year.

    Returns:
        The estimate; all NaN but `n_days` below three days or if the days are constant.

    Raises:
        ValueError: if the series is not 1-D, holds NaN or an infinity, or `confidence` is outside (0, 1).

    Source:
        Mertens (2002), "Comments on variance of the IID estimator in Lo (2002)"; n - 1 as Bailey and Lopez de Prado (2012).
    """
    days = complete_series(daily_returns, "daily_returns")
    if not 0.0 < confidence < 1.0:
        message = f"confidence is {confidence}; give a level in (0, 1)"
        raise ValueError(message)
    n = days.size
    if n < _LEAST_DAYS or bool((days == days[0]).all()):
        return SharpeEstimate(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, n)
    centred = days - days.mean()
    z = centred / math.sqrt(float(centred @ centred) / n)
    skew = float((z * z) @ z) / n
    kurtosis = float((z * z) @ (z * z)) / n
    daily = float(days.mean()) / float(days.std(ddof=1))
    half = float(special.ndtri(0.5 + confidence / 2.0)) * _standard_error(daily, n, skew, kurtosis)
    year = math.sqrt(days_per_year)
    return SharpeEstimate(daily * year, (daily - half) * year, (daily + half) * year, daily, skew, kurtosis, n)


def probabilistic_sharpe_ratio(
    sharpe: float, n_observations: int, skew: float, kurtosis: float, *, benchmark: float = 0.0
) -> float:
    """Give the probability that the true Sharpe ratio exceeds a benchmark, in the 2012 convention.

    Args:
        sharpe: observed ratio per observation, not annualised.
        n_observations: observations, at least 2.
        skew: skewness.
        kurtosis: raw kurtosis (3 = normal).
        benchmark: ratio per observation to beat.

    Returns:
        The normal probability of (sharpe - benchmark) over the standard error at `sharpe`; NaN if any input is NaN or the
        standard error is 0.

    Raises:
        ValueError: if `n_observations` is below 2, or no distribution has these moments (kurtosis < 1 + skew^2).

    Source:
        Bailey and Lopez de Prado (2012), "The Sharpe ratio efficient frontier": variance at the observed ratio, n - 1.
        The 2025 convention (variance at the benchmark, n, serial correlation) gives other numbers.
    """
    if n_observations < 2:  # noqa: PLR2004  # n - 1 divides
        message = f"n_observations is {n_observations}; give at least 2"
        raise ValueError(message)
    if kurtosis < 1.0 + skew * skew - _ROUNDING:
        message = f"no distribution has skew {skew} and kurtosis {kurtosis}; give the raw kurtosis (3 = normal)"
        raise ValueError(message)
    error = _standard_error(sharpe, n_observations, skew, kurtosis)
    return float(special.ndtr((sharpe - benchmark) / error)) if error else math.nan


def _standard_error(sharpe: float, n: int, skew: float, kurtosis: float) -> float:
    shape = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe
    return math.nan if math.isnan(shape) else math.sqrt(max(shape, 0.0) / (n - 1))
