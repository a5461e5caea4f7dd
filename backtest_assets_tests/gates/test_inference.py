from dataclasses import replace
from functools import cache

import polars as pl
import pytest

from backtest_assets.gates.inference import GATES_INFERENCE_SUMMARY
from backtest_assets.research.hypotheses.summary import SUMMARY, summarise_inference
from backtest_assets.tables.hypotheses import INFERENCE_SUMMARY
from backtest_assets_tests.gates.test_hypotheses import errors, evidence, nulls, red
from backtest_assets_tests.research.hypotheses.world import planted_world

ALL = {gate.name for gate in GATES_INFERENCE_SUMMARY}


@cache
def summed():
    w, table = planted_world()
    return summarise_inference(w.outcomes, w.events, w.context, w.bars, table, run=w.run)


def with_value(name, value):
    return summed().with_columns(value=pl.when(pl.col("statistic") == name).then(value).otherwise("value"))


def nothing_tested():
    table = planted_world()[1].with_columns(is_eligible=pl.lit(False))
    known = pl.when(pl.col("statistic") == "n_tested").then(0.0)
    return summed().with_columns(value=known), {"hypotheses": table}


def test_a_true_summary_keeps_every_gate():
    assert red(GATES_INFERENCE_SUMMARY, evidence(INFERENCE_SUMMARY, summed())) == set()


def test_a_summary_of_nothing_tested_is_legal_and_remarked():
    frame, inputs = nothing_tested()
    assert red(GATES_INFERENCE_SUMMARY, evidence(INFERENCE_SUMMARY, frame, inputs=inputs)) == {"days_uncorrelated"}


def test_no_row_and_unknown_rows_are_red():
    assert red(GATES_INFERENCE_SUMMARY, evidence(INFERENCE_SUMMARY, INFERENCE_SUMMARY.empty())) == ALL
    assert red(GATES_INFERENCE_SUMMARY, evidence(INFERENCE_SUMMARY, nulls(summed()))) >= errors(
        GATES_INFERENCE_SUMMARY
    ) - {"numbers_possible"}


@pytest.mark.parametrize(
    ("frame", "gate"),
    [
        (lambda: summed().tail(-1), "summary_complete"),
        (lambda: summed().with_columns(unit=pl.lit("1")), "summary_complete"),
        (lambda: with_value("n_tested", 5.0), "counts_tested"),
        (lambda: with_value("day_lag_p", None), "numbers_known"),
        (lambda: with_value("spa_statistic", float("nan")), "numbers_known"),
        (lambda: with_value("spa_p_lower", 0.9), "numbers_possible"),
        (lambda: with_value("spa_p_upper", 1.1), "numbers_possible"),
        (lambda: with_value("effective_rank", 1e6), "numbers_possible"),
        (lambda: with_value("spa_block_length", 0.5), "numbers_possible"),
        (lambda: with_value("luckiest_null_t", 2.0), "penalty_agrees"),
        (lambda: with_value("day_lag_p", 0.001), "days_uncorrelated"),
    ],
)
def test_every_corruption_of_the_summary_is_caught(frame, gate):
    assert gate in red(GATES_INFERENCE_SUMMARY, evidence(INFERENCE_SUMMARY, frame()))


def test_a_narrowed_run_may_speak_of_more_than_it_enumerates_and_never_of_less():
    w, hypotheses = planted_world()
    own = hypotheses.filter(pl.col("event_type") == "liquidity_vacuum")
    one = replace(w.run, phase2_event_type="liquidity_vacuum")
    n_own = float(own["is_eligible"].sum())
    for frame, is_red in ((summed(), False), (with_value("n_tested", n_own - 1.0), True)):
        asked = replace(evidence(INFERENCE_SUMMARY, frame, inputs={"hypotheses": own}), run=one)
        assert is_red == ("counts_tested" in red(GATES_INFERENCE_SUMMARY, asked))
    whole = evidence(INFERENCE_SUMMARY, summed(), inputs={"hypotheses": own})
    assert "counts_tested" in red(GATES_INFERENCE_SUMMARY, whole)


def test_a_summary_that_says_nothing_was_tested_where_something_was_is_caught():
    frame, _ = nothing_tested()
    assert red(GATES_INFERENCE_SUMMARY, evidence(INFERENCE_SUMMARY, frame)) == ALL - {
        "summary_complete",
        "numbers_known",
        "numbers_possible",
    }


def test_dependent_days_are_a_remark_and_do_not_block():
    assert errors(GATES_INFERENCE_SUMMARY) == ALL - {"days_uncorrelated"}
    assert set(SUMMARY) == set(summed()["statistic"])
