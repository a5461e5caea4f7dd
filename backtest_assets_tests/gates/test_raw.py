import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.limits import parse_limits
from backtest_assets.domain.market import Listing
from backtest_assets_tests.gates.evidence import (
    RAW_MONTHS,
    all_null,
    change,
    market_evidence,
    raw_month,
    without,
)
from backtest_assets_tests.gates.raw_evidence import FUNDING, GATES, TAIL, UM, red_of, verdict_of


def test_raw_errors_are_about_what_is_there_and_remarks_about_what_is_not():
    remarks = {table: {gate.name for gate in gates if gate.severity is Severity.WARN} for table, gates in GATES.items()}
    klines = {"coverage", "complete", "tail_age", "wholly_listed"}
    expected = {
        "raw_um_ohlcv": klines,
        "raw_spot_ohlcv": klines,
        "raw_um_funding": {"rate_usual", "settlements_complete", "changes_confirmed", "tail_age", "wholly_listed"},
        "raw_um_open_interest": {"coverage", "tail_age"},
        "raw_um_liquidations": set(),
    }
    assert expected == remarks


@pytest.mark.parametrize(
    ("table", "column"),
    [(table, column) for table, frame in RAW_MONTHS.items() for column in market_evidence(table).table.key]
    + [("raw_um_ohlcv", column) for column in ("interval_min", "open", "high", "low", "close", "volume_base")]
    + [("raw_um_funding", column) for column in ("funding_rate", "funding_interval_h")]
    + [("raw_um_open_interest", column) for column in ("open_interest_base", "open_interest_quote")]
    + [
        ("raw_um_liquidations", column)
        for column in ("contract", "order_side", "filled_contracts", "contract_size_quote", "notional_quote")
    ],
)
def test_a_column_that_is_all_null_or_null_once_is_seen(table, column):
    frame = RAW_MONTHS[table]
    assert red_of(table, frame.with_columns(all_null(frame)[column]))
    assert red_of(table, change(frame, 7, **{column: None}))


@pytest.mark.parametrize("table", RAW_MONTHS)
def test_what_lies_after_the_moment_of_asking_is_refused(table):
    instant = {"raw_um_open_interest": "only_taken", "raw_um_funding": "only_settled"}
    name = instant.get(table, "only_filled" if table == "raw_um_liquidations" else "only_closed_bars")
    as_of = datetime(2024, 1, 20, 23, 30, tzinfo=UTC)
    seen = verdict_of(table, name, RAW_MONTHS[table], as_of=as_of)
    assert not seen.passed
    assert seen.examples[0]


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        ({"open": math.nan}, "ohlc_sane"),
        ({"close": -1.0}, "ohlc_sane"),
        ({"low": 0.0}, "ohlc_sane"),
        ({"high": 1.0}, "ohlc_sane"),
        ({"high": math.inf}, "ohlc_sane"),
        ({"high": math.nan}, "ohlc_sane"),
        ({"low": math.nan}, "ohlc_sane"),
        ({"low": 1e6}, "ohlc_sane"),
        ({"volume_base": -1.0}, "ohlc_sane"),
        ({"volume_base": math.nan}, "ohlc_sane"),
        ({"volume_base": math.inf}, "ohlc_sane"),
        ({"volume_quote": math.nan}, "ohlc_sane"),
        ({"n_trades": -1}, "ohlc_sane"),
        ({"taker_buy_base": 1e9}, "ohlc_sane"),
        ({"taker_buy_quote": 1e9}, "ohlc_sane"),
        ({"symbol": "BTCUSDT"}, "rows_inside_partition"),
        ({"open_at": datetime(2024, 2, 1, tzinfo=UTC)}, "rows_inside_partition"),
        ({"open_at": datetime(2024, 1, 5, 0, 7, tzinfo=UTC)}, "on_grid"),
        ({"interval_min": 5}, "on_grid"),
        ({"interval_min": 60}, "on_grid"),
        ({"open_at": datetime(2024, 1, 1, tzinfo=UTC)}, "no_duplicates"),
    ],
)
def test_one_corrupt_kline_is_named_by_its_gate(values, gate):
    for table in ("raw_um_ohlcv", "raw_spot_ohlcv"):
        spoilt = change(UM, 50, **values)
        assert gate in red_of(table, spoilt)
        seen = verdict_of(table, gate, spoilt)
        assert (2 if gate == "no_duplicates" else 1) == seen.observed
        assert len(seen.examples) == seen.observed
        assert set(values) & {*seen.examples[0]}


