"""Clean bars: the full 15-minute UTC grid of a month, gaps explicit, nothing filled."""

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
TABLES = (BARS_UM, BARS_SPOT)
