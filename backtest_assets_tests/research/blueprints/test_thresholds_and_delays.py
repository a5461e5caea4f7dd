"""A threshold and an entry delay reach the blueprint as they were tested, under a name of letters, digits and underscores."""

import polars as pl
import pytest

from backtest_assets.domain.blueprint import blueprint_from_json
from backtest_assets.research.events.conditions import Condition
from backtest_assets_tests.research.blueprints.test_compile import SHOCK, checklist, compiled, selected


@pytest.mark.parametrize(
    ("condition", "delay", "name"),
    [
        ("rv_pct_2880>=0.8", 0, "bp_vol_shock_relaxation_rv_pct_2880_ge_0p8_long_h16"),
        ("rv_pct_2880<=0.8", 4, "bp_vol_shock_relaxation_rv_pct_2880_le_0p8_long_d4_h16"),
        ("basis_z_96<=-1", 0, "bp_vol_shock_relaxation_basis_z_96_le_m1_long_h16"),
        ("session_us", 0, "bp_vol_shock_relaxation_session_us_long_h16"),
    ],
)
def test_what_was_tested_is_what_will_be_executed(condition, delay, name):
    chosen = selected(("a", SHOCK, condition, "long", 16, 7.0)).with_columns(delay_bars=pl.lit(delay, pl.Int32))
    blueprint = blueprint_from_json(compiled(chosen, checklist())["spec_json"].item())
    assert (name, delay) == (blueprint.blueprint_id, blueprint.entry.delay_bars)
    assert (condition,) == blueprint.entry.conditions
    assert Condition(blueprint.entry.conditions[0]).name == condition
