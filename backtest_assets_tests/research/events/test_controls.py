from datetime import timedelta

import polars as pl
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.research.events.controls import CALIPER, CALIPER_FURTHER, match_controls
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(7)
CENTRE = MARKET.events.filter(pl.col("variant") == "centre")
CONTROLS = MARKET.controls


def test_a_control_lies_before_its_event_at_the_same_hour_and_within_nine_months():
    age = pl.col("event_known_at") - pl.col("known_at")
    rules = CONTROLS.select(
        past=age > timedelta(0),
        young=age <= timedelta(days=270),
        hour=pl.col("known_at").dt.hour() == pl.col("event_known_at").dt.hour(),
        kind_of_day=(pl.col("known_at").dt.weekday() > 5) == (pl.col("event_known_at").dt.weekday() > 5),
        near=(pl.col("event_rv_pct") - pl.col("control_rv_pct")).abs() <= CALIPER,
        further_nearer=(pl.col("control_no") == 1)
        | ((pl.col("event_rv_pct") - pl.col("control_rv_pct")).abs() <= CALIPER_FURTHER),
    )
    assert CONTROLS.height > 50
    assert 6 * (True,) == rules.select(pl.all().all()).row(0)


def test_no_control_lies_in_the_window_of_an_event_known_when_it_was_matched():
    others = CENTRE.select("symbol", "onset_at", "exit_at", family="event_type", other="known_at")
    at = pl.col("known_at")
    pairs = CONTROLS.join(others, on="symbol").filter(pl.col("other") <= pl.col("event_known_at"))
    lasting = pairs.filter(at >= pl.col("onset_at"), (at <= pl.col("exit_at") + 16 * BAR) | pl.col("exit_at").is_null())
    own = pairs.filter(
        pl.col("family") == pl.col("event_type"),
        at > pl.col("onset_at") - 96 * BAR,
        at <= pl.col("other") + 192 * BAR,
    )
    assert (0, 0) == (lasting.height, own.height)


def test_an_instant_serves_at_most_three_events_and_an_event_has_controls_of_distinct_days():
    assert CONTROLS.group_by("symbol", "known_at").len().select(pl.col("len").max()).item() <= 3
    days = CONTROLS.group_by("event_id").agg(pl.len(), days=pl.col("known_at").dt.date().n_unique())
    assert days.select(pl.col("len").max()).item() <= 3
    assert days["len"].to_list() == days["days"].to_list()


def test_ranks_are_those_of_the_features_as_far_before_the_instant():
    rank = MARKET.features.select("symbol", at="known_at", rank="rv_pct_2880")
    # onset_at is when the onset bar opens, which is when the bar before it is known
    events = CONTROLS.join(CENTRE.select("event_id", "onset_at"), on="event_id").with_columns(
        same_distance=pl.col("known_at") - (pl.col("event_known_at") - pl.col("onset_at"))
    )
    shown = events.join(rank, left_on=["symbol", "onset_at"], right_on=["symbol", "at"]).join(
        rank, left_on=["symbol", "same_distance"], right_on=["symbol", "at"], suffix="_control"
    )
    assert CONTROLS.height == shown.height
    assert shown["event_rv_pct"].to_list() == shown["rank"].to_list()
    assert shown["control_rv_pct"].to_list() == shown["rank_control"].to_list()


def test_the_first_control_is_the_best_that_was_free():
    event = CENTRE.sort("known_at", "event_type", "event_id").filter(pl.col("symbol") == "SYNAUSDT").row(0, named=True)
    alone = match_controls(MARKET.bars, MARKET.features, pl.DataFrame([event], schema=CENTRE.schema), run=MARKET.run)
    lag = event["known_at"] - event["onset_at"]
    rank = pl.col("rv_pct_2880")
    features = MARKET.features.filter(pl.col("symbol") == "SYNAUSDT").sort("open_at")
    own = features.filter(pl.col("known_at") == event["onset_at"])["rv_pct_2880"][0]
    candidates = features.with_columns(before=rank.shift(lag // BAR)).filter(
        ~pl.col("is_gap")
        & (pl.col("known_at") < event["known_at"] - 96 * BAR)
        & (pl.col("known_at") >= MARKET.run.window[0])
        & (pl.col("known_at").dt.hour() == event["known_at"].hour)
        & ((pl.col("known_at").dt.weekday() > 5) == (event["known_at"].isoweekday() > 5))
        & ((pl.col("before") - own).abs() <= CALIPER)
    )
    assert (alone.height == 0) == (candidates.height == 0)
    if alone.height:
        best = candidates.select(((pl.col("before") - own).abs()).min()).item()
        assert best <= abs(alone["control_rv_pct"][0] - own) <= best + 0.02 + 1e-12


def test_the_order_of_events_does_not_matter_and_nobody_else_has_controls():
    shuffled = MARKET.events.sample(fraction=1.0, shuffle=True, seed=3)
    assert_frame_equal(CONTROLS, match_controls(MARKET.bars, MARKET.features, shuffled, run=MARKET.run))
    assert set(CONTROLS["event_id"]) <= set(CENTRE["event_id"])


def test_an_event_at_the_start_of_the_history_has_no_control():
    first_day = MARKET.run.window[0] + timedelta(days=1)
    early = CONTROLS.filter(pl.col("event_known_at") < first_day)
    assert 0 == early.height


def test_without_centre_events_there_are_no_controls():
    none = MARKET.events.filter(pl.col("variant") != "centre")
    assert 0 == match_controls(MARKET.bars, MARKET.features, none, run=MARKET.run).height
