import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.limits import parse_limits
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.gates.funding import GATES_RAW_UM_FUNDING
from backtest_assets.gates.gate import Evidence, ask_all
from backtest_assets.gates.liquidations import GATES_RAW_UM_LIQUIDATIONS
from backtest_assets.gates.open_interest import GATES_RAW_UM_OPEN_INTEREST
from backtest_assets.gates.raw import GATES_RAW_SPOT_OHLCV, GATES_RAW_UM_OHLCV
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests.gates.evidence import (
    RAW_MONTHS,
    all_null,
    change,
    market_evidence,
    raw_month,
    red,
    verdict,
    without,
)
from backtest_assets_tests.scenario import SYMBOL, raw_funding

GATES = {
    "raw_um_ohlcv": GATES_RAW_UM_OHLCV,
    "raw_spot_ohlcv": GATES_RAW_SPOT_OHLCV,
    "raw_um_funding": GATES_RAW_UM_FUNDING,
    "raw_um_open_interest": GATES_RAW_UM_OPEN_INTEREST,
    "raw_um_liquidations": GATES_RAW_UM_LIQUIDATIONS,
}
UM, SPOT, FUNDING = (RAW_MONTHS[name] for name in ("raw_um_ohlcv", "raw_spot_ohlcv", "raw_um_funding"))
TAIL = {"tail_age"}


def asked(table, frame, **changes: object):
    return replace(market_evidence(table), frame=frame, **changes)


def red_of(table, frame, **changes: object):
    return red(GATES[table], asked(table, frame, **changes))


def verdict_of(table, gate, frame, **changes: object):
    return verdict(GATES[table], asked(table, frame, **changes), gate)


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


def test_a_listing_in_the_month_moves_what_is_expected():
    listing = Listing(datetime(2024, 1, 11, 10, tzinfo=UTC), datetime(2024, 1, 20, 7, 5, tzinfo=UTC))
    listed = UM.filter(pl.col("open_at").is_between(listing.listed_at, datetime(2024, 1, 20, 6, 45, tzinfo=UTC)))
    assert {"coverage", "complete"} == red_of("raw_um_ohlcv", listed)
    assert set() == red_of("raw_um_ohlcv", listed, listing=listing)
    assert {"complete"} == red_of("raw_um_ohlcv", listed.slice(1), listing=listing)


