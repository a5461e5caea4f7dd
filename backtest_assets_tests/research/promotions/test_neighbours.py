"""The neighbours of a blueprint: what is moved, and that each is really traded, alone, without the test window."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.blueprint import Blueprint, ConditionNode
from backtest_assets.domain.split import Split
from backtest_assets.research.promotions.neighbours import Neighbour, simulate_neighbours
from backtest_assets.research.simulation.ledger import simulate_trades
from backtest_assets.tables.promotions import BLUEPRINT_NEIGHBOURS
from backtest_assets_tests.research.simulation.market import FAR, a_run, blueprint, blueprints_of
from backtest_assets_tests.research.simulation.results import every_field, random_results

DONE = random_results(11, specs=every_field)
MARKET = (
    DONE.frames["bars_um"],
    DONE.frames["settlements_um"],
    DONE.frames["event_registry"],
    DONE.frames["market_context"],
)


def traded(*specs: Blueprint, market=MARKET):
    bars, funding, events, context = market
    features, table = DONE.frames["features"], blueprints_of(*specs)
    return simulate_neighbours(bars, funding, events, context, table, features=features, run=DONE.run)


def moved(spec):
    return {one.name: one for one in Neighbour.each(blueprints_of(spec), run=a_run())}


def test_d36_stop_target_and_hold_are_moved_by_a_tenth_and_nothing_else_is():
    spec = blueprint(stop=0.02, target=0.03, time_stop=16)
    found = moved(spec)
    expected = {
        "stop_minus": ("stop_value", 0.018), "stop_plus": ("stop_value", 0.022),
        "target_minus": ("target_value", 0.027), "target_plus": ("target_value", 0.033),
        "hold_minus": ("time_stop_bars", 14), "hold_plus": ("time_stop_bars", 18),
    }  # fmt: skip
    assert {"centre", *expected} == set(found)
    for name, (field, value) in expected.items():
        wanted = replace(spec, exit=replace(spec.exit, **{field: value}), blueprint_id=f"bp {name}")
        assert wanted == found[name].spec
        assert found[name].change.startswith(f"exit.{field} ")
    assert found["centre"].spec == replace(spec, blueprint_id="bp centre")


def test_d36_a_trailing_stop_and_numbers_among_the_conditions_are_moved_too():
    node = ConditionNode("basis_z_96", "in_range", -1.0, 1.0)
    spec = blueprint(
        conditions=["rv_pct_2880>=0.8", "session_eu"], entry={"condition_nodes": (node,)},
        leave={"trailing_stop_type": "atr", "trailing_stop_value": 2.0},
    )  # fmt: skip
    found = moved(spec)
    assert (1.8, 2.2) == tuple(found[f"trail_{side}"].spec.exit.trailing_stop_value for side in ("minus", "plus"))
    strict, loose = (found[f"condition_1_{side}"].spec.entry.conditions for side in ("stricter", "looser"))
    assert ("rv_pct_2880>=0.82", "session_eu") == strict
    assert ("rv_pct_2880>=0.78", "session_eu") == loose
    (narrow,) = found["node_1_stricter"].spec.entry.condition_nodes
    assert (-0.9, 0.9) == (narrow.value, narrow.value_high)
    assert "condition_2_stricter" not in found


def test_a_stop_never_lies_beyond_a_price_of_nothing_and_a_hold_is_at_least_one_bar():
    found = moved(blueprint(stop=0.95, time_stop=1))
    assert 0.95 < found["stop_plus"].spec.exit.stop_value < 1.0
    assert "hold_minus" not in found
    assert found["hold_plus"].spec.exit.time_stop_bars == 2


def test_the_centre_is_the_blueprint_traded_alone_as_the_one_simulator_trades_it():
    for spec in every_field(DONE.run):
        alone = simulate_trades(*MARKET, blueprints_of(spec), features=DONE.frames["features"], run=DONE.run)
        sums = alone.group_by("split").agg(n_trades=pl.len(), net_pnl=pl.col("net_pnl").sum())
        centre = traded(spec).filter(neighbour="centre")
        for row in centre.to_dicts():
            (expected,) = sums.filter(split=row["split"]).to_dicts()
            assert expected["n_trades"] == row["n_trades"] > 0
            assert expected["net_pnl"] == pytest.approx(row["net_pnl"], abs=1e-12)
            assert row["n_days"] == DONE.run.splits[Split(row["split"])].n_days
            assert row["net_per_day"] == row["net_pnl"] / row["n_days"]


def test_a_neighbour_is_what_its_changed_blueprint_trades_and_others_crowd_nobody_out():
    specs = every_field(DONE.run)
    together = traded(*specs)
    assert_frame_equal(together, BLUEPRINT_NEIGHBOURS.conform(pl.concat(traded(spec) for spec in specs)))
    near = moved_of(specs[0], "trail_plus")
    alone = traded(replace(near, blueprint_id=specs[0].blueprint_id)).filter(neighbour="centre")
    own = together.filter(blueprint_id=specs[0].blueprint_id, neighbour="trail_plus")
    assert alone["net_pnl"].to_list() == pytest.approx(own["net_pnl"].to_list(), abs=1e-12)
    assert own["net_pnl"].to_list() != together.filter(blueprint_id="a", neighbour="centre")["net_pnl"].to_list()


def moved_of(spec, name):
    (found,) = (one for one in Neighbour.each(blueprints_of(spec), run=DONE.run) if one.name == name)
    return found.spec


def test_the_test_window_is_sealed():
    end = DONE.run.splits[Split.VALIDATION].end
    later = pl.col("known_at") > end
    bars, funding, events, context = MARKET
    price = [pl.when(later).then(pl.col(n) * 5).otherwise(n).alias(n) for n in ("open", "high", "low", "close")]
    changed = (
        bars.with_columns(price),
        funding.with_columns(funding_rate=pl.when(pl.col("settled_at") > end).then(0.5).otherwise("funding_rate")),
        events.filter(~later),
        context.with_columns(vol_regime=pl.when(later).then(pl.lit("low")).otherwise("vol_regime")),
    )
    assert bars.filter(later).height > 1000
    specs = every_field(DONE.run)
    assert_frame_equal(traded(*specs), traded(*specs, market=changed), check_exact=True)


def test_what_never_trades_has_rows_of_nothing_and_nothing_executed_has_none():
    never = traded(blueprint(conditions=["symbol_ZZZUSDT"], stop=FAR, cost=DONE.run.cost))
    assert (14, 0, 0.0) == (never.height, never["n_trades"].sum(), never["net_pnl"].abs().sum())
    idle = blueprints_of(blueprint(cost=DONE.run.cost)).with_columns(is_executed=pl.lit(value=False))
    assert simulate_neighbours(*MARKET, idle, features=DONE.frames["features"], run=DONE.run).is_empty()
