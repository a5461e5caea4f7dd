"""Sharpe ratios of a daily series and how far they can be believed.

Ratios are per day unless a name says annual. Two conventions live side by side and give other numbers: 2012 takes the
variance at the observed ratio, 2026 at the benchmark; every function says which. Keep the choice of a benchmark and the
counting of trials out.
"""

import math
from dataclasses import dataclass

from scipy import special

from backtest_assets.stats.arrays import FloatArray, complete_series
from backtest_assets.stats.overfitting import approximate_maximum, maximum_moments

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
        `probabilistic_sharpe_ratio_at_benchmark` gives other numbers.
    """
    _check_observations(n_observations)
    _check_moments(skew, kurtosis)
    error = _standard_error(sharpe, n_observations, skew, kurtosis)
    return float(special.ndtr((sharpe - benchmark) / error)) if error else math.nan


def probabilistic_sharpe_ratio_at_benchmark(
    sharpe: float, n_observations: int, skew: float, kurtosis: float, *, benchmark: float = 0.0, rho: float = 0.0
) -> float:
    """Give the probability that the true Sharpe ratio exceeds a benchmark, in the 2026 convention.

    Args:
        sharpe: observed ratio per observation, not annualised.
        n_observations: observations, at least 2.
        skew: skewness.
        kurtosis: raw kurtosis (3 = normal).
        benchmark: ratio per observation to beat.
        rho: autocorrelation of the returns at lag one, in (-1, 1).

    Returns:
        The normal probability of (sharpe - benchmark) over the standard error at `benchmark`; NaN if any input is NaN or
        the standard error is 0.

    Raises:
        ValueError: if `n_observations` is below 2, `rho` is outside (-1, 1), or no distribution has these moments.

    Source:
        Lopez de Prado, Lipton and Zoonekynd (2026), "How to use the Sharpe ratio": variance under the null, n.
    """
    _check_observations(n_observations)
    error = math.sqrt(sharpe_variance(benchmark, skew, kurtosis, rho=rho) / n_observations)
    return float(special.ndtr((sharpe - benchmark) / error)) if error else math.nan


def sharpe_variance(sharpe: float, skew: float, kurtosis: float, *, rho: float = 0.0) -> float:
    """Return n times the variance of an estimated Sharpe ratio, in the 2026 convention.

    Args:
        sharpe: true ratio per observation.
        skew: skewness.
        kurtosis: raw kurtosis (3 = normal).
        rho: autocorrelation of the returns at lag one, in (-1, 1).

    Returns:
        (1+r)/(1-r) - (1 + r/(1-r) + r^2/(1-r^2)) skew s + (1+r^2)/(1-r^2) (kurtosis-1)/4 s^2, at least 0; NaN if any input is.

    Raises:
        ValueError: if `rho` is outside (-1, 1), or no distribution has these moments.

    Source:
        Lopez de Prado, Lipton and Zoonekynd (2026), for returns that are an autoregression of order one.
    """
    _check_moments(skew, kurtosis)
    if not -1.0 < rho < 1.0:
        message = f"rho is {rho}; give an autocorrelation in (-1, 1)"
        raise ValueError(message)
    square = rho * rho
    linear = (1.0 + rho / (1.0 - rho) + square / (1.0 - square)) * skew * sharpe
    quadratic = (1.0 + square) / (1.0 - square) * (kurtosis - 1.0) / 4.0 * sharpe * sharpe
    variance = (1.0 + rho) / (1.0 - rho) - linear + quadratic
    return math.nan if math.isnan(variance) else max(variance, 0.0)


def minimum_track_record(
    sharpe: float, skew: float, kurtosis: float, *, benchmark: float = 0.0, confidence: float = 0.95
) -> float:
    """Return how many observations make an observed Sharpe ratio exceed a benchmark, in the 2012 convention.

    Args:
        sharpe: observed ratio per observation.
        skew: skewness.
        kurtosis: raw kurtosis (3 = normal).
        benchmark: ratio per observation to beat.
        confidence: level of the one-sided test, in (0, 1).

    Returns:
        1 + variance (z / (sharpe - benchmark))^2 [observations]; infinite if the ratio does not exceed the benchmark, NaN if
        any input is.

    Raises:
        ValueError: if `confidence` is outside (0, 1) or no distribution has these moments.

    Source:
        Bailey and Lopez de Prado (2012), "The Sharpe ratio efficient frontier", minimum track record length.
    """
    _check_moments(skew, kurtosis)
    return 1.0 + _shape(sharpe, skew, kurtosis) * _quantile_ratio(sharpe - benchmark, confidence) ** 2


def minimum_track_record_at_benchmark(
    sharpe: float, skew: float, kurtosis: float, *, benchmark: float = 0.0, confidence: float = 0.95, rho: float = 0.0
) -> float:
    """Return how many observations make an observed Sharpe ratio exceed a benchmark, in the 2026 convention.

    Args:
        sharpe: observed ratio per observation.
        skew: skewness.
        kurtosis: raw kurtosis (3 = normal).
        benchmark: ratio per observation to beat.
        confidence: level of the one-sided test, in (0, 1).
        rho: autocorrelation of the returns at lag one, in (-1, 1).

    Returns:
        variance at the benchmark times (z / (sharpe - benchmark))^2 [observations]; infinite if the ratio does not exceed the
        benchmark, NaN if any input is.

    Raises:
        ValueError: if `confidence` or `rho` is out of range or no distribution has these moments.

    Source:
        Lopez de Prado, Lipton and Zoonekynd (2026), "How to use the Sharpe ratio".
    """
    return sharpe_variance(benchmark, skew, kurtosis, rho=rho) * _quantile_ratio(sharpe - benchmark, confidence) ** 2


def deflated_sharpe_ratio(
    sharpe: float, n_observations: int, skew: float, kurtosis: float, *, n_trials: float, trials_variance: float
) -> float:
    """Give the probability that the true Sharpe ratio exceeds what the best of many worthless trials shows, as of 2014.

    Args:
        sharpe: observed ratio per observation of the best trial.
        n_observations: observations, at least 2.
        skew: skewness.
        kurtosis: raw kurtosis (3 = normal).
        n_trials: independent trials, at least 1; an effective number need not be whole.
        trials_variance: variance of the ratio per observation over trials, at least 0.

    Returns:
        `probabilistic_sharpe_ratio` with benchmark sqrt(variance) times the expected maximum; NaN if any input is NaN.

    Raises:
        ValueError: if a count is below its least, the variance is negative, or no distribution has these moments.

    Source:
        Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio".
    """
    benchmark = _root(trials_variance) * approximate_maximum(n_trials)
    return probabilistic_sharpe_ratio(sharpe, n_observations, skew, kurtosis, benchmark=benchmark)


def deflated_sharpe_ratio_at_benchmark(
    sharpe: float, n_observations: int, skew: float, kurtosis: float, *, n_trials: float, trials_variance: float
) -> float:
    """Give the probability that the true Sharpe ratio exceeds what the best of many worthless trials shows, as of 2026.

    Args:
        sharpe: observed ratio per observation of the best trial.
        n_observations: observations, at least 2.
        skew: skewness.
        kurtosis: raw kurtosis (3 = normal).
        n_trials: independent trials, at least 1; an effective number need not be whole.
        trials_variance: variance of the ratio per observation over trials, at least 0.

    Returns:
        As of 2014, but with the variance taken at the benchmark and multiplied by that of the maximum of `n_trials`
        standard normals; NaN if any input is NaN or the standard error is 0.

    Raises:
        ValueError: if a count is below its least, the variance is negative, or no distribution has these moments.

    Source:
        Lopez de Prado, Lipton and Zoonekynd (2026), "How to use the Sharpe ratio".
    """
    _check_observations(n_observations)
    benchmark = _root(trials_variance) * approximate_maximum(n_trials)
    variance = sharpe_variance(benchmark, skew, kurtosis) * maximum_moments(n_trials)[1]
    error = math.sqrt(variance / n_observations)
    return float(special.ndtr((sharpe - benchmark) / error)) if error else math.nan


def _root(variance: float) -> float:
    if variance < 0:
        message = f"trials_variance is {variance}; give at least 0"
        raise ValueError(message)
    return math.sqrt(variance)


def _quantile_ratio(distance: float, confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        message = f"confidence is {confidence}; give a level in (0, 1)"
        raise ValueError(message)
    return math.inf if distance <= 0 else float(special.ndtri(confidence)) / distance


def _check_observations(n: int) -> None:
    if n < 2:  # noqa: PLR2004  # n - 1 divides
        message = f"n_observations is {n}; give at least 2"
        raise ValueError(message)


def _check_moments(skew: float, kurtosis: float) -> None:
    if kurtosis < 1.0 + skew * skew - _ROUNDING:
        message = f"no distribution has skew {skew} and kurtosis {kurtosis}; give the raw kurtosis (3 = normal)"
        raise ValueError(message)


def _shape(sharpe: float, skew: float, kurtosis: float) -> float:
    shape = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe
    return math.nan if math.isnan(shape) else max(shape, 0.0)


def _standard_error(sharpe: float, n: int, skew: float, kurtosis: float) -> float:
    return math.sqrt(_shape(sharpe, skew, kurtosis) / (n - 1))
