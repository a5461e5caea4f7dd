"""What the exchange calls its columns and what the raw tables call them; reading them is parse.py's work."""

from typing import Final

import polars as pl

from backtest_assets.sources.archive.text import Layout

_FLOAT: Final = pl.Float64()
_WHOLE: Final = pl.Int64()
_TEXT: Final = pl.String()
KLINES: Final = Layout(
    columns={
        "open_time": _WHOLE,
        "open": _FLOAT,
        "high": _FLOAT,
        "low": _FLOAT,
        "close": _FLOAT,
        "volume": _FLOAT,
        "close_time": _WHOLE,
        "quote_volume": _FLOAT,
        "count": _WHOLE,
        "taker_buy_volume": _FLOAT,
        "taker_buy_quote_volume": _FLOAT,
        "ignore": _FLOAT,
    },
    names={
        "volume": "volume_base",
        "quote_volume": "volume_quote",
        "count": "n_trades",
        "taker_buy_volume": "taker_buy_base",
        "taker_buy_quote_volume": "taker_buy_quote",
        "ignore": "unused",
    },
    synonyms={
        "quote_asset_volume": "quote_volume",
        "number_of_trades": "count",
        "trades": "count",
        "taker_buy_base_asset_volume": "taker_buy_volume",
        "taker_buy_base_volume": "taker_buy_volume",
        "taker_buy_quote_asset_volume": "taker_buy_quote_volume",
    },
)
FUNDING: Final = Layout(
    columns={"calc_time": _WHOLE, "funding_interval_hours": _FLOAT, "last_funding_rate": _FLOAT},
    names={"funding_interval_hours": "funding_interval_h", "last_funding_rate": "funding_rate"},
    synonyms={},
)
METRICS: Final = Layout(
    columns={
        "create_time": _TEXT,
        "symbol": _TEXT,
        "sum_open_interest": _FLOAT,
        "sum_open_interest_value": _FLOAT,
        "count_toptrader_long_short_ratio": _FLOAT,
        "sum_toptrader_long_short_ratio": _FLOAT,
        "count_long_short_ratio": _FLOAT,
        "sum_taker_long_short_vol_ratio": _FLOAT,
    },
    names={
        "sum_open_interest": "open_interest_base",
        "sum_open_interest_value": "open_interest_quote",
        "count_toptrader_long_short_ratio": "top_trader_account_ratio",
        "sum_toptrader_long_short_ratio": "top_trader_position_ratio",
        "count_long_short_ratio": "account_ratio",
        "sum_taker_long_short_vol_ratio": "taker_volume_ratio",
    },
    synonyms={},
    may_be_empty=frozenset(
        {"top_trader_account_ratio", "top_trader_position_ratio", "account_ratio", "taker_volume_ratio"}
    ),
)
LIQUIDATIONS: Final = Layout(
    columns={
        "time": _WHOLE,
        "side": _TEXT,
        "order_type": _TEXT,
        "time_in_force": _TEXT,
        "original_quantity": _FLOAT,
        "price": _FLOAT,
        "average_price": _FLOAT,
        "order_status": _TEXT,
        "last_fill_quantity": _FLOAT,
        "accumulated_fill_quantity": _FLOAT,
    },
    names={"side": "order_side", "accumulated_fill_quantity": "filled_contracts"},
    synonyms={},
    may_have_no_rows=True,  # a day without one liquidation
)
REST_FUNDING: Final = Layout(
    columns={"symbol": _TEXT, "fundingTime": _WHOLE, "fundingRate": _FLOAT},
    names={"fundingTime": "calc_time", "fundingRate": "funding_rate"},
    synonyms={},
)
REST_OPEN_INTEREST: Final = Layout(
    columns={"symbol": _TEXT, "sumOpenInterest": _FLOAT, "sumOpenInterestValue": _FLOAT, "timestamp": _WHOLE},
    names={"sumOpenInterest": "open_interest_base", "sumOpenInterestValue": "open_interest_quote"},
    synonyms={},
)
