from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType, Variant
from backtest_assets.gates.parity import GATES_EVENT_REGISTRY, _asked
from backtest_assets.research.events.accepted import register_events
from backtest_assets_tests.gates.evidence import answer, change, honest, hopeless, market, red, verdict, with_inputs

REGISTRY = honest("event_registry", market().events)
EVENTS = REGISTRY.frame
REST = {
    EventType.VOL_SHOCK_RELAXATION: 12 * BAR,
    EventType.LIQUIDITY_VACUUM: 12 * BAR,
    EventType.CROSS_VENUE_DESYNC: 96 * BAR,
}
WINDOW = {
    EventType.LIQUIDITY_REFILL_LAG_WINDOW: 48, EventType.LIQUIDITY_ABSENCE_WINDOW: 96, EventType.VOL_AFTERSHOCK_WINDOW: 96,
    EventType.DIRECTIONAL_EXHAUSTION_AFTER_FORCED_FLOW: 32, EventType.FUNDING_EXTREME_REVERSAL_WINDOW: 96,
    EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW: 96, EventType.FUNDING_EXTREME_ONSET: 96,
    EventType.FUNDING_ACCELERATION: 96, EventType.FUNDING_PERSISTENCE_WINDOW: 96, EventType.FUNDING_NORMALIZATION: 96,
}  # fmt: skip
"""Bars that the events of a family last; the market ends those of the others."""


def registered(frame: pl.DataFrame):
    return replace(REGISTRY, frame=frame)


def agreed(frame: pl.DataFrame):
    """Evidence whose candidates tell the same: only what the registry itself shows can be wrong."""
    return with_inputs(registered(frame), event_candidates=frame.with_columns(status=pl.lit("accepted")))


def told(evidence, gate: str) -> list[dict[str, Any]]:
    return [dict(row) for row in verdict(GATES_EVENT_REGISTRY, evidence, gate).examples]


def test_every_gate_is_green_on_an_honest_registry():
    assert set() == red(GATES_EVENT_REGISTRY, REGISTRY)
    assert {"ERROR"} == {gate.severity.value for gate in GATES_EVENT_REGISTRY}


@pytest.mark.parametrize("gate", GATES_EVENT_REGISTRY, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(REGISTRY)[case]).verdict.passed


def test_no_events_are_legal_only_where_no_candidate_was_accepted():
    none = market().candidates.filter(pl.col("status") != "accepted")
    assert set() == red(GATES_EVENT_REGISTRY, with_inputs(registered(EVENTS.clear()), event_candidates=none))
    one = pl.concat([none, market().candidates.filter(pl.col("status") == "accepted").head(1)])
    every = {gate.name for gate in GATES_EVENT_REGISTRY}
    assert every == red(GATES_EVENT_REGISTRY, with_inputs(registered(EVENTS.clear()), event_candidates=one))


