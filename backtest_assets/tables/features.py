"""Causal features of every bar of a run, and which symbols may be traded in which month."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table

FEATURES = Table(
    "features",
    Stage.FEATURES,
    "research",
    ("symbol", "open_at"),
    (
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("open_at", INSTANT, "UTC", "Open time of the bar."),
        Column("known_at", INSTANT, "UTC", "When every value of the row is known.", sample=(1, 1)),
        Column("is_gap", pl.Boolean(), "bool", "The bar is missing.", sample=(0, 0)),
        Column("logret_1", pl.Float64(), "log", "Log return of the bar; null after a gap.", nullable=True),
        Column("rv_12", pl.Float64(), "log per bar", "Root mean square of 12 log returns.", nullable=True),
        Column("rv_ratio_288", pl.Float64(), "1", "rv_12 over its 288-bar trailing median.", nullable=True),
        Column("rv_96", pl.Float64(), "log per bar", "Sample sd of 96 log returns.", nullable=True),
        Column(
            "rv_pct_2880", pl.Float64(), "fraction", "Percentile rank of rv_96 in its trailing 30 days.", nullable=True
        ),
        Column("range_96_frac", pl.Float64(), "fraction of close", "Range of 96 bars.", nullable=True),
        Column(
            "high_prev_96",
            pl.Float64(),
            "quote per base",
            "Highest price of the 96 bars before this one.",
            nullable=True,
        ),
        Column(
            "low_prev_96", pl.Float64(), "quote per base", "Lowest price of the 96 bars before this one.", nullable=True
        ),
        Column("compression_ratio", pl.Float64(), "1", "range_96_frac over its trailing 30-day median.", nullable=True),
        Column("trend_ret_96", pl.Float64(), "fraction", "Return over 96 bars.", nullable=True),
        Column(
            "basis_bps", pl.Float64(), "bps", "UM close over spot close - 1; null where spot is missing.", nullable=True
        ),
        Column("basis_z_96", pl.Float64(), "sigma", "basis_bps against its trailing 96 bars.", nullable=True),
        Column(
            "funding_rate",
            pl.Float64(),
            "fraction per interval",
            "Last settled rate; null when older than its interval.",
            nullable=True,
        ),
        Column("funding_rate_8h", pl.Float64(), "fraction per 8 h", "The same rate scaled to 8 hours.", nullable=True),
        Column("funding_age_h", pl.Float64(), "h", "Age of the last settlement.", nullable=True),
        Column("funding_settled_at", INSTANT, "UTC", "The last settlement.", nullable=True),
        Column(
            "coverage_2880", pl.Float64(), "fraction", "Share of real bars in the trailing 30 days: the row's quality."
        ),
    ),
    "Causal features of every bar of the run, warm-up included.",
    (
        Rule("coverage_is_share", pl.col("coverage_2880").is_between(0, 1)),
        Rule("known_after_open", pl.col("known_at") == pl.col("open_at") + pl.duration(minutes=15)),
    ),
)
UNIVERSE = Table(
    "universe",
    Stage.FEATURES,
    "research",
    ("month", "symbol"),
    (
        Column("month", pl.String(), "text", "UTC month that the row is for, YYYY-MM."),
        Column("symbol", pl.String(), "text", "Instrument."),
        Column(
            "known_at",
            INSTANT,
            "UTC",
            "When the row can be known: the month's first instant, or its first close where only that shows the symbol.",
        ),
        Column(
            "dollar_volume_quote",
            pl.Float64(),
            "quote",
            "Traded value of the days before the month; null without any.",
            nullable=True,
        ),
        Column(
            "volume_measure",
            pl.String(),
            "text",
            "What it was summed from: volume_quote, base_x_close or mixed; null without any.",
            nullable=True,
        ),
        Column("n_days", pl.Int64(), "days", "Days before the month that have a bar.", sample=(1, 30)),
        Column(
            "rank",
            pl.Int64(),
            "1",
            "1 is the largest of the listed symbols; null without volume.",
            nullable=True,
            sample=(1, 9),
        ),
        Column("is_listed", pl.Boolean(), "bool", "It was listed before the month.", sample=(1, 1)),
        Column("is_eligible", pl.Boolean(), "bool", "It may be traded in the month."),
        Column(
            "reason",
            pl.String(),
            "text",
            "Eligible: ranked, no_history_yet; not: not_listed, delisted, no_bars, below_top_n.",
        ),
    ),
    "Which symbols may be traded in which month, by what was known before it.",
    (
        Rule("eligible_is_listed", pl.col("is_listed") | ~pl.col("is_eligible")),
        Rule("rank_counts", pl.col("rank").is_null() | (pl.col("rank") >= 1)),
        Rule("volume_is_positive", pl.col("dollar_volume_quote").is_null() | (pl.col("dollar_volume_quote") >= 0)),
    ),
)
TABLES = (FEATURES, UNIVERSE)
