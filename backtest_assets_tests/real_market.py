"""Four real years of bitcoin and ether from `../shared/data`, as the research rooms get them; a test skips where it is absent."""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import polars as pl
import pytest

from backtest_assets.domain.clock import BAR, months_between
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.features.universe import build_universe
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM, POSITIONING_UM
from backtest_assets.tables.contract import Table
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests.properties.random_market import RandomMarket

REAL = Path(__file__).parents[2] / "shared" / "data" / "market"
REAL_SYMBOLS = ("BTCUSDT", "ETHUSDT")


@dataclass(frozen=True)
class RealMarket(RandomMarket):
    """The random market's rooms over real prices; no positioning."""

    @cached_property
    def positioning(self):
        return POSITIONING_UM.empty()

    @cached_property
    def universe(self):
        months = months_between(*self.run.window)
        return build_universe(self.bars, symbols=REAL_SYMBOLS, months=months, listings={}, top_n=0, lookback_days=30)


@cache
def real_market() -> RealMarket:
    """2022 to 2025 with what history lies before, kept for the tests of a process.

    Raises:
        pytest.skip.Exception: where the data are not beside this clone.
    """
    if not REAL.exists():
        pytest.skip(f"the shared real market data are not at {REAL}")
    return read_real_market()


def read_real_market() -> RealMarket:
    """2022 to 2025 with what history lies before."""
    run = ResearchRun(run_id="real", symbols="BTCUSDT,ETHUSDT", start="2022-01-01", end="2025-12-31", source="files:x")
    bars, spot = real_klines("um", BARS_UM), real_klines("spot", BARS_SPOT)
    return RealMarket(bars, spot, real_funding(), run)


def real_klines(kind: str, table: Table) -> pl.DataFrame:
    """Klines as clean bars; they are in the table's order already, and sorting would copy them all."""
    open_at = pl.col("open_time").cast(pl.Datetime("us", "UTC"))
    frames = [
        pl.read_parquet(REAL / kind / "klines" / "15m" / f"{symbol}.parquet").with_columns(
            symbol=pl.lit(symbol), open_at=open_at, known_at=open_at + BAR, volume_base="volume", volume_quote="quote_volume",
            n_trades="trades", is_gap=pl.lit(value=False),
        ).select(pl.col(name).cast(dtype) for name, dtype in table.schema.items())
        for symbol in REAL_SYMBOLS
    ]  # fmt: skip
    return pl.concat(frames)


def real_funding() -> pl.DataFrame:
    frames = [
        pl.read_parquet(REAL / "um" / "funding" / f"{symbol}.parquet").select(
            symbol=pl.lit(symbol),
            settled_at=pl.col("funding_time").cast(pl.Datetime("us", "UTC")).dt.round("1m"),
            received_at=pl.col("funding_time").cast(pl.Datetime("us", "UTC")),
            funding_rate="funding_rate",
            funding_interval_h="interval_hours",
            source=pl.lit("files"),
        )
        for symbol in REAL_SYMBOLS
    ]
    return RAW_UM_FUNDING.conform(pl.concat(frames))
