"""Causal market regimes and measures of every bar of a run; conditions of hypotheses are made of them."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Table


def _measure(name: str, unit: str, about: str) -> Column:
    return Column(name, pl.Float64(), unit, about, nullable=True)


MARKET_CONTEXT = Table(
    "market_context",
    Stage.CONTEXT,
    "research",
    ("symbol", "open_at"),
    (
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("open_at", INSTANT, "UTC", "Open time of the bar."),
        Column("known_at", INSTANT, "UTC", "When the row is known.", sample=(1, 1)),
        Column("vol_regime", pl.String(), "text", "low, mid, high by rv_pct_2880 thirds; unknown where null."),
        Column("bull_bear", pl.String(), "text", "bull, bear by the sign of trend_ret_96; unknown where null or zero."),
        Column(
            "funding_regime",
            pl.String(),
            "text",
            "negative, neutral, positive against trailing thirds; unknown where null.",
        ),
        Column(
            "compression_state",
            pl.String(),
            "text",
            "compressed at a compression_ratio up to 0.8, else open; unknown where null.",
        ),
        Column(
            "liquidity_regime",
            pl.String(),
            "text",
            "thin at a volume_quote_ratio_2880 up to 0.5, heavy from 2, else usual; unknown where null.",
        ),
        Column(
            "session", pl.String(), "text", "asia 0-7, eu 8-15, us 16-23 by the UTC hour in which the row is known."
        ),
        _measure("rv_pct_2880", "fraction", "As in features: rank of the day's volatility in 30 days."),
        _measure(
            "funding_pct_8640",
            "fraction",
            "Percentile rank of funding_rate_8h in its trailing 90 days, ties averaged; 2,880 bars needed.",
        ),
        _measure("funding_persistence_age_h", "h", "As in features: how long the crowd has paid; 0 while it does not."),
        _measure("basis_z_96", "sigma", "As in features: basis against its trailing day."),
        _measure("volume_quote_ratio_2880", "1", "As in features: traded value over its trailing 30-day median."),
        _measure(
            "spread_pct_2880",
            "fraction",
            "Percentile rank of spread_est_96_bps in its trailing 30 days, hidden ones left out; 960 bars needed.",
        ),
        _measure("open_interest_log_change_96", "log", "As in features: change of open interest over a day."),
    ),
    "Market regimes and measures of every bar, known at its close.",
)
TABLES = (MARKET_CONTEXT,)
