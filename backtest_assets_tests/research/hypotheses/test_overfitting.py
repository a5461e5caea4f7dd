"""The overfitting of a run's search: by its tested hypotheses' days, and what an edge and none make of it."""

import math

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses.overfitting import N_BLOCKS, search_overfitting
from backtest_assets.stats.overfitting import overfitting_probability
from backtest_assets_tests.research.hypotheses.world import planted_world


def searched(table, **changes: pl.DataFrame):
    w, _ = planted_world()
    frames = {"outcomes": w.outcomes, "events": w.events, "context": w.context, "bars": w.bars} | changes
    return search_overfitting(**frames, hypotheses=table, run=w.run)


def without_the_edge():
    _, table = planted_world()
    tested = pl.col("is_eligible") & (pl.col("event_type") != "vol_shock_relaxation")
    return table.with_columns(is_eligible=tested)


def test_a_planted_edge_is_remembered_by_every_half_and_a_search_without_it_is_not():
    _, table = planted_world()
    found = searched(table)
    assert found.n_halves == math.comb(N_BLOCKS, N_BLOCKS // 2)
    assert found.n_trials == table["is_eligible"].sum()
    assert found.probability < 0.02
    nothing = searched(without_the_edge())
    assert nothing.n_trials < found.n_trials
    assert nothing.probability > 0.25
    assert nothing.mean_logit < 1 < found.mean_logit


def test_the_configurations_are_the_days_of_the_tested_hypotheses_before_costs():
    w, table = planted_world()
    side = pl.col("condition").is_in(["all"]) & (pl.col("event_type") == "vol_shock_relaxation")
    few = table.with_columns(is_eligible=pl.col("is_eligible") & side)
    drift = {}
    for symbol in w.run.symbol_list:
        train = w.run.splits[Split.TRAIN]
        own = w.bars.filter(symbol=symbol).filter(pl.col("open_at").is_between(train.start, train.end, closed="left"))
        opens = own.sort("open_at")["open"].to_numpy()
        drift[symbol] = 1e4 * (opens[1:] / opens[:-1] - 1).mean()
    start, columns = w.run.window[0].date(), []
    n_days = (w.run.splits[Split.VALIDATION].end - w.run.window[0]).days
    for row in few.filter("is_eligible").to_dicts():
        days = np.zeros(n_days)
        own = w.outcomes.filter(
            pl.col("event_type") == row["event_type"], pl.col("variant") == "centre", pl.col("control_no") == 0,
            pl.col("delay_bars") == 0, pl.col("hold_bars") == row["hold_bars"],
        )  # fmt: skip
        for trade in own.to_dicts():
            parts = zip(trade["accrual_day"], trade["accrual_bps"], trade["accrual_share"], strict=True)
            for day, bps, share in parts:
                days[(day - start).days] += bps - drift[trade["symbol"]] * row["hold_bars"] * share
        columns.append(days if row["side_rule"] == "long" else -days)
    expected = overfitting_probability(np.stack(columns, axis=1), n_blocks=N_BLOCKS)
    found = searched(few)
    assert (expected.probability, expected.n_trials) == (found.probability, found.n_trials)
    assert found.mean_logit == pytest.approx(expected.mean_logit, abs=1e-9)


def test_nothing_tested_or_nothing_traded_is_unknown():
    w, table = planted_world()
    for found in (
        searched(table.with_columns(is_eligible=pl.lit(value=False))),
        searched(table, outcomes=w.outcomes.clear()),
    ):
        assert math.isnan(found.probability)
        assert found.n_trials == 0