@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_a_whole_month_of_any_usable_interval_passes(minutes):
    assert set() == red_of("raw_um_ohlcv", raw_month(minutes))
    wrong = raw_month(minutes).with_columns(interval_min=pl.lit(30, pl.Int64))
    assert {"on_grid", "coverage", "complete"} == red_of("raw_um_ohlcv", wrong)


def test_the_interval_of_most_klines_is_the_months_and_the_others_are_named():
    five = raw_month(5).filter(pl.col("open_at") >= datetime(2024, 1, 31, 23, tzinfo=UTC))
    both = pl.concat([UM.filter(pl.col("open_at") < datetime(2024, 1, 31, 23, tzinfo=UTC)), five])
    seen = verdict_of("raw_um_ohlcv", "on_grid", both)
    assert 12 == seen.observed
    assert {5} == {row["interval_min"] for row in seen.examples}


def test_columns_that_the_source_lacks_are_no_fault():
    optional = ("volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote", "close_at", "unused")
    assert set() == red_of("raw_um_ohlcv", UM.with_columns(all_null(UM).select(optional)))


def test_coverage_is_held_against_the_calendar_not_a_count():
    # As many rows as the month has bars, but one of them twice.
    padded = pl.concat([without(UM, [100]), UM.slice(5, 1)])
    assert UM.height == padded.height
    assert {"no_duplicates", "complete"} == red_of("raw_um_ohlcv", padded)
    assert 1 / 2976 == verdict_of("raw_um_ohlcv", "complete", padded).observed


@pytest.mark.parametrize(
    ("n_missing", "table", "expected"),
    [
        (1, "raw_um_ohlcv", {"complete"}),
        (29, "raw_um_ohlcv", {"complete"}),
        (30, "raw_um_ohlcv", {"complete", "coverage"}),
        (2975, "raw_um_ohlcv", {"complete", "coverage"}),
        (297, "raw_spot_ohlcv", {"complete"}),
        (298, "raw_spot_ohlcv", {"complete", "coverage"}),
    ],
)
def test_missing_klines_are_remarked_where_the_limits_say(n_missing, table, expected):
    part = without(UM, range(n_missing))
    assert expected == red_of(table, part)
    assert n_missing / 2976 == verdict_of(table, "coverage", part).observed


def test_a_changed_limit_changes_the_verdict_and_is_in_it():
    part = without(UM, range(30))
    limits = parse_limits("um_gap_share_max=0.02,tail_age_max_h=1,funding_rate_max=0.00005,funding_rate_usual=0.00005")
    assert {"complete"} == red_of("raw_um_ohlcv", part, limits=limits)
    assert 0.02 == verdict_of("raw_um_ohlcv", "coverage", part, limits=limits).limit
    assert {"rate_bounded", "rate_usual"} == red_of("raw_um_funding", FUNDING, limits=limits)
    seen = verdict_of("raw_um_funding", "rate_bounded", FUNDING, limits=limits)
    assert (1e-4, 5e-5) == (seen.observed, seen.limit)
    assert "setting funding_rate_max" in seen.detail
    oi = RAW_MONTHS["raw_um_open_interest"]
    missing = without(oi, range(100, 600))
    assert {"coverage"} == red_of("raw_um_open_interest", missing)
    assert set() == red_of("raw_um_open_interest", missing, limits=parse_limits("open_interest_missing_share_max=0.06"))


