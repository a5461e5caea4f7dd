from dataclasses import replace

import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.split import Split
from backtest_assets.gates.barriers import GATES_EVENT_BARRIERS
from backtest_assets.research.outcomes.barriers import measure_barriers
from backtest_assets_tests.gates.evidence import answer, honest, hopeless, market, red, with_inputs

EVIDENCE = honest("event_barriers", market().barriers)
TEST_START = pl.lit(market().run.splits[Split.TEST].start).cast(EVIDENCE.frame.schema["known_at"])


def changed(**columns: pl.Expr):
    return replace(EVIDENCE, frame=EVIDENCE.frame.with_columns(**columns))


def test_every_gate_is_green_on_honest_barriers():
    assert set() == red(GATES_EVENT_BARRIERS, EVIDENCE)


@pytest.mark.parametrize("gate", GATES_EVENT_BARRIERS, ids=lambda gate: gate.name)
@pytest.mark.parametrize("case", ["empty", "all null", "wrong columns"])
def test_no_gate_is_green_when_nothing_can_be_measured(gate, case):
    assert not answer(gate, hopeless(EVIDENCE)[case]).verdict.passed


def test_no_barriers_are_legal_only_where_none_were_to_be_measured():
    nobody = EVIDENCE.inputs["event_registry"].clear()
    controls = EVIDENCE.inputs["event_controls"].clear()
    none = with_inputs(replace(EVIDENCE, frame=EVIDENCE.frame.clear()), event_registry=nobody, event_controls=controls)
    assert set() == red(GATES_EVENT_BARRIERS, none)


@pytest.mark.parametrize(
    ("columns", "gate"),
    [
        ({"split": pl.lit("test")}, "no_test_rows"),
        ({"split": pl.lit("train")}, "no_test_rows"),
        ({"entered_at": TEST_START}, "no_test_rows"),
        ({"event_id": pl.lit("nobody")}, "asked_for"),
        ({"side": pl.lit(1, dtype=pl.Int8)}, "asked_for"),
        ({"entered_at": pl.col("entered_at") - BAR}, "asked_for"),
        ({"barrier_bps": pl.col("barrier_bps") * 1.0001}, "sigma_before_onset"),
        ({"up_bars": pl.lit(None, dtype=pl.Int32)}, "ages_recounted"),
        ({"down_bars": pl.col("down_bars") - 1}, "ages_recounted"),
        ({"entry_price": pl.col("entry_price") * 1.01}, "ages_recounted"),
        ({"bars_watched": pl.col("bars_watched") - 1, "ends_early": pl.lit(value=True)}, "censored_with_reason"),
        ({"bars_watched": pl.lit(96, dtype=pl.Int32)}, "ages_recounted"),
    ],
)
def test_each_falsehood_is_found_by_its_gate(columns, gate):
    assert gate in red(GATES_EVENT_BARRIERS, changed(**columns))


def test_a_single_barrier_left_out_is_found():
    fewer = EVIDENCE.frame.filter(pl.int_range(pl.len()) != 17)
    assert {"left_out_with_reason"} == red(GATES_EVENT_BARRIERS, replace(EVIDENCE, frame=fewer))


def test_events_without_a_barrier_are_a_remark_where_volatility_is_unknown():
    half = EVIDENCE.frame.gather_every(2)
    unknown = market().features.with_columns(rv_96=pl.when(pl.col("known_at").dt.hour() < 12).then("rv_96"))
    barriers = measure_barriers(market().bars, unknown, market().events, market().controls, run=market().run)
    evidence = with_inputs(replace(EVIDENCE, frame=barriers), features=unknown)
    assert 0 < barriers.height < 0.9 * EVIDENCE.frame.height
    assert {"all_watched"} == red(GATES_EVENT_BARRIERS, evidence)
    (gate,) = (gate for gate in GATES_EVENT_BARRIERS if gate.name == "all_watched")
    assert not answer(gate, evidence).blocks
    assert {"left_out_with_reason", "all_watched"} == red(GATES_EVENT_BARRIERS, replace(EVIDENCE, frame=half))
