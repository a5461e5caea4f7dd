"""Numbers that are shown beside the deciding ones, against loops over single trades."""

import math

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.research.events.conditions import Condition, attach_conditions
from backtest_assets_tests.research.hypotheses.world import planted_world

ROWS = [
    ("vol_shock_relaxation", "all", "long", 16),
    ("range_compression_breakout_window", "session_us", "against_event", 48),
]


def excesses(w, family, condition, side_rule, hold):
    asked = attach_conditions(w.events, w.context).filter(Condition(condition).holds, pl.col("variant") == "centre")
    train = w.run.splits.windows[0]
    found = []
    own = w.outcomes.filter(
        pl.col("event_type") == family, pl.col("variant") == "centre", pl.col("control_no") == 0,
        pl.col("split") == "train", pl.col("delay_bars") == 0, pl.col("hold_bars") == hold,
        pl.col("event_id").is_in(asked["event_id"].to_list()),
    )  # fmt: skip
    for row in own.iter_rows(named=True):
        side, opens = SideRule(side_rule).side(row["side"]), w.opens[row["symbol"]][: train.n_days * 96]
        drift = hold * float(np.mean(opens[1:] / opens[:-1] - 1)) * 1e4
        found.append(side * (row["gross_bps"] - row["funding_bps"] - drift) - 12.0)
    return np.array(found)


def row_of(family, condition, side_rule, hold):
    own = {"event_type": family, "condition": condition, "side_rule": side_rule, "hold_bars": hold}
    return planted_world()[1].filter(**own).row(0, named=True)


@pytest.mark.parametrize("cell", ROWS)
def test_the_iid_t_takes_every_trade_for_an_independent_one(cell):
    x = excesses(planted_world()[0], *cell)
    row = row_of(*cell)
    assert x.mean() / (x.std(ddof=1) / math.sqrt(x.size)) == pytest.approx(row["t_iid_train"], rel=1e-9)
    assert row["t_iid_train"] != pytest.approx(row["t_train"], rel=1e-3)


@pytest.mark.parametrize("cell", ROWS)
def test_r12_the_older_penalties_are_shown_beside_the_deciding_one(cell):
    x, row, w = excesses(planted_world()[0], *cell), row_of(*cell), planted_world()[0]
    m, k = planted_world()[1]["is_eligible"].sum(), w.run.phase2_multiplicity_k
    expected = k * x.std(ddof=1) * math.sqrt(math.log(m) / row["ess_train"])
    assert expected == pytest.approx(row["penalty_ln_m_bps"], rel=1e-9)
    assert expected * math.sqrt(2) == pytest.approx(row["penalty_2_ln_m_bps"], rel=1e-9)
    assert row["penalty_2_ln_m_bps"] > row["multiplicity_penalty_bps"]


def test_both_sides_are_shrunk_towards_the_cost_and_never_past_it():
    table = planted_world()[1].filter("is_eligible")
    raw, kept = table["excess_mean_train_bps"] + 12.0, table["shrunken_excess_mean_train_bps"] + 12.0
    assert ((kept * raw >= -1e-12) & (kept.abs() < raw.abs())).all()
    sides = table.group_by("event_type", "condition", "hold_bars").agg(pl.col("shrunken_excess_mean_train_bps").sum())
    assert sides["shrunken_excess_mean_train_bps"].to_list() == pytest.approx([-24.0] * sides.height)


def test_the_planted_edge_stands_and_the_best_of_the_others_falls_to_its_cost():
    table = planted_world()[1].filter("is_eligible")
    best = table.filter(status="selected").sort("t_train").row(-1, named=True)
    assert 0.6 * best["excess_mean_train_bps"] < best["shrunken_excess_mean_train_bps"] < best["excess_mean_train_bps"]
    others = table.filter(pl.col("event_type") != EventType.VOL_SHOCK_RELAXATION, pl.col("t_train") > 0)
    assert (others["excess_mean_train_bps"] > 5.0).any()
    assert (others["shrunken_excess_mean_train_bps"] < others["excess_mean_train_bps"]).all()
    assert np.mean(others["shrunken_excess_mean_train_bps"].to_numpy()) < -6.0


def test_what_was_not_tested_has_none_of_them():
    names = ["t_iid_train", "penalty_ln_m_bps", "penalty_2_ln_m_bps", "shrunken_excess_mean_train_bps"]
    untested = planted_world()[1].filter(~pl.col("is_eligible")).select(names)
    assert untested.height
    assert untested.null_count().row(0) == (untested.height,) * 4
    assert planted_world()[1].filter("is_eligible").select(names).null_count().row(0) == (0,) * 4
