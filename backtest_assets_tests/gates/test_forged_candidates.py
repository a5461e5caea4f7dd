"""Naive entry, traps and edge candidates forged so that more passes: red at the gate that measures again."""

import polars as pl
import pytest

from backtest_assets.gates.edge_candidates import GATES_EDGE_CANDIDATES
from backtest_assets.gates.expectancy import GATES_EXPECTANCY, GATES_EXPECTANCY_TRAPS
from backtest_assets.gates.naive_entry import GATES_NAIVE_ENTRY
from backtest_assets.research.hypotheses.traps import LIMITS, Trap
from backtest_assets.tables.candidates import EDGE_CANDIDATES, EXPECTANCY, EXPECTANCY_TRAPS, NAIVE_ENTRY
from backtest_assets_tests.gates.test_candidates import evidence, made, red

CLEAN = {"at most": 0.5, "at least": 2.0, "above": 1.0}


def passing(trap: Trap, who: pl.Expr) -> pl.DataFrame:
    """Write a number that passes over one trap of the chosen hypotheses."""
    frame = made()[1]["expectancy_traps"]
    limit = frame.filter(pl.col("trap") == trap.value)["limit"][0]
    value = limit * CLEAN[LIMITS[trap].comparator] + (10.0 if LIMITS[trap].comparator == "above" else 0.0)
    hit = who & (pl.col("trap") == trap.value)
    return frame.with_columns(
        observed=pl.when(hit).then(pl.lit(value)).otherwise("observed"),
        is_passed=pl.when(hit).then(pl.lit(value=True)).otherwise("is_passed"),
    )


@pytest.mark.parametrize("trap", Trap)
def test_a_trap_forged_to_passing_is_red_for_one_hypothesis_as_for_all(trap: Trap):
    one = pl.col("hypothesis_id") == pl.col("hypothesis_id").last()
    for who in (pl.lit(value=True), one):
        asked = evidence(EXPECTANCY_TRAPS, passing(trap, who))
        assert "traps_measured_again" in red(GATES_EXPECTANCY_TRAPS, asked)
        assert red(GATES_EXPECTANCY_TRAPS, asked) <= {"traps_measured_again"}


def test_a_trap_that_says_unknown_where_it_is_known_is_red():
    hit = pl.col("trap") == Trap.REGIMES.value
    frame = made()[1]["expectancy_traps"].with_columns(
        observed=pl.when(~hit).then("observed"), is_passed=pl.col("is_passed") & ~hit
    )
    assert "traps_measured_again" in red(GATES_EXPECTANCY_TRAPS, evidence(EXPECTANCY_TRAPS, frame))


@pytest.mark.parametrize("n", [1, 2_000])
def test_naive_failures_forged_to_pass_are_red_wherever_they_are(n: int):
    frame = made()[1]["naive_entry"]
    may_pass = (pl.col("status") == "FAIL") & (pl.col("n_run") >= made()[0].naive_min_trades)
    ids = frame.filter(may_pass)["hypothesis_id"].tail(n)
    assert not ids.is_empty()
    lost = pl.col("hypothesis_id").is_in(ids.to_list())
    forged = frame.with_columns(
        net_mean_bps=pl.when(lost).then(0.5).otherwise("net_mean_bps"),
        max_drawdown=pl.when(lost).then(-0.1).otherwise("max_drawdown"),
        is_passed=pl.col("is_passed") | lost,
        status=pl.when(lost).then(pl.lit("PASS")).otherwise("status"),
        fail_reasons=pl.when(lost).then(pl.lit("")).otherwise("fail_reasons"),
    )
    assert {"trades_added_up"} == red(GATES_NAIVE_ENTRY, evidence(NAIVE_ENTRY, forged))


SWAPPED = {"with_event": "against_event", "against_event": "with_event", "long": "short", "short": "long"}


@pytest.mark.parametrize(
    "change",
    [
        {"side_rule": pl.col("side_rule").replace(SWAPPED)},
        {"hold_bars": pl.col("hold_bars") * 2},
        {"delay_bars": pl.col("delay_bars") + 1},
        {"candidate_symbol": pl.lit("BTCUSDT")},
        {"naive_status": pl.lit("NOT_RUN")},
        {"is_rollout_eligible": ~pl.col("is_rollout_eligible")},
        {"source_path": pl.lit("hypotheses/run_id=other")},
    ],
)
def test_a_candidate_that_says_another_rule_than_its_hypothesis_is_red(change: dict[str, pl.Expr]):
    forged = made()[1]["edge_candidates"].with_columns(**change)
    assert {"numbers_gathered"} == red(GATES_EDGE_CANDIDATES, evidence(EDGE_CANDIDATES, forged))


@pytest.mark.parametrize(
    "change",
    [
        {"sd_train_bps": pl.col("sd_train_bps") / 2},
        {"capacity_quote": pl.col("capacity_quote") * 10},
        {"p05_train_bps": pl.lit(0.0)},
        {"symbol_scores_json": pl.lit('{"BTCUSDT": {"n": 9, "net_mean_train_bps": 9.0}}')},
        {"symbol_scores_json": pl.col("symbol_scores_json").str.replace("ETHUSDT", "DOGEUSDT")},
    ],
)
def test_what_is_said_of_one_hypothesis_trades_is_measured_again(change: dict[str, pl.Expr]):
    last = pl.int_range(pl.len()) == pl.len() - 1
    forged = made()[1]["expectancy"].with_columns(
        pl.when(last).then(value).otherwise(name).alias(name) for name, value in change.items()
    )
    assert {"trades_measured_again"} == red(GATES_EXPECTANCY, evidence(EXPECTANCY, forged))
