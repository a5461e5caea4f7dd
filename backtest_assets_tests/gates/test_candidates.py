"""The gates of the evidence tables: green on the truth, red on every corruption of it."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.gates.candidates import GATES_NAIVE_ENTRY
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.research.hypotheses import study
from backtest_assets.research.hypotheses.naive_entry import enter_naively
from backtest_assets.tables.candidates import NAIVE_ENTRY
from backtest_assets_tests.research.hypotheses.world import Plant, make_world

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def studied():
    w = make_world(1, plant=Plant(bps=45))
    hypotheses = study.score_hypotheses(w.outcomes, w.events, w.context, w.bars, w.phase1, run=w.run)
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
    sources = [inputs[name] for name in ("hypotheses", "event_outcomes", "event_registry", "market_context")]
    return run, inputs | {"naive_entry": enter_naively(*sources, run=run)}


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


TABLES = [(NAIVE_ENTRY, GATES_NAIVE_ENTRY)]


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
