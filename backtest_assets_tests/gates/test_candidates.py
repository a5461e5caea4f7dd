"""The gates of the evidence tables: green on the truth, red on every corruption of it."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.edge_candidates import GATES_EDGE_CANDIDATES
from backtest_assets.gates.expectancy import GATES_EXPECTANCY, GATES_EXPECTANCY_TRAPS
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.naive_entry import GATES_NAIVE_ENTRY
from backtest_assets.tables.candidates import EDGE_CANDIDATES, EXPECTANCY, EXPECTANCY_TRAPS, NAIVE_ENTRY
from backtest_assets_tests.research.hypotheses.shown import shown
from backtest_assets_tests.research.hypotheses.world import planted_world

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def studied():
    w, hypotheses = planted_world()
    inputs = {
        "hypotheses": hypotheses,
        "event_outcomes": w.outcomes,
        "event_registry": w.events,
        "market_context": w.context,
        "bars_um": w.bars,
    }
    return w.run, inputs


@cache
def made(**settings: object):
    frozen, inputs = studied()
    run = replace(frozen, **settings)
    return run, inputs | shown(planted_world()[0], inputs["hypotheses"], run)


def evidence(table, frame=None, *, settings=None, inputs=None):
    run, known = made(**(settings or {}))
    frame = known[table.name] if frame is None else frame
    return Evidence(table, Partition.of_run("w"), frame, AS_OF, run=run, inputs=known | (inputs or {}))


def red(gates, asked):
    return {a.verdict.gate for a in ask_all(gates, asked) if not a.verdict.passed}


def errors(gates):
    return {gate.name for gate in gates if gate.severity == "ERROR"}


def nulls(frame):
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in frame.schema.items())


TABLES = [
    (NAIVE_ENTRY, GATES_NAIVE_ENTRY),
    (EXPECTANCY, GATES_EXPECTANCY),
    (EXPECTANCY_TRAPS, GATES_EXPECTANCY_TRAPS),
    (EDGE_CANDIDATES, GATES_EDGE_CANDIDATES),
]


@pytest.mark.parametrize(("table", "gates"), TABLES, ids=lambda x: getattr(x, "name", ""))
def test_the_truth_is_green_and_nothing_null_or_blind_is(table, gates):
    assert set() == red(gates, evidence(table))
    assert errors(gates) <= red(gates, evidence(table, table.empty()))
    assert errors(gates) <= red(gates, evidence(table, nulls(evidence(table).frame)))
    blind = replace(evidence(table), inputs={}, run=None)
    assert errors(gates) <= red(gates, blind)


@pytest.mark.parametrize(("table", "gates"), TABLES, ids=lambda x: getattr(x, "name", ""))
def test_no_rows_are_legal_only_where_nothing_was_tested(table, gates):
    untested = made()[1]["hypotheses"].with_columns(is_eligible=pl.lit(value=False))
    assert errors(gates).isdisjoint(red(gates, evidence(table, table.empty(), inputs={"hypotheses": untested})))


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.tail(-1), "every_tested_once"),
        (lambda f: f.with_columns(n_run=pl.col("n_run") + 1), "every_tested_once"),
        (lambda f: f.with_columns(hold_bars=pl.col("hold_bars") + 1), "every_tested_once"),
        (lambda f: f.with_columns(net_mean_bps=pl.col("net_mean_bps") + 0.001), "trades_added_up"),
        (lambda f: f.with_columns(net_mean_train_bps=-pl.col("net_mean_train_bps")), "trades_added_up"),
        (lambda f: f.with_columns(net_mean_validation_bps=pl.lit(1.0)), "trades_added_up"),
        (lambda f: f.with_columns(max_drawdown=pl.col("max_drawdown") / 2), "trades_added_up"),
        (lambda f: f.with_columns(is_passed=~pl.col("is_passed")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(status=pl.lit("PASS")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(status=pl.lit("NOT_RUN")), "trades_added_up"),
        (lambda f: f.with_columns(fail_reasons=pl.lit("")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(is_passed=pl.lit(value=False)), "naive_entry_passed"),
    ],
)
def test_every_corruption_of_naive_entry_is_caught(change, gate):
    assert gate in red(GATES_NAIVE_ENTRY, evidence(NAIVE_ENTRY, change(made()[1]["naive_entry"])))


def test_a_naive_entry_that_was_not_run_is_a_remark_and_numbers_in_it_are_red():
    settings = {"run_naive_entry_eval": 0}
    assert {"naive_entry_passed"} == red(GATES_NAIVE_ENTRY, evidence(NAIVE_ENTRY, settings=settings))
    invented = evidence(NAIVE_ENTRY, settings=settings).frame.with_columns(net_mean_bps=pl.lit(1.0))
    assert "verdicts_follow_numbers" in red(GATES_NAIVE_ENTRY, evidence(NAIVE_ENTRY, invented, settings=settings))


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.tail(-1), "examined_once"),
        (lambda f: f.with_columns(hypothesis_id=pl.lit("x")), "examined_once"),
        (lambda f: f.with_columns(net_mean_validation_bps=pl.lit(1.0)), "hypotheses_restated"),
        (lambda f: f.with_columns(t_train=pl.lit(None, pl.Float64)), "hypotheses_restated"),
        (lambda f: f.with_columns(is_survivor=~pl.col("is_survivor")), "hypotheses_restated"),
        (lambda f: f.with_columns(is_evidence=~pl.col("is_evidence")), "hypotheses_restated"),
        (lambda f: f.with_columns(median_train_bps=pl.col("median_train_bps") + 0.001), "trades_measured_again"),
        (lambda f: f.with_columns(win_rate_train=pl.lit(None, pl.Float64)), "trades_measured_again"),
        (lambda f: f.with_columns(top_5pct_share_train=pl.lit(0.1)), "trades_measured_again"),
        (lambda f: f.with_columns(is_evidence=pl.lit(value=False)), "evidence_found"),
    ],
)
def test_every_corruption_of_expectancy_is_caught(change, gate):
    assert gate in red(GATES_EXPECTANCY, evidence(EXPECTANCY, change(made()[1]["expectancy"])))


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.tail(-1), "every_trap_asked"),
        (lambda f: f.with_columns(trap=pl.lit("overlap")), "every_trap_asked"),
        (lambda f: f.with_columns(limit=pl.col("limit") + 1), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(comparator=pl.lit("at most")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(is_passed=~pl.col("is_passed")), "verdicts_follow_numbers"),
        (lambda f: f.with_columns(observed=pl.lit(None, pl.Float64)), "verdicts_follow_numbers"),
        (
            lambda f: f.with_columns(
                observed=pl.col("observed") + pl.when(pl.col("trap") == "tails").then(1.0).otherwise(0.0)
            ),
            "traps_measured_again",
        ),
        (lambda f: f.with_columns(is_passed=pl.lit(value=False)), "traps_passed"),
    ],
)
def test_every_corruption_of_the_traps_is_caught(change, gate):
    assert gate in red(GATES_EXPECTANCY_TRAPS, evidence(EXPECTANCY_TRAPS, change(made()[1]["expectancy_traps"])))


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        (lambda f: f.tail(-1), "survivors_once"),
        (lambda f: f.with_columns(candidate_id=pl.lit("x")), "survivors_once"),
        (lambda f: f.with_columns(status=pl.lit("PROMOTED"), fail_reasons=pl.lit("x")), "promoted_for_cause"),
        (lambda f: f.with_columns(status=pl.lit("DRAFT")), "candidates_promoted"),
        (lambda f: f.with_columns(is_robust=~pl.col("is_robust")), "promoted_for_cause"),
        (lambda f: f.with_columns(has_capacity=pl.lit(value=False)), "promoted_for_cause"),
        (lambda f: f.with_columns(run_id=pl.lit("other")), "numbers_gathered"),
        (lambda f: f.with_columns(expectancy_per_trade=pl.col("expectancy_per_trade") + 1), "numbers_gathered"),
        (lambda f: f.with_columns(event_frequency=pl.col("event_frequency") * 2), "numbers_gathered"),
        (lambda f: f.with_columns(cost_ratio=pl.lit(0.1)), "numbers_gathered"),
        (lambda f: f.with_columns(variance=pl.col("variance") / 2), "numbers_gathered"),
        (lambda f: f.with_columns(stability_proxy=pl.lit(None, pl.Float64)), "numbers_gathered"),
        (lambda f: f.with_columns(symbol_scores_json=pl.lit("{}")), "numbers_gathered"),
    ],
)
def test_every_corruption_of_the_edge_candidates_is_caught(change, gate):
    assert gate in red(GATES_EDGE_CANDIDATES, evidence(EDGE_CANDIDATES, change(made()[1]["edge_candidates"])))


@pytest.mark.parametrize("table", ["naive_entry", "expectancy", "expectancy_traps"])
def test_a_candidate_promoted_without_its_evidence_is_red(table):
    without = made()[1][table].clear()
    assert "promoted_for_cause" in red(GATES_EDGE_CANDIDATES, evidence(EDGE_CANDIDATES, inputs={table: without}))
