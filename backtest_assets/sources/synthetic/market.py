"""The invented market itself: a pure function from a seed to klines, spot and funding; serving months stays out.

Prices are martingales in SIMPLE returns, so no rule has an edge before costs unless one is planted. Volatility follows an
EGARCH with two speeds, jumps, regimes and an intraday pattern; half of each symbol's variance is common to all symbols.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from backtest_assets.domain.clock import BAR, BARS_PER_DAY, utc
from backtest_assets.errors import SourceError
from backtest_assets.sources.synthetic.funding import draw_funding
from backtest_assets.sources.synthetic.paths import Array, Path, draw_path, steady_state
from backtest_assets.sources.synthetic.plant import Plant, Tape, planted_drift
from backtest_assets.tables.raw import RAW_SPOT_OHLCV, RAW_UM_FUNDING, RAW_UM_OHLCV

SYMBOL_PREFIX: Final = "SYN"
"""Invented data never stands under a real instrument's name."""

SOURCE_NAME: Final = "synthetic"
_BARS_PER_YEAR: Final = 365 * BARS_PER_DAY
_COMMON_SHARE: Final = 0.53  # correlation of 15-minute returns that BTC and ETH show [1]
_SD_YEARLY: Final = (0.52, 0.72)  # range of yearly volatility: BTC 2022-25 has .52, ETH .69 [fraction]
_START_PRICE: Final = (5.0, 50_000.0)  # range of first prices [quote per base]
_MAX_MOVE: Final = 0.5  # a bar moves by at most this, so that prices stay positive [fraction]
_OPEN_GAP: Final = 0.01  # sd of the jump from close to next open, in units of the bar's volatility [1]
_BASIS_SD: Final = 3e-4  # sd of the basis of um over spot [fraction]
_BASIS_MEMORY: Final = 0.96  # per bar; half-life 4 hours [1]
_DAILY_TURNOVER: Final = 2e9  # typical traded value per day [quote]
_TRADE_SIZE: Final = 1_500.0  # mean value of a trade [quote]
_PASSES: Final = 3  # planting moves prices, and so later events: after 3 passes at least 98 % of a planted path's events carry the edge


@dataclass(frozen=True, slots=True)
class SyntheticSymbol:
    """One invented symbol.

    Attributes:
        klines: rows of `raw_um_ohlcv`.
        spot: rows of `raw_spot_ohlcv`.
        funding: rows of `raw_um_funding`.
    """

    klines: pl.DataFrame
    spot: pl.DataFrame
    funding: pl.DataFrame


def generate_market(
    seed: int,
    symbols: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    annual_drift: float = 0.0,
    jump_skew: float = 0.0,
    planted: Plant | tuple[Plant, ...] | None = None,
) -> dict[str, SyntheticSymbol]:
    """Invent a market on [start, end).

    Args:
        seed: everything random follows from it; a symbol's path does not depend on which other symbols are asked for.
        symbols: names that start with SYN.
        start: first bar's open, midnight UTC.
        end: end of the window, midnight UTC, excluded.
        annual_drift: expected simple return per year, the same at every moment [fraction].
        jump_skew: excess of upward over downward jumps in [-1, 1]; compensated, so the price stays a martingale [fraction].
        planted: edges to add; none leaves a market without any.

    Returns:
        The symbols' frames, in the order asked.

    Raises:
        SourceError: if a symbol does not start with SYN or the window is empty or not whole UTC days.

    Source:
        Shape after BTCUSDT and ETHUSDT 2022-25 (design/stat_recipe.md): 16-bar sd after a shock 185-270 bps, kurtosis 44-46.
    """
    _check(symbols, start, end)
    n_bars = int((end - start) / BAR)
    market = draw_path(np.random.default_rng(seed), n_bars, jump_skew)
    plants = (planted,) if isinstance(planted, Plant) else planted or ()
    open_at = pl.datetime_range(start, end, BAR, closed="left", time_unit="us", time_zone="UTC", eager=True)
    return {
        symbol: _invent(symbol, seed, market, open_at, annual_drift=annual_drift, jump_skew=jump_skew, plants=plants)
        for symbol in symbols
    }


def _check(symbols: Sequence[str], start: datetime, end: datetime) -> None:
    real = [symbol for symbol in symbols if not symbol.startswith(SYMBOL_PREFIX)]
    if real:
        message = f"synthetic market: {real} must start with {SYMBOL_PREFIX}, for example SYNAUSDT; invented data never stands under a real name"
        raise SourceError(message)
    whole = all(t.utcoffset() == timedelta(0) and t == utc(t.date()) for t in (start, end))
    if not whole or start >= end:
        message = f"synthetic market: window [{start}, {end}) must be whole UTC days, start before end"
        raise SourceError(message)


@dataclass(frozen=True, slots=True)
class _Prices:
    open: Array
    high: Array
    low: Array
    close: Array


