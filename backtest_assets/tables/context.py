"""Causal market regimes of every bar of a run; conditions of hypotheses are made of them."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Table

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
    ),
    "Market regimes of every bar, known at its close.",
)
TABLES = (MARKET_CONTEXT,)
