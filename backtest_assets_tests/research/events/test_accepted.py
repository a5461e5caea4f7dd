import polars as pl
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType, Variant
from backtest_assets.research.events.accepted import register_events
from backtest_assets.tables.events import EVENT_REGISTRY
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(7)


def test_the_events_are_the_accepted_candidates_of_every_variant_and_family_and_tell_no_fate():
    told = MARKET.candidates.filter(pl.col("status") == "accepted")
    assert {"accepted", "cooldown", "outside_window"} <= set(MARKET.candidates["status"])
    assert_frame_equal(told.drop("status"), MARKET.events, check_column_order=False)
    assert (set(Variant), set(EventType)) == (set(MARKET.events["variant"]), set(MARKET.events["event_type"]))
    assert EVENT_REGISTRY.schema == MARKET.events.schema


def test_the_order_of_candidates_does_not_matter_and_none_give_no_events():
    shuffled = MARKET.candidates.sample(fraction=1.0, shuffle=True, seed=4)
    assert_frame_equal(MARKET.events, register_events(shuffled))
    assert_frame_equal(EVENT_REGISTRY.empty(), register_events(MARKET.candidates.clear()))
