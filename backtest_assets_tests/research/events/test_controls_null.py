"""Random instants of markets without any effect, passed as events: what they differ from their controls by is noise."""

from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.run import HOLD_GRID_BARS
from backtest_assets.research.events import controls as matching
from backtest_assets.research.events.controls import match_controls
from backtest_assets.stats.clustered import accrual_t
from backtest_assets.tables.events import EVENT_REGISTRY
from backtest_assets_tests.properties.random_market import SYMBOLS, RandomMarket, random_market

N_MARKETS, N_DAYS = 8, 600
N_FAMILIES, N_EVENTS = 6, 150
UNBOUNDED = 10**6


@cache
def a_market(seed: int) -> RandomMarket:
    return random_market(seed, N_DAYS, gaps=False)


def instants(market: RandomMarket, rng: np.random.Generator, *, crowded: bool) -> pl.DataFrame:
    """Events of every family and symbol; crowded: each family's own sixth of the volatility ranks, so that few days are free."""
    start, end = market.run.window
    inside = market.features.filter(pl.col("known_at").is_between(start + 100 * BAR, end - 100 * BAR))
    frames = []
    for family in range(N_FAMILIES):
        band = pl.col("rv_pct_2880").is_between(family / N_FAMILIES, (family + 1) / N_FAMILIES)
        for symbol in SYMBOLS:
            at = inside.filter(pl.col("symbol") == symbol, band | pl.lit(not crowded)).select("symbol", "known_at")
            drawn = at[np.sort(rng.choice(at.height, N_EVENTS, replace=False)).tolist()]
            frames.append(drawn.with_columns(event_type=pl.lit(f"family_{family}")))
    named = pl.concat(frames).with_columns(
        variant=pl.lit("centre"), event_id=pl.format("{}-{}", "event_type", pl.int_range(pl.len())),
        onset_at=pl.col("known_at") - 2 * BAR, exit_at=pl.col("known_at") + 4 * BAR,
        side=pl.lit(0), severity=pl.lit(1.0), threshold=pl.lit(1.0),
        definition_version=pl.lit("1"), parameter_digest=pl.lit("none"), quality=pl.lit(1.0), measure=pl.lit("range"),
    )  # fmt: skip
    return EVENT_REGISTRY.conform(named)


def moves(market: RandomMarket, at: pl.DataFrame, hold: int) -> pl.DataFrame:
    bars = market.bars.select("symbol", entry="open", known_at="open_at").sort("symbol", "known_at")
    held = bars.with_columns(move=1e4 * (pl.col("entry").shift(-hold).over("symbol") / pl.col("entry") - 1.0))
    return at.join(held, on=["symbol", "known_at"]).drop_nulls("move")


def t_of_moves(market: RandomMarket, events: pl.DataFrame) -> list[float]:
    """Day-clustered t of every family's mean difference to its controls, at every hold."""
    controls = match_controls(market.bars, market.features, events, run=market.run)
    found: list[float] = []
    for hold in HOLD_GRID_BARS:
        of_control = moves(market, controls, hold).group_by("event_id").agg(beside=pl.col("move").mean())
        sets = moves(market, events, hold).join(of_control, on="event_id")
        by_day = sets.with_columns(day=pl.col("known_at").dt.date()).group_by("event_type", "day").agg(
            apart=(pl.col("move") - pl.col("beside")).sum(), n=pl.len().cast(pl.Float64)
        ).sort("event_type", "day")  # fmt: skip
        for days in by_day.partition_by("event_type"):
            clustered = accrual_t(days["apart"].to_numpy()[np.newaxis], days["n"].to_numpy()[np.newaxis])
            found.append(float(clustered.t[0]))
    return found


def t_of_markets(*, crowded: bool) -> np.ndarray:
    return np.array(
        [
            t
            for seed in range(N_MARKETS)
            for t in t_of_moves(a_market(seed), instants(a_market(seed), np.random.default_rng(seed), crowded=crowded))
        ]
    )


@pytest.mark.parametrize("crowded", [False, True], ids=["anywhere", "crowded"])
def test_random_instants_differ_from_their_controls_by_no_more_than_the_clustered_error_says(crowded):
    t = t_of_markets(crowded=crowded)
    assert N_MARKETS * N_FAMILIES * len(HOLD_GRID_BARS) == t.size
    assert 0.85 <= np.sqrt(np.mean(t**2)) <= 1.15
    assert abs(t.mean()) <= 0.25


def test_where_sets_share_days_without_bound_the_clustered_error_is_too_small(monkeypatch):
    monkeypatch.setattr(matching, "MAX_DAY_USES", UNBOUNDED)
    monkeypatch.setattr(matching, "CALIPER_FURTHER", matching.CALIPER)
    unbounded = t_of_markets(crowded=True)
    monkeypatch.undo()
    bounded = t_of_markets(crowded=True)
    assert np.mean(bounded**2) < 0.9 * np.mean(unbounded**2)


def test_a_day_serves_at_most_three_sets_of_a_family_and_a_further_control_is_of_a_day_that_served_none_before():
    market = a_market(0)
    crowd = instants(market, np.random.default_rng(0), crowded=True)
    found = match_controls(market.bars, market.features, crowd, run=market.run)
    served: dict[tuple[object, ...], int] = {}
    in_turn = found.sort("event_known_at", "event_id", "control_no")
    for family, symbol, at, number in in_turn.select("event_type", "symbol", "known_at", "control_no").iter_rows():
        before = served.get((family, symbol, at.date()), 0)
        assert before == 0 or number == 1
        served[family, symbol, at.date()] = before + 1
    assert 3 == max(served.values())


def test_no_control_is_held_into_the_long_confirmation_of_its_own_family():
    market, rng = a_market(0), np.random.default_rng(5)
    drawn = instants(market, rng, crowded=False).filter(pl.col("event_type") == "family_0")
    slow = drawn.gather_every(6).with_columns(onset_at=pl.col("known_at") - 90 * BAR)
    found = match_controls(market.bars, market.features, slow, run=market.run)
    others = slow.select("symbol", "onset_at", other="known_at")
    pairs = found.join(others, on="symbol").filter(pl.col("other") <= pl.col("event_known_at"))
    into = pairs.filter(
        pl.col("known_at") <= pl.col("onset_at"), pl.col("known_at") + timedelta(days=1) > pl.col("onset_at")
    )
    assert found.height > 20
    assert 0 == into.height
