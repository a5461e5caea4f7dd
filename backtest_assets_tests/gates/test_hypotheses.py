from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.checklist import GATES_RESEARCH_CHECKLIST
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.hypotheses import GATES_HYPOTHESES
from backtest_assets.research.hypotheses.checklist import decide
from backtest_assets.tables.hypotheses import HYPOTHESES, RESEARCH_CHECKLIST
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of
from backtest_assets_tests.research.hypotheses.shown import candidates_of
from backtest_assets_tests.research.hypotheses.world import planted_world

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def candidates():
    return candidates_of(*planted_world())


def decided(hypotheses, known=None):
    return decide(hypotheses, candidates() if known is None else known, run=planted_world()[0].run)


def evidence(table, frame, *, inputs=None, previous=None):
    w, hypotheses = planted_world()
    given = {
        "hypotheses": hypotheses,
        "event_outcomes": w.outcomes,
        "event_registry": w.events,
        "market_context": w.context,
        "bars_um": w.bars,
        "phase1_evidence": w.phase1,
        "edge_candidates": candidates(),
    }
    part = Partition.of_run(w.run.run_id)
    return Evidence(table, part, frame, AS_OF, run=w.run, inputs=given | (inputs or {}), previous=previous)


def red(gates, asked):
    return {a.verdict.gate for a in ask_all(gates, asked) if not a.verdict.passed}


def errors(gates):
    return {gate.name for gate in gates if gate.severity == "ERROR"}


def nulls(frame):
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in frame.schema.items())


def test_a_true_study_keeps_every_gate():
    assert red(GATES_HYPOTHESES, evidence(HYPOTHESES, planted_world()[1])) == set()


def test_no_hypothesis_is_red_at_every_gate():
    assert red(GATES_HYPOTHESES, evidence(HYPOTHESES, HYPOTHESES.empty())) == {g.name for g in GATES_HYPOTHESES}


