import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from backtest_assets.domain.gate import Scalar, Severity
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.raw import GATES_RAW_SPOT_OHLCV, GATES_RAW_UM_FUNDING, GATES_RAW_UM_OHLCV
from backtest_assets.tables.raw import RAW_SPOT_OHLCV, RAW_UM_FUNDING, RAW_UM_OHLCV
from backtest_assets_tests.scenario import MONTH, SYMBOL, raw_funding, raw_klines

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
KLINES, FUNDING = raw_klines(), raw_funding()
CASES = {
    "um": (RAW_UM_OHLCV, GATES_RAW_UM_OHLCV, KLINES),
    "spot": (RAW_SPOT_OHLCV, GATES_RAW_SPOT_OHLCV, KLINES),
    "funding": (RAW_UM_FUNDING, GATES_RAW_UM_FUNDING, FUNDING),
}
EACH_GATE = [
    pytest.param(case, gate, id=f"{case}-{gate.name}") for case, (_, gates, _) in CASES.items() for gate in gates
]


def evidence(case, frame, as_of=AS_OF, month=MONTH):
    return Evidence(CASES[case][0], Partition.of_month(SYMBOL, month), frame, as_of)


def red(case, frame, as_of=AS_OF, month=MONTH):
    answers = ask_all(CASES[case][1], evidence(case, frame, as_of, month))
    return {answer.verdict.gate for answer in answers if not answer.verdict.passed}


def verdict(case, gate, frame):
    return next(a.verdict for a in ask_all(CASES[case][1], evidence(case, frame)) if a.verdict.gate == gate)


def change(frame, row, **values: Scalar | datetime):
    hit = pl.int_range(pl.len()) == row
    return frame.with_columns(
        pl.when(hit).then(pl.lit(value)).otherwise(name).alias(name) for name, value in values.items()
    )


@pytest.mark.parametrize("case", CASES)
def test_a_whole_month_passes_every_gate(case):
    assert set() == red(case, CASES[case][2])


@pytest.mark.parametrize("case", CASES)
def test_gate_names_are_unique_and_say_their_limit(case):
    gates = CASES[case][1]
    assert len({gate.name for gate in gates}) == len(gates)
    assert all("imit" in gate.about for gate in gates)


@pytest.mark.parametrize(("case", "gate"), EACH_GATE)
def test_every_gate_is_red_on_an_empty_frame(case, gate):
    (answer,) = ask_all([gate], evidence(case, CASES[case][2].clear()))
    assert not answer.verdict.passed
    assert math.isnan(answer.verdict.observed)


@pytest.mark.parametrize(("case", "gate"), EACH_GATE)
def test_every_gate_is_red_when_all_is_null(case, gate):
    frame = CASES[case][2]
    nothing = frame.select(
        pl.lit(None, dtype).repeat_by(1).explode().alias(name) for name, dtype in frame.schema.items()
    )
    nothing = pl.concat([nothing] * frame.height)
    (answer,) = ask_all([gate], evidence(case, nothing))
    assert not answer.verdict.passed


@pytest.mark.parametrize(("case", "gate"), EACH_GATE)
def test_every_gate_is_red_and_blocking_when_it_crashes(case, gate):
    (answer,) = ask_all([gate], evidence(case, pl.DataFrame({"x": [1.0]})))
    assert answer.blocks
    assert "crashed" in answer.verdict.detail