TRADED = {"raw_um_ohlcv": UM, "raw_spot_ohlcv": SPOT, "raw_um_funding": FUNDING}
MISSING = {
    "raw_um_ohlcv": {"coverage", "complete"},
    "raw_spot_ohlcv": {"coverage", "complete"},
    "raw_um_funding": set(),
}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("table", TRADED)
@pytest.mark.parametrize(
    "listing",
    [
        Listing(datetime(2024, 2, 1, tzinfo=UTC)),
        Listing(datetime(2024, 1, 31, 23, 50, tzinfo=UTC)),
        Listing(datetime(2033, 1, 1, tzinfo=UTC)),
        Listing(LONG_AGO, datetime(2023, 12, 31, 9, tzinfo=UTC)),
        Listing(LONG_AGO, datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_month_that_traded_contradicts_a_listing_that_leaves_nothing_of_it(table, listing):
    assert {"listed", "wholly_listed"} <= red_of(table, TRADED[table], listing=listing)
    seen = verdict_of(table, "listed", TRADED[table], listing=listing)
    assert f"of {TRADED[table].height} rows of {table} traded outside of the listing" in seen.detail
    assert f"from {listing.listed_at:%Y-%m-%d %H:%M}" in seen.detail
    assert "instruments.csv" in seen.detail
    assert "exchangeInfo" in seen.detail
    assert seen.examples


@pytest.mark.parametrize("table", TRADED)
@pytest.mark.parametrize(
    "listing",
    [
        Listing(datetime(2024, 1, 25, 8, tzinfo=UTC)),
        Listing(LONG_AGO, datetime(2024, 1, 3, 9, tzinfo=UTC)),
        Listing(datetime(2024, 1, 10, tzinfo=UTC), datetime(2024, 1, 20, tzinfo=UTC)),
    ],
)
def test_rows_outside_of_a_listing_that_leaves_a_part_of_the_month_are_a_remark(table, listing):
    # BTCUSDT traded as um from 2019-09-08 on; exchangeInfo says 2019-09-25.
    found = red_of(table, TRADED[table], listing=listing)
    assert {"wholly_listed"} == found
    assert "traded outside of the listing" in verdict_of(table, "wholly_listed", TRADED[table], listing=listing).detail


@pytest.mark.parametrize("table", TRADED)
def test_rows_within_a_day_of_a_listing_are_no_contradiction(table):
    instant = market_evidence(table).table.key[1]
    last_day = TRADED[table].filter(pl.col(instant) >= datetime(2024, 1, 31, tzinfo=UTC))
    first_day = TRADED[table].filter(pl.col(instant) <= datetime(2024, 1, 2, tzinfo=UTC))
    before, after = Listing(datetime(2024, 2, 1, tzinfo=UTC)), Listing(LONG_AGO, datetime(2024, 1, 1, tzinfo=UTC))
    for frame, listing in ((last_day, before), (first_day, after)):
        assert "wholly_listed" in red_of(table, frame, listing=listing)
        assert verdict_of(table, "listed", frame, listing=listing).passed
    two_days = TRADED[table].filter(pl.col(instant) >= datetime(2024, 1, 30, tzinfo=UTC))
    assert "listed" in red_of(table, two_days, listing=before)


def test_a_last_settlement_on_the_instant_of_the_delisting_is_within_it():
    until = FUNDING.filter(pl.col("settled_at") <= datetime(2024, 1, 20, 8, tzinfo=UTC))
    assert set() == red_of("raw_um_funding", until, listing=Listing(LONG_AGO, datetime(2024, 1, 20, 8, tzinfo=UTC)))


@pytest.mark.parametrize("volume", [0.0, None, 1.0])
def test_dead_klines_after_a_delisting_are_no_trades_and_an_unknown_volume_is_one(volume):
    dead = UM.with_columns(volume_base=pl.lit(volume, pl.Float64))
    seen = verdict_of("raw_um_ohlcv", "listed", dead, listing=Listing(LONG_AGO, datetime(2023, 12, 1, tzinfo=UTC)))
    assert (0 if volume == 0 else UM.height) == seen.observed


def test_without_a_listing_nothing_is_outside_of_it():
    assert "no listing is known" in verdict_of("raw_um_ohlcv", "listed", UM).detail


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
    spoilt = change(FUNDING, 9, **values)
    assert expected == red_of("raw_um_funding", spoilt)
    for gate in expected - {"rate_bounded", "rate_usual", "settlements_complete"}:
        assert verdict_of("raw_um_funding", gate, spoilt).examples


def test_the_largest_rate_is_the_number_and_the_example():
    seen = verdict_of("raw_um_funding", "rate_bounded", change(FUNDING, 9, funding_rate=-0.031))
    assert (0.031, 0.03, -0.031) == (seen.observed, seen.limit, seen.examples[0]["funding_rate"])


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        ({"snapshot_at": datetime(2024, 1, 9, 0, 1, tzinfo=UTC)}, "on_grid"),
        ({"snapshot_at": datetime(2024, 1, 9, tzinfo=UTC)}, "no_duplicates"),
        ({"open_interest_base": -1.0}, "counts_sane"),
        ({"open_interest_quote": math.nan}, "counts_sane"),
        ({"open_interest_quote": math.inf}, "counts_sane"),
        ({"taker_volume_ratio": math.nan}, "counts_sane"),
        ({"account_ratio": -0.5}, "counts_sane"),
    ],
)
def test_one_corrupt_snapshot_is_named_by_its_gate(values, gate):
    spoilt = change(RAW_MONTHS["raw_um_open_interest"], 50, **values)
    assert {gate} == red_of("raw_um_open_interest", spoilt)
    assert verdict_of("raw_um_open_interest", gate, spoilt).examples


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        ({"order_side": "LONG"}, "side_known"),
        ({"contract": "BTCUSD_PERP", "contract_size_quote": 100.0, "notional_quote": 400.0}, "contract_is_the_twin"),
        ({"contract": "SYNAUSDT"}, "contract_is_the_twin"),
        ({"filled_contracts": 0.0, "notional_quote": 0.0}, "notional_is_contracts"),
        ({"filled_contracts": -4.0, "notional_quote": -40.0}, "notional_is_contracts"),
        ({"contract_size_quote": 100.0, "notional_quote": 400.0}, "notional_is_contracts"),
        ({"notional_quote": 40.1}, "notional_is_contracts"),
        ({"notional_quote": math.inf}, "notional_is_contracts"),
        ({"ordinal": 1}, "ordinals_count"),
        ({"liquidated_at": datetime(2024, 2, 3, tzinfo=UTC)}, "rows_inside_partition"),
    ],
)
def test_one_corrupt_order_is_named_by_its_gate(values, gate):
    spoilt = change(RAW_MONTHS["raw_um_liquidations"], 4, **values)
    assert {gate} == red_of("raw_um_liquidations", spoilt)
    seen = verdict_of("raw_um_liquidations", gate, spoilt)
    assert 1 == seen.observed
    assert seen.examples


