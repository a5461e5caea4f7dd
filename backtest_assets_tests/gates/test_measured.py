"""The second count of what every slice is asked, and the identities its numbers keep."""

from datetime import timedelta

import polars as pl
import pytest

from backtest_assets.domain.split import Split
from backtest_assets.gates.gate import Answer
from backtest_assets.gates.measured import Rows, measured_differently
from backtest_assets.gates.metrics import MAYBE_NULL, never_null
from backtest_assets.gates.simulation import GATES_BACKTEST_METRICS
from backtest_assets.gates.sql import ask_sqls
from backtest_assets.gates.walkforward import GATES_WALKFORWARD_TEST, GATES_WALKFORWARD_TRAIN
from backtest_assets_tests.research.simulation.asking import answers, evidence
from backtest_assets_tests.research.simulation.market import A, B, a_run, blueprint
from backtest_assets_tests.research.simulation.results import random_results

DONE = random_results()
TRAIN, TEST, METRICS = (DONE.frames[name] for name in ("walkforward_train", "walkforward_test", "backtest_metrics"))
NAMES = (*never_null(evidence(DONE, "walkforward_train", TRAIN)), *MAYBE_NULL)
ONCE = {"benchmark_sharpe_annualised", "alpha_annual_se", "max_drawdown", "exposure_frac"}
"""Counted once: statistics with tests of their own, and what older gates hold."""
ELSEWHERE = {"gross", "fees", "slippage", "funding", "net", "ending_equity", "break_even_bps", "calmar"}
IDENTITIES = {
    "net", "gross", "fees", "slippage", "funding", "turnover", "break_even_bps", "calmar", "annual_growth", "max_drawdown",
    "net_long", "net_short", "gross_exposure_mean", "net_exposure_mean", "long_exposure_mean", "short_exposure_mean",
    *(name for name in NAMES if name.startswith("net_at_") or "_of_" in name),
}  # fmt: skip


def ask(name: str, gate: str, frame: pl.DataFrame, done=DONE, **inputs: pl.DataFrame) -> Answer:
    of_table = {"walkforward_train": GATES_WALKFORWARD_TRAIN, "walkforward_test": GATES_WALKFORWARD_TEST, "backtest_metrics": GATES_BACKTEST_METRICS}  # fmt: skip
    (found,) = [
        answer
        for asked in of_table[name]
        if asked.name == gate
        for answer in answers(done, name, (asked,), frame, {**done.frames, **inputs})
    ]
    assert "crashed" not in found.verdict.detail, found.verdict.detail
    return found


