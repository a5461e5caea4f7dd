import polars as pl
import pytest

from backtest_assets.gates.promotions import GATES_PROMOTIONS
from backtest_assets_tests.research.hypotheses.listed import ledger_of
from backtest_assets_tests.research.simulation.asking import all_null, answers, red, spoil
from backtest_assets_tests.research.simulation.results import random_results

DONE = random_results()
DECIDED = DONE.frames["promotions"]


def blocking(frame, **inputs: pl.DataFrame):
    return red(DONE, "promotions", GATES_PROMOTIONS, frame, {**DONE.frames, **inputs})


def first(**columns: object):
    return DECIDED.with_row_index().filter(**columns)["index"][0]


def test_the_decision_passes():
    assert set() == blocking(DECIDED)


@pytest.mark.parametrize("gate", GATES_PROMOTIONS, ids=lambda gate: gate.name)
def test_every_gate_is_red_on_an_empty_frame_nulls_and_a_crash(gate):
    for frame in (DECIDED.clear(), all_null(DECIDED)):
        (answer,) = answers(DONE, "promotions", (gate,), frame)
        assert not answer.verdict.passed
    (crash,) = answers(DONE, "promotions", (gate,), DECIDED.select("blueprint_id"))
    assert crash.blocks


SPOILT = {
    "a gate not answered": ("every_gate_answered", DECIDED.head(-1)),
    "a blueprint not judged": ("every_gate_answered", DECIDED.filter(pl.col("blueprint_id") != "a")),
    "a gate of its own": ("every_gate_answered", spoil(DECIDED, 0, gate="feeling")),
    "a softer limit": ("limits_are_the_runs", spoil(DECIDED, first(gate="regime_share"), limit=0.99)),
    "another comparator": ("limits_are_the_runs", spoil(DECIDED, first(gate="stressed_net"), comparator=">=")),
    "a failed gate that passed": ("answers_follow_evidence", spoil(DECIDED, first(is_passed=False), is_passed=True)),
    "another observation": ("answers_follow_evidence", spoil(DECIDED, first(gate="evidence"), observed=11.5)),
    "an unknown made known": (
        "answers_follow_evidence",
        spoil(DECIDED, DECIDED.with_row_index().filter(pl.col("observed").is_null())["index"][0], observed=0.0),
    ),
    "promoted against its gates": (
        "promoted_only_if_all_passed",
        DECIDED.with_columns(is_promoted=~pl.col("is_promoted")),
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_decision_is_caught(case):
    gate, frame = SPOILT[case]
    assert gate in blocking(frame)


def test_r93_other_evidence_than_was_decided_on_is_caught():
    summary = DONE.frames["walkforward_summary"].with_columns(pl.col("value") + 1)
    assert "answers_follow_evidence" in blocking(DECIDED, walkforward_summary=summary)


def test_r51_nothing_promoted_is_a_remark_with_the_failing_gates_counted():
    none = DECIDED.with_columns(is_promoted=pl.lit(value=False))
    (answer,) = answers(DONE, "promotions", GATES_PROMOTIONS[-1:], none)
    failing = none.filter(~pl.col("is_passed"), gate="stressed_net").height
    assert (answer.verdict.passed, answer.blocks) == (False, False)
    assert failing
    assert f"stressed_net {failing}" in answer.verdict.detail


LEDGERS, COUNTS = DONE.frames["trial_ledger"], DONE.frames["trial_counts"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"trial_ledger": pl.concat([LEDGERS, ledger_of("later", ["h9"])])}, "of runs later"),
        ({"trial_ledger": pl.concat([LEDGERS, ledger_of("again", ["h1"], "d2")])}, "of runs again"),
        ({"trial_ledger": LEDGERS.filter(of_run_id="t")}, "trials not counted"),
        ({"trial_counts": COUNTS.filter(of_run_id="t")}, "of runs other"),
        ({"trial_counts": COUNTS.clear()}, "has no count"),
        ({"trial_counts": COUNTS.with_columns(n_trials_all=pl.lit(None, pl.Int64))}, "has no count"),
        ({"trial_counts": COUNTS.with_columns(effective_trials_all=pl.lit(float("nan")))}, "has no count"),
        ({"trial_counts": COUNTS.with_columns(n_trials_all=pl.col("n_trials_all") - 1)}, "trials not counted"),
    ],
)
def test_nothing_is_promoted_unless_the_trials_of_all_runs_are_counted_as_they_are_now(changed, says):
    assert {"trials_counted"} == blocking(DECIDED, **changed)
    found = answers(DONE, "promotions", GATES_PROMOTIONS, DECIDED, {**DONE.frames, **changed})
    (detail,) = (a.verdict.detail for a in found if a.verdict.gate == "trials_counted")
    assert says in detail


def test_without_a_count_or_the_ledgers_the_gate_crashes_and_blocks():
    for lost in ("trial_counts", "trial_ledger"):
        rest = {name: frame for name, frame in DONE.frames.items() if name != lost}
        found = answers(DONE, "promotions", GATES_PROMOTIONS, DECIDED, rest)
        assert {"trials_counted"} == {a.verdict.gate for a in found if a.blocks}
