"""What operators are told of the hypothesis stage counts every row once, and hides neither the unknown nor the zero."""

from collections import Counter

import polars as pl

from backtest_assets.research.hypotheses.checklist import decide, describe_best, loss_histogram
from backtest_assets.research.hypotheses.told import (
    answers_by_trap,
    describe_candidates,
    describe_checklist,
    describe_expectancy,
    describe_hypotheses,
    describe_naive_entry,
    hypotheses_by_family,
)
from backtest_assets.tables.candidates import EDGE_CANDIDATES, EXPECTANCY, EXPECTANCY_TRAPS, NAIVE_ENTRY
from backtest_assets.tables.hypotheses import HYPOTHESES, RESEARCH_CHECKLIST
from backtest_assets_tests.research.hypotheses.shown import candidates_of
from backtest_assets_tests.research.hypotheses.world import planted_world


def test_every_hypothesis_is_counted_once_by_status_and_the_untested_by_what_they_lack():
    _, table = planted_world()
    told = describe_hypotheses(table)
    counted = Counter(table["status"])
    named = ("selected", "rejected", "insufficient_evidence", "beyond_budget")
    assert ", ".join(f"{status} {counted[status]}" for status in named) == told["by_status"]
    assert table.height == sum(counted[status] for status in named)
    assert counted["selected"] > 0 < counted["insufficient_evidence"]
    assert (loss_histogram(table), describe_best(table)) == (told["first_lost_at"], told["best"])
    lacks = Counter(row["fail_reasons"].split(",")[0] for row in table.to_dicts() if not row["is_eligible"])
    assert set(told["not_tested"].split(", ")) == {f"{reason} {n}" for reason, n in lacks.items()}


def test_families_are_counted_through_the_gates():
    _, table = planted_world()
    rows = {row["event_type"]: row for row in hypotheses_by_family(table).to_dicts()}
    assert table["event_type"].n_unique() == len(rows)
    own = [row for row in table.to_dicts() if row["event_type"] == "vol_shock_relaxation"]
    tested, told = [row for row in own if row["is_eligible"]], rows["vol_shock_relaxation"]
    assert (len(own), len(tested), "pass") == (told["n_hypotheses"], told["n_tested"], told["phase1_decision"])
    assert sum(row["gate_multiplicity"] for row in tested) == told["n_multiplicity"] > 0
    assert sum(row["status"] == "selected" for row in own) == told["n_selected"] > 0
    assert max(row["t_train"] for row in tested) == told["largest_t"]
    unknown = table.with_columns(is_eligible=pl.lit(value=False))
    assert {None} == set(hypotheses_by_family(unknown)["largest_t"])


def test_nothing_is_told_as_nothing():
    assert {
        "by_status": "selected 0, rejected 0, insufficient_evidence 0, beyond_budget 0",
        "first_lost_at": "none",
        "not_tested": "none",
        "best": "no hypothesis was asked for; the remarks on hypothesis_queue say why",
    } == describe_hypotheses(HYPOTHESES.empty())
    assert {"by_status": "PASS 0, FAIL 0, NOT_RUN 0", "failed_by_limit": "none"} == describe_naive_entry(
        NAIVE_ENTRY.empty()
    )
    assert {"by_status": "PROMOTED 0, DRAFT 0", "lost_to": "none"} == describe_candidates(EDGE_CANDIDATES.empty())
    assert {"examined": "0", "survive_multiplicity": "0", "with_evidence": "0"} == describe_expectancy(
        EXPECTANCY.empty()
    )
    assert [] == answers_by_trap(EXPECTANCY_TRAPS.empty()).rows()


def test_a_rule_that_fails_two_limits_is_counted_at_both_and_one_that_was_not_run_at_none():
    naive = NAIVE_ENTRY.sample(0, 4).with_columns(
        status=pl.Series(["PASS", "FAIL", "FAIL", "NOT_RUN"]),
        fail_reasons=pl.Series(["", "naive_min_trades,naive_max_drawdown", "naive_min_trades", "not run"]),
    )
    assert {
        "by_status": "PASS 1, FAIL 2, NOT_RUN 1",
        "failed_by_limit": "naive_min_trades 2, naive_max_drawdown 1",
    } == describe_naive_entry(naive)


def test_survivors_and_evidence_are_counted_among_the_examined():
    examined = EXPECTANCY.sample(0, 3).with_columns(
        is_survivor=pl.Series([True, True, False]), is_evidence=pl.Series([True, False, False])
    )
    assert {"examined": "3", "survive_multiplicity": "2", "with_evidence": "1"} == describe_expectancy(examined)


def test_an_unknown_answer_to_a_trap_is_red_and_counted_as_unknown():
    asked = EXPECTANCY_TRAPS.sample(0, 3).with_columns(
        trap=pl.Series(["tails", "tails", "overlap"]),
        observed=pl.Series([1.0, None, 2.0]),
        is_passed=pl.Series([True, False, True]),
    )
    assert [("overlap", 1, 1, 0, 0), ("tails", 2, 1, 1, 1)] == answers_by_trap(asked).rows()


def test_candidates_are_counted_by_status_and_by_what_speaks_against_them():
    candidates = EDGE_CANDIDATES.sample(0, 3).with_columns(
        status=pl.Series(["PROMOTED", "DRAFT", "DRAFT"]),
        fail_reasons=pl.Series(["", "validation,trap:tails", "trap:tails"]),
    )
    assert {"by_status": "PROMOTED 1, DRAFT 2", "lost_to": "trap:tails 2, validation 1"} == describe_candidates(
        candidates
    )


def test_r86_the_decision_is_told_with_every_gate_in_its_way():
    w, table = planted_world()
    promoted = decide(table, candidates_of(w, table), run=w.run)
    assert {"decision": "PROMOTE", "failed_gates": "none"} == describe_checklist(promoted)
    lost = table.with_columns(gate_validation=pl.lit(value=False), status=pl.lit("rejected"))
    told = describe_checklist(decide(lost, candidates_of(w, lost), run=w.run))
    assert "KEEP_RESEARCH" == told["decision"]
    assert [
        "promoted_edge_candidates 0 (limit 1 edge candidates)",
        "selected_hypotheses 0 (limit 1 hypotheses)",
        "validation_confirmed 0 (limit 1 hypotheses)",
    ] == told["failed_gates"].split("; ")
    unknown = RESEARCH_CHECKLIST.sample(0, 1).with_columns(
        gate=pl.lit("evidence_finite"), observed=pl.lit(None, pl.Float64), limit=pl.lit(3.0), unit=pl.lit("hypotheses"),
        is_passed=pl.lit(value=False), decision=pl.lit("ERROR"),
    )  # fmt: skip
    assert {
        "decision": "ERROR",
        "failed_gates": "evidence_finite unknown (limit 3 hypotheses)",
    } == describe_checklist(unknown)