@pytest.mark.parametrize("row", [0, EVENTS.height // 2, EVENTS.height - 1])
def test_x6_a_lost_event_is_found_and_shown(row):
    lost = EVENTS.row(row, named=True)
    evidence = registered(EVENTS.filter(pl.int_range(pl.len()) != row))
    assert {"recounted", "same_events"} == red(GATES_EVENT_REGISTRY, evidence)
    (counted,) = told(evidence, "recounted")
    assert {name: lost[name] for name in ("variant", "event_type", "symbol")} | {"year": 2024} == {
        name: counted[name] for name in ("variant", "event_type", "symbol", "year")
    }
    assert 1 == counted["n_accepted"] - counted["n_registered"]
    assert [("lost", lost["event_id"])] == [(r["what"], r["event_id"]) for r in told(evidence, "same_events")]


def test_a_candidate_that_was_not_accepted_is_found_when_it_is_registered():
    dropped = market().candidates.filter(pl.col("status") == "cooldown").head(1)
    added = registered(pl.concat([EVENTS, dropped.drop("status").select(EVENTS.columns)]))
    assert {"recounted", "same_events", "spaced"} == red(GATES_EVENT_REGISTRY, added)
    assert [("added", dropped["event_id"][0])] == [(r["what"], r["event_id"]) for r in told(added, "same_events")]


def test_an_event_that_is_registered_twice_is_found():
    assert {"recounted", "same_events", "spaced"} == red(
        GATES_EVENT_REGISTRY, registered(pl.concat([EVENTS, EVENTS.head(1)]))
    )


def another(value: Any) -> object:  # noqa: ANN401  # a value of any column
    if isinstance(value, (datetime, timedelta)):
        return value + BAR
    return value + "x" if isinstance(value, str) else float("nan") if isinstance(value, float) else 1 - int(value)


@pytest.mark.parametrize("name", EVENTS.columns)
def test_an_altered_value_is_found_in_every_column_and_shown(name):
    row = next(i for i, exit_at in enumerate(EVENTS["exit_at"]) if exit_at is not None)
    evidence = registered(change(EVENTS, row, **{name: another(EVENTS[name][row])}).cast(EVENTS.schema))
    assert "same_events" in red(GATES_EVENT_REGISTRY, evidence)
    if name not in {"variant", "event_id"}:  # they name the event: another name is one lost and one added
        (example,) = told(evidence, "same_events")
        assert ("altered", EVENTS["event_id"][row]) == (example["what"], example["event_id"])
        assert str(example["altered"]).startswith(f"{name} ")
        assert " -> " in str(example["altered"])


def test_an_exit_that_was_forgotten_is_found():
    row = next(i for i, exit_at in enumerate(EVENTS["exit_at"]) if exit_at is not None)
    (example,) = told(registered(change(EVENTS, row, exit_at=None)), "same_events")
    assert str(example["altered"]).endswith("-> null")


def test_two_events_that_swap_their_symbols_are_found_although_the_counts_agree():
    a, b = (
        next(
            i
            for i, row in enumerate(EVENTS.iter_rows(named=True))
            if (row["symbol"], row["variant"], row["event_type"]) == (symbol, "centre", "liquidity_absence_window")
        )
        for symbol in ("SYNAUSDT", "SYNBUSDT")
    )
    both = (EVENTS["event_type"][a], EVENTS["event_type"][b])
    swapped = registered(change(change(EVENTS, a, symbol="SYNBUSDT"), b, symbol="SYNAUSDT"))
    assert both[0] == both[1]
    found = red(GATES_EVENT_REGISTRY, swapped)
    assert ("same_events" in found, "recounted" in found) == (True, False)
    assert {"symbol SYNAUSDT -> SYNBUSDT", "symbol SYNBUSDT -> SYNAUSDT"} == {
        r["altered"] for r in told(swapped, "same_events")
    }


def test_an_event_that_moved_to_another_year_is_counted_there():
    moved = change(EVENTS, 0, known_at=EVENTS["known_at"][0] - timedelta(days=365))
    assert [(2023, 0, 1), (2024, 1)] == [
        (r["year"], r["n_accepted"], r["n_registered"])
        if r["year"] == 2023
        else (r["year"], r["n_accepted"] - r["n_registered"])
        for r in told(registered(moved), "recounted")
    ]


def pair(family: EventType, gap: timedelta) -> pl.DataFrame:
    """An event of a family with a known exit, and a second one that long after its exit."""
    first = EVENTS.filter(pl.col("event_type") == family.value, pl.col("exit_at").is_not_null()).head(1)
    known = first["exit_at"][0] + gap
    window = WINDOW.get(family, 1) * BAR
    second = first.with_columns(
        event_id=pl.lit("second"), known_at=pl.lit(known), exit_at=pl.lit(known + window)
    ).cast(EVENTS.schema)  # fmt: skip
    return pl.concat([first, second])


@pytest.mark.parametrize("family", list(EventType))
def test_the_cooldown_of_every_family_is_kept_to_the_bar(family):
    rest = REST.get(family, timedelta(0))
    assert set() == red(GATES_EVENT_REGISTRY, agreed(pair(family, rest)))
    early = agreed(pair(family, rest - BAR))
    assert {"spaced"} == red(GATES_EVENT_REGISTRY, early)
    (example,) = told(early, "spaced")
    assert ("second", pair(family, rest)["known_at"][1].isoformat()) == (example["event_id"], example["free_from"])


def test_other_variants_families_and_symbols_keep_no_distance():
    soon = pair(EventType.VOL_SHOCK_RELAXATION, -BAR)
    for other in (
        {"variant": Variant.RATE_PLUS.value},
        {"symbol": "OTHER"},
        {"event_type": EventType.CROSS_VENUE_DESYNC.value},
    ):
        assert set() == red(GATES_EVENT_REGISTRY, agreed(change(soon, 1, **other)))


@pytest.mark.parametrize("family", list(WINDOW))
def test_an_exit_that_is_not_the_declared_one_is_found_and_frees_nobody_earlier(family):
    first = pair(family, timedelta(0)).head(1)
    for wrong in (first["exit_at"][0] - BAR, first["exit_at"][0] + BAR):
        assert {"spaced"} == red(GATES_EVENT_REGISTRY, agreed(change(first, 0, exit_at=wrong)))
    hidden = change(pair(family, -BAR), 0, exit_at=None)  # its end is declared, it need not be told
    assert {"spaced"} == red(GATES_EVENT_REGISTRY, agreed(hidden))


@pytest.mark.parametrize("family", [family for family in EventType if family not in WINDOW])
def test_nothing_may_follow_an_event_that_the_market_has_not_ended(family):
    open_end = change(pair(family, timedelta(days=30)), 0, exit_at=None)
    assert {"spaced"} == red(GATES_EVENT_REGISTRY, agreed(open_end))
    assert set() == red(GATES_EVENT_REGISTRY, agreed(open_end.head(1)))


def test_the_engine_that_recounts_can_open_and_unlock_nothing(tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for sql in (f"FROM '{secret}'", f"COPY registry TO '{secret}'", f"ATTACH '{secret}.db'", "FROM market"):
        with pytest.raises(duckdb.Error):
            _asked(REGISTRY, sql)
    assert "a\n1\n" == secret.read_text()
    with pytest.raises(duckdb.InvalidInputException, match="locked"):
        _asked(REGISTRY, "SET enable_external_access = true")


def test_the_registry_agrees_with_candidates_however_they_are_ordered():
    shuffled = market().candidates.sample(fraction=1.0, shuffle=True, seed=9)
    assert set() == red(GATES_EVENT_REGISTRY, replace(REGISTRY, frame=register_events(shuffled)))
    assert set() == red(GATES_EVENT_REGISTRY, with_inputs(REGISTRY, event_candidates=shuffled))
