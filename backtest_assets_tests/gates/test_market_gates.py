"""What every gate of the market layer owes, whatever it asks: one good month of each table, spoilt in the same ways."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from backtest_assets.domain.limits import describe_limits, parse_limits
from backtest_assets.domain.market import Listing
from backtest_assets.gates.gate import ask_all
from backtest_assets.gates.listed import nothing_expected
from backtest_assets.gates.registry import GATES
from backtest_assets_tests.gates.evidence import AFTER, MARKET_TABLES, all_null, market_evidence, red
from backtest_assets_tests.scenario import MONTH

# The contract gate has its own tests; it is green on no rows, for an empty table keeps its contract.
EACH_GATE = [
    pytest.param(table, gate, id=f"{table}-{gate.name}") for table in MARKET_TABLES for gate in GATES[table][1:]
]
MAY_BE_EMPTY = [table for table in MARKET_TABLES if table != "coverage"]


def at(day, hour=0, minute=0, month=1):
    return datetime(2024, month, day, hour, minute, tzinfo=UTC)


def empty(table, *, as_of=AFTER, listing=None):
    whole = market_evidence(table)
    nothing = {name: frame.clear() for name, frame in whole.inputs.items()}
    return replace(whole, frame=whole.frame.clear(), inputs=nothing, as_of=as_of, listing=listing)


@pytest.mark.parametrize("table", MARKET_TABLES)
def test_a_good_month_passes_every_gate(table):
    assert set() == red(GATES[table], market_evidence(table))


@pytest.mark.parametrize("table", MARKET_TABLES)
def test_gate_names_are_unique_and_say_their_limit(table):
    assert len({gate.name for gate in GATES[table]}) == len(GATES[table])
    assert all("imit" in gate.about for gate in GATES[table])


@pytest.mark.parametrize(("table", "gate"), EACH_GATE)
def test_every_gate_is_red_on_an_empty_month(table, gate):
    (answer,) = ask_all([gate], empty(table))
    assert not answer.verdict.passed
    assert math.isnan(answer.verdict.observed)


@pytest.mark.parametrize(("table", "gate"), EACH_GATE)
def test_every_gate_is_red_when_all_is_null(table, gate):
    whole = market_evidence(table)
    (answer,) = ask_all([gate], replace(whole, frame=all_null(whole.frame)))
    assert not answer.verdict.passed


@pytest.mark.parametrize(("table", "gate"), EACH_GATE)
def test_every_gate_is_red_and_blocking_when_it_crashes(table, gate):
    (answer,) = ask_all([gate], replace(market_evidence(table), frame=pl.DataFrame({"x": [1.0]}), inputs={}))
    assert answer.blocks
    assert "crashed" in answer.verdict.detail


@pytest.mark.parametrize("table", MAY_BE_EMPTY)
@pytest.mark.parametrize(
    "listing", [Listing(at(1, month=2)), Listing(at(31, 23, 46)), Listing(at(1) - timedelta(days=60), at(1))]
)
def test_a_month_in_which_nothing_was_listed_is_green_and_says_so(table, listing):
    answers = ask_all(GATES[table][1:], empty(table, listing=listing))
    assert all(answer.verdict.passed for answer in answers)
    assert all("not listed in this month" in answer.verdict.detail for answer in answers)


@pytest.mark.parametrize("table", MAY_BE_EMPTY)
def test_an_empty_month_that_was_listed_is_red_and_one_that_has_not_begun_is_not(table):
    everything = {gate.name for gate in GATES[table][1:]}
    assert everything == red(GATES[table], empty(table, listing=Listing(at(15))))
    assert everything == red(GATES[table], empty(table, listing=Listing(at(1) - timedelta(days=9), at(2))))
    if table != "raw_um_liquidations":  # which come by the day
        assert everything == red(GATES[table], empty(table, as_of=at(1, 0, 15)))
    not_begun = ask_all(GATES[table][1:], empty(table, as_of=at(1) - timedelta(microseconds=1)))
    assert all(answer.verdict.passed and "nothing of this month" in answer.verdict.detail for answer in not_begun)


@pytest.mark.parametrize(
    ("as_of", "listing", "expected"),
    [
        (at(1, 3, 30), None, True),
        (at(2, 11, 59), None, True),
        (at(2, 12), None, False),
        (at(20, 3, 30), None, False),
        (at(20, 3, 30), Listing(at(19)), True),
        (at(20, 12), Listing(at(19)), False),
        (at(20, 3, 30), Listing(at(1) - timedelta(days=99)), False),
        (AFTER, Listing(at(31)), False),
        (at(1, month=2), Listing(at(31)), False),
    ],
)
def test_liquidations_may_be_empty_until_the_first_file_of_a_day_is_late(as_of, listing, expected):
    nothing = empty("raw_um_liquidations", as_of=as_of, listing=listing)
    assert expected == (red(GATES["raw_um_liquidations"], nothing) == set())
    assert expected == ("no file of a day" in nothing_expected(nothing))


def test_a_smaller_tail_age_does_not_expect_a_day_that_is_not_over():
    nothing = replace(empty("raw_um_liquidations"), limits=parse_limits("tail_age_max_h=1"))
    assert nothing_expected(replace(nothing, as_of=at(1, 23, 59)))
    assert not nothing_expected(replace(nothing, as_of=at(2)))


@pytest.mark.parametrize("table", ["bars_um", "bars_spot", "settlements_um"])
@pytest.mark.parametrize("listing", [Listing(at(1, month=2)), Listing(at(1) - timedelta(days=60), at(1))])
def test_an_empty_month_of_which_raw_traded_is_red_and_names_the_listing(table, listing):
    whole = market_evidence(table)
    answers = ask_all(GATES[table][1:], replace(whole, frame=whole.frame.clear(), listing=listing))
    assert all(answer.verdict.passed is False for answer in answers)
    raw = "raw_um_funding" if table == "settlements_um" else f"raw_{table[5:]}_ohlcv"
    for said in (
        raw,
        "traded outside of the listing",
        f"{listing.listed_at:%Y-%m-%d %H:%M}",
        "instruments.csv",
        "exchangeInfo",
    ):
        assert all(said in answer.verdict.detail for answer in answers)


@pytest.mark.parametrize(
    ("listed_at", "expected"), [(at(31, 15, 59), False), (at(31, 16), True), (at(31, 20), True), (at(31, 8), False)]
)
def test_a_listing_after_the_last_settlement_of_the_longest_interval_may_have_none(listed_at, expected):
    for table in ("raw_um_funding", "settlements_um"):
        assert expected == bool(nothing_expected(empty(table, listing=Listing(listed_at))))
    assert not nothing_expected(empty("raw_um_ohlcv", listing=Listing(listed_at)))


def test_rows_of_a_month_that_was_not_listed_are_still_judged():
    whole = market_evidence("bars_um")
    assert {"exact_grid", "identical_to_raw"} == red(GATES["bars_um"], replace(whole, listing=Listing(at(1, month=2))))


def test_every_limit_of_the_settings_is_a_limit_of_some_gate():
    asked = " ".join(gate.about for table in MARKET_TABLES for gate in GATES[table])
    # These say what counts as a spike, as out of line, as fresh: they are part of what is measured.
    inside = {"spike_frac", "spike_reverted_frac", "basis_abs_max", "open_interest_age_max_min"}
    assert inside == {name for name in describe_limits() if f"unless {name} says" not in asked}


@pytest.mark.parametrize("table", MARKET_TABLES)
def test_a_row_of_another_symbol_or_month_is_named(table):
    whole = market_evidence(table)
    strange = whole.frame.with_columns(symbol=pl.lit("BTCUSDT"))
    assert "rows_inside_partition" in red(GATES[table], replace(whole, frame=strange))
    instant = whole.table.key[2 if table == "coverage" else 1]
    moved = whole.frame.with_columns(pl.col(instant) + timedelta(days=31))
    assert "rows_inside_partition" in red(GATES[table], replace(whole, frame=moved))
    assert MONTH == whole.partition["month"]
