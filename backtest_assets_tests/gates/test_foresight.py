"""The gate that takes the future away: what it shows of every column and family, and which leaks it finds."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.event import EventType
from backtest_assets.domain.gate import Verdict
from backtest_assets.gates import detected
from backtest_assets.gates.context import GATES_MARKET_CONTEXT
from backtest_assets.gates.detected import changed_families
from backtest_assets.gates.events import GATES_EVENT_CANDIDATES
from backtest_assets.gates.features import GATES_FEATURES
from backtest_assets.gates.foresight import N_CUTS, Cut, Future, Tape, random_cuts
from backtest_assets.research.events.registry import FAMILIES, Family
from backtest_assets.tables.context import MARKET_CONTEXT
from backtest_assets.tables.features import FEATURES
from backtest_assets_tests.gates.evidence import honest, market, verdict

HONEST = {
    "features": (GATES_FEATURES, honest("features", market().features)),
    "market_context": (GATES_MARKET_CONTEXT, honest("market_context", market().context)),
    "event_candidates": (GATES_EVENT_CANDIDATES, honest("event_candidates", market().candidates)),
}
SHIFTABLE = {
    "features": [
        name
        for name, dtype in FEATURES.schema.items()
        if name not in {"symbol", "open_at", "known_at", "is_gap"} and dtype != pl.Boolean
    ],
    "market_context": [name for name in MARKET_CONTEXT.schema.names() if name not in {"symbol", "open_at", "known_at"}],
}


def asked(table: str, **columns: pl.Expr):
    gates, evidence = HONEST[table]
    frame = evidence.frame.with_columns(**columns)
    return verdict(gates, replace(evidence, frame=frame), "prefix_invariant")


@pytest.mark.parametrize("table", HONEST)
def test_a_green_verdict_shows_what_was_compared_line_by_line(table):
    told = asked(table)
    subject = "family" if table == "event_candidates" else "column"
    names = [line[subject] for line in told.compared]
    if table == "event_candidates":
        assert [family.value for family in EventType] == names
    else:
        columns = [name for name in HONEST[table][1].frame.columns if name not in {"symbol", "open_at"}]
        assert ["rows", *columns] == names
    assert {N_CUTS} == {line["cuts"] for line in told.compared}
    assert (True, 0) == (told.passed, told.observed)
    assert {(0, 0, "")} == {
        (line["differ_if_removed"], line["differ_if_replaced"], line["example"]) for line in told.compared
    }
    assert min(line["rows"] for line in lines_of(told).values()) >= 2


def lines_of(told: Verdict) -> dict[str, dict[str, Any]]:
    return {str(line.get("column", line.get("family"))): dict(line) for line in told.compared}


def changed(told: Verdict) -> dict[str, dict[str, Any]]:
    return {
        name: line for name, line in lines_of(told).items() if line["differ_if_removed"] + line["differ_if_replaced"]
    }


@pytest.mark.parametrize("table", SHIFTABLE)
def test_columns_that_look_ahead_are_named_and_shown(table):
    told = asked(table, **{column: pl.col(column).shift(-37).over("symbol") for column in SHIFTABLE[table]})
    found = changed(told)
    assert not told.passed
    assert set(SHIFTABLE[table]) == set(found)
    for column, line in found.items():
        assert line["differ_if_removed"] > 0
        assert line["differ_if_replaced"] > 0
        assert "rebuilt" in line["example"]
        assert str(column) in told.detail
    assert [{"column": line["column"], "example": line["example"]} for line in found.values()][:5] == list(
        told.examples
    )


def test_one_column_that_looks_a_single_bar_ahead_is_the_only_one_named():
    told = asked("features", rv_12=pl.col("rv_12").shift(-1).over("symbol"))
    assert ["rv_12"] == list(changed(told))
    assert told.observed == changed(told)["rv_12"]["differ_if_removed"] + changed(told)["rv_12"]["differ_if_replaced"]


def test_families_whose_events_are_known_a_bar_early_are_named():
    early = asked("event_candidates", known_at=pl.col("known_at") - BAR)
    assert {family.value for family in EventType} == set(changed(early))
    one = EventType.VOL_SHOCK_RELAXATION.value
    only = pl.when(pl.col("event_type") == one).then(pl.col("known_at") - BAR).otherwise("known_at")
    assert {one} == set(changed(asked("event_candidates", known_at=only)))


def ahead(view, *, params):
    """The family's events with the side of the next bar, and none where there is no next bar."""
    found = FAMILIES[EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW].detect(view, params=params)
    after = view.bars.select(
        "symbol", known_at="known_at", next=(pl.col("close").shift(-1) > pl.col("close")).over("symbol")
    )
    side = pl.when("next").then(1).when(~pl.col("next")).then(-1).otherwise(0).cast(pl.Int8)
    return found.join(after, on=["symbol", "known_at"], how="left", maintain_order="left").with_columns(
        side=side
    ).drop("next")  # fmt: skip


