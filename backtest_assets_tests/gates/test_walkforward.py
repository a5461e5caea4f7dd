import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.gates.walkforward import (
    GATES_WALKFORWARD_SPLITS,
    GATES_WALKFORWARD_SUMMARY,
    GATES_WALKFORWARD_TEST,
    GATES_WALKFORWARD_TRAIN,
    GATES_WALKFORWARD_VALIDATION,
)
from backtest_assets.research.walkforward.splits import plan_table
from backtest_assets_tests.research.simulation.asking import all_null, answers, red, spoil
from backtest_assets_tests.research.simulation.market import a_run
from backtest_assets_tests.research.simulation.results import Results, random_results

DONE = random_results()
GATES = {
    "walkforward_splits": GATES_WALKFORWARD_SPLITS,
    "walkforward_train": GATES_WALKFORWARD_TRAIN,
    "walkforward_validation": GATES_WALKFORWARD_VALIDATION,
    "walkforward_test": GATES_WALKFORWARD_TEST,
    "walkforward_summary": GATES_WALKFORWARD_SUMMARY,
}
EACH = [pytest.param(name, gate, id=f"{name}-{gate.name}") for name, gates in GATES.items() for gate in gates]
TRAIN, PLAN, SUMMARY = (DONE.frames[f"walkforward_{name}"] for name in ("train", "splits", "summary"))


def blocking(name, frame, **inputs: pl.DataFrame):
    return red(DONE, name, GATES[name], frame, {**DONE.frames, **inputs})


def shifted(frame, metric, by=1e-8):
    return frame.with_columns(value=pl.when(pl.col("metric") == metric).then(pl.col("value") + by).otherwise("value"))


@pytest.mark.parametrize("name", GATES)
def test_what_the_stage_makes_passes(name):
    assert set() == blocking(name, DONE.frames[name])


@pytest.mark.parametrize(("name", "gate"), EACH)
def test_every_gate_is_red_on_an_empty_frame_nulls_and_a_crash(name, gate):
    frame = DONE.frames[name]
    for shown in (frame.clear(), all_null(frame)):
        (answer,) = answers(DONE, name, (gate,), shown)
        assert not answer.verdict.passed
    (crash,) = answers(DONE, name, (gate,), frame.select(pl.lit(1).alias("x")))
    assert crash.blocks


PLANS = {
    "no test": PLAN.head(2),
    "overlap": spoil(PLAN, 1, start_at=pl.col("start_at") - BAR),
    "short purge": PLAN.with_columns(purge_bars=pl.lit(96), last_entry_at=pl.col("end_at") - 96 * BAR),
    "late entries": spoil(PLAN, 0, last_entry_at=pl.col("end_at") - BAR),
    "early end": spoil(PLAN, 2, end_at=pl.col("end_at") - BAR),
    "another order": PLAN.with_columns(split=pl.Series(["test", "train", "validation"])),
    "an embargo that is not the run's": PLAN.with_columns(embargo_days=pl.lit(3)),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_that_leaks_is_caught(case):
    assert "plan_is_whole" in blocking("walkforward_splits", PLANS[case])


def test_r56_a_missing_or_short_test_window_is_caught():
    assert "windows_long_enough" in blocking("walkforward_splits", PLAN.head(2))
    run = a_run(30)
    short = Results(run, {})
    (answer,) = answers(short, "walkforward_splits", GATES_WALKFORWARD_SPLITS[1:], plan_table(run=run))
    assert (answer.verdict.passed, answer.verdict.observed) == (False, 6)


SLICES = {
    "a blueprint is missing": ("blueprint_set_exact", TRAIN.filter(pl.col("blueprint_id") != "c")),
    "an unexpected blueprint": (
        "blueprint_set_exact",
        pl.concat([TRAIN, TRAIN.filter(blueprint_id="a").with_columns(blueprint_id=pl.lit("x"))]),
    ),
    "a sum is not finite": ("blueprint_set_exact", shifted(TRAIN, "net", float("nan"))),
    "another window": ("window_is_planned", TRAIN.with_columns(end_at=pl.col("end_at") + BAR)),
    "another net": ("slice_equals_ledger", shifted(TRAIN, "net")),
    "another count": ("slice_equals_ledger", shifted(TRAIN, "n_trades", 1.0)),
    "another equity": ("slice_equals_ledger", shifted(TRAIN, "ending_equity")),
    "the slice of validation": ("slice_equals_ledger", DONE.frames["walkforward_validation"]),
    "costs stressed once": ("stressed_net_is_stressed", shifted(TRAIN, "stressed_net", 1e-3)),
    "a portfolio of its own": (
        "blueprints_add_up",
        TRAIN.with_columns(
            value=pl.when(pl.col("blueprint_id") == "portfolio", pl.col("metric") == "net").then(1.0).otherwise("value")
        ),
    ),
}


@pytest.mark.parametrize("case", SLICES)
def test_r44_r57_r58_a_spoilt_slice_is_caught(case):
    gate, frame = SLICES[case]
    assert gate in blocking("walkforward_train", frame)


def test_a_blueprint_that_hardly_traded_is_a_remark():
    found = answers(DONE, "walkforward_train", GATES_WALKFORWARD_TRAIN, shifted(TRAIN, "n_trades", -1e9))
    (answer,) = [a for a in found if a.verdict.gate == "few_trades"]
    assert (answer.verdict.passed, answer.blocks, answer.verdict.observed) == (False, False, 3)


SUMMARIES = {
    "without the evidence of a blueprint": ("evidence_complete", SUMMARY.filter(pl.col("blueprint_id") != "b")),
    "with test": (
        "evidence_complete",
        pl.concat([SUMMARY, DONE.frames["walkforward_test"].select(pl.lit("test").alias("split"), pl.all())]),
    ),
    "with another number": ("summary_equals_slices", shifted(SUMMARY, "cost_ratio")),
}


@pytest.mark.parametrize("case", SUMMARIES)
def test_r91_r92_a_summary_is_refused(case):
    gate, frame = SUMMARIES[case]
    assert gate in blocking("walkforward_summary", frame)
