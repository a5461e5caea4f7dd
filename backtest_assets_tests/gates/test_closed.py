"""Every way in which the walk-forward must fail closed, (a) to (i), and the two in which it must not (R54, R55)."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from backtest_assets.defs.reads import EXECUTION_TABLES, READS
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.run import run_from_dict
from backtest_assets.domain.split import Split
from backtest_assets.errors import RefusedError, SettingsError
from backtest_assets.gates.registry import GATES
from backtest_assets.research.simulation.ledger import simulate_ledger
from backtest_assets.research.walkforward.splits import plan_table, slice_metrics, summarise
from backtest_assets_tests.research.simulation.asking import answers
from backtest_assets_tests.research.simulation.market import a_run
from backtest_assets_tests.research.simulation.results import Results, random_results

DONE = random_results()
RUN, FRAMES = DONE.run, DONE.frames
PAGE = Path(__file__).parents[2] / "docs" / "walkforward.md"


def blocked(name: str, frame: pl.DataFrame, done: Results = DONE, **inputs: pl.DataFrame) -> set[str]:
    """Gates that forbid to publish a table; a crash forbids it too."""
    found = answers(done, name, GATES[name], frame, {**done.frames, **inputs})
    return {answer.verdict.gate for answer in found if answer.blocks}


@cache
def behind(table: str) -> frozenset[str]:
    """Every table that must be green before another is made."""
    found = frozenset(read.table for read in READS[table])
    return found.union(*(behind(name) for name in found))


def wrong(frame: pl.DataFrame, metric: str, value: float | None) -> pl.DataFrame:
    return frame.with_columns(value=pl.when(pl.col("metric") != metric).then("value").otherwise(pl.lit(value)))


def test_r55_execution_has_one_source_and_no_word_for_another():
    sources = {"blueprints", "strategy_candidates", "edge_candidates", "hypotheses"}
    judging = {"promotions", "capital_allocation"}  # they weigh what was traded by the hypothesis that it comes from
    for table in EXECUTION_TABLES:
        allowed = {"blueprints", "hypotheses"} if table in judging else {"blueprints"}
        assert {read.table for read in READS[table]} & sources <= allowed, table
    for word in ("strategies", "blueprints_path"):
        with pytest.raises(SettingsError, match=f"unknown settings {word}"):
            run_from_dict({**RUN.to_dict(), word: "x"})


SETTINGS = {
    "b: no top share": ({"walkforward_drawdown_cluster_top_frac": 0.0}, "cluster_top_frac is 0"),
    "b: more than all clusters": ({"walkforward_drawdown_cluster_top_frac": 1.1}, "cluster_top_frac is 1.1"),
    "b: no tail": ({"walkforward_drawdown_tail_q": 0.0}, "tail_q is 0"),
    "b: the whole tail": ({"walkforward_drawdown_tail_q": 1.0}, "tail_q is 1"),
    "b: not a number": ({"walkforward_drawdown_tail_q": math.nan}, "tail_q is nan"),
    "c: it ends before it starts": ({"end": "2023-12-31"}, "lies after end"),
    "c: no train": ({"walkforward_train_frac": 0.0}, "train_frac 0.0"),
    "c: train alone": ({"walkforward_train_frac": 1.0}, "train_frac 1.0"),
    "c: a negative embargo": ({"walkforward_embargo_days": -1}, "embargo_days is -1"),
    "d: no test left": ({"walkforward_train_frac": 0.8}, r"so that a test window remains \(R56\)"),
    "d: embargoes eat the test": ({"walkforward_embargo_days": 6}, "the test window .* not longer than its purge"),
    "d: a test no longer than its purge": (
        {"walkforward_train_frac": 0.9, "walkforward_validation_frac": 0.085},
        "the test window .* not longer than its purge",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_r54_settings_that_cannot_be_walked_forward_make_no_run(case):
    settings, says = SETTINGS[case]
    with pytest.raises(SettingsError, match=says):
        replace(RUN, **settings)


def test_r56_a_test_below_the_minimum_is_refused_before_anything_is_executed():
    short = a_run(30)
    assert {"windows_long_enough"} == blocked("walkforward_splits", plan_table(run=short), Results(short, {}))
    assert "windows_long_enough" in blocked("walkforward_splits", FRAMES["walkforward_splits"].head(2))
    assert all("walkforward_splits" in behind(table) for table in EXECUTION_TABLES)


def test_r54_without_an_executed_blueprint_nothing_is_simulated_nor_published():
    none = FRAMES["blueprints"].with_columns(is_executed=pl.lit(value=False))
    market = FRAMES["bars_um"], FRAMES["settlements_um"]
    inputs = (*market, FRAMES["event_registry"], FRAMES["market_context"])
    empty = simulate_ledger(*inputs, none, features=FRAMES["features"], run=RUN)
    assert empty.is_empty()
    assert "positions_unbroken" in blocked("simulation_ledger", empty, blueprints=none)
    for broken in ("{}", "no json"):
        torn = FRAMES["blueprints"].with_columns(spec_json=pl.lit(broken))
        with pytest.raises(SettingsError, match="cannot be read"):
            simulate_ledger(*inputs, torn, features=FRAMES["features"], run=RUN)


SPLIT: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "f, i: nothing": lambda f: f.clear(),
    "g: a blueprint is missing": lambda f: f.filter(pl.col("blueprint_id") != "b"),
    "g: an unexpected one": lambda f: pl.concat([f, f.filter(blueprint_id="a").with_columns(blueprint_id=pl.lit("x"))]),
    "g: a metric is missing": lambda f: f.filter(pl.col("metric") != "max_drawdown"),
    "g: a column is missing": lambda f: f.drop("value"),
    "h: not a number": lambda f: wrong(f, "net", math.nan),
    "h: infinite": lambda f: wrong(f, "ending_equity", math.inf),
    "h: unknown where it may not be": lambda f: wrong(f, "stressed_net", None),
    "i: no portfolio": lambda f: f.filter(pl.col("blueprint_id") != "portfolio"),
}


@pytest.mark.parametrize("case", SPLIT)
def test_r54_r57_a_split_that_is_not_whole_is_not_published(case):
    assert blocked("walkforward_test", SPLIT[case](FRAMES["walkforward_test"]))


@pytest.mark.parametrize("column", ["net_pnl", "gross_pnl", "fee", "slippage", "funding_pnl", "exposure_after"])
def test_r54_r58_a_ledger_without_a_number_is_not_published(column):
    for value in (math.nan, math.inf, None):
        torn = FRAMES["simulation_ledger"].with_columns(pl.lit(value, pl.Float64).alias(column))
        assert "contract" in blocked("simulation_ledger", torn)


def test_r54_promotion_has_no_evidence_without_both_splits():
    train = FRAMES["walkforward_train"]
    with pytest.raises(RefusedError, match="rebuild both from one ledger"):
        summarise(train, train.clear())
    assert "walkforward_test" not in behind("promotions")
    assert {"promotions", "walkforward_summary"} <= behind("walkforward_test")


def test_a_test_without_a_trade_or_with_losses_alone_is_published_with_remarks():
    inputs = {name: FRAMES[name] for name in ("market_context", "blueprints", "bars_um")}
    trades = FRAMES["trades"].filter(pl.col("split") != "test")
    lost = FRAMES["trades"].filter((pl.col("split") != "test") | (pl.col("net_pnl") < 0))
    for seen in (trades, lost):
        ledger = FRAMES["simulation_ledger"].join(seen, on="trade_id", how="semi")
        made = slice_metrics(ledger, seen, *inputs.values(), run=RUN, split=Split.TEST)
        assert set() == blocked("walkforward_test", made, simulation_ledger=ledger, trades=seen)
        told = answers(
            DONE,
            "walkforward_test",
            GATES["walkforward_test"],
            made,
            {**FRAMES, "simulation_ledger": ledger, "trades": seen},
        )
        remarks = {a.verdict.gate for a in told if a.severity is Severity.WARN and not a.verdict.passed}
        assert {"few_trades", "few_days_held"} == remarks


def test_the_page_names_tests_that_are_there():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    there: set[str] = set()
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        there |= {path.stem, *re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert len(named) > 15
    assert sorted(named - there) == []
