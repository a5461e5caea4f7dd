"""The clean market: bars on the full 15-minute UTC grid, settlements, positioning, and what of it is missing."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Rule, Table

_PRICES = ("open", "high", "low", "close")
_COLUMNS = (
    Column("symbol", pl.String(), "text", "Instrument."),
    Column("open_at", INSTANT, "UTC", "Open time; on the 15-minute grid."),
    Column("known_at", INSTANT, "UTC", "Close time: when the bar can be known.", sample=(1, 1)),
    Column("open", pl.Float64(), "quote per base", "First price; null on a gap.", nullable=True, sample=(90, 100)),
    Column("high", pl.Float64(), "quote per base", "Highest price; null on a gap.", nullable=True, sample=(100, 110)),
    Column("low", pl.Float64(), "quote per base", "Lowest price; null on a gap.", nullable=True, sample=(80, 90)),
    Column("close", pl.Float64(), "quote per base", "Last price; null on a gap.", nullable=True, sample=(90, 100)),
    Column("volume_base", pl.Float64(), "base", "Traded volume; null on a gap.", nullable=True, sample=(10, 20)),
    Column(
        "volume_quote",
        pl.Float64(),
        "quote",
        "Traded value; null on a gap or where the source lacks it.",
        nullable=True,
    ),
    Column("n_trades", pl.Int64(), "1", "Trades; null on a gap or where the source lacks it.", nullable=True),
    Column("taker_buy_base", pl.Float64(), "base", "Volume bought by takers; null likewise.", nullable=True),
    Column("taker_buy_quote", pl.Float64(), "quote", "Value bought by takers; null likewise.", nullable=True),
    Column("is_gap", pl.Boolean(), "bool", "The source has no bar here.", sample=(0, 0)),
)
_RULES = (
    Rule("on_grid", pl.col("open_at").dt.epoch("us") % 900_000_000 == 0),
    Rule("known_after_open", pl.col("known_at") == pl.col("open_at") + pl.duration(minutes=15)),
    Rule("gap_has_no_price", pl.col("is_gap") == pl.any_horizontal(pl.col(_PRICES).is_null())),
)

BARS_UM = Table("bars_um", Stage.BARS, "market", ("symbol", "open_at"), _COLUMNS, "Clean USD-M perpetual bars.", _RULES)
BARS_SPOT = Table("bars_spot", Stage.BARS, "market", ("symbol", "open_at"), _COLUMNS, "Clean spot bars.", _RULES)

SETTLEMENTS_UM = Table(
    "settlements_um",
    Stage.BARS,
    "market",
    ("symbol", "settled_at"),
    (
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("settled_at", INSTANT, "UTC", "Settlement, on the exact hour."),
        Column("known_at", INSTANT, "UTC", "When the rate can be known: at the settlement.", sample=(0, 0)),
        Column(
            "funding_rate",
            pl.Float64(),
            "fraction per interval",
            "Rate; positive means longs pay.",
            sample=(-0.001, 0.001),
        ),
        Column("funding_interval_h", pl.Float64(), "h", "Hours that the rate covers.", sample=(8, 8)),
        Column(
            "jitter_ms",
            pl.Float64(),
            "ms",
            "How much later than the settlement the exchange stamped it.",
            sample=(0, 20),
        ),
        Column(
            "stale_at",
            INSTANT,
            "UTC",
            "From here on an as-of reader must not use the rate: its own interval and one bar are over.",
            sample=(33, 33),
        ),
    ),
    "Funding settlements, complete by their own interval.",
    (
        Rule("known_at_settlement", pl.col("known_at") == pl.col("settled_at")),
        Rule("stale_after", pl.col("stale_at") > pl.col("settled_at")),
    ),
)
POSITIONING_UM = Table(
    "positioning_um",
    Stage.BARS,
    "market",
    ("symbol", "open_at"),
    (
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("open_at", INSTANT, "UTC", "Open time of the bar."),
        Column("known_at", INSTANT, "UTC", "Close time: when the row can be known.", sample=(1, 1)),
        Column(
            "open_interest_base", pl.Float64(), "base", "Newest snapshot known; null if none is fresh.", nullable=True
        ),
        Column("open_interest_quote", pl.Float64(), "quote", "Its value; null likewise.", nullable=True),
        Column(
            "open_interest_age_min",
            pl.Float64(),
            "min",
            "Age of the snapshot at known_at; null likewise.",
            nullable=True,
        ),
        Column(
            "liquidated_long_quote",
            pl.Float64(),
            "quote",
            "Longs liquidated in the bar; null where the day is unknown.",
            nullable=True,
        ),
        Column(
            "liquidated_short_quote",
            pl.Float64(),
            "quote",
            "Shorts liquidated in the bar; null likewise.",
            nullable=True,
        ),
        Column("n_liquidations", pl.Int64(), "1", "Orders; null likewise.", nullable=True),
    ),
    "Open interest and liquidations per bar; every value is null where its optional source is missing or stale.",
    (Rule("known_after_open", pl.col("known_at") == pl.col("open_at") + pl.duration(minutes=15)),),
)
COVERAGE = Table(
    "coverage",
    Stage.BARS,
    "market",
    ("symbol", "dataset", "first_at"),
    (
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("dataset", pl.String(), "text", "Raw table."),
        Column("first_at", INSTANT, "UTC", "First instant of the stretch."),
        Column("until_at", INSTANT, "UTC", "First instant after it.", sample=(10, 10)),
        Column("n_instants", pl.Int64(), "1", "Expected instants in the stretch.", sample=(1, 10)),
        Column("unit", pl.String(), "text", "What an instant is: klines, settlements, snapshots or days."),
        Column(
            "state",
            pl.String(),
            "text",
            "present; outage: the source's file is there, the instant is not; source_missing: no file; not_listed; not_yet; not_ingested: nothing published, never asked for or refused.",
        ),
        Column(
            "origin", pl.String(), "text", "File or request that covers the stretch; null if none does.", nullable=True
        ),
        Column("sha256", pl.String(), "hex", "Its digest; null if none does.", nullable=True),
    ),
    "The ledger of every expected instant of a month: stretches of one state and one origin, per dataset.",
    (Rule("forward", pl.col("until_at") > pl.col("first_at")),),
)
TABLES = (BARS_UM, BARS_SPOT, SETTLEMENTS_UM, POSITIONING_UM, COVERAGE)