@pytest.mark.parametrize(
    ("symbol", "contract", "size", "is_right"),
    [
        ("BTCUSDT", "BTCUSD_PERP", 100.0, True),
        ("BTCUSDT", "BTCUSD_PERP", 10.0, False),
        ("ETHBUSD", "ETHUSD_PERP", 10.0, True),
        ("ETHUSDC", "ETHUSD_PERP", 10.0, True),
        ("ETHUSDT", "BTCUSD_PERP", 100.0, False),
    ],
)
def test_the_twin_and_its_size_are_known_by_the_symbol(symbol, contract, size, is_right):
    orders = RAW_MONTHS["raw_um_liquidations"].with_columns(
        symbol=pl.lit(symbol),
        contract=pl.lit(contract),
        contract_size_quote=pl.lit(size),
        notional_quote=size * pl.col("filled_contracts"),
    )
    found = red_of("raw_um_liquidations", orders, partition=Partition.of_month(symbol, "2024-01"))
    assert is_right == (found == set())


def test_a_month_of_funding_in_parts_is_a_remark():
    assert {"settlements_complete"} == red_of("raw_um_funding", raw_funding().head(40))


def test_rates_in_percent_are_seen_by_their_median_though_each_alone_is_possible():
    percent = FUNDING.with_columns(pl.col("funding_rate") * 100)
    assert {"median_rate_bounded", "rate_usual"} == red_of("raw_um_funding", percent)
    seen = verdict_of("raw_um_funding", "median_rate_bounded", percent)
    assert (pytest.approx(0.01), 0.002) == (seen.observed, seen.limit)
    assert "setting funding_rate_median_max" in seen.detail
    # A storm of ten days is no percentage, and fewer days do not tell.
    storm = FUNDING.with_columns(
        funding_rate=pl.when(pl.int_range(pl.len()) < 46).then(-0.02).otherwise("funding_rate")
    )
    assert {"rate_usual"} == red_of("raw_um_funding", storm)
    assert verdict_of("raw_um_funding", "median_rate_bounded", storm.head(29)).passed
    assert not verdict_of("raw_um_funding", "median_rate_bounded", storm.head(30)).passed
    assert (
        "9.66667 days of settlements are too few"
        in verdict_of("raw_um_funding", "median_rate_bounded", storm.head(29)).detail
    )


REAL = Path(__file__).parents[3] / "shared/data/archive/data/futures/um/monthly/fundingRate"
SOL = REAL / "SOLUSDT/SOLUSDT-fundingRate-2022-11.csv"


def real_month(path=SOL):
    at = pl.from_epoch("calc_time", time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    real = pl.read_csv(path).select(
        symbol=pl.lit(SYMBOL),
        settled_at=at.dt.round("1m"),
        received_at=at,
        funding_rate="last_funding_rate",
        funding_interval_h="funding_interval_hours",
        source=pl.lit("archive"),
    )
    return RAW_UM_FUNDING.conform(real)


@pytest.mark.skipif(not SOL.exists(), reason="the real archive is not on this machine (../shared/data)")
def test_a_real_month_with_three_intervals_is_complete():
    real = real_month()

    def red_without(row=-1) -> set[str]:
        frame = without(real, [row])
        month = Partition.of_month(SYMBOL, "2022-11")
        return red(GATES_RAW_UM_FUNDING, Evidence(RAW_UM_FUNDING, month, frame, datetime(2024, 3, 1, tzinfo=UTC)))

    assert {2.0, 4.0, 8.0} == set(real["funding_interval_h"])
    # 2022-11-10 04:00 bears 2 h after 4 h: so the exchange changed it, and so would a lost one at 02:00 look.
    assert {"rate_usual", "changes_confirmed"} == red_without()
    assert [row for row in range(real.height) if "settlements_complete" not in red_without(row)] == []


@pytest.mark.skipif(not REAL.exists(), reason="the real archive is not on this machine (../shared/data)")
def test_no_real_month_is_refused_and_each_in_percent_is():
    paths = sorted(REAL.rglob("*.csv"))
    assert 226 == len(paths)
    for path in paths:
        month = Partition.of_month(SYMBOL, path.stem[-7:])
        evidence = Evidence(RAW_UM_FUNDING, month, real_month(path), datetime(2026, 11, 22, tzinfo=UTC))
        assert not any(answer.blocks for answer in ask_all(GATES_RAW_UM_FUNDING, evidence)), path.stem
        percent = evidence.frame.with_columns(pl.col("funding_rate") * 100)
        assert "median_rate_bounded" in red(GATES_RAW_UM_FUNDING, replace(evidence, frame=percent)), path.stem
