import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.event import EventType, SideRule
from backtest_assets.research.events.conditions import Condition
from backtest_assets.research.hypotheses.days import DaySums
from backtest_assets.research.hypotheses.inference import judge_together
from backtest_assets.research.hypotheses.rules import HypothesisRule
from backtest_assets_tests.research.hypotheses.world import planted_world


def eligible() -> pl.DataFrame:
    return planted_world()[1].filter("is_eligible")


def test_r10_ess_is_scaled_to_the_events_of_the_run():
    rows = eligible().filter(pl.col("n_run") != pl.col("n_train"))
    assert rows.height
    again = rows["n_run"] * rows["ess_train"] / rows["n_train"]
    assert rows["ess_run"].to_list() == pytest.approx(again.to_list())


def test_stressed_costs_are_one_and_a_half_times_the_costs():
    rows, cost = eligible(), planted_world()[0].run.cost.round_trip_bps
    assert (rows["net_mean_train_bps"] - rows["stressed_mean_train_bps"]).to_list() == pytest.approx(
        [0.5 * cost] * rows.height
    )


def test_r12_the_penalty_is_k_standard_errors_of_the_luckiest_null():
    rows = eligible()
    luckiest = (rows["multiplicity_penalty_bps"] / rows["se_train_bps"]).to_list()
    assert luckiest == pytest.approx([luckiest[0]] * rows.height)
    assert 1.5 < luckiest[0] < np.sqrt(2 * np.log(rows.height))


def test_validation_is_confirmed_on_validation_and_not_on_train():
    # Of one symbol net and excess differ by the symbol's drift over the hold, the same on every split.
    rows = eligible().filter(
        pl.col("condition").str.starts_with("symbol_"), pl.col("event_type") == "vol_shock_relaxation"
    )
    assert rows.height
    drift = {s: (rows[f"net_mean_{s}_bps"] - rows[f"excess_mean_{s}_bps"]).to_list() for s in ("train", "validation")}
    assert drift["validation"] == pytest.approx(drift["train"], abs=1e-9)


def test_a_rule_and_its_mirror_image_share_draws_with_opposite_sign():
    family, condition = EventType.VOL_SHOCK_RELAXATION, Condition("all")
    rules = [HypothesisRule(family, condition, side, 4) for side in (SideRule.LONG, SideRule.SHORT)]
    pnl = np.random.default_rng(0).normal(size=(1, 200))
    sums = DaySums({rules[0].base: 0}, pnl, np.ones_like(pnl), np.array([200]))
    joint = judge_together(rules, sums, np.random.default_rng(1), cost_bps=0.0)
    assert joint.luckiest == pytest.approx(np.sqrt(2 / np.pi), abs=0.06)  # E|Z|; without the mirror E Z = 0
