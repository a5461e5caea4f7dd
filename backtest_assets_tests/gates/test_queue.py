from dataclasses import replace
from functools import cache

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.gates.hypotheses import GATES_HYPOTHESES
from backtest_assets.gates.queue import GATES_HYPOTHESIS_QUEUE
from backtest_assets.research.hypotheses import study
from backtest_assets.research.hypotheses.queue.build import build_queue
from backtest_assets.research.hypotheses.queue.placebos import PHASE1_SCHEMA
from backtest_assets.research.hypotheses.queue.templates import TEMPLATES
from backtest_assets.tables.hypotheses import HYPOTHESES
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, verdict, with_inputs
from backtest_assets_tests.research.hypotheses.phase1 import phase1_of
from backtest_assets_tests.research.hypotheses.test_queue_obeyed import QUEUE, RUN, planted, queue_of

FROZEN = {
    "vol_shock_relaxation": {"decision": "freeze", "reason": "no metric differs"},
    "liquidity_vacuum": {"p_placebo": 0.001},
    "funding_normalization": {"shuffled_rejection_share": None},
}


@cache
def asked(generator=0):
    run = replace(market().run, run_hypothesis_generator=generator)
    phase1 = phase1_of(changed=FROZEN)
    frame = build_queue(market().features, phase1, run=run)
    return with_inputs(replace(honest("hypothesis_queue", frame), run=run), phase1_evidence=phase1)


def changed(where=None, **columns: pl.Expr):
    hit = pl.lit(value=True) if where is None else where
    frame = asked().frame
    return replace(
        asked(), frame=frame.with_columns(pl.when(hit).then(e).otherwise(n).alias(n) for n, e in columns.items())
    )


def test_a_true_queue_keeps_every_gate_but_the_remark_on_families_without_anything_queued():
    assert {"REJECTED", "NOT_RUN", "SKIPPED", "QUEUED"} == set(asked().frame["status"])
    assert {"every_family_queued"} == red(GATES_HYPOTHESIS_QUEUE, asked())
    whole = phase1_of()
    queue = build_queue(market().features, whole, run=asked().settings)
    assert set() == red(GATES_HYPOTHESIS_QUEUE, with_inputs(replace(asked(), frame=queue), phase1_evidence=whole))


@pytest.mark.parametrize("generator", [0, 1])
def test_r7_a_family_without_anything_queued_is_a_remark_with_its_reason_and_blocks_nothing(generator):
    remark = answer(GATES_HYPOTHESIS_QUEUE[-1], asked(generator))
    assert (3, False, False) == (remark.verdict.observed, remark.verdict.passed, remark.blocks)
    assert "vol_shock_relaxation: nothing queued: SKIPPED phase 1 froze" in remark.verdict.detail
    assert ("not obeyed: run_hypothesis_generator 0" in remark.verdict.detail) is (generator == 0)


@pytest.mark.parametrize("gate", GATES_HYPOTHESIS_QUEUE, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_of_the_queue_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(asked())[case]).verdict.passed


IS_TEMPLATE = pl.col("source_kind") == "template"
IS_QUEUED = pl.col("status") == "QUEUED"
IS_FUSED = pl.col("source_kind") == "fusion"
IS_FROZEN = pl.col("event_type") == "vol_shock_relaxation"


