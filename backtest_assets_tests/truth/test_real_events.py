"""The event stage on four real years: what happened is found, the counts are the known ones, nothing knows the future."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from backtest_assets.domain.event import EventType
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Evidence
from backtest_assets.gates.registry import GATES
from backtest_assets.gates.triggers import untrue_triggers
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.gates.evidence import verdict
from backtest_assets_tests.golden.event_counts import GOLDEN, event_counts
from backtest_assets_tests.real_market import REAL_SYMBOLS, RealMarket, real_market

FTX = datetime(2022, 11, 8, tzinfo=UTC), datetime(2022, 11, 11, tzinfo=UTC)
YEN = datetime(2024, 8, 5, tzinfo=UTC), datetime(2024, 8, 7, tzinfo=UTC)
OF_VOLATILITY = (
    EventType.VOL_SHOCK_RELAXATION,
    EventType.VOL_AFTERSHOCK_WINDOW,
    EventType.LIQUIDITY_REFILL_LAG_WINDOW,
    EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW,
)
OF_FUNDING = (
    EventType.FUNDING_EXTREME_ONSET,
    EventType.FUNDING_ACCELERATION,
    EventType.FUNDING_PERSISTENCE_WINDOW,
)
REMEMBERED = [
    *((family, "BTCUSDT", day) for family in OF_VOLATILITY for day in (FTX, YEN)),
    *((family, symbol, FTX) for family in OF_FUNDING for symbol in REAL_SYMBOLS),
    (EventType.FUNDING_EXTREME_REVERSAL_WINDOW, "ETHUSDT", FTX),
    (EventType.FUNDING_EXTREME_ONSET, "ETHUSDT", YEN),  # funding of bitcoin was not extreme then
    (EventType.FUNDING_ACCELERATION, "ETHUSDT", YEN),
    (EventType.FUNDING_NORMALIZATION, "ETHUSDT", YEN),
]
UNKNOWN = {
    "taker_imbalance", "taker_imbalance_96", "open_interest_quote", "open_interest_log_change_4",
    "open_interest_log_change_96", "liquidated_long_quote", "liquidated_short_quote", "liquidated_long_quote_96",
    "liquidated_short_quote_96",
}  # fmt: skip
"""What the sources of the real data lack."""


@pytest.fixture(scope="module")
def market() -> RealMarket:
    return real_market()


@pytest.mark.parametrize(("family", "symbol", "days"), REMEMBERED)
def test_the_shocks_and_crowds_everybody_remembers_are_found(market, family, symbol, days):
    remembered = market.candidates.filter(
        (pl.col("event_type") == family.value)
        & (pl.col("symbol") == symbol)
        & (pl.col("variant") == "centre")
        & (pl.col("status") == "accepted")
        & pl.col("known_at").is_between(*days, closed="left")
    )
    assert remembered.height >= 1


def test_four_years_hold_these_events_by_family_symbol_and_year(market):
    assert json.loads(GOLDEN.read_text()) == event_counts(market.candidates)


def test_every_family_fires_in_every_symbol_and_none_more_than_every_second_day():
    counts = json.loads(GOLDEN.read_text())
    assert [family.value for family in EventType] == list(counts)
    for family, symbols in counts.items():
        for symbol, years in symbols.items():
            accepted = [accepted for _, accepted in years.values()]
            assert sum(accepted) >= 5, (family, symbol)
            assert max(accepted) <= 183, (family, symbol)
            assert all(accepted <= n for n, accepted in years.values())


def evidence(market: RealMarket, table: str) -> Evidence:
    frames = {"features": market.features, "market_context": market.context, "event_candidates": market.candidates}
    inputs = {
        "bars_um": market.bars, "bars_spot": market.spot_bars, "settlements_um": market.funding,
        "positioning_um": market.positioning, "universe": market.universe, "features": market.features,
    }  # fmt: skip
    run = market.run
    return Evidence(table_named(table), Partition.of_run("real"), frames[table], run.window[1], run, inputs)


@pytest.mark.parametrize("table", ["features", "market_context", "event_candidates"])
def test_no_column_and_no_family_knows_the_future(market, table):
    told = verdict(GATES[table], evidence(market, table), "prefix_invariant")
    lines = {str(line.get("column", line.get("family"))): line for line in told.compared}
    assert told.passed
    assert {8} == {line["cuts"] for line in lines.values()}
    assert {(0, 0)} == {(line["differ_if_removed"], line["differ_if_replaced"]) for line in lines.values()}
    unknown = UNKNOWN & set(table_named(table).schema)
    assert unknown == {name for name, line in lines.items() if line["rows"] == 0}


def test_every_trigger_is_true(market):
    assert 0 == untrue_triggers(evidence(market, "event_candidates")).height
