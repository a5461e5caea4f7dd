import math
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.split import Split
from backtest_assets.research.hypotheses import rules, study, summary, trades
from backtest_assets.research.hypotheses.days import book_days
from backtest_assets.research.hypotheses.inference import day_gains
from backtest_assets_tests.research.hypotheses.test_study import study_of
from backtest_assets_tests.research.hypotheses.world import Plant, make_world, planted_world


def summary_of(w, table):
    return summary.summarise_inference(w.outcomes, w.events, w.context, w.bars, table, run=w.run)


@cache
def shown():
    w, table = planted_world()
    return summary_of(w, table)


def values(frame):
    return dict(frame.select("statistic", "value").iter_rows())


def test_the_summary_speaks_of_the_tested_hypotheses_and_their_penalty():
    _, table = planted_world()
    told, tested = values(shown()), table.filter("is_eligible")
    assert set(summary.SUMMARY) == set(told)
    assert tested.height == told["n_tested"]
    penalty = told["luckiest_null_t"] * tested["se_train_bps"]
    assert tested["multiplicity_penalty_bps"].to_list() == pytest.approx(penalty.to_list(), rel=1e-12)
    assert 1 < told["effective_rank"] < tested.height / 2


def test_a_run_of_several_entry_delays_is_summed_up_over_all_of_them():
    w = make_world(
        1, n_days=300, n_events=400, plant=Plant(bps=45), phase2_event_type="vol_shock_relaxation",
        phase2_entry_delays_bars="0,4",
    )  # fmt: skip
    for run in (w.run, replace(w.run, phase2_event_type="all")):
        table = study_of(replace(w, run=run))
        tested = table.filter("is_eligible")
        assert {0, 4} == set(tested["delay_bars"])
        told = values(summary_of(replace(w, run=run), table))
        assert tested.height == told["n_tested"]
        penalty = told["luckiest_null_t"] * tested["se_train_bps"]
        assert tested["multiplicity_penalty_bps"].to_list() == pytest.approx(penalty.to_list(), rel=1e-12)


def test_a_narrowed_run_is_summed_up_over_all_that_it_adjusts_for():
    w, _ = planted_world()
    one = replace(w, run=replace(w.run, phase2_event_type="liquidity_vacuum"))
    table = study_of(one)
    assert table["is_eligible"].sum() < values(shown())["n_tested"]
    assert_frame_equal(shown(), summary_of(one, table), check_exact=True)


@pytest.mark.slow
def test_a_planted_edge_is_better_than_luck_and_a_market_without_one_is_not():
    told = values(shown())
    assert told["spa_p_lower"] <= told["spa_p_consistent"] <= told["spa_p_upper"]
    assert told["spa_p_consistent"] < 0.01
    w = make_world(21)
    null = summary_of(w, study_of(w))
    assert values(null)["spa_p_consistent"] > 0.05
    reading = dict(null.select("statistic", "detail").iter_rows())
    assert "no better than luck" in reading["spa_p_consistent"]
    assert "uncorrelated" in reading["day_lag_p"]


def test_gains_of_a_day_are_the_day_sums_less_costs_in_the_direction_of_the_rule():
    w, table = planted_world()
    own = w.outcomes.filter(pl.col("variant") == "centre", pl.col("delay_bars") == 0, pl.col("split") == "train")
    priced = trades.priced_trades(
        own, trades.asked_events(w.events, w.context, run=w.run), trades.train_drift(w.bars, run=w.run), run=w.run
    )
    sums = book_days(priced, trades.run_conditions(w.run), run=w.run, split=Split.TRAIN)
    tested = summary.tested_rules(table)
    assert len(set(tested)) == table["is_eligible"].sum()
    assert set(tested) <= set(rules.declared_rules(w.run))
    gains = day_gains(tested, sums, cost_bps=12.0)
    mean = gains.sum(axis=1) / np.array([sums.shares[sums.row_of[rule.base]].sum() for rule in tested])
    said = {(r["event_type"], r["condition"], r["side_rule"], r["hold_bars"]): r["excess_mean_train_bps"]
            for r in table.filter("is_eligible").to_dicts()}  # fmt: skip
    expected = [said[rule.event_type, rule.condition.name, rule.side_rule, rule.hold_bars] for rule in tested]
    np.testing.assert_allclose(expected, mean, rtol=1e-9)


def test_nothing_tested_leaves_every_number_but_the_count_unknown():
    w, _ = planted_world()
    nothing = study.score_hypotheses(w.outcomes.clear(), w.events.clear(), w.context, w.bars, w.phase1, run=w.run)
    told = values(summary_of(w, nothing))
    assert told == dict.fromkeys(summary.SUMMARY) | {"n_tested": 0.0}


def test_row_order_and_the_validation_split_change_nothing():
    w, table = planted_world()
    outcomes, events, context, bars = (
        f.sample(fraction=1, shuffle=True, seed=5) for f in (w.outcomes, w.events, w.context, w.bars)
    )
    mixed = summary.summarise_inference(outcomes, events, context, bars, table, run=w.run)
    assert_frame_equal(shown(), mixed, check_exact=True)
    train_only = w.outcomes.filter(pl.col("split") == "train")
    again = summary.summarise_inference(train_only, w.events, w.context, w.bars, table, run=w.run)
    assert_frame_equal(shown(), again, check_exact=True)


def test_the_words_follow_the_numbers():
    told = dict.fromkeys(summary.SUMMARY, 1.0) | {"n_tested": 5.0, "spa_p_consistent": 0.01, "day_lag_p": 0.01}
    assert "is better than luck" in summary._reading("spa_p_consistent", told)
    assert "hang together" in summary._reading("day_lag_p", told)
    assert summary._reading("spa_p_consistent", told | {"spa_p_consistent": math.nan}).startswith("unknown")
