from collections.abc import Mapping
from dataclasses import replace

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Answer, Evidence, ask_all
from backtest_assets.gates.report import GATES_REPORT
from backtest_assets.research.report.build import build_report
from backtest_assets.tables.report import REPORT
from backtest_assets_tests.research.report.scenes import AS_OF, a_run, execution_of, frames_of, inputs_of

RUN = a_run()
SCENES = {
    "promoted": inputs_of(RUN),
    "nothing": inputs_of(RUN, promoted=0),
    "kept": inputs_of(RUN, decision="KEEP_RESEARCH"),
}
ROWS = {name: build_report(inputs, run=RUN).rows for name, inputs in SCENES.items()}
BLOCKING = {gate.name for gate in GATES_REPORT if gate.severity == "ERROR"}


def answers(rows: pl.DataFrame, inputs: Mapping[str, pl.DataFrame]) -> dict[str, Answer]:
    evidence = Evidence(REPORT, Partition.of_run(RUN.run_id), rows, AS_OF, RUN, inputs)
    return {answer.verdict.gate: answer for answer in ask_all(GATES_REPORT, evidence)}


def red(rows: pl.DataFrame, inputs: Mapping[str, pl.DataFrame]) -> set[str]:
    return {name for name, answer in answers(rows, inputs).items() if not answer.verdict.passed}


@pytest.mark.parametrize(
    ("scene", "remarks"), [("promoted", set()), ("nothing", {"something_promoted"}), ("kept", {"something_promoted"})]
)
def test_an_honest_report_is_green_but_for_its_remark(scene, remarks):
    assert remarks == red(ROWS[scene], frames_of(SCENES[scene]))


@pytest.mark.parametrize("scene", SCENES)
def test_every_gate_is_red_on_an_empty_report(scene):
    assert {gate.name for gate in GATES_REPORT} == red(ROWS[scene].clear(), frames_of(SCENES[scene]))


@pytest.mark.parametrize("scene", SCENES)
def test_every_gate_is_red_on_an_all_null_report(scene):
    nulls = ROWS[scene].with_columns(pl.lit(None).cast(dtype).alias(name) for name, dtype in REPORT.schema.items())
    assert {gate.name for gate in GATES_REPORT} == red(nulls, frames_of(SCENES[scene]))


def test_a_crash_is_red_and_blocks():
    found = answers(ROWS["promoted"], {})
    assert BLOCKING - {"page_sealed"} == {name for name, answer in found.items() if answer.blocks}