@pytest.mark.parametrize(
    ("case", "column"),
    [
        (case, column)
        for case, columns in {
            "um": ("symbol", "open_at", "open", "high", "low", "close", "volume_base"),
            "funding": ("symbol", "settled_at", "funding_rate", "funding_interval_h"),
        }.items()
        for column in columns
    ],
)
def test_a_column_that_is_all_null_or_null_once_is_seen(case, column):
    frame = CASES[case][2]
    assert red(case, frame.with_columns(pl.lit(None, frame.schema[column]).alias(column)))
    assert red(case, change(frame, 7, **{column: None}))


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        ({"open": math.nan}, "ohlc_sane"),
        ({"close": -1.0}, "ohlc_sane"),
        ({"low": 0.0}, "ohlc_sane"),
        ({"high": 1.0}, "ohlc_sane"),
        ({"high": math.inf}, "ohlc_sane"),
        ({"low": 1e6}, "ohlc_sane"),
        ({"volume_base": -1.0}, "ohlc_sane"),
        ({"volume_base": math.nan}, "ohlc_sane"),
        ({"volume_quote": math.nan}, "ohlc_sane"),
        ({"n_trades": -1}, "ohlc_sane"),
        ({"taker_buy_base": 11.0}, "ohlc_sane"),
        ({"taker_buy_quote": 1e9}, "ohlc_sane"),
        ({"symbol": "BTCUSDT"}, "rows_inside_partition"),
        ({"open_at": datetime(2024, 2, 1, tzinfo=UTC)}, "rows_inside_partition"),
        ({"open_at": datetime(2024, 1, 5, 0, 7, tzinfo=UTC)}, "on_grid"),
        ({"open_at": datetime(2024, 1, 1, tzinfo=UTC)}, "no_duplicates"),
    ],
)
def test_one_corrupt_kline_is_named_by_its_gate(values, gate):
    spoilt = change(KLINES, 50, **values)
    assert gate in red("um", spoilt)
    assert gate in red("spot", spoilt)
    seen = verdict("um", gate, spoilt)
    assert seen.observed >= 1
    assert seen.examples


def test_columns_that_the_source_lacks_are_no_fault():
    optional = ("volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote")
    bare = KLINES.with_columns(pl.lit(None, KLINES.schema[name]).alias(name) for name in optional)
    assert set() == red("um", bare)


def test_a_bar_that_is_still_open_is_refused_and_the_closed_ones_are_a_whole_month_so_far():
    as_of = datetime(2024, 1, 20, 0, 14, 59, tzinfo=UTC)
    until = KLINES.filter(pl.col("open_at") <= as_of)
    assert {"only_closed_bars"} == red("um", until, as_of=as_of)
    assert set() == red("um", until.head(-1), as_of=as_of)


def test_coverage_is_held_against_the_calendar_not_a_count():
    # As many rows as the month has bars, but one of them twice.
    padded = pl.concat([raw_klines(without=[100]), KLINES.slice(5, 1)])
    assert KLINES.height == padded.height
    assert {"no_duplicates", "complete"} == red("um", padded)
    assert verdict("um", "complete", padded).observed == 1 - 1 / 2976


@pytest.mark.parametrize(
    ("n_missing", "case", "expected"),
    [
        (1, "um", {"complete"}),
        (29, "um", {"complete"}),
        (30, "um", {"complete", "coverage"}),
        (2976 - 1, "um", {"complete", "coverage"}),
        (2, "spot", set()),
        (3, "spot", {"complete"}),
        (297, "spot", {"complete"}),
        (298, "spot", {"complete", "coverage"}),
    ],
)
def test_coverage_limits_are_where_they_say(n_missing, case, expected):
    assert expected == red(case, raw_klines(without=range(n_missing)))


def test_holes_are_told_longest_first():
    seen = verdict("um", "coverage", raw_klines(without=[5, *range(200, 230), *range(2970, 2976)]))
    assert "37 closed bars" in seen.detail
    assert "longest hole 30 bars from 2024-01-03 02:00 UTC" in seen.detail
    assert [(hole["n_bars"], str(hole["first"])[:10]) for hole in seen.examples] == [
        (30, "2024-01-03"),
        (6, "2024-01-31"),
        (1, "2024-01-01"),
    ]


def test_a_month_from_the_middle_of_a_listing_is_red_and_says_so():
    seen = verdict("um", "coverage", raw_klines(without=range(1000)))
    assert not seen.passed
    assert "source starts at 2024-01-11 10:00" in seen.detail


