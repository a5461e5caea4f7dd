from dataclasses import replace

import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.split import Split
from backtest_assets.gates.outcomes import GATES_EVENT_OUTCOMES
from backtest_assets.research.outcomes.measure import measure_outcomes
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, with_inputs

EVIDENCE = honest("event_outcomes", market().outcomes)
TEST_START = market().run.splits[Split.TEST].start


def changed(**columns: pl.Expr):
    return replace(EVIDENCE, frame=EVIDENCE.frame.with_columns(**columns))


def test_every_gate_is_green_on_honest_outcomes():
    assert set() == red(GATES_EVENT_OUTCOMES, EVIDENCE)


@pytest.mark.parametrize("gate", GATES_EVENT_OUTCOMES, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(EVIDENCE)[case]).verdict.passed


def test_no_outcomes_are_legal_only_where_none_were_to_be_measured():
    nobody = EVIDENCE.inputs["event_registry"].clear()
    controls = EVIDENCE.inputs["event_controls"].clear()
    none = with_inputs(replace(EVIDENCE, frame=EVIDENCE.frame.clear()), event_registry=nobody, event_controls=controls)
    assert set() == red(GATES_EVENT_OUTCOMES, none)


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"exited_at": pl.lit(TEST_START).cast(EVIDENCE.frame.schema["exited_at"])}, "no_test_rows"),
        ({"split": pl.lit("test")}, "no_test_rows"),
        ({"split": pl.lit("train")}, "no_test_rows"),
        ({"event_id": pl.lit("nobody")}, "asked_for"),
        ({"side": pl.lit(1, dtype=pl.Int8)}, "asked_for"),
        ({"entered_at": pl.col("entered_at") - BAR}, "entry_not_early"),
        ({"exited_at": pl.col("entered_at")}, "entry_not_early"),
        ({"entry_price": pl.col("entry_price") * 1.0001}, "prices_are_opens"),
        ({"gross_bps": pl.col("gross_bps") + 1e-6}, "prices_are_opens"),
        ({"lowest_bps": pl.lit(1.0)}, "prices_are_opens"),
        ({"funding_bps": pl.col("funding_bps") + 1e-6}, "accruals_add_up"),
        ({"funding_bps": pl.lit(0.0)}, "funding_recounted"),
        ({"realized_vol_bps": pl.col("realized_vol_bps") * 1.0001}, "volatility_recounted"),
        ({"realized_vol_bps": pl.lit(None, dtype=pl.Float64)}, "volatility_recounted"),
        ({"realized_vol_bps": pl.col("realized_vol_bps").fill_null(0.0)}, "volatility_recounted"),
        ({"accrual_share": pl.col("accrual_bps")}, "accruals_add_up"),
    ],
)
def test_each_falsehood_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_EVENT_OUTCOMES, changed(**columns))


def test_outcomes_lost_to_missing_settlements_are_counted_and_block():
    kept = market().funding.filter(pl.col("settled_at").dt.day() != 5)
    lossy = measure_outcomes(market().bars, kept, market().events, market().controls, run=market().run)
    evidence = with_inputs(replace(EVIDENCE, frame=lossy), settlements_um=kept)
    assert {"funding_known", "all_measured"} == red(GATES_EVENT_OUTCOMES, evidence)
    lost = EVIDENCE.frame.height - lossy.height
    gate = next(gate for gate in GATES_EVENT_OUTCOMES if gate.name == "funding_known")
    assert f"{lost} of " in answer(gate, evidence).verdict.detail
