from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.limits import parse_limits
from backtest_assets.gates.positioning import GATES_POSITIONING_UM
from backtest_assets.research.bars.positioning import build_positioning
from backtest_assets_tests.gates.evidence import (
    QUIET_DAY,
    days_of,
    market_evidence,
    raw_orders,
    raw_snapshots,
    red,
    verdict,
    with_inputs,
    without,
)
from backtest_assets_tests.gates.evidence import change as changed
from backtest_assets_tests.scenario import MONTH

SNAPSHOTS, ORDERS = raw_snapshots(), raw_orders()
WHOLE = market_evidence("positioning_um")
BARS, ROWS = WHOLE.inputs["bars_um"], WHOLE.frame
OPEN_INTEREST = ("open_interest_base", "open_interest_quote", "open_interest_age_min")
LIQUIDATED = ("liquidated_long_quote", "liquidated_short_quote", "n_liquidations")


def build(snapshots=SNAPSHOTS, orders=ORDERS, days=None, max_age_min=30.0):
    days = days_of(MONTH) if days is None else days
    return build_positioning(BARS, snapshots, orders, liquidation_days=days, max_age_min=max_age_min)


def asked(frame, snapshots=SNAPSHOTS, orders=ORDERS, **changes: object):
    made_from = with_inputs(WHOLE, raw_um_open_interest=snapshots, raw_um_liquidations=orders)
    return replace(made_from, frame=frame, **changes)


def red_of(frame, snapshots=SNAPSHOTS, orders=ORDERS, **changes: object):
    return red(GATES_POSITIONING_UM, asked(frame, snapshots, orders, **changes))


def verdict_of(gate, frame, snapshots=SNAPSHOTS, orders=ORDERS, **changes: object):
    return verdict(GATES_POSITIONING_UM, asked(frame, snapshots, orders, **changes), gate)


def test_what_is_unknown_is_a_remark_and_what_is_wrong_is_not():
    remarks = {gate.name for gate in GATES_POSITIONING_UM if gate.severity is Severity.WARN}
    assert {"open_interest_known", "liquidations_known"} == remarks


@pytest.mark.parametrize(
    ("values", "gate"),
    [
        ({"open_interest_base": 5.0}, "open_interest_as_known"),
        ({"open_interest_quote": None}, "open_interest_as_known"),
        ({"open_interest_age_min": 0.0}, "open_interest_as_known"),
        (dict.fromkeys(OPEN_INTEREST), "open_interest_as_known"),
        ({"liquidated_long_quote": 5.0}, "liquidations_add_up"),
        ({"liquidated_short_quote": None}, "liquidations_add_up"),
        ({"n_liquidations": 3}, "liquidations_add_up"),
        (dict.fromkeys(LIQUIDATED), "liquidations_add_up"),
        ({"known_at": datetime(2024, 1, 5, tzinfo=UTC)}, "rows_are_the_bars"),
    ],
)
def test_one_wrong_value_is_named_by_its_gate(values, gate):
    spoilt = changed(ROWS, 9, **values)
    seen = verdict_of(gate, spoilt)
    assert gate in red_of(spoilt)
    assert seen.observed in {1, 2}
    assert {"2024-01-01T02:15:00+00:00"} == {row["open_at"] for row in seen.examples}


def test_the_future_of_a_bar_is_found_out():
    # The snapshot at the close itself is not published yet; one of the next bar is worse.
    early = build(SNAPSHOTS.with_columns(pl.col("snapshot_at") - timedelta(minutes=5)))
    assert {"open_interest_as_known"} == red_of(early)
    assert ROWS.height == verdict_of("open_interest_as_known", early).observed


def test_open_interest_is_the_newest_published_and_fresh_by_plain_python():
    holed = without(SNAPSHOTS, [*range(100, 120), *range(1000, 1500)])
    rows = build(holed)
    assert set() == red_of(rows, holed) - {"open_interest_known"}
    taken = dict(holed.select("snapshot_at", "open_interest_base").iter_rows())
    for known_at, value, age_min in rows.select("known_at", *OPEN_INTEREST[::2]).iter_rows():
        usable = (known_at - timedelta(minutes=minutes) for minutes in range(5, 31, 5))
        newest = next((at for at in usable if at in taken), None)
        assert value == (taken[newest] if newest else None)
        assert age_min == ((known_at - newest) / timedelta(minutes=1) if newest else None)


