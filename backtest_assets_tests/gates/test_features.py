from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from backtest_assets.gates.features import GATES_FEATURES
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, with_inputs

EVIDENCE = honest("features", market().features)
MIDDLE = market().run.window[0] + timedelta(days=30)
NAMES = {gate.name for gate in GATES_FEATURES}


def changed(**columns: pl.Expr):
    return replace(EVIDENCE, frame=EVIDENCE.frame.with_columns(**columns))


def test_every_gate_is_green_on_honest_features():
    assert set() == red(GATES_FEATURES, EVIDENCE)


@pytest.mark.parametrize("gate", GATES_FEATURES, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(EVIDENCE)[case]).verdict.passed


def test_a_lost_row_is_missed():
    lost = replace(EVIDENCE, frame=EVIDENCE.frame.filter(pl.col("open_at") != MIDDLE))
    assert "covers_bars" in red(GATES_FEATURES, lost)
    assert 2 == answer(GATES_FEATURES[0], lost).verdict.observed


def test_months_that_neither_bars_nor_features_have_are_missed():
    short = EVIDENCE.frame.filter(pl.col("open_at") < MIDDLE)
    bars = EVIDENCE.inputs["bars_um"].filter(pl.col("open_at") < MIDDLE)
    assert "covers_bars" in red(GATES_FEATURES, with_inputs(replace(EVIDENCE, frame=short), bars_um=bars))


def test_too_many_nulls_name_their_column():
    nulls = changed(rv_96=pl.when(pl.col("open_at") < MIDDLE).then("rv_96"))
    verdict = answer(next(gate for gate in GATES_FEATURES if gate.name == "null_share"), nulls).verdict
    assert not verdict.passed
    assert "rv_96" in verdict.detail


def test_a_missing_basis_is_a_remark_only():
    without = answer(GATES_FEATURES[2], changed(basis_bps=pl.lit(None, dtype=pl.Float64)))
    assert (False, False) == (without.verdict.passed, without.blocks)


def test_a_value_that_the_bars_do_not_give_is_found():
    wrong = changed(logret_1=pl.when(pl.col("open_at") == MIDDLE).then(1.0).otherwise("logret_1"))
    assert {"agrees_with_bars", "prefix_invariant"} == red(GATES_FEATURES, wrong)


def test_a_feature_that_saw_the_future_is_found():
    ahead = changed(rv_96=pl.col("rv_96").shift(-1).over("symbol"))
    assert {"prefix_invariant"} == red(GATES_FEATURES, ahead)


def test_a_settlement_from_the_future_or_an_old_one_is_found():
    for hours in (8, -8):
        shifted = changed(funding_settled_at=pl.col("funding_settled_at") + timedelta(hours=hours))
        assert "funding_is_last_settled" in red(GATES_FEATURES, shifted)
