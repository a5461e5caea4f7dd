"""Causal features of every bar of a run, and which symbols may be traded in which month."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table


def _value(name: str, unit: str, about: str, sample: tuple[float, float] = (0.0, 1.0)) -> Column:
    return Column(name, pl.Float64(), unit, about, nullable=True, sample=sample)


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
        _value("logret_1", "log", "Log return of the bar; null after a gap."),
        _value("rv_12", "log per bar", "Root mean square of 12 log returns; 8 needed."),
        _value("rv_ratio_288", "1", "rv_12 over its trailing median of 288 bars; 96 needed."),
        _value("rv_96", "log per bar", "Sample sd of 96 log returns; 64 needed."),
        _value("rv_pct_2880", "fraction", "Percentile rank of rv_96 in its trailing 30 days; 960 bars needed."),
        _value("rv_pct_17280", "fraction", "Percentile rank of rv_96 in its trailing 180 days; 5,760 bars needed."),
        _value("range_frac", "fraction of close", "High less low of the bar."),
        _value("range_96_frac", "fraction of close", "Range of 96 bars; 64 needed."),
        _value("high_prev_96", "quote per base", "Highest price of the 96 bars before this one; 64 needed."),
        _value("low_prev_96", "quote per base", "Lowest price of the 96 bars before this one; 64 needed."),
        _value("compression_ratio", "1", "range_96_frac over its trailing 30-day median; 960 bars needed."),
        _value("trend_ret_96", "fraction", "Return over 96 bars; null if either end is a gap."),
        _value("trend_ret_2880", "fraction", "Return over 30 days; null if either end is a gap."),
        _value(
            "volume_quote_ratio_2880",
            "1",
            "Traded value of the bar over its trailing 30-day median, both by volume_measure; 960 bars needed.",
        ),
        Column(
            "volume_measure",
            pl.String(),
            "text",
            "volume_quote where every bar of the 30 days has it, else base_x_close: volume_base times close for all of them.",
            nullable=True,
        ),
        _value("taker_imbalance", "fraction", "2 taker_buy_base / volume_base - 1; null without trades or taker data."),
        _value("taker_imbalance_96", "fraction", "Mean taker_imbalance of 96 bars; 64 needed."),
        _value(
            "spread_est_96_bps",
            "bps",
            "Corwin-Schultz estimate from 96 pairs of bars, 64 needed; null where it is not above 0: volatility hides it.",
        ),
        _value("open_interest_quote", "quote", "Newest fresh open interest; null without positioning_um."),
        _value(
            "open_interest_log_change_4",
            "log",
            "Change over 4 bars of open interest in base, so that prices do not move it; null if either end is unknown.",
        ),
        _value("open_interest_log_change_96", "log", "The same over 96 bars."),
        _value("liquidated_long_quote", "quote", "Longs liquidated in the bar; null where the day is unknown."),
        _value("liquidated_short_quote", "quote", "Shorts liquidated in the bar; null likewise."),
        _value("liquidated_long_quote_96", "quote", "Sum of 96 bars; all are needed, a part would understate it."),
        _value("liquidated_short_quote_96", "quote", "Sum of 96 bars; all are needed."),
        _value("basis_bps", "bps", "UM close over spot close - 1; null where spot is missing."),
        _value("basis_z_96", "sigma", "basis_bps against its trailing 96 bars; 64 needed."),
        _value(
            "funding_rate", "fraction per interval", "Last settled rate; null when older than its interval and one bar."
        ),
        _value("funding_rate_8h", "fraction per 8 h", "The same rate scaled to 8 hours."),
        _value("funding_age_h", "h", "Age of the last settlement."),
        Column("funding_settled_at", INSTANT, "UTC", "The last settlement.", nullable=True),
        Column(
            "is_funding_persistent",
            pl.Boolean(),
            "bool",
            "The last 3 settlements, none missing, of one sign, each larger per 8 h in size than 85 % of the 90 before it "
            "(30 needed); null while that or the rate is not known.",
            nullable=True,
            sample=(0, 0),
        ),
        _value(
            "funding_persistence_age_h",
            "h",
            "Time since the first such settlement; 0 while not persistent, null likewise.",
            (0, 0),
        ),
        _value(
            "funding_persistence_severity",
            "fraction",
            "Share of smaller settlements beyond 85 %; 0 while not persistent, null likewise.",
            (0, 0),
        ),
        Column(
            "coverage_2880", pl.Float64(), "fraction", "Share of real bars in the trailing 30 days: the row's quality."
        ),
    ),
    "Causal features of every bar of the run, warm-up included.",
    (
        Rule("coverage_is_share", pl.col("coverage_2880").is_between(0, 1)),
        Rule("known_after_open", pl.col("known_at") == pl.col("open_at") + pl.duration(minutes=15)),
        Rule(
            "volume_ratio_has_measure",
            pl.col("volume_quote_ratio_2880").is_null() == pl.col("volume_measure").is_null(),
        ),
        Rule(
            "persistence_is_whole",
            pl.col("is_funding_persistent").eq_missing(pl.col("funding_persistence_age_h") > 0)
            & (pl.col("is_funding_persistent").is_null() == pl.col("funding_persistence_severity").is_null()),
        ),
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
