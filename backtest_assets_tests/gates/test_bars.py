import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.limits import parse_limits
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.gates.bars import GATES_BARS_SPOT, GATES_BARS_UM
from backtest_assets.gates.gate import Evidence
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.sources.base import Dataset, Slice
from backtest_assets.sources.open import open_source
from backtest_assets.tables.registry import table_named
from backtest_assets_tests.gates.evidence import (
    AFTER,
    all_null,
    change,
    market_evidence,
    raw_month,
    red,
    verdict,
    with_inputs,
    without,
)
from backtest_assets_tests.scenario import MONTH, SYMBOL

GATES = {"um": GATES_BARS_UM, "spot": GATES_BARS_SPOT}
RAW = raw_month()
VALUES = (
    *("open", "high", "low", "close", "volume_base", "volume_quote", "n_trades"),
    *("taker_buy_base", "taker_buy_quote"),
)


def clean(raw, *, as_of=AFTER, listing=None):
    return clean_klines(raw, symbol=SYMBOL, month=MONTH, as_of=as_of, listing=listing)


BARS = clean(RAW)


def asked(market, frame, raw=RAW, **changes: object):
    whole = market_evidence(f"bars_{market}")
    return replace(with_inputs(whole, **{f"raw_{market}_ohlcv": raw}), frame=frame, **changes)


def red_of(market, frame, raw=RAW, **changes: object):
    return red(GATES[market], asked(market, frame, raw, **changes))


def verdict_of(gate, frame, raw=RAW, market="um", **changes: object):
    return verdict(GATES[market], asked(market, frame, raw, **changes), gate)


def of_raw(raw, market="um", **changes: object):
    """What is red when the bars are rightly made from these raw klines."""
    return red_of(market, clean(raw), raw, **changes)


def priced(raw, first, prices):
    """Klines from one row on that have one price each."""
    rows = pl.int_range(pl.len()).is_between(first, first + len(prices) - 1)
    new = pl.Series([0.0] * first + list(prices) + [0.0] * (raw.height - first - len(prices)))
    return raw.with_columns(pl.when(rows).then(new).otherwise(name).alias(name) for name in VALUES[:4])


def test_only_what_real_markets_do_too_is_a_remark():
    remarks = {gate.name for gate in GATES_BARS_SPOT if gate.severity is Severity.WARN}
    assert {"no_gaps", "no_zero_volume_moves", "spike_reverted"} == remarks
    assert {"in_line_with_um"} == {g.name for g in GATES_BARS_SPOT} - {g.name for g in GATES_BARS_UM}


@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_bars_of_every_interval_pass(minutes):
    assert set() == of_raw(raw_month(minutes))


@pytest.mark.parametrize("column", ["symbol", "open_at", "known_at", *VALUES, "is_gap"])
def test_a_column_that_is_all_null_is_seen(column):
    assert red_of("um", BARS.with_columns(all_null(BARS)[column]))


def test_without_raw_klines_nothing_can_be_compared():
    seen = verdict_of("identical_to_raw", BARS, raw=RAW.clear())
    assert (True, False) == (math.isnan(seen.observed), seen.passed)
    mixed = pl.concat([RAW.head(5), raw_month(5).tail(5)])
    assert math.isnan(verdict_of("identical_to_raw", BARS, raw=mixed).observed)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"close": 1.0}, {"identical_to_raw", "spike_reverted"}),
        ({"volume_quote": None}, {"identical_to_raw"}),
        ({"n_trades": 7_777}, {"identical_to_raw"}),
        ({"open_at": datetime(2024, 1, 1, tzinfo=UTC)}, {"exact_grid", "identical_to_raw", "known_at_close"}),
        ({"known_at": datetime(2024, 1, 1, tzinfo=UTC)}, {"known_at_close"}),
        ({"symbol": "BTCUSDT"}, {"rows_inside_partition"}),
        ({"is_gap": True}, {"identical_to_raw", "no_gaps"}),
    ],
)
def test_one_wrong_bar_is_named_by_its_gate(values, expected):
    spoilt = change(BARS, 9, **values)
    assert expected == red_of("um", spoilt)
    assert all(verdict_of(gate, spoilt).examples for gate in expected - {"exact_grid"})