def changed(rows: pl.DataFrame, section: str, item: str, column: str, value: object) -> pl.DataFrame:
    here = (pl.col("section") == section) & (pl.col("item") == item)
    assert rows.filter(here).height == 1
    return rows.with_columns(pl.when(here).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


@pytest.mark.parametrize(
    ("section", "item", "column", "value", "gate"),
    [
        ("verdict", "decision", "text", "KEEP_RESEARCH", "verdict_agrees"),
        ("verdict", "promoted_blueprints", "observed", 3.0, "verdict_agrees"),
        ("verdict", "promoted_blueprints", "text", "bp_other", "verdict_agrees"),
        ("gates", "research_checklist/eligible_hypotheses", "observed", 122.0, "gates_shown"),
        ("gates", "research_checklist/eligible_hypotheses", "is_passed", False, "gates_shown"),
        ("performance", "portfolio/train/net", "observed", 0.5, "metrics_agree"),
        ("performance", "portfolio/train/net", "observed", None, "metrics_agree"),
        ("walkforward", "portfolio/test/net", "observed", 0.5, "metrics_agree"),
        ("performance", "equity/ending_equity", "observed", 1.5, "equity_agrees"),
        ("performance", "portfolio/discovery/ending_equity", "observed", 1.5, "equity_agrees"),
        ("performance", "portfolio/train/n_trades", "observed", 1.0, "trades_agree"),
        ("expectancy", "portfolio/test/n_trades", "observed", 1.0, "trades_agree"),
        ("expectancy", "portfolio/test/expectancy", "observed", 9.0, "trades_agree"),
        ("costs", "total/fee", "observed", 0.0, "trades_agree"),
        ("inference", "spa_p_consistent", "observed", 0.001, "beside_agrees"),
        ("inference", "spa_p_consistent", "unit", "1", "beside_agrees"),
        ("inference", "spa_p_consistent", "item", "spa", "beside_agrees"),
        ("trials", "n_trials_all", "observed", 1.0, "trials_counted"),
        ("trials", "effective_trials_all", "observed", None, "trials_counted"),
        ("trials", "n_trials_same_data", "item", "same", "trials_counted"),
        ("hypotheses", "trials", "observed", 1.0, "trials_counted"),
        ("hypotheses", "trials/delay", "observed", 1.0, "trials_counted"),
        ("phase1", "vol_shock_relaxation/decision", "text", "freeze", "phase1_agrees"),
        ("phase1", "vol_shock_relaxation/ground", "text", "biased", "phase1_agrees"),
        ("phase1", "vol_shock_relaxation/clearest_metric", "text", "tail_hit", "phase1_agrees"),
        ("phase1", "vol_shock_relaxation/delta", "observed", 99.0, "phase1_agrees"),
        ("phase1", "vol_shock_relaxation/ci_low", "observed", None, "phase1_agrees"),
        ("phase1", "vol_shock_relaxation/p_family", "observed", 0.5, "phase1_agrees"),
        ("phase1", "vol_shock_relaxation/n_hypotheses", "observed", 1.0, "phase1_agrees"),
        ("page", "sha256", "text", "none", "page_sealed"),
        ("page", "n_bytes", "observed", 3e6, "page_sealed"),
        ("page", "external_references", "observed", 1.0, "page_sealed"),
    ],
)
def test_r101_to_r107_one_wrong_number_is_caught_by_its_gate(section, item, column, value, gate):
    rows = changed(ROWS["promoted"], section, item, column, value)
    assert gate in red(rows, frames_of(SCENES["promoted"]))


def test_a_hidden_failed_gate_is_caught():
    rows = ROWS["nothing"]
    failed = rows.filter((pl.col("section") == "gates") & ~pl.col("is_passed"))["item"][0]
    assert "gates_shown" in red(rows.filter(pl.col("item") != failed), frames_of(SCENES["nothing"]))


def test_numbers_below_the_tolerance_pass_and_above_it_fail():
    inputs = frames_of(SCENES["promoted"])
    net = ROWS["promoted"].filter(section="performance", item="portfolio/train/net")["observed"].item()
    assert set() == red(
        changed(ROWS["promoted"], "performance", "portfolio/train/net", "observed", net + 1e-10), inputs
    )
    above = changed(ROWS["promoted"], "performance", "portfolio/train/net", "observed", net + 1e-8)
    assert {"metrics_agree"} == red(above, inputs)


def test_a_required_metric_that_is_null_everywhere_is_caught():
    inputs = dict(frames_of(SCENES["promoted"]))
    here = (pl.col("scope") == "portfolio") & (pl.col("split") == "train") & (pl.col("metric") == "net")
    inputs["backtest_metrics"] = inputs["backtest_metrics"].with_columns(
        pl.when(here).then(None).otherwise(pl.col("value")).alias("value")
    )
    rows = changed(ROWS["promoted"], "performance", "portfolio/train/net", "observed", None)
    assert "backtest_metrics has no net" in answers(rows, inputs)["metrics_agree"].verdict.detail


def test_r80_a_report_of_execution_under_keep_research_is_caught():
    invented = ROWS["promoted"].filter(pl.col("section").is_in(["performance", "costs"]))
    rows = pl.concat([ROWS["kept"], invented])
    assert {"metrics_agree", "equity_agrees", "trades_agree"} <= red(rows, frames_of(SCENES["kept"]))


def test_an_execution_without_a_trade_is_reported_honestly():
    inputs = SCENES["promoted"]
    execution = replace(
        execution_of(inputs),
        trades=execution_of(inputs).trades.clear(),
        simulation_ledger=execution_of(inputs).simulation_ledger.clear(),
    )
    idle = replace(inputs, execution=execution)
    found = red(build_report(idle, run=RUN).rows, frames_of(idle))
    assert found == {"equity_agrees", "trades_agree"}


@pytest.mark.parametrize("scene", SCENES)
def test_a_family_that_is_left_out_or_that_phase_1_is_of_two_minds_about_is_caught(scene):
    inputs = dict(frames_of(SCENES[scene]))
    hidden = ROWS[scene].filter(~pl.col("item").str.starts_with("vol_shock_relaxation/"))
    assert "phase1_agrees" in red(hidden, inputs)
    first = (pl.col("event_type") == "vol_shock_relaxation") & (pl.col("metric") == "tail_hit")
    told = pl.when(first).then(pl.lit("undecided")).otherwise("decision").alias("decision")
    inputs["phase1_evidence"] = inputs["phase1_evidence"].with_columns(told)
    assert "phase1_agrees" in red(ROWS[scene], inputs)


def test_a_strategy_candidate_that_is_left_out_or_better_is_caught():
    own = pl.col("section") == "strategies"
    better = pl.when(own).then(pl.col("observed") + 1).otherwise("observed").alias("observed")
    for rows in (ROWS["promoted"].filter(~own), ROWS["promoted"].with_columns(better)):
        assert "beside_agrees" in red(rows, frames_of(SCENES["promoted"]))


def test_a_report_that_leaves_out_the_trials_of_all_runs_or_invents_them_is_caught():
    silent = ROWS["kept"].filter(pl.col("section") != "trials")
    assert "trials_counted" in red(silent, frames_of(SCENES["kept"]))
    nothing = {"trial_ledger": SCENES["kept"].trial_ledger.clear(), "trial_counts": SCENES["kept"].trial_counts.clear()}
    idle = replace(SCENES["kept"], **nothing)
    assert {"something_promoted"} == red(build_report(idle, run=RUN).rows, frames_of(idle))
    assert "trials_counted" in red(ROWS["kept"], frames_of(idle))


def test_trials_of_all_runs_counted_in_two_ways_are_caught():
    counts = SCENES["kept"].trial_counts
    torn = counts.with_columns(effective_trials_all=pl.col("effective_trials_all") + pl.int_range(pl.len()))
    assert "trials_counted" in red(ROWS["kept"], {**frames_of(SCENES["kept"]), "trial_counts": torn})