def test_holes_are_told_longest_first():
    seen = verdict_of("raw_um_ohlcv", "coverage", without(UM, [5, *range(200, 230), *range(2970, 2976)]))
    assert "37 of 2976 klines are missing, the longest hole 30 from 2024-01-03 02:00 UTC" in seen.detail
    assert [(hole["n_missing"], str(hole["first"])[:10]) for hole in seen.examples] == [
        (30, "2024-01-03"),
        (6, "2024-01-31"),
        (1, "2024-01-01"),
    ]


@pytest.mark.parametrize("factor", [1000.0, 0.001, 1.01])
def test_traded_values_in_another_unit_fit_no_price(factor):
    other = UM.with_columns(pl.col("volume_quote", "taker_buy_quote") * factor)
    assert {"value_at_a_price"} == red_of("raw_um_ohlcv", other)
    seen = verdict_of("raw_um_ohlcv", "value_at_a_price", other)
    assert (1.0, 0.01) == (seen.observed, seen.limit)
    assert {"low", "high", "volume_base", "volume_quote"} <= {*seen.examples[0]}
    swapped = UM.rename({"volume_base": "volume_quote", "volume_quote": "volume_base"}).select(UM.columns)
    assert "value_at_a_price" in red_of("raw_spot_ohlcv", swapped)


def test_the_share_of_odd_values_is_of_the_klines_that_have_one():
    n, odd = UM.height, pl.int_range(pl.len())
    half = UM.with_columns(
        volume_quote=pl.when(odd < n // 2).then("volume_quote"), taker_buy_quote=pl.lit(None, pl.Float64)
    )
    few = half.with_columns(volume_quote=pl.when(odd < 14).then(1.0).otherwise("volume_quote"))
    more = half.with_columns(volume_quote=pl.when(odd < 15).then(1.0).otherwise("volume_quote"))
    assert 14 / 1488 == verdict_of("raw_um_ohlcv", "value_at_a_price", few).observed
    assert set() == red_of("raw_um_ohlcv", few)
    assert {"value_at_a_price"} == red_of("raw_um_ohlcv", more)
    untraded = half.with_columns(
        pl.when(odd == 9).then(0.0).otherwise(name).alias(name) for name in ("volume_base", "volume_quote")
    )
    assert "0 of 1487 klines" in verdict_of("raw_um_ohlcv", "value_at_a_price", untraded).detail


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_value_without_a_price_is_odd_even_of_the_only_kline_that_trades(value):
    first = pl.int_range(pl.len()) == 0
    one = UM.with_columns(
        pl.when(first).then(name).otherwise(0.0).alias(name)
        for name in ("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote")
    )
    assert 1.0 == verdict_of("raw_um_ohlcv", "value_at_a_price", change(one, 0, volume_quote=value)).observed


def test_a_bar_that_is_still_open_is_refused_and_the_closed_ones_are_a_whole_month_so_far():
    as_of = datetime(2024, 1, 20, 0, 14, 59, tzinfo=UTC)
    until = UM.filter(pl.col("open_at") <= as_of)
    assert {"only_closed_bars"} == red_of("raw_um_ohlcv", until, as_of=as_of)
    assert set() == red_of("raw_um_ohlcv", until.head(-1), as_of=as_of)


@pytest.mark.parametrize("table", ["raw_um_ohlcv", "raw_um_open_interest"])
def test_the_tail_of_an_open_month_is_no_hole_and_its_age_is_remarked(table):
    frame = RAW_MONTHS[table]
    instant = "open_at" if table == "raw_um_ohlcv" else "snapshot_at"
    newest = datetime(2024, 1, 18, 11, 45, tzinfo=UTC)
    part, young, old = frame.filter(pl.col(instant) <= newest), timedelta(hours=36), timedelta(hours=36, minutes=1)
    assert set() == red_of(table, part, as_of=newest + young)
    assert TAIL == red_of(table, part, as_of=newest + old)
    assert pytest.approx(36 + 1 / 60) == verdict_of(table, "tail_age", part, as_of=newest + old).observed
    # Once the month is over, or the instrument delisted, the tail is held against the calendar.
    assert not TAIL & red_of(table, part)
    listing = Listing(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 18, 12, tzinfo=UTC))
    assert set() == red_of(table, part, as_of=newest + old, listing=listing)
