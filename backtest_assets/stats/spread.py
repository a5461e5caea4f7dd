"""The bid-ask spread that bars without quotes still show; keep volatility out (`rolling.py`)."""

from typing import Final

import numpy as np

from backtest_assets.stats.arrays import FloatArray, series_with_gaps

_K: Final = 3.0 - 2.0 * np.sqrt(2.0)


def high_low_spread(high: FloatArray, low: FloatArray) -> FloatArray:
    """Estimate the spread from the ranges of each bar and the one before it.

    Highs are asks and lows are bids: the range of two bars together holds the variance twice but the spread once. One
    pair says little: average many, with their signs. Clipping each pair at 0, as is often done, reads volatility as
    spread.

    Args:
        high: (n_bars,), > 0, NaN = missing [quote per base].
        low: (n_bars,), > 0, NaN = missing [quote per base].

    Returns:
        (n_bars,) spread over mid, negative where the noise is larger [fraction]; NaN where either bar is missing.

    Raises:
        ValueError: if shapes differ, on an infinity, a price <= 0 or a high below its low.

    Source:
        Corwin and Schultz (2012), Journal of Finance 67, equations 14 and 18; no overnight correction: the market
        does not close.
    """
    top, bottom = series_with_gaps(high, "high"), series_with_gaps(low, "low")
    if top.shape != bottom.shape or bool((bottom <= 0).any()) or bool((top < bottom).any()):
        message = f"high {top.shape} and low {bottom.shape} must be of one shape with 0 < low <= high"
        raise ValueError(message)
    top, bottom = np.log(top), np.log(bottom)
    squares = (top - bottom) ** 2
    both = squares[1:] + squares[:-1]
    wide = (np.maximum(top[1:], top[:-1]) - np.minimum(bottom[1:], bottom[:-1])) ** 2
    alpha = (np.sqrt(2.0 * both) - np.sqrt(both)) / _K - np.sqrt(wide / _K)
    result = np.full(top.size, np.nan)
    result[1:] = 2.0 * np.tanh(alpha / 2.0)
    return result
