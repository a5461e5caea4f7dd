"""Raw rows by hand, for tests of the bars room; no test in here."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import month_end, month_start
from backtest_assets.tables.raw import RAW_UM_FUNDING, RAW_UM_LIQUIDATIONS, RAW_UM_OHLCV, RAW_UM_OPEN_INTEREST

SYMBOL = "SYNAUSDT"
MONTH = "2024-02"  # 29 days
START = datetime(2024, 2, 1, tzinfo=UTC)
END = datetime(2024, 3, 1, tzinfo=UTC)
LATER = datetime(2024, 6, 1, tzinfo=UTC)
REAL = Path(__file__).parents[4] / "shared/data"
needs_real_data = pytest.mark.skipif(
    not REAL.exists(), reason="the real market data (../shared/data) are not beside this clone"
)


def at(hours: float) -> datetime:
    """An instant of the month, by hours from its start."""
    return START + timedelta(hours=hours)


def klines(minutes: int = 15, month: str = MONTH, *, without: Collection[int] = (), seed: int = 1) -> pl.DataFrame:
    """A month of raw klines on a random walk; klines numbered in `without` are missing."""
    start, length = month_start(month), timedelta(minutes=minutes)
    n = (month_end(month) - start) // length
    rng = np.random.default_rng(seed)
    close = 100 + np.cumsum(rng.integers(-3, 4, n)) / 64
    opens = np.concatenate([[100.0], close[:-1]])
    frame = pl.DataFrame(
        {
            "open": opens,
            "high": np.maximum(opens, close) + rng.integers(0, 5, n) / 64,
            "low": np.minimum(opens, close) - rng.integers(0, 5, n) / 64,
            "close": close,
            "volume_base": rng.integers(1, 99, n).astype(float),
            "volume_quote": rng.integers(1, 99, n).astype(float),
            "n_trades": rng.integers(1, 99, n),
            "taker_buy_base": rng.integers(1, 99, n).astype(float),
            "taker_buy_quote": rng.integers(1, 99, n).astype(float),
        }
    ).with_columns(
        symbol=pl.lit(SYMBOL),
        open_at=pl.lit(start) + length * pl.int_range(n),
        interval_min=pl.lit(minutes),
        close_at=pl.lit(None),
        unused=pl.lit(None),
        source=pl.lit("rows"),
    )
    return RAW_UM_OHLCV.conform(frame.filter(~pl.int_range(n).is_in(list(without))))


def settlements(*hours_and_intervals: tuple[float, float], jitter_ms: float = 3) -> pl.DataFrame:
    """Raw settlements at hours of the month, with the hours that each covers; rates count up in basis points."""
    rows = [
        {
            "symbol": SYMBOL,
            "settled_at": at(hour),
            "received_at": at(hour) + timedelta(milliseconds=jitter_ms),
            "funding_rate": (number + 1) * 1e-4,
            "funding_interval_h": interval,
            "source": "rows",
        }
        for number, (hour, interval) in enumerate(hours_and_intervals)
    ]
    return RAW_UM_FUNDING.conform(pl.DataFrame(rows, schema=RAW_UM_FUNDING.schema))


def snapshots(minutes: Sequence[float]) -> pl.DataFrame:
    """Open interest counted at minutes of the month; the value is the minute."""
    nothing = dict.fromkeys(
        ("top_trader_account_ratio", "top_trader_position_ratio", "account_ratio", "taker_volume_ratio")
    )
    rows = [
        {
            "symbol": SYMBOL,
            "snapshot_at": at(minute / 60),
            "open_interest_base": float(minute),
            "open_interest_quote": 10.0 * minute,
            "source": "rows",
            **nothing,
        }
        for minute in minutes
    ]
    return RAW_UM_OPEN_INTEREST.conform(pl.DataFrame(rows, schema=RAW_UM_OPEN_INTEREST.schema))


def orders(*minute_side_value: tuple[float, str, float]) -> pl.DataFrame:
    """Liquidation orders at minutes of the month."""
    rows = [
        {
            "symbol": SYMBOL,
            "liquidated_at": at(minute / 60),
            "ordinal": number,
            "contract": "SYNAUSD_PERP",
            "order_side": side,
            "average_price": 100.0,
            "filled_contracts": value / 10,
            "contract_size_quote": 10.0,
            "notional_quote": value,
            "source": "rows",
        }
        for number, (minute, side, value) in enumerate(minute_side_value)
    ]
    return RAW_UM_LIQUIDATIONS.conform(pl.DataFrame(rows, schema=RAW_UM_LIQUIDATIONS.schema))
