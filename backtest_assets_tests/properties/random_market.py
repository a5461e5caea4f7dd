"""A driftless random market of two symbols: bursts of volatility, compressions, gaps, spot holes, fat funding.

Volumes, takers, open interest and liquidations are there too, each with holes.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, months_between
from backtest_assets.domain.run import ResearchRun
from backtest_assets.research.context.build import build_context
from backtest_assets.research.events.accepted import register_events
from backtest_assets.research.events.controls import match_controls
from backtest_assets.research.events.detect import detect_events
from backtest_assets.research.events.eligibility import drop_ineligible
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.research.features.universe import build_universe
from backtest_assets.research.outcomes.barriers import measure_barriers
from backtest_assets.research.outcomes.measure import measure_outcomes
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM, POSITIONING_UM
from backtest_assets.tables.raw import RAW_UM_FUNDING

ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)
SYMBOLS = ("SYNAUSDT", "SYNBUSDT")
WARM_UP_DAYS = 40


@dataclass(frozen=True)
class RandomMarket:
    """Raw frames of a market and everything the research rooms make of them; what is not used is not computed."""

    bars: pl.DataFrame
    spot_bars: pl.DataFrame
    funding: pl.DataFrame
    run: ResearchRun

    @cached_property
    def positioning(self):
        return _positioning(self.bars)

    @cached_property
    def features(self):
        return build_features(self.bars, self.spot_bars, self.funding, self.positioning)

    @cached_property
    def context(self):
        return build_context(self.features)

    @property
    def view(self):
        return MarketView(self.bars, self.features, self.funding)

    @cached_property
    def candidates(self):
        return drop_ineligible(detect_events(self.view, run=self.run), self.universe)

    @cached_property
    def events(self):
        return register_events(self.candidates)

    @cached_property
    def universe(self):
        months = months_between(*self.run.window)
        return build_universe(self.bars, symbols=SYMBOLS, months=months, listings={}, top_n=0, lookback_days=30)

    @cached_property
    def controls(self):
        return match_controls(self.bars, self.features, self.events, run=self.run)

    @cached_property
    def outcomes(self):
        return measure_outcomes(self.bars, self.funding, self.events, self.controls, run=self.run)

    @cached_property
    def barriers(self):
        return measure_barriers(self.bars, self.features, self.events, self.controls, run=self.run)

    def known_by(self, cut: datetime) -> "RandomMarket":
        """The same market as it was known at an instant."""
        known = pl.col("known_at") <= cut
        return replace(
            self,
            bars=self.bars.filter(known),
            spot_bars=self.spot_bars.filter(known),
            funding=self.funding.filter(pl.col("settled_at") <= cut),
        )

    def with_future_of(self, other: "RandomMarket", cut: datetime) -> "RandomMarket":
        """This market up to an instant, another one after it."""
        past, later = self.known_by(cut), pl.col("known_at") > cut
        return replace(
            self,
            bars=BARS_UM.conform(pl.concat([past.bars, other.bars.filter(later)])),
            spot_bars=BARS_SPOT.conform(pl.concat([past.spot_bars, other.spot_bars.filter(later)])),
            funding=RAW_UM_FUNDING.conform(pl.concat([past.funding, other.funding.filter(pl.col("settled_at") > cut)])),
        )


def random_market(seed: int, n_days: int = 150, *, gaps: bool = True, origin: datetime = ORIGIN) -> RandomMarket:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(n_days * 96)
    klines = [_bars(rng, symbol, common, gaps=gaps, origin=origin) for symbol in SYMBOLS]
    spot = [_spot(rng, bars) if gaps else bars for bars in klines]
    return RandomMarket(
        BARS_UM.conform(pl.concat(klines)),
        BARS_SPOT.conform(pl.concat(spot)),
        RAW_UM_FUNDING.conform(pl.concat(_funding(rng, symbol, n_days, origin) for symbol in SYMBOLS)),
        a_run(origin + timedelta(days=min(WARM_UP_DAYS, n_days // 3)), origin + timedelta(days=n_days)),
    )


def a_run(start: datetime, end: datetime, **settings: object) -> ResearchRun:
    last = end - timedelta(days=1)
    named = {"phase2_delay_grid_bars": "0,4", **settings}
    return ResearchRun(
        run_id="random",
        symbols=",".join(SYMBOLS),
        start=f"{start:%Y-%m-%d}",
        end=f"{last:%Y-%m-%d}",
        source="synthetic:1",
        **named,
    )


def _bars(rng: np.random.Generator, symbol: str, common: np.ndarray, *, gaps: bool, origin: datetime) -> pl.DataFrame:
    n = common.size
    slow = np.repeat(np.exp(0.5 * rng.standard_normal(n // 96)), 96)  # each day has its own volatility
    burst = np.ones(n)
    for start in rng.choice(n, n // 400, replace=False):
        burst[start : start + 24] = rng.uniform(3, 8)
    logret = 0.0015 * slow * burst * (0.5 * common + np.sqrt(0.75) * rng.standard_normal(n))
    simple = np.expm1(logret) - np.expm1(0.5 * (0.0015 * slow * burst) ** 2)  # a martingale in simple returns
    close = 100.0 * np.cumprod(1.0 + simple)
    opens = np.concatenate([[100.0], close[:-1]])
    wick = np.exp(0.0005 * np.abs(rng.standard_normal((2, n))))
    is_gap = np.zeros(n, dtype=bool)
    if gaps:
        is_gap = rng.random(n) < 0.002
        hole = rng.integers(96, n - 96)
        is_gap[hole : hole + 24] = True
        is_gap[0] = False
    prices = {
        "open": opens,
        "high": np.maximum(opens, close) * wick[0],
        "low": np.minimum(opens, close) / wick[1],
        "close": close,
    }
    return pl.DataFrame({name: np.where(is_gap, np.nan, values) for name, values in prices.items()}, nan_to_null=True).with_columns(
        symbol=pl.lit(symbol),
        open_at=pl.lit(origin) + BAR * pl.int_range(n),
        known_at=pl.lit(origin) + BAR * (pl.int_range(n) + 1),
        is_gap=pl.Series(is_gap),
        **_volumes(rng.spawn(1)[0], close, is_gap),
    ).select(BARS_UM.schema.names()).cast(BARS_UM.schema)  # fmt: skip


def _volumes(rng: np.random.Generator, close: np.ndarray, is_gap: np.ndarray) -> dict[str, pl.Series]:
    """Volumes without quote on one early day, without takers now and then."""
    n = close.size
    base = np.exp(rng.standard_normal(n)) * (rng.random(n) > 0.001)  # some bars without a trade
    bought = base * rng.beta(5, 5, n)
    day = np.arange(n) // 96
    lacks_takers = rng.random(n) < 0.01
    values = {
        "volume_base": base,
        "volume_quote": np.where(day == 20, np.nan, base * close * 1.0001),
        "n_trades": np.floor(100 * base),
        "taker_buy_base": np.where(lacks_takers, np.nan, bought),
        "taker_buy_quote": np.where(lacks_takers, np.nan, bought * close),
    }
    return {k: pl.Series(k, np.where(is_gap, np.nan, v), nan_to_null=True) for k, v in values.items()}


def _positioning(bars: pl.DataFrame) -> pl.DataFrame:
    """Open interest that follows the price and is stale on every 50th bar; liquidations on big bars, unknown on one day in forty."""
    number = pl.col("open_at").dt.epoch("ms") // 900_000
    held = pl.when((number % 50 != 0) & ~pl.col("is_gap")).then(1000.0 + 10.0 * pl.col("close"))
    drop = (pl.col("open") - pl.col("close")).fill_null(0.0)
    is_known = (number // 96) % 40 != 0
    return POSITIONING_UM.conform(
        bars.select(
            "symbol",
            "open_at",
            "known_at",
            open_interest_base=held,
            open_interest_quote=held * pl.col("close"),
            open_interest_age_min=pl.when(held.is_not_null()).then(5.0),
            liquidated_long_quote=pl.when(is_known).then((drop - 0.2).clip(0.0) * 1e4),
            liquidated_short_quote=pl.when(is_known).then((-drop - 0.2).clip(0.0) * 1e4),
            n_liquidations=pl.when(is_known).then((drop.abs() > 0.2).cast(pl.Int64)),
        )
    )


def _spot(rng: np.random.Generator, bars: pl.DataFrame) -> pl.DataFrame:
    n = bars.height
    hole = rng.integers(0, n - 500)
    missing = pl.Series((np.arange(n) >= hole) & (np.arange(n) < hole + 300)) | pl.col("is_gap")
    shocks = pl.Series(6e-5 * rng.standard_normal(n))
    basis = (
        1.0 + shocks.ewm_mean(alpha=0.02, adjust=False) / 0.02
    )  # comes home over half a day, so that it comes apart too
    prices = [pl.when(~missing).then(pl.col(name) * basis).alias(name) for name in ("open", "high", "low", "close")]
    return bars.with_columns(*prices, is_gap=missing)


def _funding(rng: np.random.Generator, symbol: str, n_days: int, origin: datetime) -> pl.DataFrame:
    n = 3 * n_days
    level = np.zeros(n)
    shocks = 2e-5 * rng.standard_t(3, n)
    for i in range(1, n):
        level[i] = 0.9 * level[i - 1] + shocks[i]
    return pl.DataFrame({"funding_rate": 1e-4 + level}).with_columns(
        symbol=pl.lit(symbol),
        settled_at=pl.lit(origin) + timedelta(hours=8) * pl.int_range(n),
        received_at=pl.lit(origin) + timedelta(hours=8) * pl.int_range(n),
        funding_interval_h=pl.lit(8.0),
        source=pl.lit("random"),
    ).select(RAW_UM_FUNDING.schema.names()).cast(RAW_UM_FUNDING.schema)  # fmt: skip