def test_a_family_that_reads_the_next_bar_is_found_both_ways(monkeypatch):
    breakout = EventType.RANGE_COMPRESSION_BREAKOUT_WINDOW
    leaky = Family(FAMILIES[breakout].definition, ahead)
    monkeypatch.setattr(detected, "FAMILIES", {**FAMILIES, breakout: leaky})
    evidence = HONEST["event_candidates"][1]
    of_breakout = evidence.frame.filter(pl.col("event_type") == breakout.value)
    known = [ahead(market().view, params=leaky.definition.at(v)) for v in detected.Variant]
    sides = pl.concat(
        frame.select("symbol", "onset_at", "side", variant=pl.lit(v.value))
        for v, frame in zip(detected.Variant, known, strict=True)
    )
    frame = of_breakout.drop("side").join(sides, on=["variant", "symbol", "onset_at"]).select(of_breakout.columns)
    line = changed_families(replace(evidence, frame=frame))[breakout.value]
    assert line.changed[Future.REMOVED] > 0
    assert line.changed[Future.REPLACED] > 0


def test_events_of_a_family_that_the_run_did_not_ask_for_are_found():
    told = asked("event_candidates", event_type=pl.col("event_type").replace("liquidity_vacuum", "magic"))
    assert {"liquidity_vacuum", "magic"} == set(changed(told))


def test_another_future_keeps_the_past_and_the_clock_and_changes_the_rest():
    tape = Tape.of(market().bars, "SYNAUSDT")
    cut = Cut("SYNAUSDT", tape.rows["known_at"][5000], 7)
    since = tape.rows["known_at"][4000]
    removed, replaced = (tape.seen(cut, future, since) for future in Future)
    assert (1000, 1480) == (removed.height, replaced.height)
    assert removed.equals(tape.rows.slice(4001, 1000))
    assert replaced.head(1000).equals(removed)
    real = tape.rows.slice(5001, 480)
    clock = ["symbol", "open_at", "known_at"]
    assert replaced.tail(480).select(clock).equals(real.select(clock))
    assert (replaced["close"].tail(480) == real["close"]).sum() < 24
    assert replaced.equals(tape.seen(cut, Future.REPLACED, since))


def test_cuts_are_spread_over_the_data_and_the_symbols_and_follow_from_the_settings():
    evidence = HONEST["features"][1]
    times = evidence.frame["known_at"].sort()
    one, two = (list(random_cuts(evidence, times, ["SYNAUSDT", "SYNBUSDT"])) for _ in range(2))
    assert one == two
    assert {"SYNAUSDT", "SYNBUSDT"} == {cut.symbol for cut in one}
    at = [cut.at.timestamp() for cut in one]
    first, last = (instant.timestamp() for instant in (times[0], times[-1]))
    shares = [(instant - first) / (last - first) for instant in at]
    assert shares == sorted(shares)
    assert shares[0] >= 0.3
    assert all(later - sooner < 0.2 for sooner, later in pairwise(shares))
    other = replace(evidence, run=replace(evidence.settings, naive_min_trades=114))
    assert one != list(random_cuts(other, times, ["SYNAUSDT", "SYNBUSDT"]))


def test_what_a_short_past_cannot_tell_is_asked_of_the_whole_past(monkeypatch):
    monkeypatch.setattr(detected, "_MEMORY", 0 * BAR)
    assert asked("event_candidates").passed