def test_the_oldest_usable_snapshot_is_a_setting():
    holed = without(SNAPSHOTS, range(1000, 1010))
    assert set() == red_of(build(holed, max_age_min=60), holed, limits=parse_limits("open_interest_age_max_min=60"))
    assert {"open_interest_as_known"} == red_of(build(holed, max_age_min=60), holed)


def test_the_share_without_open_interest_is_remarked_above_its_limit():
    holed = without(SNAPSHOTS, range(3000))
    rows = build(holed)
    assert {"open_interest_known"} == red_of(rows, holed)
    assert rows["open_interest_base"].null_count() / rows.height == verdict_of("open_interest_known", rows).observed
    assert set() == red_of(rows, holed, limits=parse_limits("open_interest_missing_share_max=0.4"))


def test_without_either_source_every_value_is_null_and_it_is_said():
    rows = build(SNAPSHOTS.clear(), ORDERS.clear(), days=())
    expected = {"open_interest_known", "liquidations_known"}
    assert expected == red_of(rows, SNAPSHOTS.clear(), ORDERS.clear())
    assert expected == red(GATES_POSITIONING_UM, replace(WHOLE, frame=rows, inputs={"bars_um": BARS}))
    assert {"open_interest_as_known", "liquidations_add_up"} == red_of(ROWS, SNAPSHOTS.clear(), ORDERS.clear())
    assert {"open_interest_as_known", "liquidations_add_up"} <= red_of(rows)


def test_a_day_is_known_as_a_whole_or_not_at_all():
    quiet = [day for n, day in enumerate(days_of(MONTH)) if n != QUIET_DAY]
    assert {"liquidations_known"} == red_of(build(days=quiet))
    assert 1 / 31 == verdict_of("liquidations_known", build(days=quiet)).observed
    # An unknown bar of a known day, and a zero in an unknown day.
    first = QUIET_DAY * 96
    assert "liquidations_add_up" in red_of(changed(ROWS, first, **dict.fromkeys(LIQUIDATED)))
    zero = {"liquidated_long_quote": 0.0, "liquidated_short_quote": 0.0, "n_liquidations": 0}
    assert "liquidations_add_up" in red_of(changed(build(days=quiet), first, **zero))


def test_a_day_with_orders_is_known_once_it_is_over():
    rows = build(days=days_of(MONTH)[:-1])
    assert {"liquidations_known", "liquidations_add_up"} == red_of(rows)
    assert {"liquidations_known"} == red_of(rows, as_of=datetime(2024, 1, 31, 23, 59, tzinfo=UTC))


def test_orders_on_the_edge_belong_to_the_bar_that_they_open():
    edge = changed(ORDERS, 0, liquidated_at=datetime(2024, 1, 1, 0, 15, tzinfo=UTC))
    rows = build(orders=edge)
    assert [0, 1] == rows["n_liquidations"].head(2).to_list()
    assert set() == red_of(rows, orders=edge)
    assert 2 == verdict_of("liquidations_add_up", ROWS, orders=edge).observed


def test_one_row_per_bar_no_other():
    assert {"rows_are_the_bars"} == red_of(without(ROWS, [9]))
    assert 1 == verdict_of("rows_are_the_bars", without(ROWS, [9])).observed
    assert "rows_are_the_bars" in red_of(pl.concat([ROWS, ROWS.tail(1)]))


@pytest.mark.parametrize("column", ["symbol", "open_at", "known_at", *OPEN_INTEREST, *LIQUIDATED])
def test_a_column_that_is_all_null_is_seen(column):
    assert red_of(ROWS.with_columns(pl.lit(None, ROWS.schema[column]).alias(column)))
