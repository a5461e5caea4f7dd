"""What is enumerated beyond the plain grid: thresholds with their neighbours, a budget, entry delays."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.domain.market import Partition
from backtest_assets.gates.ask import broken
from backtest_assets.gates.checklist import GATES_RESEARCH_CHECKLIST
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.hypotheses import GATES_HYPOTHESES
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.research.hypotheses.rules import condition_places, declared_rules
from backtest_assets.research.hypotheses.study import score_hypotheses
from backtest_assets.research.hypotheses.trials import list_trials
from backtest_assets.tables.hypotheses import HYPOTHESES, RESEARCH_CHECKLIST
from backtest_assets_tests.research.hypotheses.shown import candidates_of
from backtest_assets_tests.research.hypotheses.world import Plant, make_world

SHOCK = EventType.VOL_SHOCK_RELAXATION.value
BUDGET = 5


@cache
def scored(**settings: object):
    """One family's market, its run and its hypotheses."""
    w = make_world(1, n_days=300, n_events=400, plant=Plant(bps=45), drift_bps=0.0, phase2_event_type=SHOCK, **settings)
    return w, score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=w.run)


def evidence(frame: pl.DataFrame, table=HYPOTHESES, **settings: object):
    w, hypotheses = scored(**settings)
    given = {
        "hypotheses": hypotheses, "event_outcomes": w.outcomes, "event_registry": w.events, "market_context": w.context,
        "bars_um": w.bars, "phase1_evidence": w.phase1, "edge_candidates": candidates_of(w, hypotheses),
    }  # fmt: skip
    return Evidence(
        table, Partition.of_run(w.run.run_id), frame, datetime(2026, 1, 1, tzinfo=UTC), run=w.run, inputs=given
    )


def red(frame: pl.DataFrame, **settings: object):
    gates = [gate for gate in GATES_HYPOTHESES if gate.name != "candidates_selected"]
    return {a.verdict.gate for a in ask_all(gates, evidence(frame, HYPOTHESES, **settings)) if not a.verdict.passed}


def mean_by_hand(w, condition: str, *, delay: int, hold: int, side_rule: SideRule) -> float:
    """Net train mean of the centre events under a condition, from single outcomes."""
    events = attach_conditions(w.events, w.context).filter(pl.col("variant") == "centre", Condition(condition).holds)
    ids = set(events["event_id"].to_list())
    cost = 2 * (w.run.fees_bps + w.run.slippage_bps)
    nets = [
        side_rule.side(row["side"]) * (row["gross_bps"] - row["funding_bps"]) - cost
        for row in w.outcomes.to_dicts()
        if row["event_id"] in ids
        and (row["variant"], row["control_no"], row["split"]) == ("centre", 0, "train")
        and (row["delay_bars"], row["hold_bars"]) == (delay, hold)
    ]
    return sum(nets) / len(nets)


def row_of(table: pl.DataFrame, condition: str, *, delay: int = 0, hold: int = 16, side: str = "long"):
    return table.filter(condition=condition, delay_bars=delay, hold_bars=hold, side_rule=side).row(0, named=True)


@pytest.mark.parametrize("condition", ["funding_pct_8640>=0.8", "open_interest_log_change_96<=-0.05"])
def test_r13_a_threshold_is_really_moved_and_its_neighbours_count(condition):
    w, table = scored()
    row = row_of(table, condition)
    means = json.loads(row["curvature_means_json"])
    near = [one.name for one in Condition(condition).neighbours]
    assert ["centre", "rate_minus", "rate_plus", "hold_14", "hold_18", *near] == list(means)
    for name in near:
        assert means[name] == pytest.approx(mean_by_hand(w, name, delay=0, hold=16, side_rule=SideRule.LONG), abs=1e-9)
        assert means[name] != means["centre"]
    values = list(means.values())
    assert (7, sum(value > 0 for value in values)) == (row["n_curvature_means"], row["n_positive_neighbours"])
    assert row["curvature_penalty"] == pytest.approx(max(0.0, values[0] - min(values[1:])) / abs(values[0]))