def _invent(
    symbol: str,
    seed: int,
    market: Path,
    open_at: pl.Series,
    *,
    annual_drift: float,
    jump_skew: float,
    plants: tuple[Plant, ...],
) -> SyntheticSymbol:
    rng = np.random.default_rng([seed, *symbol.encode()])
    n_bars = len(open_at)
    scale = rng.uniform(*_SD_YEARLY) / np.sqrt(_BARS_PER_YEAR)
    first = math.exp(rng.uniform(math.log(_START_PRICE[0]), math.log(_START_PRICE[1])))
    own = draw_path(rng, n_bars, jump_skew)
    noise = scale * (np.sqrt(_COMMON_SHARE) * market.returns + np.sqrt(1 - _COMMON_SHARE) * own.returns)
    sd = scale * np.sqrt(_COMMON_SHARE * market.sd**2 + (1 - _COMMON_SHARE) * own.sd**2)
    moves = noise + annual_drift / _BARS_PER_YEAR
    gaps = _OPEN_GAP * sd * rng.standard_normal(n_bars)
    tails = rng.exponential(size=(2, n_bars))
    funding = draw_funding(rng, open_at, symbol)
    prices = _trade(first, moves, gaps, sd, tails)
    for _ in range(_PASSES if plants else 0):
        tape = Tape(open_at, prices.high, prices.low, prices.close, funding)
        prices = _trade(first, moves + planted_drift(plants, tape), gaps, sd, tails)
    spot = _on_spot(prices, rng)
    traded = _volume(prices, moves / sd, sd / scale, rng)
    return SyntheticSymbol(
        klines=RAW_UM_OHLCV.conform(_klines(symbol, open_at, prices, traded)),
        spot=RAW_SPOT_OHLCV.conform(
            _klines(symbol, open_at, spot, _priced(spot, {k: v * 0.25 for k, v in traded.items()}))
        ),
        funding=RAW_UM_FUNDING.conform(funding),
    )


def _trade(first: float, moves: Array, gaps: Array, sd: Array, tails: Array) -> _Prices:
    # Inside a bar the log price is a Brownian bridge from open to close: its extremes have this exact law.
    moves = np.clip(moves, -_MAX_MOVE, _MAX_MOVE)
    log_open = np.log1p(gaps)
    log_move = np.log1p(moves)
    close = first * np.exp(np.cumsum(log_open + log_move))
    open_ = close / (1 + moves)
    reach = np.sqrt(log_move**2 + 2 * sd**2 * tails)
    high = open_ * np.exp((log_move + reach[0]) / 2)
    low = open_ * np.exp((log_move - reach[1]) / 2)
    return _Prices(open_, np.maximum(high, np.maximum(open_, close)), np.minimum(low, np.minimum(open_, close)), close)


def _on_spot(um: _Prices, rng: np.random.Generator) -> _Prices:
    basis = _BASIS_SD * steady_state(rng, len(um.close) + 1, _BASIS_MEMORY)
    open_, close = um.open / (1 + basis[:-1]), um.close / (1 + basis[1:])
    high, low = um.high / (1 + basis[1:]), um.low / (1 + basis[1:])
    return _Prices(open_, np.maximum(high, np.maximum(open_, close)), np.minimum(low, np.minimum(open_, close)), close)


def _volume(prices: _Prices, push: Array, heat: Array, rng: np.random.Generator) -> dict[str, Array]:
    n_bars = len(prices.close)
    value = (
        _DAILY_TURNOVER / BARS_PER_DAY * heat * (0.5 + 0.5 * np.abs(push)) * np.exp(0.35 * rng.standard_normal(n_bars))
    )
    bought = np.clip(0.5 + 0.08 * push + 0.06 * rng.standard_normal(n_bars), 0.05, 0.95)
    values = {"volume_quote": value, "n_trades": value / _TRADE_SIZE + 1, "taker_buy_quote": value * bought}
    return _priced(prices, values)


def _priced(prices: _Prices, traded: dict[str, Array]) -> dict[str, Array]:
    """Add the base volumes of traded values, at each bar's mean price."""
    price = (prices.open + prices.high + prices.low + prices.close) / 4
    base = {"volume_base": traded["volume_quote"] / price, "taker_buy_base": traded["taker_buy_quote"] / price}
    return traded | base


def _klines(symbol: str, open_at: pl.Series, prices: _Prices, traded: dict[str, Array]) -> pl.DataFrame:
    columns = {"open_at": open_at, "open": prices.open, "high": prices.high, "low": prices.low, "close": prices.close}
    return pl.DataFrame(columns | traded).with_columns(
        pl.col("n_trades").cast(pl.Int64),
        symbol=pl.lit(symbol),
        interval_min=pl.lit(15),
        close_at=pl.col("open_at") + BAR - pl.duration(milliseconds=1),
        unused=pl.lit(0.0),
        source=pl.lit(SOURCE_NAME),
    )
