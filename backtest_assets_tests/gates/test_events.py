from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.gates.events import FEW_EVENTS, GATES_EVENT_CANDIDATES, GATES_EVENT_CONTROLS
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, with_inputs

EVENTS = honest("event_candidates", market().events)
CONTROLS = honest("event_controls", market().controls)
ACCEPTED = (pl.col("status") == "accepted") & (pl.col("variant") == "centre")


def events(**columns: pl.Expr):
    return replace(EVENTS, frame=EVENTS.frame.with_columns(**columns))


def controls(**columns: pl.Expr):
    return replace(CONTROLS, frame=CONTROLS.frame.with_columns(**columns))


def test_every_gate_is_green_on_honest_events_but_for_the_remarks_that_a_young_market_deserves():
    assert {"few_events"} == red(GATES_EVENT_CANDIDATES, EVENTS)
    assert {"without_control"} == red(GATES_EVENT_CONTROLS, CONTROLS)


@pytest.mark.parametrize("gate", GATES_EVENT_CANDIDATES, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_of_events_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(EVENTS)[case]).verdict.passed


@pytest.mark.parametrize("gate", GATES_EVENT_CONTROLS, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_of_controls_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(CONTROLS)[case]).verdict.passed


def test_no_controls_are_legal_only_where_no_event_was_accepted():
    none = with_inputs(
        replace(CONTROLS, frame=CONTROLS.frame.clear()),
        event_candidates=EVENTS.frame.with_columns(status=pl.lit("cooldown")),
    )
    assert set() == red(GATES_EVENT_CONTROLS, none)


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"known_at": pl.col("known_at") + timedelta(days=200)}, "known_in_data"),
        ({"exit_at": pl.col("known_at") - BAR}, "known_in_data"),
        ({"event_id": pl.lit("0123456789abcdef")}, "ids_reproducible"),
        ({"symbol": pl.lit("SYNAUSDT")}, "ids_reproducible"),
        ({"threshold": -pl.col("threshold")}, "values_sane"),
        ({"severity": pl.lit(float("nan"))}, "values_sane"),
        ({"status": pl.lit("fine")}, "values_sane"),
        ({"quality": pl.lit(0.1)}, "values_sane"),
        ({"severity": pl.col("severity") * 1.01}, "triggers_true"),
        ({"side": -pl.col("side")}, "triggers_true"),
        ({"onset_at": pl.col("onset_at") - BAR}, "shocks_recounted"),
        ({"status": pl.lit("accepted")}, "spaced"),
        ({"threshold": pl.col("threshold") * 1.01}, "prefix_invariant"),
    ],
)
def test_each_falsehood_about_events_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_EVENT_CANDIDATES, events(**columns))


def test_a_candidate_that_was_left_out_is_missed():
    half = EVENTS.frame.filter(pl.col("event_type") == "vol_shock_relaxation").head(1)
    lost = replace(EVENTS, frame=EVENTS.frame.join(half, on="event_id", how="anti"))
    assert {"shocks_recounted"} <= red(GATES_EVENT_CANDIDATES, lost)


def test_few_events_are_a_remark_that_names_the_family_and_its_count():
    verdict = answer(GATES_EVENT_CANDIDATES[-1], EVENTS)
    assert (2, False) == (verdict.verdict.observed, verdict.blocks)
    counts = EVENTS.frame.filter(ACCEPTED).group_by("event_type").len()
    shocks = counts.filter(pl.col("event_type") == "vol_shock_relaxation")["len"][0]
    assert shocks < FEW_EVENTS
    assert f"vol_shock_relaxation has {shocks}" in verdict.verdict.detail


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"known_at": pl.col("known_at") - timedelta(days=181)}, "of_the_past"),
        ({"known_at": pl.col("event_known_at")}, "of_the_past"),
        ({"known_at": pl.col("known_at") + timedelta(hours=1)}, "of_the_past"),
        ({"event_id": pl.lit("0123456789abcdef")}, "of_the_past"),
        ({"known_at": pl.col("event_known_at") - 4 * BAR}, "outside_events"),
        ({"known_at": pl.col("known_at").first().over("symbol")}, "not_overused"),
        ({"control_rv_pct": pl.col("event_rv_pct") + 0.2}, "balanced"),
        ({"control_rv_pct": pl.lit(float("nan"))}, "balanced"),
    ],
)
def test_each_falsehood_about_controls_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_EVENT_CONTROLS, controls(**columns))


def test_events_without_control_are_a_remark_with_their_share():
    accepted = EVENTS.frame.filter(ACCEPTED)
    alone = accepted.height - CONTROLS.frame["event_id"].n_unique()
    found = answer(GATES_EVENT_CONTROLS[-1], CONTROLS)
    assert (alone / accepted.height, False) == (found.verdict.observed, found.blocks)
    served = with_inputs(CONTROLS, event_candidates=EVENTS.frame.join(CONTROLS.frame, on="event_id", how="semi"))
    assert answer(GATES_EVENT_CONTROLS[-1], served).verdict.passed
