"""Invented funding settlements: calm at the exchange's base rate, with persistent, fat-tailed crowded spells."""

from typing import Final

import numpy as np
import polars as pl

from backtest_assets.sources.synthetic.paths import steady_state

_INTERVAL_H: Final = 8
_BARS_PER_SETTLEMENT: Final = _INTERVAL_H * 4
_BASE_RATE: Final = 1e-4  # interest part of the rate [fraction per 8 h]
_DAMPER: Final = 5e-4  # premium that the exchange's clamp absorbs [fraction per 8 h]
_RATE_CAP: Final = 3e-3  # largest rate of BTCUSDT and ETHUSDT to 2025 is 3.75e-3 [fraction per 8 h]
_PREMIUM_SD: Final = 2.1e-4  # typical premium [fraction per 8 h]
_PREMIUM_MEMORY: Final = 0.93  # per settlement; half-life 3 days [1]
_CROWD_MEMORY: Final = 0.985  # per settlement of the log size of the premium; half-life 15 days [1]
_CROWD_SD: Final = 0.6  # spread of that log size
_NOISE: Final = 1.2e-5  # rounding and sampling of the premium [fraction per 8 h]
_JITTER_MS: Final = 20  # latest stamp after the settlement [ms]


def draw_funding(rng: np.random.Generator, open_at: pl.Series, symbol: str) -> pl.DataFrame:
    """Draw one settlement every 8 hours.

    Args:
        rng: randomness.
        open_at: the bars' open times, from midnight UTC.
        symbol: instrument.

    Returns:
        Rows of `raw_um_funding`; `funding_rate` [fraction per 8 h].

    Source:
        Binance: rate = premium + clamp(interest - premium, +-0.05 %).
    """
    settled_at = open_at.gather_every(_BARS_PER_SETTLEMENT)
    n = len(settled_at)
    size = np.exp(steady_state(rng, n, _CROWD_MEMORY) * _CROWD_SD)
    premium = _PREMIUM_SD * size * steady_state(rng, n, _PREMIUM_MEMORY)
    rate = premium + np.clip(_BASE_RATE - premium, -_DAMPER, _DAMPER) + _NOISE * rng.standard_normal(n)
    jitter = pl.Series(rng.integers(0, _JITTER_MS, n) * 1000).cast(pl.Duration("us"))
    return pl.DataFrame(
        {
            "settled_at": settled_at,
            "received_at": settled_at + jitter,
            "funding_rate": np.round(np.clip(rate, -_RATE_CAP, _RATE_CAP), 8),
        }
    ).with_columns(symbol=pl.lit(symbol), funding_interval_h=pl.lit(float(_INTERVAL_H)), source=pl.lit("synthetic"))