def test_unknown_hypotheses_and_missing_inputs_are_red():
    asked = evidence(HYPOTHESES, nulls(planted_world()[1]))
    assert red(GATES_HYPOTHESES, asked) >= errors(GATES_HYPOTHESES) - {"test_stays_sealed"}
    w, hypotheses = planted_world()
    blind = Evidence(HYPOTHESES, Partition.of_run("w"), hypotheses, AS_OF, run=w.run)
    assert red(GATES_HYPOTHESES, blind) == {
        "tests_recomputed", "neighbours_recomputed", "test_stays_sealed", "phase1_obeyed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.tail(-1), "all_declared_present"),
        (lambda f: f.with_columns(hold_bars=pl.lit(4, pl.Int32)), "all_declared_present"),
        (lambda f: f.with_columns(p_validation=pl.lit(None, pl.Float64)), "evidence_finite"),
        (lambda f: f.with_columns(p_rw=1 - pl.col("p_rw")), "adjusted_p_in_step"),
        (lambda f: f.with_columns(p_rw=pl.col("p_rw") * 0), "adjusted_p_not_below_p"),
        (lambda f: f.with_columns(net_mean_train_bps=pl.col("net_mean_train_bps") + 1e-6), "tests_recomputed"),
        (lambda f: f.with_columns(n_train=pl.col("n_train") + 1), "tests_recomputed"),
        (lambda f: f.with_columns(t_iid_train=-pl.col("t_iid_train")), "beside_agrees"),
        (lambda f: f.with_columns(shrunken_excess_mean_train_bps=pl.col("excess_mean_train_bps") * 2), "beside_agrees"),
        (lambda f: f.with_columns(penalty_ln_m_bps=pl.lit(None, pl.Float64)), "beside_agrees"),
        (lambda f: f.with_columns(penalty_2_ln_m_bps=pl.col("penalty_ln_m_bps")), "beside_agrees"),
        (lambda f: f.with_columns(status=pl.lit("selected")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(gate_ess=~pl.col("gate_ess")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(fail_reasons=pl.lit("")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(status=pl.lit("rejected")), "candidates_selected"),
        (lambda f: f.with_columns(gate_phase1=~pl.col("gate_phase1")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(phase1_decision=pl.lit("freeze"), gate_phase1=False), "phase1_obeyed"),
    ],
)
def test_every_corruption_of_the_hypotheses_is_caught(change, gate):
    assert gate in red(GATES_HYPOTHESES, evidence(HYPOTHESES, change(planted_world()[1])))


def test_a_narrowed_run_has_the_hypotheses_of_its_family_and_no_other():
    w, hypotheses = planted_world()
    own = hypotheses.filter(pl.col("event_type") == "liquidity_vacuum")
    one = replace(w.run, phase2_event_type="liquidity_vacuum")
    assert red(GATES_HYPOTHESES, replace(evidence(HYPOTHESES, own), run=one)) == {"candidates_selected"}
    assert "all_declared_present" in red(GATES_HYPOTHESES, replace(evidence(HYPOTHESES, hypotheses), run=one))
    assert "all_declared_present" in red(GATES_HYPOTHESES, evidence(HYPOTHESES, own))


@pytest.mark.parametrize(
    "change",
    [{"split": pl.lit("test")}, {"exited_at": pl.lit(datetime(2026, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))}],
)
def test_x12_outcomes_of_the_test_window_break_the_seal(change):
    w, hypotheses = planted_world()
    asked = evidence(HYPOTHESES, hypotheses, inputs={"event_outcomes": w.outcomes.with_columns(**change)})
    assert "test_stays_sealed" in red(GATES_HYPOTHESES, asked)


def test_a_hypothesis_that_passes_where_its_family_is_frozen_or_of_two_minds_is_caught():
    w, hypotheses = planted_world()
    frozen = phase1_of(w.run.event_types, {"vol_shock_relaxation": {"decision": "freeze"}})
    is_first = pl.int_range(pl.len()) == 0
    torn = w.phase1.with_columns(decision=pl.when(is_first).then(pl.lit("freeze")).otherwise("decision"))
    for phase1 in (frozen, torn, frozen.filter(pl.col("event_type") != "vol_shock_relaxation")):
        asked = evidence(HYPOTHESES, hypotheses, inputs={"phase1_evidence": phase1})
        assert red(GATES_HYPOTHESES, asked) == {"phase1_obeyed"}


def test_a_remark_says_that_nothing_was_selected_and_does_not_block():
    frame = planted_world()[1].with_columns(status=pl.lit("rejected"))
    answers = {a.verdict.gate: a for a in ask_all(GATES_HYPOTHESES, evidence(HYPOTHESES, frame))}
    remark = answers["candidates_selected"]
    assert (remark.verdict.passed, remark.blocks) == (False, False)
    assert "multiplicity 1970" in remark.verdict.detail


def test_a_true_decision_keeps_every_gate():
    _, hypotheses = planted_world()
    asked = evidence(RESEARCH_CHECKLIST, decided(hypotheses))
    assert red(GATES_RESEARCH_CHECKLIST, asked) == set()


@pytest.mark.parametrize(
    ("change", "gates"),
    [
        (lambda f: f.clear(), {g.name for g in GATES_RESEARCH_CHECKLIST}),
        (nulls, {g.name for g in GATES_RESEARCH_CHECKLIST}),
        (lambda f: f.tail(-1), {"rows_complete"}),
        (lambda f: f.with_columns(decision=pl.lit("KEEP_RESEARCH")), {"decision_follows_rows", "decision_promote"}),
        (lambda f: f.with_columns(is_passed=pl.lit(value=False)), {"decision_follows_rows"}),
        (lambda f: f.with_columns(limit=pl.lit(0.0)), {"counts_recomputed"}),
        (lambda f: f.with_columns(observed=pl.col("observed") + 1), {"counts_recomputed"}),
        (lambda f: f.with_columns(decision=pl.lit("ERROR")), {"decision_follows_rows", "decision_promote"}),
        (
            lambda f: f.with_columns(observed=pl.lit(None, pl.Float64)),
            {"decision_follows_rows", "counts_recomputed"},
        ),
    ],
)
def test_every_corruption_of_the_checklist_is_caught(change, gates):
    _, hypotheses = planted_world()
    assert red(GATES_RESEARCH_CHECKLIST, evidence(RESEARCH_CHECKLIST, change(decided(hypotheses)))) == gates


def test_keep_research_is_a_remark_that_says_why():
    w, hypotheses = planted_world()
    lost = hypotheses.with_columns(
        gate_validation=pl.lit(value=False), status=pl.lit("rejected"), fail_reasons=pl.lit("validation")
    )
    drafts = candidates_of(w, lost)
    asked = evidence(RESEARCH_CHECKLIST, decided(lost, drafts), inputs={"hypotheses": lost, "edge_candidates": drafts})
    answers = {a.verdict.gate: a for a in ask_all(GATES_RESEARCH_CHECKLIST, asked)}
    assert [name for name, a in answers.items() if not a.verdict.passed] == ["decision_promote"]
    assert not answers["decision_promote"].blocks
    assert "KEEP_RESEARCH" in answers["decision_promote"].verdict.detail
    assert ", fails: net_mean_validation_bps" in answers["decision_promote"].verdict.detail
