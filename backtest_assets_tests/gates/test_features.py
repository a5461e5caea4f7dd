import re
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from backtest_assets.gates.features import GATES_FEATURES
from backtest_assets.gates.gate import ask_all
from backtest_assets.research.features.build import build_features
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, verdict, with_inputs

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
    worst, second = verdict.examples[:2]
    assert ("rv_96", verdict.observed) == (worst["column"], worst["null_share"])
    late = nulls.frame.filter(pl.col("open_at").is_between(*nulls.settings.window, closed="left"))
    shares = {name: late[name].null_count() / late.height for name in late.columns}
    for shown in (worst, second):
        assert shares[str(shown["column"])] == pytest.approx(shown["null_share"])
    assert 5 == len(verdict.examples)


def test_columns_without_nulls_are_no_example():
    gate = next(gate for gate in GATES_FEATURES if gate.name == "basis_null_share")
    whole = answer(gate, changed(basis_bps=pl.lit(1.0), basis_z_96=pl.lit(1.0))).verdict
    assert (0.0, True, ()) == (whole.observed, whole.passed, whole.examples)
    assert "no nulls" in whole.detail
    half = answer(gate, changed(basis_bps=pl.lit(1.0), basis_z_96=pl.lit(None, pl.Float64))).verdict
    assert ({"column": "basis_z_96", "null_share": 1.0},) == half.examples


def test_a_missing_basis_is_a_remark_only():
    without = answer(GATES_FEATURES[2], changed(basis_bps=pl.lit(None, dtype=pl.Float64)))
    assert (False, False) == (without.verdict.passed, without.blocks)


def test_a_value_that_the_bars_do_not_give_is_found():
    wrong = changed(logret_1=pl.when(pl.col("open_at") == MIDDLE).then(1.0).otherwise("logret_1"))
    assert {"agrees_with_bars"} == red(GATES_FEATURES, wrong) - {
        "prefix_invariant"
    }  # one row is foresight only near a cut


def test_a_feature_that_saw_the_future_is_found():
    ahead = changed(rv_12=pl.col("rv_12").shift(-1).over("symbol"))
    assert {"prefix_invariant"} == red(GATES_FEATURES, ahead)


def test_a_settlement_from_the_future_or_an_old_one_is_found():
    for hours in (8, -8):
        shifted = changed(funding_settled_at=pl.col("funding_settled_at") + timedelta(hours=hours))
        assert "funding_is_last_settled" in red(GATES_FEATURES, shifted)