def test_r13_a_condition_without_a_number_has_the_four_neighbours_it_had():
    row = row_of(scored()[1], "session_us")
    assert ["centre", "rate_minus", "rate_plus", "hold_14", "hold_18"] == list(json.loads(row["curvature_means_json"]))
    assert 5 == row["n_curvature_means"]


def test_moved_thresholds_are_trials():
    w, table = scored()
    row = row_of(table, "funding_pct_8640>=0.8")
    told = list_trials(table, "d", run=w.run).filter(hypothesis_id=row["hypothesis_id"], kind="neighbour")["detail"]
    assert {"funding_pct_8640>=0.82", "funding_pct_8640>=0.78"} <= {detail.split(" ")[-1] for detail in told}


def test_the_budget_lists_what_it_does_not_test_with_its_counts():
    full, (w, table) = scored()[1], scored(phase2_max_conditions=BUDGET)
    assert full["hypothesis_id"].to_list() == table["hypothesis_id"].to_list()
    beyond = table.filter(status="beyond_budget")
    names = [c.name for c in Condition.declared(EventType(SHOCK), w.run.symbol_list)]
    assert set(names[BUDGET:]) == set(beyond["condition"])
    assert set(names[:BUDGET]) == set(table.filter(pl.col("status") != "beyond_budget")["condition"])
    assert {f"condition_place > {BUDGET}"} == set(beyond["fail_reasons"])
    assert (False, 0) == (beyond["is_eligible"].any(), beyond["t_train"].count())
    counts = ["n_train", "n_days_train", "n_validation", "n_days_validation", "n_run", "condition_place"]
    assert_frame_equal(full.select(counts), table.select(counts))
    assert (beyond["n_train"] > 0).all()


def test_multiplicity_counts_what_is_tested_and_no_other_number_changes():
    full, table = scored()[1], scored(phase2_max_conditions=BUDGET)[1]
    tested = table.filter("is_eligible")
    same = full.join(tested.select("hypothesis_id"), on="hypothesis_id", how="semi")
    assert 0 < tested.height < full.filter("is_eligible").height
    joint = [
        "p_rw", "p_bh", "p_by", "multiplicity_penalty_bps", "expectancy_after_multiplicity_bps", "penalty_ln_m_bps",
        "penalty_2_ln_m_bps", "shrunken_excess_mean_train_bps",
    ]  # fmt: skip
    alone = [
        name for name in HYPOTHESES.schema if name not in joint and not name.startswith(("gate_", "status", "fail"))
    ]
    assert_frame_equal(same.select(alone), tested.select(alone))
    assert (tested["p_rw"] <= same["p_rw"] + 0.02).all()
    assert tested["multiplicity_penalty_bps"].sum() < same["multiplicity_penalty_bps"].sum()


def test_a_budget_keeps_every_gate_and_the_checklist_says_what_was_left_out():
    w, table = scored(phase2_max_conditions=BUDGET)
    assert set() == red(table, phase2_max_conditions=BUDGET)
    checklist = decide(table, candidates_of(w, table), run=w.run)
    asked = evidence(checklist, RESEARCH_CHECKLIST, phase2_max_conditions=BUDGET)
    gates = [gate for gate in GATES_RESEARCH_CHECKLIST if gate.severity == "ERROR"]
    assert all(a.verdict.passed for a in ask_all(gates, asked))
    details = dict(checklist.select("gate", "detail").iter_rows())
    left_out = table.filter(status="beyond_budget").height
    assert f"{left_out} of them beyond phase2_max_conditions {BUDGET}" in details["hypotheses_enumerated"]
    assert f"condition_place > {BUDGET} {left_out}" in details["eligible_hypotheses"]


