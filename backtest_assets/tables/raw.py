"""Raw tables: what a source gave for one symbol and month, untouched but for types; cleaning stays out."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Table

_KLINE_COLUMNS = (
    Column("symbol", pl.String(), "text", "Instrument."),
    Column("open_at", INSTANT, "UTC", "Open time of the 15-minute kline."),
    Column("open", pl.Float64(), "quote per base", "First price.", sample=(90, 100)),
    Column("high", pl.Float64(), "quote per base", "Highest price.", sample=(100, 110)),
    Column("low", pl.Float64(), "quote per base", "Lowest price.", sample=(80, 90)),
    Column("close", pl.Float64(), "quote per base", "Last price.", sample=(90, 100)),
    Column("volume_base", pl.Float64(), "base", "Traded volume.", sample=(10, 20)),
    Column(
        "volume_quote",
        pl.Float64(),
        "quote",
        "Traded value; null where the source lacks it.",
        nullable=True,
        sample=(900, 2000),
    ),
    Column("n_trades", pl.Int64(), "1", "Trades; null where the source lacks it.", nullable=True, sample=(1, 100)),
    Column(
        "taker_buy_base",
        pl.Float64(),
        "base",
        "Volume bought by takers; null where the source lacks it.",
        nullable=True,
        sample=(0, 10),
    ),
    Column(
        "taker_buy_quote",
        pl.Float64(),
        "quote",
        "Value bought by takers; null where the source lacks it.",
        nullable=True,
        sample=(0, 900),
    ),
    Column("source", pl.String(), "text", "Kind of source the row came from."),
)

RAW_UM_OHLCV = Table(
    "raw_um_ohlcv",
    Stage.RAW,
    "market",
    ("symbol", "open_at"),
    _KLINE_COLUMNS,
    "USD-M perpetual klines as the source gave them.",
)
RAW_SPOT_OHLCV = Table(
    "raw_spot_ohlcv", Stage.RAW, "market", ("symbol", "open_at"), _KLINE_COLUMNS, "Spot klines as the source gave them."
)
RAW_UM_FUNDING = Table(
    "raw_um_funding",
    Stage.RAW,
    "market",
    ("symbol", "settled_at"),
    (
        Column("symbol", pl.String(), "text", "Instrument."),
        Column(
            "settled_at", INSTANT, "UTC", "Settlement on the exact minute; the exchange's jitter of a few ms removed."
        ),
        Column("received_at", INSTANT, "UTC", "Settlement time as the source gave it."),
        Column(
            "funding_rate",
            pl.Float64(),
            "fraction per interval",
            "Rate; positive means longs pay.",
            sample=(-0.001, 0.001),
        ),
        Column("funding_interval_h", pl.Float64(), "h", "Hours that the rate covers.", sample=(8, 8)),
        Column("source", pl.String(), "text", "Kind of source the row came from."),
    ),
    "Funding settlements at their native interval.",
)
TABLES = (RAW_UM_OHLCV, RAW_UM_FUNDING, RAW_SPOT_OHLCV)
