"""What every family is asked: the same past whatever follows, the fate a slow reader gives, no drift where there is none."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.definition import Definition
from backtest_assets.research.events.view import MarketView
from backtest_assets.research.features.build import build_features
from backtest_assets.sources.synthetic.market import generate_market
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM, POSITIONING_UM
from backtest_assets.tables.contract import Table
from backtest_assets_tests import scenario

Detect = Callable[..., pl.DataFrame]
PRICES = ("open", "high", "low", "close")


def bars_of(close: np.ndarray, *, gaps: tuple[int, ...] = (), imbalance: np.ndarray | None = None) -> pl.DataFrame:
    """Bars of one symbol from closes: each opens at the close before; takers are unknown unless given."""
    opens = np.concatenate([close[:1], close[:-1]])
    bought = pl.lit(None, dtype=pl.Float64) if imbalance is None else pl.Series(5.0 * (1.0 + imbalance))
    made = scenario.bars(close.size).with_columns(
        pl.Series("open", opens), pl.Series("close", close),
        pl.Series("high", np.maximum(opens, close)), pl.Series("low", np.minimum(opens, close)),
        taker_buy_base=bought, is_gap=pl.int_range(pl.len()).is_in(gaps),
    )  # fmt: skip
    return BARS_UM.conform(made.with_columns(pl.when(~pl.col("is_gap")).then(pl.col(scenario.VALUES))))


def spot_of(bars: pl.DataFrame, basis: np.ndarray) -> pl.DataFrame:
    """Spot below um by a basis [fraction]."""
    return bars.with_columns(pl.col(PRICES) / pl.Series(1.0 + basis))


def view_of(bars: pl.DataFrame, spot: pl.DataFrame | None = None, rates: np.ndarray | None = None) -> MarketView:
    given = [1e-4] * (bars.height // 32) if rates is None else list(rates)
    funding = scenario.settlements(given)
    return MarketView(
        bars,
        build_features(bars, BARS_SPOT.empty() if spot is None else spot, funding, POSITIONING_UM.empty()),
        funding,
    )


@cache
def calm(n_settlements: int) -> pl.DataFrame:
    """Bars for as many settlements of 8 hours: nothing but the daily wave."""
    return scenario.bars(n_settlements * 32)


def view_of_rates(rates: np.ndarray) -> MarketView:
    return view_of(calm(len(rates)), rates=rates)


def crowded_rates(seed: int, n: int = 400) -> np.ndarray:
    """Calm funding: around one basis point, now and then exactly at it."""
    rng = np.random.default_rng(seed)
    rates = 1e-4 + 1e-5 * rng.standard_normal(n)
    rates[rng.random(n) < 0.3] = 1e-4
    return rates


def settled_number(instant: datetime) -> int:
    """The number of the settlement at whose instant a bar closes."""
    return (instant - scenario.MONDAY) // timedelta(hours=8)


def fates(candidates: list[tuple[int, int, float]]) -> list[str]:
    """(known row, free row, quality) -> status."""
    free, found = -1, []
    for known, free_row, quality in candidates:
        if quality < 0.8:
            found.append("low_quality")
        elif known >= free:
            found.append("accepted")
            free = free_row
        else:
            found.append("cooldown")
    return found


def as_known_at(view: MarketView, cut: datetime) -> MarketView:
    known = pl.col("known_at") <= cut
    return MarketView(
        view.bars.filter(known), view.features.filter(known), view.funding.filter(pl.col("settled_at") <= cut)
    )


def changed_pasts(detect: Detect, params: Definition, view: MarketView, n_cuts: int = 8) -> list[datetime]:
    """The instants at which events known by then were not what they are in the end; each cut is just behind an event."""
    full = detect(view, params=params)
    assert full.height >= n_cuts
    known = full["known_at"].unique().sort()
    chosen = known.gather(np.linspace(0, known.len() - 1, n_cuts).astype(int).tolist())
    broken: list[datetime] = []
    for number, cut in enumerate(chosen):
        seen = cut - BAR if number % 2 else cut  # one bar early it must not be there yet
        ended = pl.when(pl.col("exit_at") <= seen).then("exit_at").alias("exit_at")
        mine = full.filter(pl.col("known_at") <= seen).with_columns(ended)
        try:
            assert_frame_equal(mine, detect(as_known_at(view, seen), params=params))
        except AssertionError:
            broken.append(seen)
    return broken


def recall_and_precision(planted: set[int], found: list[int]) -> tuple[float, float]:
    hits = planted & set(found)
    return len(hits) / len(planted), len(hits) / len(found)


def driftless_view(seed: int, n_days: int = 120, *, jump_skew: float = 0.0) -> MarketView:
    """An EGARCH market with jumps, bursts, takers, a basis and crowds, whose prices are martingales."""
    end = scenario.MONDAY + timedelta(days=n_days)
    invented = generate_market(seed, ("SYNAUSDT", "SYNBUSDT"), scenario.MONDAY, end, jump_skew=jump_skew).values()
    bars = _clean(BARS_UM, [one.klines for one in invented])
    funding = pl.concat(one.funding for one in invented)
    return MarketView(
        bars,
        build_features(bars, _clean(BARS_SPOT, [one.spot for one in invented]), funding, POSITIONING_UM.empty()),
        funding,
    )


def _clean(table: Table, klines: list[pl.DataFrame]) -> pl.DataFrame:
    timed = pl.concat(klines).with_columns(known_at=pl.col("open_at") + BAR, is_gap=pl.lit(value=False))
    return table.conform(timed.select(table.schema.names()))


def forward_means(view: MarketView, found: pl.DataFrame) -> dict[str, float]:
    """Mean return after events from the next open, signed by side and unsigned, over 4 and 24 hours."""
    opens = view.bars.sort("symbol", "open_at").select(
        "symbol",
        known_at="open_at",
        entry="open",
        **{f"h{n}": pl.col("open").shift(-n).over("symbol") / pl.col("open") - 1 for n in (16, 96)},
    )
    joined = found.filter(pl.col("status") == "accepted").join(opens, on=["symbol", "known_at"])
    means = {
        f"{name}_{n}": (pl.col(f"h{n}") * sign).mean()
        for n in (16, 96)
        for name, sign in (("signed", pl.col("side")), ("unsigned", 1))
    }
    return {name: value for name, value in joined.select(**means).row(0, named=True).items() if value is not None}