@pytest.mark.parametrize("minutes", [1, 5, 15])
@pytest.mark.parametrize("name", VALUES)
def test_every_value_is_worked_out_once_more(minutes, name):
    raw = raw_month(minutes)
    factor = pl.when(pl.int_range(pl.len()) == 700).then(2).otherwise(1)
    changed = clean(raw).with_columns(pl.col(name) * factor)
    seen = verdict_of("identical_to_raw", changed, raw)
    assert 1 == seen.observed
    assert {"2024-01-08T07:00:00+00:00"} == {row["open_at"] for row in seen.examples}


def test_a_kline_that_contradicts_another_makes_its_bar_wrong():
    assert 1 == verdict_of("identical_to_raw", BARS, pl.concat([change(RAW, 9, close=1.0).slice(9, 1), RAW])).observed
    assert 0 == verdict_of("identical_to_raw", BARS, pl.concat([RAW.slice(9, 1), RAW])).observed


@pytest.mark.parametrize("minutes", [1, 5])
def test_an_incomplete_bucket_must_be_a_gap_and_a_complete_one_a_bar(minutes):
    raw, n_parts = raw_month(minutes), 15 // minutes
    holed = without(raw, [100 * n_parts + 1])
    assert {"no_gaps"} == of_raw(holed)
    # A bar of what is left of the bucket is found out, and so is a gap where all is there.
    partial = clean(raw)
    assert {"identical_to_raw"} == red_of("um", partial, holed)
    assert "2024-01-02T01:00:00+00:00" == verdict_of("identical_to_raw", partial, holed).examples[0]["open_at"]
    assert "identical_to_raw" in red_of("um", clean(holed), raw)


def test_a_sum_with_an_unknown_part_is_unknown():
    raw = change(raw_month(5), 301, n_trades=None)
    bars = clean(raw)
    assert bars["n_trades"][100] is None
    assert set() == red_of("um", bars, raw)
    assert {"identical_to_raw"} == red_of("um", change(bars, 100, n_trades=5), raw)


def test_a_missing_and_an_extra_instant_break_the_grid():
    assert {"exact_grid", "identical_to_raw"} == red_of("um", without(BARS, [9]))
    later = BARS.tail(1).with_columns(pl.col("open_at", "known_at") + timedelta(minutes=15))
    seen = verdict_of("exact_grid", pl.concat([BARS, later]))
    assert (1, "2024-02-01T00:00:00+00:00") == (seen.observed, seen.examples[0]["open_at"])
    assert 2 == verdict_of("exact_grid", pl.concat([without(BARS, [9]), BARS.tail(1)])).observed
    assert {"exact_grid"} == red_of("um", BARS.reverse()) - {"no_zero_volume_moves", "spike_reverted"}


@pytest.mark.parametrize(
    ("n_missing", "market", "expected"),
    [
        (1, "um", {"no_gaps"}),
        (29, "um", {"no_gaps"}),
        (30, "um", {"no_gaps", "gap_share"}),
        (96 + 94, "um", {"no_gaps", "gap_share"}),
        (96 + 95, "um", {"no_gaps", "gap_share", "missing_days"}),
        (297, "spot", {"no_gaps"}),
        (298, "spot", {"no_gaps", "gap_share"}),
        (95 + 4 * 96, "spot", {"no_gaps", "gap_share", "missing_days"}),
    ],
)
def test_gaps_are_remarked_and_then_refused(n_missing, market, expected):
    raw = without(RAW, range(97, 97 + n_missing))
    assert expected == of_raw(raw, market)
    seen = verdict_of("gap_share", clean(raw), raw, market)
    assert n_missing / 2976 == seen.observed
    assert n_missing == seen.examples[0]["n_missing"]


