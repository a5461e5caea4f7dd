"""How fast capital grows, and what is gained for each unit of downside or of drawdown.

Returns are daily, every calendar day, days without a position as 0 [fraction of capital]. Keep limits out (`gates/`).
"""

import math

import numpy as np

from backtest_assets.stats.arrays import FloatArray, complete_series
from backtest_assets.stats.sharpe import DAYS_PER_YEAR


def annual_growth(ending_equity: float, n_days: int, *, days_per_year: int = DAYS_PER_YEAR) -> float:
    """Return the compound growth per year that leads from a capital of 1 to the ending equity.

    Args:
        ending_equity: at least 0 [times the start].
        n_days: calendar days in between.
        days_per_year: days per year.

    Returns:
        ending_equity^(days_per_year / n_days) - 1, -1 for a ruined account; NaN without a day, infinite beyond the range
        of numbers. Of few days it is an extrapolation.

    Raises:
        ValueError: if `ending_equity` is negative or not finite.

    Source:
        Definition (compound annual growth rate).
    """
    if not (math.isfinite(ending_equity) and ending_equity >= 0):
        message = f"ending_equity is {ending_equity}; give a finite number of at least 0, a ruined account stays at 0"
        raise ValueError(message)
    if n_days <= 0:
        return math.nan
    if ending_equity == 0:
        return -1.0
    try:
        return math.expm1(math.log(ending_equity) * days_per_year / n_days)
    except OverflowError:
        return math.inf


def calmar_ratio(growth: float, drawdown: float) -> float:
    """Return the annual growth per unit of the deepest drawdown of the same days.

    Args:
        growth: compound growth per year.
        drawdown: deepest drawdown, in [-1, 0].

    Returns:
        growth / -drawdown; NaN without a drawdown or if an input is NaN.

    Raises:
        ValueError: if `drawdown` is positive.

    Source:
        Young (1991), "Calmar ratio: a smoother tool"; over the whole window instead of 36 months.
    """
    if drawdown > 0:
        message = f"drawdown is {drawdown}; give a number of at most 0"
        raise ValueError(message)
    return growth / -drawdown if drawdown < 0 else math.nan


def sortino_ratio(daily_returns: FloatArray, *, days_per_year: int = DAYS_PER_YEAR) -> float:
    """Return the annualised mean return per unit of downside deviation, against a target of 0.

    Args:
        daily_returns: (n_days,), finite.
        days_per_year: days per year; 1 for the ratio per observation.

    Returns:
        mean / sqrt(mean of min(return, 0)^2 over all days) times sqrt(days_per_year); NaN without a losing day.

    Raises:
        ValueError: if the series is not 1-D, or holds NaN or an infinity.

    Source:
        Sortino and Price (1994), "Performance measurement in a downside risk framework"; the deviation is over all days,
        not over the losing ones alone (Rollinger and Hoffman 2013, whose example is the first test).
    """
    days = complete_series(daily_returns, "daily_returns")
    losses = np.minimum(days, 0.0)
    if not bool((losses < 0).any()):
        return math.nan
    return float(days.mean()) / math.sqrt(float(losses @ losses) / days.size) * math.sqrt(days_per_year)