@pytest.mark.parametrize(
    ("where", "columns", "gate"),
    [
        (IS_TEMPLATE, {"event_type": pl.lit("liquidity_vacuum")}, "every_mechanism_told"),
        (pl.col("source_kind") == "family", {"source_kind": pl.lit("fusion")}, "every_mechanism_told"),
        (IS_QUEUED, {"event_type": pl.lit("moon_phase")}, "every_mechanism_told"),
        (IS_QUEUED, {"observability": pl.col("observability") + 0.001}, "scores_recomputed"),
        (IS_QUEUED, {"testability": pl.lit(1.0) - pl.col("testability")}, "scores_recomputed"),
        (IS_QUEUED, {"mechanism_coherence": pl.lit(0.5)}, "scores_recomputed"),
        (IS_QUEUED, {"priority": pl.col("priority") * 0.99}, "scores_recomputed"),
        (IS_TEMPLATE, {"priority": pl.lit(None, pl.Float64)}, "scores_recomputed"),
        (IS_TEMPLATE, {"required_datasets": pl.lit("um_ohlcv")}, "scores_recomputed"),
        (None, {"negative_controls_json": pl.col("negative_controls_json").str.replace("0.4", "0.5", literal=True)}, "controls_recomputed"),
        (None, {"negative_controls_json": pl.col("negative_controls_json").str.replace("true", "false")}, "controls_recomputed"),
        (None, {"negative_controls_json": pl.col("negative_controls_json").str.replace("null", "0.5")}, "controls_recomputed"),
        (IS_QUEUED, {"negative_controls_json": pl.lit("{}")}, "no_leak"),
        (IS_QUEUED, {"mechanism_sentence": pl.lit("Sells at a loss.")}, "no_leak"),
        (IS_QUEUED, {"mechanism_sentence": pl.lit("What spot_ohlcv shows.")}, "no_leak"),
        (IS_QUEUED, {"mechanism_sentence": pl.lit("")}, "no_leak"),
        (IS_QUEUED, {"horizon_bucket": pl.lit("long")}, "no_leak"),
        (IS_QUEUED, {"condition": pl.lit("tomorrow")}, "no_leak"),
        (None, {"rank": pl.col("rank") + 1}, "ranks_permute"),
        (None, {"rank": pl.lit(1, pl.Int64)}, "ranks_permute"),
        (None, {"rank": pl.len() + 1 - pl.col("rank")}, "ranks_permute"),
        (pl.col("rank") <= 2, {"rank": 3 - pl.col("rank"), "priority": 0.5 + pl.col("rank") / 10}, "ranks_permute"),
        (pl.col("status") == "REJECTED", {"status": pl.lit("QUEUED"), "reason": pl.lit(""), "is_tested": pl.lit(value=True)}, "queued_is_earned"),
        (pl.col("status") == "NOT_RUN", {"status": pl.lit("QUEUED"), "reason": pl.lit(""), "is_tested": pl.lit(value=True)}, "queued_is_earned"),
        (IS_FROZEN & IS_TEMPLATE, {"status": pl.lit("QUEUED")}, "queued_is_earned"),
        (IS_FROZEN & IS_TEMPLATE, {"is_tested": pl.lit(value=False)}, "queued_is_earned"),
        (IS_QUEUED & IS_TEMPLATE, {"status": pl.lit("SKIPPED"), "is_tested": pl.lit(value=False)}, "queued_is_earned"),
        (IS_QUEUED, {"status": pl.lit("SKIPPED")}, "queued_is_earned"),
        (IS_FUSED & (pl.col("status") == "SKIPPED"), {"is_tested": pl.lit(value=True)}, "fused_are_bounded"),
        (IS_FUSED & IS_QUEUED, {"is_tested": pl.lit(value=False), "status": pl.lit("SKIPPED")}, "fused_are_bounded"),
    ],
)  # fmt: skip
def test_each_falsehood_about_the_queue_is_found_by_its_gate(where, columns, gate):
    assert gate in red(GATES_HYPOTHESIS_QUEUE, changed(where, **columns))


def test_a_row_left_out_or_told_twice_is_found():
    frame = asked().frame
    for altered in (
        frame.filter(pl.col("hypothesis_id") != TEMPLATES[0].id),
        frame.filter(pl.col("source_kind") != "family"),
    ):
        assert "every_mechanism_told" in red(GATES_HYPOTHESIS_QUEUE, replace(asked(), frame=altered))


