"""One named little market as values, for tests of every room: conformed frames of known numbers, made by hand.

The wave of `bars` repeats each day, so every number can be worked out on paper.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import polars as pl

from backtest_assets.domain.clock import BAR, month_end, month_start
from backtest_assets.research.bars.settlements import settle_funding
from backtest_assets.tables.bars import BARS_UM, SETTLEMENTS_UM
from backtest_assets.tables.raw import RAW_UM_FUNDING, RAW_UM_OHLCV

SYMBOL = "SYNAUSDT"
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
MONTH = "2024-01"
LATER = datetime(2030, 1, 1, tzinfo=UTC)
VALUES = (
    "open",
    "high",
    "low",
    "close",
    "volume_base",
    "volume_quote",
    "n_trades",
    "taker_buy_base",
    "taker_buy_quote",
)


def bars(
    n_bars: int = 96,
    *,
    start: datetime = MONDAY,
    symbol: str = SYMBOL,
    gaps: Collection[int] = (),
    level: float = 100.0,
):
    """Clean bars: closes rise by 1 per bar for 48 bars, then fall back; bars numbered in `gaps` are gaps."""
    step = pl.int_range(n_bars + 1, eager=True) % 96
    wave = level + pl.select(pl.min_horizontal(step, 96 - step)).to_series().cast(pl.Float64)
    opens, closes = wave.head(n_bars), wave.tail(n_bars)
    is_gap = [number in set(gaps) for number in range(n_bars)]
    frame = pl.DataFrame({"open": opens, "close": closes, "is_gap": is_gap}).with_columns(
        symbol=pl.lit(symbol),
        open_at=pl.lit(start) + BAR * pl.int_range(n_bars),
        high=pl.max_horizontal("open", "close") + 0.5,
        low=pl.min_horizontal("open", "close") - 0.5,
        volume_base=pl.lit(10.0),
        volume_quote=10 * pl.col("close"),
        n_trades=pl.lit(20),
        taker_buy_base=pl.lit(5.0),
        taker_buy_quote=5 * pl.col("close"),
    )
    known = frame.with_columns(pl.when(~pl.col("is_gap")).then(pl.col(VALUES)), known_at=pl.col("open_at") + BAR)
    return BARS_UM.conform(known)


def calm_week():
    """Seven days of clean bars from Monday, 2024-01-01; nothing happens but the wave."""
    return bars(7 * 96)


def gap_day():
    """Three days; the whole second day is a gap."""
    return bars(3 * 96, gaps=range(96, 192))


def spot_missing():
    """Clean spot bars of the calm week, a quote unit below the perpetual; the last four days are missing."""
    return bars(7 * 96, gaps=range(3 * 96, 7 * 96), level=99.0)


def settlements(rates: Collection[float], *, start: datetime = MONDAY, interval_h: float = 8.0, symbol: str = SYMBOL):
    """Raw settlements at a fixed interval, 3 ms late as the exchange stamps them."""
    n = len(rates)
    frame = pl.DataFrame({"funding_rate": list(rates)}, schema={"funding_rate": pl.Float64}).with_columns(
        symbol=pl.lit(symbol),
        settled_at=pl.lit(start) + timedelta(hours=interval_h) * pl.int_range(n),
        funding_interval_h=pl.lit(interval_h),
        source=pl.lit("scenario"),
    )
    return RAW_UM_FUNDING.conform(frame.with_columns(received_at=pl.col("settled_at") + timedelta(milliseconds=3)))


def funding_flip():
    """Funding of the calm week: longs pay 1 bp for three days, then shorts pay 5 bps."""
    return settlements([1e-4] * 9 + [-5e-4] * 12)


def raw_klines(month: str = MONTH, *, symbol: str = SYMBOL, without: Collection[int] = ()):
    """A month of raw klines on the same wave; klines numbered in `without` are missing."""
    n_bars = (month_end(month) - month_start(month)) // BAR
    clean = bars(n_bars, start=month_start(month), symbol=symbol, gaps=without)
    return RAW_UM_OHLCV.conform(
        clean.filter(~pl.col("is_gap"))
        .drop("is_gap", "known_at")
        .with_columns(source=pl.lit("scenario"), interval_min=pl.lit(15), close_at=pl.lit(None), unused=pl.lit(None))
    )


def raw_funding(month: str = MONTH, *, interval_h: float = 8.0):
    """A month of settlements that alternate between +1 bp and -1 bp."""
    hours = (month_end(month) - month_start(month)) / timedelta(hours=1)
    return settlements(
        [1e-4, -1e-4] * int(hours / interval_h / 2) + [1e-4] * int(hours / interval_h % 2),
        start=month_start(month),
        interval_h=interval_h,
    )


def settled(raw: pl.DataFrame):
    """Settlements as the clean market holds them, from raw rows of any months and symbols."""
    keyed = raw.with_columns(month=pl.col("settled_at").dt.strftime("%Y-%m"))
    return SETTLEMENTS_UM.conform(
        pl.concat(
            [
                settle_funding(rows.drop("month"), symbol=str(symbol), month=str(month), as_of=LATER)
                for (symbol, month), rows in keyed.partition_by("symbol", "month", as_dict=True).items()
            ]
            or [SETTLEMENTS_UM.empty()]
        )
    )
