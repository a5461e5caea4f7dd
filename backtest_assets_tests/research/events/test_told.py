from datetime import datetime
from statistics import mean, median
from typing import Any

import polars as pl
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.told import controls_by_family, events_by_family, fates_by_family
from backtest_assets_tests.properties.random_market import random_market

MARKET = random_market(7)
FATES = fates_by_family(MARKET.candidates, run=MARKET.run)
EVENTS = events_by_family(MARKET.events, run=MARKET.run)
CONTROLS = controls_by_family(MARKET.controls, MARKET.events, run=MARKET.run)
CENTRE = [row for row in MARKET.candidates.to_dicts() if row["variant"] == "centre"]


def newest_thresholds(rows: list[dict[str, Any]]) -> list[float]:
    newest: dict[str, float] = {}
    for row in rows:  # by known_at
        newest[row["symbol"]] = row["threshold"]
    return list(newest.values())


def test_every_family_has_a_row_in_the_runs_order_with_its_declared_rate():
    declared = [(family.value, FAMILIES[family].definition.rate) for family in EventType]
    for told in (FATES, EVENTS, CONTROLS):
        assert declared == told.select("event_type", "exceedance_rate").rows()


def test_every_candidate_has_one_fate_and_thresholds_are_the_newest():
    for told in FATES.iter_rows(named=True):
        own = [row for row in CENTRE if row["event_type"] == told["event_type"]]
        fates = ("accepted", "cooldown", "outside_window", "low_quality", "not_in_universe")
        assert [sum(row["status"] == fate for row in own) for fate in fates] == [told[f"n_{fate}"] for fate in fates]
        assert len(own) == told["n_candidates"] == sum(told[f"n_{fate}"] for fate in fates)
        thresholds = newest_thresholds(own)
        assert (min(thresholds), max(thresholds)) == (told["lowest_threshold"], told["highest_threshold"])
    assert FATES["n_cooldown"].sum() > 0
    assert FATES["n_outside_window"].sum() > 0


def test_measures_are_told_best_first_with_what_each_decided():
    for told, status in ((FATES, None), (EVENTS, "accepted")):
        for row in told.iter_rows(named=True):
            own = [
                one["measure"]
                for one in CENTRE
                if one["event_type"] == row["event_type"] and status in (None, one["status"])
            ]
            declared = [word.value for word in FAMILIES[EventType(row["event_type"])].definition.measures]
            assert ", ".join(f"{word} {own.count(word)}" for word in declared) == row["measures"]
            assert len(own) == sum(own.count(word) for word in declared)


def test_the_other_rates_are_counted_beside():
    for told in FATES.iter_rows(named=True):
        for rate in ("rate_minus", "rate_plus"):
            own = MARKET.candidates.filter(event_type=told["event_type"], variant=rate, status="accepted")
            assert own.height == told[f"n_accepted_{rate}"]


def test_events_are_told_by_side_span_and_spacing():
    for told in EVENTS.iter_rows(named=True):
        own = [row for row in CENTRE if row["event_type"] == told["event_type"] and row["status"] == "accepted"]
        expected = {
            "n_events": len(own),
            "n_up": sum(row["side"] == 1 for row in own),
            "n_down": sum(row["side"] == -1 for row in own),
            "n_open": sum(row["exit_at"] is None for row in own),
            "n_symbols": len({row["symbol"] for row in own}),
            "first_known_at": min(row["known_at"] for row in own),
            "last_known_at": max(row["known_at"] for row in own),
            "median_severity": pytest.approx(median(row["severity"] for row in own)),
            "is_over_after": FAMILIES[EventType(told["event_type"])].definition.spacing.until,
            "rest_bars": FAMILIES[EventType(told["event_type"])].definition.spacing.rest_bars,
        }
        assert expected == {name: told[name] for name in expected}
    assert isinstance(EVENTS["first_known_at"][0], datetime)


def test_controls_are_told_with_the_events_that_have_none():
    for told in CONTROLS.iter_rows(named=True):
        own = [row for row in CENTRE if row["event_type"] == told["event_type"] and row["status"] == "accepted"]
        served = MARKET.controls.filter(event_type=told["event_type"]).to_dicts()
        alone = {row["event_id"] for row in own} - {row["event_id"] for row in served}
        assert (len(own), len(served), len(alone)) == (told["n_events"], told["n_controls"], told["n_without_control"])
        assert len(own) == told["n_matched"] + told["n_without_control"]
        means = [mean(row[f"{kind}_rv_pct"] for row in served) for kind in ("event", "control")]
        assert pytest.approx(means) == [told["mean_event_rv_pct"], told["mean_control_rv_pct"]]


def test_a_family_without_rows_counts_none_and_what_is_not_known_stays_null():
    run = MARKET.run
    for told in (
        fates_by_family(MARKET.candidates.clear(), run=run),
        events_by_family(MARKET.events.clear(), run=run),
        controls_by_family(MARKET.controls.clear(), MARKET.events.clear(), run=run),
    ):
        row = told.filter(event_type=EventType.LIQUIDITY_VACUUM.value).row(0, named=True)
        counts = [value for name, value in row.items() if name.startswith("n_")]
        assert [0] * len(counts) == counts
        unknown = {"lowest_threshold", "highest_threshold", "first_known_at", "median_severity", "mean_event_rv_pct"}
        assert [None] * len(unknown & set(row)) == [row[name] for name in unknown & set(row)]
        assert unknown & set(row)
    assert len(EventType) == fates_by_family(MARKET.candidates.clear(), run=run).height


def test_more_matched_events_than_there_are_is_seen_as_less_than_none_without():
    foreign = controls_by_family(MARKET.controls, MARKET.events.clear(), run=MARKET.run)
    assert (foreign["n_matched"] == -foreign["n_without_control"]).all()
    assert foreign.select(pl.col("n_without_control").min()).item() < 0
