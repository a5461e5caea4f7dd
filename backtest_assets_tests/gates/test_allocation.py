"""The gates of the allocation, asked of what is allocated and of every way to allocate something else."""

from dataclasses import replace

import polars as pl
import pytest

from backtest_assets.gates.allocation import GATES_CAPITAL_ALLOCATION
from backtest_assets.research.promotions.allocate import CASH, allocate
from backtest_assets_tests.research.promotions.test_allocate import BLUEPRINTS, DONE, NAMES, earning, promoted, trusted
from backtest_assets_tests.research.simulation.asking import answers, red, spoil

INPUTS = {
    **DONE.frames,
    "promotions": promoted(*NAMES),
    "blueprints": BLUEPRINTS,
    "hypotheses": trusted(a=(10.0, 20.0), b=(8.0, 20.0), c=(-1.0, 20.0)),
    "simulation_ledger": earning(2.0),
}
READ = ("promotions", "blueprints", "hypotheses", "simulation_ledger", "trades")
TABLE = allocate(*(INPUTS[name] for name in READ), run=DONE.run)
ROW = {name: row for row, name in enumerate(TABLE["blueprint_id"])}


def asked(frame, run=DONE.run, **inputs: pl.DataFrame) -> set[str]:
    return red(replace(DONE, run=run), "capital_allocation", GATES_CAPITAL_ALLOCATION, frame, {**INPUTS, **inputs})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"allocation_max_weight": 0.2},
        {"allocation_max_weight": 1.0, "allocation_kelly_fraction": 0.001, "allocation_min_weight": 0.0},
        {"allocation_volatility_target": 0.02},
        {"allocation_volatility_target": 9.0},
    ],
)
def test_what_is_allocated_passes(settings):
    run = replace(DONE.run, **settings)
    assert asked(allocate(*(INPUTS[name] for name in READ), run=run), run=run) == set()


def test_all_cash_passes_with_a_remark_that_says_why():
    nothing = promoted()
    table = allocate(nothing, *(INPUTS[name] for name in READ[1:]), run=DONE.run)
    assert asked(table, promotions=nothing) == set()
    (remark,) = [
        a.verdict
        for a in answers(DONE, "capital_allocation", GATES_CAPITAL_ALLOCATION, table, {**INPUTS, "promotions": nothing})
        if a.verdict.gate == "capital_allocated"
    ]
    assert not remark.passed
    assert "nothing is promoted" in remark.detail


SPOILT = {
    "more than there is": ("weights_add_up", spoil(TABLE, ROW[CASH], weight=0.9)),
    "no cash row": ("weights_add_up", TABLE.filter(pl.col("blueprint_id") != CASH)),
    "one that is not promoted": ("only_promoted", spoil(TABLE, ROW["b"], blueprint_id="z")),
    "one that is left out": ("only_promoted", TABLE.filter(pl.col("blueprint_id") != "c")),
    "another rank": ("only_promoted", spoil(TABLE, ROW["a"], rank=7)),
    "above the cap": ("allocation_caps_hold", spoil(TABLE, ROW["a"], weight=0.5)),
    "a crumb": ("allocation_caps_hold", spoil(TABLE, ROW["a"], weight=0.01)),
    "another weight": ("weights_follow_returns", spoil(TABLE, ROW["a"], weight=pl.col("weight") - 0.05)),
    "another parity": ("weights_follow_returns", spoil(TABLE, ROW["a"], parity_weight=pl.col("parity_weight") + 0.01)),
    "another Kelly": ("weights_follow_returns", spoil(TABLE, ROW["a"], kelly_weight=pl.col("kelly_weight") * 1.1)),
    "another volatility": ("weights_follow_returns", spoil(TABLE, ROW["a"], volatility_annual=0.01)),
    "another expectation": ("weights_follow_returns", spoil(TABLE, ROW["a"], expected_return_annual=9.0)),
    "another count of days": ("weights_follow_returns", spoil(TABLE, ROW["a"], n_active_days=1)),
    "a refused one that is not": ("weights_follow_returns", spoil(TABLE, ROW["c"], bound_by="kelly")),
    "a refusal without a ground": ("weights_follow_returns", spoil(TABLE, ROW["a"], bound_by="refused", weight=0.0)),
}


@pytest.mark.parametrize("case", SPOILT)
def test_an_allocation_that_is_not_its_own_is_caught(case):
    gate, table = SPOILT[case]
    assert gate in asked(table)


def test_other_returns_or_settings_than_it_was_made_with_are_caught():
    assert "weights_follow_returns" in asked(TABLE, simulation_ledger=earning(3.0))
    assert "allocation_caps_hold" in asked(TABLE, run=replace(DONE.run, allocation_max_weight=0.1))


@pytest.mark.parametrize("gate", GATES_CAPITAL_ALLOCATION, ids=lambda gate: gate.name)
def test_every_gate_is_red_on_an_empty_frame_and_missing_inputs(gate):
    for frame, inputs in ((TABLE.clear(), INPUTS), (TABLE.select("blueprint_id"), {})):
        (answer,) = answers(DONE, "capital_allocation", (gate,), frame, inputs)
        assert not answer.verdict.passed
