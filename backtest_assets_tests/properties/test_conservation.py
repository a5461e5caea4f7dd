import math
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest_assets_tests.research.simulation.market import a_run
from backtest_assets_tests.research.simulation.results import random_results

SEEDS = st.integers(0, 2**32 - 1)
SUMS = ("gross_pnl", "fee", "slippage", "funding_pnl", "net_pnl")
few = settings(max_examples=12, deadline=None)


def results(seed, **settings_of_run: Any):  # noqa: ANN401  # any setting
    run = a_run(30, **settings_of_run) if settings_of_run else None
    return random_results(seed, n_days=30, n_events=120, run=run).frames


@few
@given(SEEDS)
def test_equity_changes_by_gross_minus_costs_plus_funding_and_nothing_else(seed):
    frames = results(seed)
    ledger, trades = frames["simulation_ledger"], frames["trades"]
    for frame in (ledger, trades):
        assert np.allclose(
            frame["net_pnl"], frame["gross_pnl"] - frame["fee"] - frame["slippage"] + frame["funding_pnl"], atol=1e-12
        )
    per_trade = ledger.group_by("trade_id").agg(pl.col(SUMS).sum()).sort("trade_id")
    assert per_trade["trade_id"].equals(trades.sort("trade_id")["trade_id"])
    assert np.allclose(per_trade.select(SUMS), trades.sort("trade_id").select(SUMS), atol=1e-12)


@few
@given(SEEDS)
def test_the_splits_and_what_is_purged_are_the_whole_ledger(seed):
    frames = results(seed)
    parts = frames["trades"].group_by("split").agg(pl.col("net_pnl").sum())
    assert set(parts["split"]) <= {"train", "validation", "test", "purged"}
    assert math.isclose(math.fsum(parts["net_pnl"]), math.fsum(frames["simulation_ledger"]["net_pnl"]), abs_tol=1e-9)


@few
@given(SEEDS)
def test_doubling_the_costs_lowers_every_trade_by_its_costs(seed):
    once, twice = results(seed)["trades"], results(seed, fees_bps=8.0, slippage_bps=4.0)["trades"]
    assert once["trade_id"].equals(twice["trade_id"])
    assert np.allclose(once["net_pnl"] - once["fee"] - once["slippage"], twice["net_pnl"], atol=1e-12)
    assert bool((twice["net_pnl"] < once["net_pnl"]).all())


@few
@given(SEEDS)
def test_without_costs_and_funding_a_trade_earns_its_price_change(seed):
    trades = results(seed, fees_bps=0.0, slippage_bps=0.0)["trades"]
    moved = trades["side"] * trades["exposure"] * (trades["exit_price"] / trades["entry_price"] - 1)
    assert np.allclose(moved + trades["funding_pnl"], trades["net_pnl"], atol=1e-12)


@few
@given(SEEDS)
def test_no_fill_lies_outside_its_bar_and_no_exposure_outside_the_caps(seed):
    frames = results(seed)
    bars = frames["bars_um"].select("symbol", "open_at", "open", "high", "low")
    entered = frames["trades"].join(bars, left_on=["symbol", "entered_at"], right_on=["symbol", "open_at"])
    assert entered["open"].equals(entered["entry_price"], check_names=False)
    exited = frames["trades"].filter(pl.col("exit_reason") != "end_of_data")
    exited = exited.join(bars, left_on=["symbol", "exited_at"], right_on=["symbol", "open_at"])
    assert bool(exited["exit_price"].is_between(exited["low"], exited["high"]).all())
    held = frames["simulation_ledger"].group_by("open_at").agg(pl.col("exposure_after").abs().sum())
    assert bool((held["exposure_after"] <= 1.0 + 1e-9).all())
