import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from backtest_assets.domain.gate import Scalar
from backtest_assets.domain.market import Partition
from backtest_assets.gates.bars import GATES_BARS_SPOT, GATES_BARS_UM
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM
from backtest_assets_tests.scenario import MONTH, SYMBOL, raw_klines

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
RAW = raw_klines()
CASES = {"um": (BARS_UM, GATES_BARS_UM, "raw_um_ohlcv"), "spot": (BARS_SPOT, GATES_BARS_SPOT, "raw_spot_ohlcv")}
EACH_GATE = [
    pytest.param(case, gate, id=f"{case}-{gate.name}") for case, (_, gates, _) in CASES.items() for gate in gates
]


def clean(raw, as_of=AS_OF):
    return clean_klines(raw, symbol=SYMBOL, month=MONTH, as_of=as_of)


BARS = clean(RAW)


def ask(case, frame, raw=RAW, as_of=AS_OF, gates=None):
    table, all_gates, raw_table = CASES[case]
    evidence = Evidence(table, Partition.of_month(SYMBOL, MONTH), frame, as_of, inputs={raw_table: raw})
    return ask_all(gates or all_gates, evidence)


def red(case, frame, raw=RAW, as_of=AS_OF):
    return {answer.verdict.gate for answer in ask(case, frame, raw, as_of) if not answer.verdict.passed}


def change(row, **values: Scalar | datetime):
    hit = pl.int_range(pl.len()) == row
    return BARS.with_columns(
        pl.when(hit).then(pl.lit(value)).otherwise(name).alias(name) for name, value in values.items()
    )


@pytest.mark.parametrize("case", CASES)
def test_clean_bars_of_a_whole_month_pass_every_gate(case):
    assert set() == red(case, BARS)


@pytest.mark.parametrize(("case", "gate"), EACH_GATE)
def test_every_gate_is_red_on_an_empty_frame(case, gate):
    (answer,) = ask(case, BARS.clear(), gates=[gate])
    assert not answer.verdict.passed
    assert math.isnan(answer.verdict.observed)


@pytest.mark.parametrize(("case", "gate"), EACH_GATE)
def test_every_gate_is_red_when_all_is_null(case, gate):
    (answer,) = ask(
        case, BARS.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in BARS.schema.items()), gates=[gate]
    )
    assert not answer.verdict.passed


@pytest.mark.parametrize(
    "column", ["symbol", "open_at", "known_at", "open", "close", "volume_base", "n_trades", "is_gap"]
)
def test_a_column_that_is_all_null_is_seen(column):
    assert red("um", BARS.with_columns(pl.lit(None, BARS.schema[column]).alias(column)))


@pytest.mark.parametrize(("case", "gate"), EACH_GATE)
def test_every_gate_is_red_and_blocking_when_it_crashes(case, gate):
    (answer,) = ask(case, pl.DataFrame({"x": [1.0]}), gates=[gate])
    assert answer.blocks
    assert "crashed" in answer.verdict.detail


def test_without_raw_rows_nothing_can_be_compared():
    table, gates, _ = CASES["um"]
    answers = ask_all(gates, Evidence(table, Partition.of_month(SYMBOL, MONTH), BARS, AS_OF))
    assert {"identical_to_raw"} == {answer.verdict.gate for answer in answers if not answer.verdict.passed}
    assert {"identical_to_raw"} == red("um", BARS, raw=RAW.clear())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"close": 1.0}, {"identical_to_raw"}),
        ({"volume_quote": None}, {"identical_to_raw"}),
        ({"open_at": datetime(2024, 1, 1, tzinfo=UTC)}, {"exact_grid", "identical_to_raw", "known_at_close"}),
        ({"known_at": datetime(2024, 1, 1, tzinfo=UTC)}, {"known_at_close"}),
        ({"symbol": "BTCUSDT"}, {"rows_inside_partition"}),
        ({"is_gap": True}, {"identical_to_raw", "no_gaps"}),
    ],
)
def test_one_wrong_bar_is_named_by_its_gate(values, expected):
    assert expected == red("um", change(9, **values))


def test_a_missing_and_an_extra_instant_break_the_grid():
    assert {"exact_grid", "identical_to_raw"} == red("um", BARS.filter(pl.int_range(pl.len()) != 9))
    later = BARS.tail(1).with_columns(pl.col("open_at", "known_at") + timedelta(minutes=15))
    assert "exact_grid" in red("um", pl.concat([BARS, later]))


@pytest.mark.parametrize(
    ("n_missing", "case", "expected"),
    [
        (1, "um", {"no_gaps"}),
        (29, "um", {"no_gaps"}),
        (30, "um", {"no_gaps", "gap_share"}),
        (297, "spot", {"no_gaps"}),
        (298, "spot", {"no_gaps", "gap_share"}),
    ],
)
def test_gaps_are_remarked_and_then_refused(n_missing, case, expected):
    raw = raw_klines(without=range(100, 100 + n_missing))
    assert expected == red(case, clean(raw), raw=raw)


def test_a_filled_gap_is_found_out():
    raw = raw_klines(without=[100])
    assert {"identical_to_raw"} == red("um", BARS, raw=raw)


def test_a_month_in_progress_is_compared_up_to_the_moment_of_asking():
    as_of = datetime(2024, 1, 20, 12, 7, tzinfo=UTC)
    assert set() == red("um", clean(RAW, as_of), as_of=as_of)
    assert {"exact_grid", "known_at_close", "identical_to_raw"} == red("um", BARS, as_of=as_of)