def test_missing_days_are_named_and_changed_limits_change_the_verdicts():
    raw = without(RAW, [*range(960, 1056), *range(1200, 1392)])
    assert {"no_gaps", "gap_share", "missing_days"} == of_raw(raw)
    seen = verdict_of("missing_days", clean(raw), raw)
    assert (2, 0) == (seen.observed, seen.limit)
    assert ["2024-01-11", "2024-01-14"] == [str(row["day"])[:10] for row in seen.examples]
    limits = parse_limits("um_missing_days_max=2,um_gap_share_max=0.1")
    assert {"no_gaps"} == of_raw(raw, limits=limits)
    assert 0.1 == verdict_of("gap_share", clean(raw), raw, limits=limits).limit


def test_a_filled_gap_is_found_out():
    assert {"identical_to_raw"} == red_of("um", BARS, without(RAW, [100]))


def test_a_month_in_progress_ends_with_the_newest_bar_that_has_arrived():
    as_of = datetime(2024, 1, 20, 12, 7, tzinfo=UTC)
    arrived = RAW.filter(pl.col("open_at") < datetime(2024, 1, 19, tzinfo=UTC))
    for raw in (RAW, arrived):
        assert set() == red_of("um", clean(raw, as_of=as_of), raw, as_of=as_of)
    assert {"exact_grid", "identical_to_raw"} == red_of("um", clean(arrived, as_of=as_of), RAW, as_of=as_of)
    assert {"exact_grid", "known_at_close"} == red_of("um", BARS, as_of=as_of)


def test_a_listing_moves_the_grid():
    listing = Listing(datetime(2024, 1, 11, 10, 5, tzinfo=UTC), datetime(2024, 1, 20, 7, 5, tzinfo=UTC))
    listed = clean(RAW, listing=listing)
    assert (datetime(2024, 1, 11, 10, 15, tzinfo=UTC), 851) == (listed["open_at"][0], listed.height)
    assert set() == red_of("um", listed, listing=listing)
    assert {"exact_grid", "identical_to_raw"} == red_of("um", listed)
    assert {"exact_grid"} == red_of("um", BARS, listing=listing)


@pytest.mark.parametrize(("n_bars", "expected"), [(96, set()), (97, {"frozen_price"})])
def test_a_price_that_does_not_move_for_more_than_a_day_is_frozen(n_bars, expected):
    raw = priced(RAW, 500, [float(RAW["close"][499])] * n_bars)
    assert expected == of_raw(raw)
    seen = verdict_of("frozen_price", clean(raw), raw)
    assert (n_bars, 96) == (seen.observed, seen.limit)
    assert {"n_bars": n_bars, "open_at": "2024-01-06T05:00:00+00:00"}.items() <= seen.examples[0].items()
    assert "frozen_price" in of_raw(raw, limits=parse_limits("frozen_bars_max=95"))


def test_flat_bars_at_different_prices_are_not_frozen_and_a_gap_does_not_end_a_freeze():
    steps = [100.0 + i % 2 for i in range(300)]
    assert 1 == verdict_of("frozen_price", clean(priced(RAW, 500, steps)), priced(RAW, 500, steps)).observed
    frozen = without(priced(RAW, 500, [100.0] * 100), [550, 551])
    assert {"no_gaps", "frozen_price"} == of_raw(frozen)
    assert 98 == verdict_of("frozen_price", clean(frozen), frozen).observed


@pytest.mark.parametrize(
    ("n_bars", "expected"),
    [(0, set()), (1, {"no_zero_volume_moves"}), (29, {"no_zero_volume_moves"}),
     (30, {"no_zero_volume_moves", "zero_volume_moves"})],
)  # fmt: skip
def test_prices_that_move_on_no_volume_are_remarked_and_then_refused(n_bars, expected):
    hit = pl.int_range(pl.len()).is_between(10, 9 + n_bars)
    raw = RAW.with_columns(pl.when(hit).then(0.0).otherwise("volume_base").alias("volume_base"))
    assert expected == of_raw(raw)
    seen = verdict_of("zero_volume_moves", clean(raw), raw)
    assert n_bars / 2976 == seen.observed
    assert min(n_bars, 5) == len(seen.examples)
    assert expected - {"zero_volume_moves"} == of_raw(raw, limits=parse_limits("zero_volume_share_max=0.02"))


