"""How a daily series moves with another: the line through both, and how far its intercept can be believed.

Which series is the benchmark is the caller's to say.
"""

import math
from dataclasses import dataclass

from backtest_assets.stats.arrays import FloatArray, same_shape

_LEAST_DAYS = 3
"""Below three days a line through two numbers has no residual [days]."""

_COEFFICIENTS = 2


@dataclass(frozen=True, slots=True)
class MarketLine:
    """The least-squares line of returns on a benchmark's returns.

    Attributes:
        alpha: intercept [return per day].
        alpha_error: its standard error, robust to unequal variances and to serial correlation [return per day].
        beta: slope.
        correlation: of the two series, in [-1, 1].
        n_lags: lags of the standard error [days].
        n_days: observations [days].
        All but the counts are NaN below three days or if either series is constant.
    """

    alpha: float
    alpha_error: float
    beta: float
    correlation: float
    n_lags: int
    n_days: int


def market_line(returns: FloatArray, benchmark: FloatArray, *, n_lags: int | None = None) -> MarketLine:
    """Fit returns = alpha + beta x benchmark + residual.

    Args:
        returns: (n_days,), finite.
        benchmark: (n_days,), the same days, finite.
        n_lags: lags of the standard error; by default floor(4 (n_days / 100)^(2/9)), at most n_days - 1 [days].

    Returns:
        The line.

    Raises:
        ValueError: if shapes differ, an array is not 1-D and finite, or `n_lags` is negative.

    Source:
        Newey and West (1987), Bartlett weights 1 - l / (L + 1), times n / (n - 2) as statsmodels' `use_correction`; lags as
        Newey and West (1994).
    """
    same_shape(returns, benchmark, ("returns", "benchmark"), n_dimensions=1)
    n = returns.size
    lags = min(math.floor(4.0 * (n / 100.0) ** (2.0 / 9.0)), max(n - 1, 0)) if n_lags is None else n_lags
    if lags < 0:
        message = f"n_lags is {lags}; give at least 0"
        raise ValueError(message)
    if n < _LEAST_DAYS or bool((returns == returns[0]).all()) or bool((benchmark == benchmark[0]).all()):
        return MarketLine(math.nan, math.nan, math.nan, math.nan, lags, n)
    x, y = benchmark - benchmark.mean(), returns - returns.mean()
    sxx, sxy, syy = float(x @ x), float(x @ y), float(y @ y)
    beta = sxy / sxx
    alpha = float(returns.mean()) - beta * float(benchmark.mean())
    # each day's share in the intercept's error; its long-run variance is that of the intercept
    share = (y - beta * x) * (1.0 / n - float(benchmark.mean()) * x / sxx)
    variance = float(share @ share)
    for lag in range(1, min(lags, n - 1) + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * float(share[lag:] @ share[:-lag])
    error = math.sqrt(max(variance, 0.0) * n / (n - _COEFFICIENTS))
    return MarketLine(alpha, error, beta, sxy / math.sqrt(sxx * syy), lags, n)