def test_a_month_that_has_not_begun_is_red():
    assert {"coverage", "complete"} <= red("um", KLINES, as_of=datetime(2023, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize("interval_h", [1.0, 2.0, 4.0, 8.0])
def test_funding_is_complete_against_its_own_interval(interval_h):
    rates = raw_funding(interval_h=interval_h)
    assert set() == red("funding", rates)
    for row in (0, 20, rates.height - 1):
        assert {"settlements_complete"} == red("funding", rates.filter(pl.int_range(pl.len()) != row))


def test_a_change_of_interval_inside_the_month_is_no_hole():
    eight, two = raw_funding(), raw_funding(interval_h=2.0)
    cut = datetime(2024, 1, 10, 16, tzinfo=UTC)
    # Either label may stand on the settlement that ends the last long interval: SOLUSDT has both kinds.
    for keeps_old in (True, False):
        edge = (pl.col("settled_at") <= cut) if keeps_old else (pl.col("settled_at") < cut)
        later = (pl.col("settled_at") > cut) if keeps_old else (pl.col("settled_at") >= cut)
        assert set() == red("funding", pl.concat([eight.filter(edge), two.filter(later)]))
    assert {"settlements_complete"} == red(
        "funding", pl.concat([eight.filter(pl.col("settled_at") < cut), two.filter(pl.col("settled_at") > cut)])
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"funding_rate": 0.0051}, {"rate_usual"}),
        ({"funding_rate": -0.031}, {"rate_usual", "rate_bounded"}),
        ({"funding_rate": math.nan}, {"rate_usual", "rate_bounded"}),
        ({"funding_rate": math.inf}, {"rate_usual", "rate_bounded"}),
        ({"funding_interval_h": 3.0}, {"interval_known", "settlements_complete"}),
        ({"funding_interval_h": 4.0}, {"settlements_complete"}),
        ({"settled_at": datetime(2024, 1, 4, 0, 0, 6, tzinfo=UTC)}, {"on_grid", "settlements_complete"}),
        ({"settled_at": datetime(2024, 1, 4, 4, tzinfo=UTC)}, {"on_grid", "settlements_complete"}),
        ({"settled_at": datetime(2024, 1, 3, 16, tzinfo=UTC)}, {"no_duplicates", "settlements_complete"}),
        ({"symbol": "BTCUSDT"}, {"rows_inside_partition"}),
    ],
)
def test_one_corrupt_settlement_is_named_by_its_gate(values, expected):
    assert FUNDING["settled_at"][9] == datetime(2024, 1, 4, tzinfo=UTC)
    assert expected == red("funding", change(FUNDING, 9, **values))


def test_a_month_in_progress_has_all_settlements_that_are_due():
    as_of = datetime(2024, 1, 20, 8, tzinfo=UTC)
    due = FUNDING.filter(pl.col("settled_at") <= as_of)
    assert set() == red("funding", due, as_of=as_of)
    assert {"settlements_complete"} == red("funding", due.head(-1), as_of=as_of)
    assert {"only_settled"} == red("funding", due, as_of=as_of - timedelta(seconds=1))


def test_unusual_rates_only_remark():
    severities = {gate.name: gate.severity for gate in GATES_RAW_UM_FUNDING}
    assert {"rate_usual"} == {name for name, severity in severities.items() if severity is Severity.WARN}


SOL = (
    Path(__file__).parents[3]
    / "shared/data/archive/data/futures/um/monthly/fundingRate/SOLUSDT/SOLUSDT-fundingRate-2022-11.csv"
)


@pytest.mark.skipif(not SOL.exists(), reason="the real archive is not on this machine (../shared/data)")
def test_a_real_month_with_three_intervals_is_complete():
    at = pl.from_epoch("calc_time", time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    real = pl.read_csv(SOL).select(
        symbol=pl.lit(SYMBOL),
        settled_at=at.dt.round("1m"),
        received_at=at,
        funding_rate="last_funding_rate",
        funding_interval_h="funding_interval_hours",
        source=pl.lit("archive"),
    )
    real = RAW_UM_FUNDING.conform(real)
    assert {2.0, 4.0, 8.0} == set(real["funding_interval_h"])
    assert {"rate_usual"} == red("funding", real, month="2022-11")
    unseen = [
        row
        for row in range(real.height)
        if "settlements_complete" not in red("funding", real.filter(pl.int_range(pl.len()) != row), month="2022-11")
    ]
    # The very first settlement of a shorter interval cannot be missed: without it the change is just a step later.
    assert [datetime(2022, 11, 9, 20, tzinfo=UTC)] == real["settled_at"].gather(unseen).to_list()