def test_a_dead_hour_at_one_price_moves_nothing_until_its_price_is_another():
    hit = pl.int_range(pl.len()).is_between(500, 503)
    dead = pl.when(hit).then(0.0).otherwise("volume_base").alias("volume_base")
    still = priced(RAW, 500, [float(RAW["close"][499])] * 4).with_columns(dead)
    assert set() == of_raw(still)
    moved = priced(RAW, 500, [float(RAW["close"][499]) + 1] * 4).with_columns(dead)
    assert {"no_zero_volume_moves"} == of_raw(moved)
    assert 1 == verdict_of("no_zero_volume_moves", clean(moved), moved).observed


@pytest.mark.parametrize(
    ("up", "back", "expected"),
    [
        (1.0999, 1.0, 0),
        (1.1001, 1.0, 1),
        (1.2, 1.041, 0),
        (1.2, 1.039, 1),
        (0.85, 1.0, 1),
        (0.85, 0.8, 0),
        (1.2, 1.3, 0),
    ],
)
def test_a_spike_is_a_jump_that_the_next_bar_takes_back(up, back, expected):
    before = float(RAW["close"][499])
    raw = priced(RAW, 500, [before * up, before * back, before * back])
    seen = verdict_of("spike_reverted", clean(raw), raw)
    assert expected == seen.observed
    assert ("2024-01-06T05:00:00+00:00" if expected else None) == (
        seen.examples[0]["open_at"] if seen.examples else None
    )


def test_what_counts_as_a_spike_is_a_setting():
    assert verdict_of("spike_reverted", BARS, limits=parse_limits("spike_frac=0.002")).observed > 0
    before = float(RAW["close"][499])
    raw = priced(RAW, 500, [before * 1.2, before * 1.1])
    assert 0 == verdict_of("spike_reverted", clean(raw), raw).observed
    assert 1 == verdict_of("spike_reverted", clean(raw), raw, limits=parse_limits("spike_reverted_frac=0.4")).observed


def line(n_out, factor=1.06):
    """Spot whose first bars lie under the um price by some factor."""
    under = pl.when(pl.int_range(pl.len()) < n_out).then(factor).otherwise(1.0)
    return RAW.with_columns((pl.col(name) / under).alias(name) for name in VALUES[:4])


@pytest.mark.parametrize(
    ("n_out", "factor", "expected"),
    [(14, 1.06, set()), (15, 1.06, {"in_line_with_um"}), (15, 1.049, set()), (15, 0.94, {"in_line_with_um"})],
)
def test_spot_out_of_line_with_um_is_refused(n_out, factor, expected):
    raw = line(n_out, factor)
    assert expected == of_raw(raw, "spot")
    seen = verdict_of("in_line_with_um", clean(raw), raw, "spot")
    if factor != 1.049:
        assert n_out / 2976 == seen.observed
        assert pytest.approx(factor - 1) == seen.examples[0]["basis"]
    limits = parse_limits("basis_out_of_line_share_max=0.1")
    assert set() == of_raw(raw, "spot", limits=limits)
    strict = parse_limits("basis_abs_max=0.01,basis_out_of_line_share_max=0.001")
    assert {"in_line_with_um"} == of_raw(raw, "spot", limits=strict)


def test_spot_is_compared_where_both_have_a_bar():
    um = clean(without(RAW, range(5)))
    spot = asked("spot", clean(line(15)), line(15))
    seen = verdict(GATES_BARS_SPOT, with_inputs(spot, bars_um=um), "in_line_with_um")
    assert 10 / 2971 == seen.observed
    elsewhere = um.with_columns(pl.col("open_at") + timedelta(days=31))
    assert math.isnan(verdict(GATES_BARS_SPOT, with_inputs(spot, bars_um=elsewhere), "in_line_with_um").observed)