def wrong(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    """One metric of one scope, a little beside the truth; an unknown one gets a number."""
    key = "blueprint_id" if "blueprint_id" in frame.columns else "scope"
    here = (pl.col("metric") == metric) & (pl.col(key) == "b")
    assert frame.filter(here).height
    return frame.with_columns(value=pl.when(here).then(pl.col("value").fill_null(1.0) * (1 + 1e-6) + 1e-6).otherwise("value"))  # fmt: skip


def rows_of(split: Split) -> Rows:
    trades = DONE.frames["trades"].filter(split=split.value)
    ledger = DONE.frames["simulation_ledger"].join(trades, on="trade_id", how="semi")
    window = DONE.run.splits[split]
    return Rows(ledger, trades, DONE.frames["bars_um"], window.start, window.end)


def seen_as_wrong(frame: pl.DataFrame) -> list[tuple[str, str]]:
    told = frame.rename({"blueprint_id": "scope"})
    found = measured_differently(told, rows_of(Split.TRAIN), ("portfolio", "a", "b", "c"), run=DONE.run)
    return sorted(found.select("scope", "metric").iter_rows())


def test_every_wrong_number_and_no_right_one_is_seen_by_the_second_count():
    counted = sorted(set(NAMES) - ONCE - ELSEWHERE - {name for name in NAMES if name.startswith("net_at_")})
    assert len(counted) > 30
    assert [] == seen_as_wrong(TRAIN)
    spoilt = TRAIN
    for metric in counted:
        spoilt = wrong(spoilt, metric)
    gone = TRAIN.filter((pl.col("blueprint_id") != "b") | ~pl.col("metric").is_in(counted))
    for frame in (spoilt, gone):
        assert [("b", metric) for metric in counted] == seen_as_wrong(frame)


def test_a_wrong_number_blocks_and_is_named():
    answer = ask("walkforward_train", "measured_twice", wrong(TRAIN, "beta"))
    assert (answer.blocks, answer.verdict.observed) == (True, 1)
    assert (answer.verdict.examples[0]["scope"], answer.verdict.examples[0]["metric"]) == ("b", "beta")


@pytest.mark.parametrize("metric", sorted(IDENTITIES))
def test_one_wrong_part_no_longer_adds_up(metric):
    assert ask("walkforward_train", "parts_add_up", wrong(TRAIN, metric)).blocks


@pytest.mark.parametrize("gate", ["measured_twice", "parts_add_up"])
def test_the_backtest_is_asked_the_same(gate):
    assert ask("backtest_metrics", gate, METRICS).verdict.passed
    assert ask("backtest_metrics", gate, wrong(METRICS, "net_long")).blocks


@pytest.mark.parametrize("metric", ["psr_2012", "beta", "benchmark_return", "break_even_bps"])
def test_a_number_that_became_unknown_is_seen(metric):
    gone = TRAIN.with_columns(value=pl.when(pl.col("metric") != metric).then("value"))
    assert ask("walkforward_train", "parts_add_up" if metric == "break_even_bps" else "measured_twice", gone).blocks


def test_d12_costs_that_are_not_those_of_the_runs_model_are_seen():
    other = random_results(n_days=20, n_events=40, run=a_run(20, slippage_bps=3.0), specs=lambda run: (blueprint("a", cost=run.cost),))  # fmt: skip
    assert ask("walkforward_train", "parts_add_up", other.frames["walkforward_train"], other).verdict.passed
    cheap = type(other)(a_run(20), other.frames)
    assert ask("walkforward_train", "parts_add_up", other.frames["walkforward_train"], cheap).blocks


def test_d15_the_base_scenario_is_the_headline():
    told = TRAIN.filter(pl.col("metric").is_in(["net", "net_at_1x_costs"])).pivot("metric", index="blueprint_id", values="value")  # fmt: skip
    assert told.filter((pl.col("net") - pl.col("net_at_1x_costs")).abs() > 1e-12).is_empty()
    assert ask("walkforward_train", "parts_add_up", wrong(TRAIN, "net_at_1x_costs")).blocks


def test_another_market_is_another_benchmark():
    bars = DONE.frames["bars_um"].with_columns(pl.when(pl.col("symbol") == A).then(pl.col("close") * 1.01).otherwise("close").alias("close"))  # fmt: skip
    answer = ask("walkforward_train", "measured_twice", TRAIN, bars_um=bars)
    assert answer.blocks
    assert {"benchmark_return"} <= {example["metric"] for example in answer.verdict.examples}


def test_the_second_count_knows_late_listings_and_symbols_without_a_bar():
    opened = DONE.run.window[0] + timedelta(days=8)
    done = random_results(n_days=40, run=a_run(40), bars_from={B: opened})
    gone = random_results(n_days=40, run=a_run(40, symbols=f"{A},{B},CCCUSDT"))
    for one in (done, gone):
        assert ask("walkforward_train", "measured_twice", one.frames["walkforward_train"], one).verdict.passed
        assert ask("walkforward_train", "parts_add_up", one.frames["walkforward_train"], one).verdict.passed
        assert ask("backtest_metrics", "measured_twice", one.frames["backtest_metrics"], one).verdict.passed


def test_r56_a_test_of_few_trades_or_days_is_a_remark_that_says_how_few():
    few = random_results(n_days=60, n_events=8, run=a_run(60))
    told = few.frames["walkforward_test"]
    trades = ask("walkforward_test", "few_trades", told, few)
    days = ask("walkforward_test", "few_days_held", told, few)
    n = dict(told.filter(metric="n_trades").select("blueprint_id", "value").iter_rows())
    for answer in (trades, days):
        assert (answer.verdict.passed, answer.blocks) == (False, False)
    assert f"a {n['a']:g}" in trades.verdict.detail
    assert "fewer than 10 of the 12 days of the test window" in days.verdict.detail
    assert few.run.splits[Split.TEST].n_days == 12


def test_days_held_are_those_of_the_test_window_alone():
    held = DONE.frames["simulation_ledger"].join(DONE.frames["trades"].filter(split="test"), on="trade_id", how="semi")
    n_days = held.group_by("blueprint_id").agg(pl.col("open_at").dt.date().n_unique().alias("n"))
    few = n_days.filter(pl.col("n") < 10)["blueprint_id"].sort().to_list()
    answer = ask("walkforward_test", "few_days_held", TEST)
    assert len(few) == answer.verdict.observed
    assert all(name in answer.verdict.detail for name in few)


def test_several_queries_are_answered_in_order():
    frames = {"x": pl.DataFrame({"n": [1, 2, 3]})}
    told = ask_sqls(("SELECT sum(n)::INT AS n FROM x", "SELECT max(n) AS n FROM x"), frames)
    assert [6, 3] == [answer["n"].item() for answer in told]
