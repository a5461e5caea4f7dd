"""Naive entry by hand and on a planted market (R74-R77)."""

from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest

from backtest_assets.errors import SettingsError
from backtest_assets.research.hypotheses.naive_entry import enter_naively
from backtest_assets_tests.research.hypotheses.world import make_run, planted_world


@cache
def naive(**settings: object):
    w, hypotheses = planted_world()
    run = replace(w.run, **settings)
    return w, hypotheses, enter_naively(hypotheses, w.outcomes, w.events, w.context, run=run)


def plain(w, row):
    """The trades of an unconditioned rule with its own loop: (known_at, split, net bps) in time order."""
    sign = -1 if row["side_rule"] in {"short", "against_event"} else 1
    rows = w.outcomes.filter(
        pl.col("event_type") == row["event_type"], pl.col("variant") == "centre", pl.col("control_no") == 0,
        pl.col("delay_bars") == 0, pl.col("hold_bars") == row["hold_bars"],
    ).sort("known_at", "symbol")  # fmt: skip
    return [
        (t["known_at"], t["split"], sign * (t["side"] or 1) * (t["gross_bps"] - t["funding_bps"]) - 12.0)
        for t in rows.to_dicts()
    ]


@pytest.mark.parametrize("side_rule", ["long", "short", "with_event", "against_event"])
def test_means_sharpe_and_drawdown_equal_a_plain_loop(side_rule):
    w, _, table = naive()
    row = table.filter(pl.col("condition") == "all", pl.col("side_rule") == side_rule, pl.col("hold_bars") == 48).row(
        0, named=True
    )
    trades = plain(w, row)
    for split in ("train", "validation"):
        nets = [net for _, s, net in trades if s == split]
        assert pytest.approx(sum(nets) / len(nets)) == row[f"net_mean_{split}_bps"]
        assert len(nets) == row[f"n_{split}"]
    nets = np.array([net for _, _, net in trades])
    per_year = len(nets) / 400 * 365  # train and validation are 400 of 500 days
    assert pytest.approx(nets.mean()) == row["net_mean_bps"]
    assert pytest.approx(nets.mean() / nets.std(ddof=1) * per_year**0.5) == row["sharpe_annual"]
    at_once: dict = {}
    for known_at, _, net in trades:
        at_once[known_at] = at_once.get(known_at, 0.0) + net
    total = peak = 1.0
    deepest = 0.0
    for net in at_once.values():
        total += net / 1e4
        peak = max(peak, total)
        deepest = min(deepest, max(total, 0.0) / peak - 1)
    assert pytest.approx(deepest) == row["max_drawdown"]


def test_r74_the_plain_rule_of_every_tested_hypothesis_is_traded_and_the_planted_one_passes():
    _, hypotheses, table = naive()
    assert set(hypotheses.filter("is_eligible")["hypothesis_id"]) == set(table["hypothesis_id"])
    joined = table.join(hypotheses, on="hypothesis_id", suffix="_tested")
    for split in ("train", "validation"):
        gaps = (joined[f"net_mean_{split}_bps"] - joined[f"net_mean_{split}_bps_tested"]).abs()
        assert (gaps < 1e-9).all(), "the plain rule is the tested rule: costs once, nothing else"
    found = table.filter(
        pl.col("event_type") == "vol_shock_relaxation", pl.col("condition") == "all", pl.col("side_rule") == "long",
        pl.col("hold_bars") == 16,
    )  # fmt: skip
    assert ("PASS", True, "") == found.select("status", "is_passed", "fail_reasons").row(0)


def test_r74_where_it_is_not_run_every_row_says_so_and_none_passes():
    _, hypotheses, table = naive(run_naive_entry_eval=0)
    assert hypotheses.filter("is_eligible").height == table.height
    assert {("NOT_RUN", False, "run_naive_entry_eval 0")} == set(
        table.select("status", "is_passed", "fail_reasons").rows()
    )
    assert (0, 0, 0) == table.select(pl.col("net_mean_bps", "max_drawdown", "sharpe_annual").count()).row(0)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"naive_min_trades": 10_000}, "naive_min_trades 10000"),  # R75
        ({"naive_min_expectancy_after_cost": 0.5}, "naive_min_expectancy_after_cost 0.5"),  # R76
        ({"naive_max_drawdown": 0.0}, "naive_max_drawdown 0"),  # R77
    ],
)
def test_r75_to_r77_each_limit_is_held_and_named(settings, reason):
    _, _, table = naive(**settings)
    assert not table["is_passed"].any()
    assert table["fail_reasons"].str.contains(reason, literal=True).all()


def test_r75_trades_are_counted_over_the_run_window_and_returns_are_not():
    _, hypotheses, table = naive()
    counted = table.join(hypotheses.select("hypothesis_id", tested="n_run"), on="hypothesis_id")
    assert counted["n_run"].to_list() == counted["tested"].to_list()
    assert (table["n_run"] > table["n_train"] + table["n_validation"]).all()
    w, _ = planted_world()
    assert {"train", "validation"} == set(w.outcomes["split"])


def test_without_a_tested_hypothesis_there_is_no_row():
    w, hypotheses = planted_world()
    none = hypotheses.with_columns(is_eligible=pl.lit(value=False))
    assert enter_naively(none, w.outcomes, w.events, w.context, run=w.run).is_empty()


def test_the_order_of_rows_means_nothing():
    w, hypotheses, table = naive()
    mixed = [f.sample(fraction=1, shuffle=True, seed=3) for f in (hypotheses, w.outcomes, w.events, w.context)]
    again = enter_naively(*mixed, run=w.run)
    assert table.drop(pl.selectors.float()).equals(again.drop(pl.selectors.float()))
    assert ((table["max_drawdown"] - again["max_drawdown"]).abs() < 1e-12).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run_naive_entry_eval", 2),
        ("naive_min_trades", 0),
        ("naive_max_drawdown", 0.1),
        ("naive_min_expectancy_after_cost", 2.0),
    ],
)
def test_r74_to_r77_impossible_settings_are_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        make_run(500, **{name: value})
