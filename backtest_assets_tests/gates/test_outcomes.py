from dataclasses import replace
from datetime import time, timedelta

import polars as pl
import pytest

from backtest_assets.domain.clock import BAR
from backtest_assets.domain.split import Split
from backtest_assets.gates.accrued import wrong_accruals
from backtest_assets.gates.outcomes import GATES_EVENT_OUTCOMES, UNKNOWN_FUNDING_LIMIT
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


N_DAYS = pl.col("accrual_day").list.len()
FORGED_DAYS = {
    "moved by 200 days": {"accrual_day": pl.col("accrual_day").list.eval(pl.element() + timedelta(days=200))},
    "moved by a day": {"accrual_day": pl.col("accrual_day").list.eval(pl.element() + timedelta(days=1))},
    "all on one day": {
        "accrual_day": pl.col("accrual_day").list.head(1),
        "accrual_bps": pl.concat_list(pl.col("accrual_bps").list.sum()),
        "accrual_share": pl.concat_list(pl.lit(1.0)),
    },
    "in another order": {"accrual_day": pl.col("accrual_day").list.reverse()},
    "twice the first": {"accrual_day": pl.col("accrual_day").list.eval(pl.element().first().repeat_by(pl.len()).explode(empty_as_null=True, keep_nulls=True))},
    "profit of the other day": {"accrual_bps": pl.col("accrual_bps").list.reverse()},
    "share of the other day": {"accrual_share": pl.col("accrual_share").list.reverse()},
    "an empty day more": {
        "accrual_day": pl.col("accrual_day").list.concat([pl.col("accrual_day").list.last() + timedelta(days=1)]),
        "accrual_bps": pl.col("accrual_bps").list.concat([pl.lit(0.0)]),
        "accrual_share": pl.col("accrual_share").list.concat([pl.lit(0.0)]),
    },
}  # fmt: skip


@pytest.mark.parametrize("lie", FORGED_DAYS)
def test_a_single_outcome_booked_on_other_days_is_found_and_by_that_gate_only(lie):
    held = EVIDENCE.frame.with_row_index("row").filter(N_DAYS == 2, pl.col("accrual_share").list.first() != 0.5)
    hit = pl.int_range(pl.len()) == held["row"][held.height // 2]
    lied = changed(
        **{name: pl.when(hit).then(values).otherwise(pl.col(name)) for name, values in FORGED_DAYS[lie].items()}
    )
    assert lied.frame.schema == EVIDENCE.frame.schema
    assert {"accruals_recounted"} == red(GATES_EVENT_OUTCOMES, lied)


def test_profit_and_funding_moved_within_an_outcome_that_the_sample_leaves_out_are_found():
    moved = [1.0, -1.0]
    held = EVIDENCE.frame.with_row_index("row").filter(N_DAYS == 2)
    hit = pl.int_range(pl.len()) == held["row"][7]
    shifted = pl.when(hit).then(pl.col("accrual_bps") + pl.lit(moved)).otherwise("accrual_bps")
    assert {"accruals_recounted"} == red(GATES_EVENT_OUTCOMES, changed(accrual_bps=shifted))


def test_an_exit_at_midnight_touches_the_new_day_where_funding_is_paid():
    at_midnight = EVIDENCE.frame.filter(pl.col("exited_at").dt.time() == time(0))
    touched = at_midnight.filter(pl.col("accrual_day").list.last() == pl.col("exited_at").dt.date())
    assert touched.height > 0
    assert "accruals_recounted" not in red(GATES_EVENT_OUTCOMES, replace(EVIDENCE, frame=touched))
    unpaid = market().funding.with_columns(funding_rate=pl.lit(0.0))
    told = wrong_accruals(with_inputs(replace(EVIDENCE, frame=touched), settlements_um=unpaid))
    assert touched.height == told.filter(pl.col("differs").str.contains("its days are not those of the hold")).height


def test_funding_of_a_single_row_of_any_place_is_counted_again():
    hit = pl.int_range(pl.len()) == 1234
    wrong = changed(funding_bps=pl.when(hit).then(pl.col("funding_bps") + 1e-6).otherwise("funding_bps"))
    assert {"funding_recounted", "accruals_add_up"} == red(GATES_EVENT_OUTCOMES, wrong)


def worst_events(n: int) -> pl.DataFrame:
    """The key of the outcomes of a family that lost most over a hold, as who would hide them leaves them out."""
    net = pl.col("gross_bps") - pl.col("funding_bps")
    family = EVIDENCE.frame["event_type"].mode()[0]
    cell = EVIDENCE.frame.filter(
        pl.col("event_type") == family,
        pl.col("variant") == "centre",
        pl.col("control_no") == 0,
        pl.col("delay_bars") == 0,
        pl.col("hold_bars") == 48,
    )
    return cell.sort(net).head(n).select("variant", "event_id", "control_no")


def test_losing_outcomes_left_out_are_found_however_few():
    fewer = EVIDENCE.frame.join(worst_events(1), on=["variant", "event_id", "control_no"], how="anti")
    assert 0 < 1 - fewer.height / EVIDENCE.frame.height < UNKNOWN_FUNDING_LIMIT
    assert {"left_out_with_reason"} == red(GATES_EVENT_OUTCOMES, replace(EVIDENCE, frame=fewer))


def test_an_outcome_that_skips_a_missing_settlement_is_found():
    row = EVIDENCE.frame.filter(pl.col("hold_bars") == 96).row(0, named=True)
    inside = (pl.col("symbol") == row["symbol"]) & pl.col("settled_at").is_between(row["entered_at"], row["exited_at"])
    holed = market().funding.filter(~inside)
    told = wrong_accruals(with_inputs(EVIDENCE, settlements_um=holed))
    skipped = told.filter(pl.col("differs").str.contains("a settlement in the hold is missing"))
    assert row["event_id"] in set(skipped["event_id"])