OPTIONAL = {
    "basis_null_share": ("bars_spot", "close", "basis_bps"),
    "volume_null_share": ("bars_um", "volume_base", "volume_quote_ratio_2880"),
    "taker_null_share": ("bars_um", "taker_buy_base", "taker_imbalance"),
    "spread_null_share": ("bars_um", "high", "spread_est_96_bps"),
    "open_interest_null_share": ("positioning_um", "open_interest_base", "open_interest_log_change_4"),
    "liquidations_null_share": ("positioning_um", "liquidated_long_quote", "liquidated_long_quote_96"),
    "long_window_null_share": ("bars_um", "close", "rv_pct_17280"),
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_columns_that_are_null_are_a_remark_that_names_what_is_not_there(name):
    table, source, column = OPTIONAL[name]
    gate = next(gate for gate in GATES_FEATURES if gate.name == name)
    nothing = changed(**{column: pl.lit(None, dtype=pl.Float64)})
    rows = EVIDENCE.inputs[table]
    absent = answer(gate, with_inputs(nothing, **{table: rows.clear()}))
    assert (False, False) == (absent.verdict.passed, absent.blocks)
    assert f"{table} is not there" in absent.verdict.detail
    lacking = answer(gate, with_inputs(nothing, **{table: rows.with_columns(pl.lit(None, pl.Float64).alias(source))}))
    assert f"{table} has no {source}" in lacking.verdict.detail
    assert f"most nulls in {column}" in answer(gate, nothing).verdict.detail


def test_data_without_anything_optional_are_published_with_remarks_only():
    nothing = pl.lit(None, dtype=pl.Float64)
    made = market()
    bars = made.bars.with_columns(volume_quote=nothing, taker_buy_base=nothing, taker_buy_quote=nothing)
    inputs = {"bars_um": bars, "bars_spot": made.spot_bars.clear(), "positioning_um": made.positioning.clear()}
    frame = build_features(bars, inputs["bars_spot"], made.funding, inputs["positioning_um"])
    answers = ask_all(GATES_FEATURES, with_inputs(replace(EVIDENCE, frame=frame), **inputs))
    assert {"basis_null_share", "taker_null_share", "open_interest_null_share", "liquidations_null_share"} == {
        one.verdict.gate for one in answers if not one.verdict.passed
    }
    assert [] == [one.verdict.gate for one in answers if one.blocks]


def test_a_red_check_names_each_column_that_broke_with_a_row_and_both_values():
    late = market().run.window[0] + timedelta(days=40)
    wrong = changed(
        **{
            name: pl.when(pl.col("open_at") >= late).then(pl.col(name) * 2).otherwise(name)
            for name in ("logret_1", "trend_ret_96")
        }
    )
    first = wrong.frame.filter(pl.col("open_at") >= late, pl.col("logret_1") != 0).row(0, named=True)
    shown = verdict(GATES_FEATURES, wrong, "agrees_with_bars")
    texts = " ".join(str(example["differs"]) for example in shown.examples)
    assert {"logret_1", "trend_ret_96"} == set(re.findall(r"(\w+) \S+ -> \S+", texts))
    (example,) = (e for e in shown.examples if f"logret_1 {first['logret_1']} -> " in str(e["differs"]))
    assert (first["symbol"], first["open_at"].isoformat()) == (example["symbol"], example["open_at"])
    compared = verdict(GATES_FEATURES, wrong, "prefix_invariant").examples
    assert {"logret_1", "trend_ret_96"} == {line["column"] for line in compared}
    n_rows = wrong.frame.filter(pl.col("open_at") >= late, (pl.col("logret_1") != 0) | (pl.col("trend_ret_96") != 0))
    assert n_rows.height == verdict(GATES_FEATURES, wrong, "agrees_with_bars").observed


SCALED = {
    "rv_pct_17280": "samples_recounted",
    "rv_pct_2880": "samples_recounted",
    "volume_quote_ratio_2880": "samples_recounted",
    "spread_est_96_bps": "samples_recounted",
    "range_frac": "agrees_with_bars",
    "trend_ret_2880": "agrees_with_bars",
    "taker_imbalance": "agrees_with_bars",
    "open_interest_quote": "agrees_with_positioning",
    "open_interest_log_change_4": "agrees_with_positioning",
    "open_interest_log_change_96": "agrees_with_positioning",
    "liquidated_short_quote": "agrees_with_positioning",
    "liquidated_long_quote_96": "agrees_with_positioning",
    "funding_persistence_age_h": "persistence_recounted",
    "funding_persistence_severity": "persistence_recounted",
}


@pytest.mark.parametrize("column", SCALED)
def test_a_wrong_value_is_found_by_another_count_and_by_the_past(column):
    wrong = red(GATES_FEATURES, changed(**{column: pl.col(column) * 1.001}))
    assert {SCALED[column], "prefix_invariant"} <= wrong


def test_unknown_told_as_0_is_found():
    unknown = [column for column in SCALED if EVIDENCE.frame[column][3000:].null_count() > 100]
    assert {"range_frac"} == set(SCALED) - set(unknown)  # the only one that is nearly always known
    for column in unknown:
        assert SCALED[column] in red(GATES_FEATURES, changed(**{column: pl.col(column).fill_null(0.0)})), column


def test_the_wrong_measure_and_a_state_of_the_future_are_found():
    swapped = changed(volume_measure=pl.col("volume_measure").replace("volume_quote", "base_x_close"))
    assert {"samples_recounted", "prefix_invariant"} <= red(GATES_FEATURES, swapped)
    early = changed(is_funding_persistent=pl.col("is_funding_persistent").shift(-1).over("symbol"))
    assert {"persistence_recounted", "prefix_invariant"} <= red(GATES_FEATURES, early)


def test_rows_of_a_symbol_that_bars_do_not_have_are_found():
    strange = changed(symbol=pl.col("symbol").replace("SYNBUSDT", "SYNCUSDT"))
    assert {"covers_bars", "prefix_invariant", "agrees_with_bars"} <= red(GATES_FEATURES, strange)