def test_other_features_or_another_phase_1_are_found():
    blind = market().features.with_columns(basis_bps=pl.lit(None, pl.Float64))
    assert {"scores_recomputed", "queued_is_earned"} <= red(
        GATES_HYPOTHESIS_QUEUE, with_inputs(asked(), features=blind)
    )
    other = phase1_of(changed={**FROZEN, "liquidity_absence_window": {"decision": "freeze"}})
    assert "queued_is_earned" in red(GATES_HYPOTHESIS_QUEUE, with_inputs(asked(), phase1_evidence=other))
    nothing = pl.DataFrame(schema=PHASE1_SCHEMA)
    assert {"controls_recomputed", "scores_recomputed"} <= red(
        GATES_HYPOTHESIS_QUEUE, with_inputs(asked(), phase1_evidence=nothing)
    )


def test_a_shown_number_of_a_control_comes_with_its_culprit():
    lied = changed(
        None, negative_controls_json=pl.col("negative_controls_json").str.replace("0.4", "0.5", literal=True)
    )
    found = verdict(GATES_HYPOTHESIS_QUEUE, lied, "controls_recomputed")
    assert "time_shifted of " in found.detail
    assert 0.1 == pytest.approx(found.observed)


@cache
def obedient(queue=0):
    w, asked_for = planted(), (QUEUE, queue_of())[queue]
    frame = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=RUN, queue=asked_for)
    inputs = {
        "event_outcomes": w.outcomes,
        "event_registry": w.events,
        "market_context": w.context,
        "bars_um": w.bars,
        "phase1_evidence": w.phase1,
    }
    evidence = replace(honest("hypotheses", frame), run=RUN)
    return replace(evidence, inputs={**inputs, "hypothesis_queue": asked_for})


def test_r7_hypotheses_that_obey_the_queue_keep_every_gate():
    assert set() == red(GATES_HYPOTHESES, obedient())


def test_r7_no_hypotheses_are_green_only_where_the_queue_asks_for_none():
    assert HYPOTHESES.empty().equals(obedient(1).frame)
    assert {"candidates_selected"} == red(GATES_HYPOTHESES, obedient(1))
    empty = replace(obedient(), frame=HYPOTHESES.empty())
    assert {gate.name for gate in GATES_HYPOTHESES} == red(GATES_HYPOTHESES, empty)
    off = replace(obedient(1), run=replace(RUN, run_hypothesis_generator=0))
    assert {gate.name for gate in GATES_HYPOTHESES} == red(GATES_HYPOTHESES, off)


@pytest.mark.parametrize(("family", "is_asked"), [("vol_shock_relaxation", True), ("liquidity_vacuum", False)])
def test_a_narrowed_run_enumerates_what_the_queue_asks_of_its_family_with_the_ranks_of_the_whole(family, is_asked):
    w, one = planted(), replace(RUN, phase2_event_type=family)
    frame = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=one, queue=QUEUE)
    assert_frame_equal(obedient().frame.filter(event_type=family), frame, check_exact=True)
    assert is_asked is not frame.is_empty()
    remark = set() if is_asked else {"candidates_selected"}
    assert remark == red(GATES_HYPOTHESES, replace(obedient(), frame=frame, run=one))
    empty = red(GATES_HYPOTHESES, replace(obedient(), frame=HYPOTHESES.empty(), run=one))
    assert empty == ({gate.name for gate in GATES_HYPOTHESES} if is_asked else remark)


@pytest.mark.parametrize(
    ("change", "gates"),
    [
        (lambda f: f.tail(-1), {"all_declared_present"}),
        (lambda f: f.with_columns(queue_rank=pl.col("queue_rank") + 1), {"queue_obeyed"}),
        (lambda f: f.with_columns(queue_rank=pl.lit(None, pl.Int64)), {"queue_obeyed"}),
        (lambda f: f.with_columns(condition=pl.lit("all")), {"queue_obeyed", "all_declared_present"}),
    ],
)
def test_hypotheses_that_disobey_the_queue_are_found(change, gates):
    assert gates <= red(GATES_HYPOTHESES, replace(obedient(), frame=change(obedient().frame)))


def test_a_rank_without_obedience_is_found():
    off = replace(obedient(), run=replace(RUN, run_hypothesis_generator=0))
    assert {"queue_obeyed", "all_declared_present"} <= red(GATES_HYPOTHESES, off)