IS_ALL = pl.col("condition") == "all"
MUTATIONS = {
    "a tested one beyond the budget": {"is_eligible": pl.lit(value=True)},
    "a place that is not its own": {"condition_place": pl.when(IS_ALL).then(2).otherwise("condition_place")},
    "two conditions on one place": {"condition_place": pl.lit(1)},
    "a place left out": {
        "condition_place": pl.when(pl.col("condition_place") == BUDGET).then(99).otherwise("condition_place")
    },
    "a tested one that is left out": {"is_eligible": pl.col("is_eligible") & ~IS_ALL},
    "an unknown place": {"condition_place": pl.lit(None, pl.Int64)},
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_budget_that_is_not_obeyed_is_found(mutation):
    table = scored(phase2_max_conditions=BUDGET)[1]
    spoilt = table.with_columns(**MUTATIONS[mutation])
    assert not broken(spoilt, pl.lit(value=True)).height
    assert "budget_obeyed" in red(spoilt, phase2_max_conditions=BUDGET)


@pytest.mark.parametrize(
    "spoil",
    [
        {"status": pl.lit("insufficient_evidence")},
        {"status": pl.col("status").replace({"insufficient_evidence": "beyond_budget", "rejected": "beyond_budget"})},
    ],
)
def test_verdicts_that_mistake_a_threshold_or_the_budget_are_found(spoil):
    table = scored(phase2_max_conditions=BUDGET)[1].with_columns(**spoil)
    assert "verdicts_follow_numbers" in red(table, phase2_max_conditions=BUDGET)


def test_a_threshold_that_was_not_moved_is_found():
    table = scored()[1]
    assert set() == red(table)
    assert "verdicts_follow_numbers" in red(table.with_columns(n_curvature_means=pl.lit(5)))


def test_every_declared_condition_has_a_place_all_first():
    w, _ = scored()
    places = condition_places(w.run)
    for family in EventType:
        own = {name: place for (of, name), place in places.items() if of is family}
        assert list(range(1, len(own) + 1)) == sorted(own.values())
        assert 1 == own["all"]
        assert max(own.values()) <= w.run.phase2_max_conditions


DELAYED = {"phase2_entry_delays_bars": "0,4"}


def test_entry_delays_are_enumerated_and_leave_the_hypotheses_without_delay_alone():
    w, table = scored(**DELAYED)
    plain = declared_rules(replace(w.run, phase2_entry_delays_bars="0"))
    assert table.height == 2 * sum(rule.event_type in w.run.phase2_families for rule in plain)
    assert {rule.id("d") for rule in plain} < {rule.id("d") for rule in declared_rules(w.run)}
    assert {0, 4} == set(table["delay_bars"])
    assert set() == red(table, **DELAYED)


def test_a_delayed_hypothesis_is_measured_booked_and_shifted_from_its_own_delay():
    w, table = scored(**DELAYED)
    row, plain = row_of(table, "all", delay=4), row_of(table, "all")
    by_hand = {
        delay: mean_by_hand(w, "all", delay=delay, hold=16, side_rule=SideRule.LONG) for delay in (0, 4, 5, 8, 12)
    }
    assert row["net_mean_train_bps"] == pytest.approx(by_hand[4], abs=1e-9)
    assert row["net_mean_train_bps"] != plain["net_mean_train_bps"]
    assert row["control_net_mean_train_bps"] != plain["control_net_mean_train_bps"]
    assert row["t_train"] != plain["t_train"]
    delays = json.loads(row["delay_means_json"])
    assert ["4", "5", "8", "12", "20", "34"] == list(delays)
    assert [True] * 4 + [False] * 2 == [one["is_applicable"] for one in delays.values()]
    for delay in (4, 5, 8, 12):
        assert delays[str(delay)]["mean_bps"] == pytest.approx(by_hand[delay], abs=1e-9)
    assert row["curvature_penalty"] is not None


def test_a_row_lost_or_of_another_delay_is_found():
    table = scored(**DELAYED)[1]
    assert "all_declared_present" in red(table.filter(pl.col("delay_bars") == 0), **DELAYED)
    assert "all_declared_present" in red(table.with_columns(delay_bars=pl.lit(4, pl.Int32)), **DELAYED)
