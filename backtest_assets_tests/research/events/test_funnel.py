from datetime import timedelta

import polars as pl
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets.research.events.detect import detect_events
from backtest_assets.research.events.funnel import summarise_families
from backtest_assets.research.events.registry import FAMILIES
from backtest_assets.research.events.view import MarketView
from backtest_assets_tests.properties.random_market import SYMBOLS, random_market

MARKET = random_market(7)
FUNNEL = summarise_families(MARKET.candidates, MARKET.features, run=MARKET.run)
FATES = ("accepted", "cooldown", "low_quality", "outside_window", "not_in_universe")
BASIS, FUNDING = ("basis_z_96",), ("funding_rate_8h",)


def without(names: tuple[str, ...], symbol: str, where: pl.Expr) -> pl.DataFrame:
    nulls = (pl.when(~((pl.col("symbol") == symbol) & where)).then(name).alias(name) for name in names)
    return MARKET.features.with_columns(nulls)


def standing(features: pl.DataFrame) -> dict[tuple[str, str], str]:
    """(family, symbol) -> reason, of those not run, on events detected from these features."""
    candidates = detect_events(MarketView(MARKET.bars, features, MARKET.funding), run=MARKET.run)
    told = summarise_families(candidates, features, run=MARKET.run)
    out = told.filter(pl.col("status") == "NOT_RUN")
    assert 0 == out["n_accepted"].sum()
    return {(family, symbol): reason for family, symbol, reason in out.select("event_type", "symbol", "reason").rows()}


def test_every_family_and_symbol_has_a_row_and_every_family_needs_something():
    asked = [(family.value, symbol) for family in EventType for symbol in SYMBOLS]
    assert sorted(asked) == FUNNEL.select("event_type", "symbol").rows()
    assert {"RUN"} == set(FUNNEL["status"])
    assert [] == [family for family, made in FAMILIES.items() if not made.definition.needs]


def test_candidates_are_counted_by_their_fate():
    centre = MARKET.candidates.filter(pl.col("variant") == "centre")
    for row in FUNNEL.iter_rows(named=True):
        own = centre.filter(pl.col("event_type") == row["event_type"], pl.col("symbol") == row["symbol"])
        accepted = own.filter(pl.col("status") == "accepted")["known_at"]
        assert own.height == row["n_candidates"]
        assert [(own["status"] == fate).sum() for fate in FATES] == [row[f"n_{fate}"] for fate in FATES]
        assert (accepted.min(), accepted.max()) == (row["first_known_at"], row["last_known_at"])
        assert own.sort("known_at")["threshold"].last() == row["threshold"]
    assert centre.height == FUNNEL["n_candidates"].sum()


def test_a_symbol_without_spot_has_no_desync_and_says_why():
    absent = without(BASIS, "SYNBUSDT", pl.lit(value=True))
    assert {("cross_venue_desync", "SYNBUSDT"): "basis_z_96 unknown throughout the window"} == standing(absent)


@pytest.mark.parametrize(("days", "n_not_run"), [(0, 1), (1, 0)])
def test_what_is_known_before_the_window_only_does_not_count(days, n_not_run):
    start = MARKET.run.window[0] + timedelta(days=days)
    ends = without(BASIS, "SYNAUSDT", pl.col("known_at") >= start)
    assert n_not_run == len(standing(ends))


def test_no_events_at_all_are_counted_as_none():
    nobody = summarise_families(MARKET.candidates.clear(), MARKET.features, run=MARKET.run)
    assert (26, 0) == (nobody.height, nobody["n_candidates"].sum())
    assert 26 == nobody["threshold"].null_count()
