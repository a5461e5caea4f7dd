from datetime import timedelta

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType
from backtest_assets.research.events.detect import detect_events
from backtest_assets.research.events.view import MarketView
from backtest_assets.tables.events import EVENT_CANDIDATES
from backtest_assets_tests.properties.random_market import ORIGIN, a_run, random_market

MARKET = random_market(7)


def test_an_event_keeps_its_id_when_the_window_moves():
    later = a_run(ORIGIN + timedelta(days=70), ORIGIN + timedelta(days=140))
    moved = detect_events(MARKET.view, run=later)
    assert_frame_equal(MARKET.candidates.drop("status"), moved.drop("status"))
    start, end = later.window
    inside = pl.col("known_at").is_between(start, end, closed="left")
    assert_frame_equal(MARKET.candidates.filter(inside), moved.filter(inside))
    assert {"outside_window"} == set(moved.filter(~inside)["status"])


def test_ids_are_unique_over_variants_families_and_symbols():
    assert MARKET.candidates.height == MARKET.candidates["event_id"].n_unique()
    assert {16} == set(MARKET.candidates["event_id"].str.len_chars())


def test_a_run_that_enumerates_one_family_detects_all():
    one = a_run(*MARKET.run.window, phase2_event_type=EventType.VOL_SHOCK_RELAXATION.value)
    assert_frame_equal(MARKET.candidates, detect_events(MARKET.view, run=one))


def test_the_order_of_rows_and_symbols_does_not_matter():
    shuffled = [f.sample(fraction=1.0, shuffle=True, seed=2) for f in (MARKET.bars, MARKET.features, MARKET.funding)]
    assert_frame_equal(MARKET.candidates, detect_events(MarketView(*shuffled), run=MARKET.run))


def test_no_bars_give_no_events():
    empty = detect_events(MarketView(MARKET.bars.clear(), MARKET.features.clear(), MARKET.funding), run=MARKET.run)
    assert_frame_equal(EVENT_CANDIDATES.empty(), empty)


def forward_returns(seed: int) -> pl.DataFrame:
    """Signed return of four hours from the next open, in bps; long for a family without a side."""
    market = random_market(seed, n_days=100)
    opens = market.bars.select(
        "symbol", known_at="open_at", entry="open", exit=pl.col("open").shift(-16).over("symbol")
    )
    side = pl.when(pl.col("side") == 0).then(1).otherwise("side")
    return (
        market.events.filter(pl.col("variant") == "centre")
        .join(opens, on=["symbol", "known_at"])
        .select("event_type", bps=side * (pl.col("exit") / pl.col("entry") - 1) * 1e4)
        .drop_nulls()
    )


def test_on_a_driftless_random_walk_no_family_foretells_the_price():
    returns = pl.concat(forward_returns(seed) for seed in range(14))
    rows = returns.group_by("event_type").agg(
        n=pl.len(), t=pl.col("bps").mean() / pl.col("bps").std() * pl.len().sqrt()
    )
    print(rows)  # noqa: T201  # seen with pytest -s
    assert set(EventType) == set(rows["event_type"])
    assert np.abs(rows["t"].to_numpy()).max() < 3.3  # p of .001 two-sided each
