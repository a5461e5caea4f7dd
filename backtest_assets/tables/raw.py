"""Raw tables: what a source gave for one symbol and month, untouched but for types; cleaning stays out."""

import polars as pl

from backtest_assets.stages import Stage
from backtest_assets.tables.contract import INSTANT, Column, Table

_KLINE_COLUMNS = (
    Column("symbol", pl.String(), "text", "Instrument."),
    Column("open_at", INSTANT, "UTC", "Open time of the kline."),
    Column("interval_min", pl.Int64(), "min", "Length of the kline: 1, 5 or 15.", sample=(15, 15)),
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
    Column(
        "close_at",
        INSTANT,
        "UTC",
        "Last instant of the kline as the source gave it; null where the source lacks it.",
        nullable=True,
    ),
    Column("unused", pl.Float64(), "1", "The archive's twelfth field, `ignore`, as received.", nullable=True),
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
RAW_UM_OPEN_INTEREST = Table(
    "raw_um_open_interest",
    Stage.RAW,
    "market",
    ("symbol", "snapshot_at"),
    (
        Column("symbol", pl.String(), "text", "Instrument."),
        Column("snapshot_at", INSTANT, "UTC", "When the exchange counted; every 5 minutes."),
        Column("open_interest_base", pl.Float64(), "base", "Open contracts in base units.", sample=(100, 200)),
        Column("open_interest_quote", pl.Float64(), "quote", "Their value.", sample=(9_000, 20_000)),
        Column("top_trader_account_ratio", pl.Float64(), "1", "Accounts long / short, top traders.", nullable=True),
        Column("top_trader_position_ratio", pl.Float64(), "1", "Positions long / short, top traders.", nullable=True),
        Column("account_ratio", pl.Float64(), "1", "Accounts long / short, all traders.", nullable=True),
        Column("taker_volume_ratio", pl.Float64(), "1", "Taker buy / sell volume.", nullable=True),
        Column("source", pl.String(), "text", "Kind of source the row came from."),
    ),
    "Open interest snapshots of USD-M perpetuals.",
)
RAW_UM_LIQUIDATIONS = Table(
    "raw_um_liquidations",
    Stage.RAW,
    "market",
    ("symbol", "liquidated_at", "ordinal"),
    (
        Column("symbol", pl.String(), "text", "USD-M instrument that the liquidations are read beside."),
        Column("liquidated_at", INSTANT, "UTC", "When the order was filled."),
        Column(
            "ordinal",
            pl.Int64(),
            "1",
            "Position among the orders of one instant: equal orders are real and all kept.",
            sample=(0, 3),
        ),
        Column("contract", pl.String(), "text", "COIN-M contract, for example BTCUSD_PERP."),
        Column("order_side", pl.String(), "text", "BUY closes a short, SELL closes a long."),
        Column("average_price", pl.Float64(), "quote per base", "Average fill price.", sample=(90, 100)),
        Column("filled_contracts", pl.Float64(), "contracts", "Accumulated filled quantity.", sample=(1, 10)),
        Column(
            "contract_size_quote", pl.Float64(), "quote per contract", "Face value of a contract.", sample=(10, 100)
        ),
        Column("notional_quote", pl.Float64(), "quote", "filled_contracts x contract_size_quote.", sample=(10, 1000)),
        Column("source", pl.String(), "text", "Kind of source the row came from."),
    ),
    "Liquidation orders of the COIN-M perpetual of the same coin; the archive has none for USD-M.",
)
TABLES = (RAW_UM_OHLCV, RAW_UM_FUNDING, RAW_SPOT_OHLCV, RAW_UM_OPEN_INTEREST, RAW_UM_LIQUIDATIONS)