def test_spot_without_um_bars_passes_with_a_remark():
    spot = market_evidence("bars_spot")
    inputs = {name: frame for name, frame in spot.inputs.items() if name != "bars_um"}
    for changed in (inputs, inputs | {"bars_um": BARS.clear()}, inputs | {"bars_um": clean(RAW.head(0))}):
        seen = verdict(GATES_BARS_SPOT, replace(spot, inputs=changed), "in_line_with_um")
        assert (True, 0.0) == (seen.passed, seen.observed)
        assert "no um bars to compare with" in seen.detail


def test_a_month_of_gaps_only_is_refused_by_all_that_needs_a_price():
    raw = RAW.head(1)
    bars = change(clean(raw), 0, is_gap=True, **dict.fromkeys(VALUES))
    expected = {"frozen_price", "zero_volume_moves", "no_zero_volume_moves", "spike_reverted", "in_line_with_um"}
    assert expected <= red_of("spot", bars, raw)
    assert math.isnan(verdict_of("spike_reverted", bars, raw).observed)


def test_rebuilding_agrees_with_plain_python_on_random_holes():
    rng = np.random.default_rng(11)
    for minutes in (1, 5, 15):
        raw = raw_month(minutes)
        n_parts = 15 // minutes
        lost = set(rng.choice(raw.height, 40, replace=False).tolist())
        gaps = {row // n_parts for row in lost}
        holed = without(raw, lost)
        bars = clean(holed)
        assert sorted(gaps) == bars["is_gap"].arg_true().to_list()
        assert 0 == verdict_of("identical_to_raw", bars, holed).observed
        assert len(gaps) == verdict_of("identical_to_raw", clean(raw), holed).observed


REAL = Path(__file__).parents[3] / "shared/data/market"


@pytest.mark.skipif(not REAL.exists(), reason="the real market files are not on this machine (../shared/data)")
@pytest.mark.parametrize(
    ("symbol", "month", "um", "spot"),
    [
        ("BTCUSDT", "2022-08", set(), {"gap_share", "missing_days", "no_gaps"}),
        ("ETHUSDT", "2022-08", set(), {"gap_share", "missing_days", "no_gaps"}),
        ("BTCUSDT", "2022-11", set(), None),
        ("ETHUSDT", "2022-11", set(), set()),
        ("BTCUSDT", "2025-10", set(), set()),
        ("BTCUSDT", "2020-03", None, {"gap_share", "missing_days", "no_gaps"}),
        ("BTCUSDT", "2021-04", None, {"no_gaps"}),
        ("ETHUSDT", "2021-05", None, {"spike_reverted"}),  # the crash of the 19th: real, and only remarked upon
    ],
)
def test_real_months_are_red_for_what_they_lack_and_for_nothing_else(symbol, month, um, spot):
    source, as_of, partition = open_source(f"files:{REAL}"), datetime(2026, 11, 1, tzinfo=UTC), (symbol, month)
    inputs: dict[str, pl.DataFrame] = {}
    for dataset, name in ((Dataset.UM_OHLCV, "bars_um"), (Dataset.SPOT_OHLCV, "bars_spot")):
        raw = source.fetch(Slice.of_month(dataset, symbol, month), as_of=as_of).frame
        inputs[dataset.value] = raw
        if raw.height:
            inputs[name] = clean_klines(raw, symbol=symbol, month=month, as_of=as_of)
    assert (um is None, spot is None) == ("bars_um" not in inputs, "bars_spot" not in inputs)
    for market, expected in (("um", um), ("spot", spot)):
        if expected is not None:
            table = table_named(f"bars_{market}")
            evidence = Evidence(table, Partition.of_month(*partition), inputs[table.name], as_of, inputs=inputs)
            assert expected == red(GATES[market], evidence)
