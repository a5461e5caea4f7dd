import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Listing
from backtest_assets.gates.settlements import GATES_SETTLEMENTS_UM
from backtest_assets.research.bars.settlements import settle_funding
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests.gates.evidence import AFTER, change, market_evidence, red, verdict, with_inputs, without
from backtest_assets_tests.scenario import MONTH, SYMBOL, raw_funding

RAW = raw_funding()


def settle(raw, as_of=AFTER):
    return settle_funding(raw, symbol=SYMBOL, month=MONTH, as_of=as_of)


SETTLEMENTS = settle(RAW)


def asked(frame, raw=RAW, **changes: object):
    return replace(with_inputs(market_evidence("settlements_um"), raw_um_funding=raw), frame=frame, **changes)


def red_of(frame, raw=RAW, **changes: object):
    return red(GATES_SETTLEMENTS_UM, asked(frame, raw, **changes))


def of_raw(raw, **changes: object):
    return red_of(settle(raw), raw, **changes)


def test_every_question_about_settlements_blocks():
    assert {Severity.ERROR} == {gate.severity for gate in GATES_SETTLEMENTS_UM}


@pytest.mark.parametrize("interval_h", [1.0, 2.0, 4.0, 8.0])
def test_settlements_are_complete_against_their_own_interval(interval_h):
    raw = raw_funding(interval_h=interval_h)
    assert set() == of_raw(raw)
    for row in (0, 20, raw.height - 1):
        assert {"settlements_complete"} == of_raw(without(raw, [row]))


def test_a_hole_is_counted_named_and_shown():
    frame = settle(without(RAW, [20, 50, 51]))
    seen = verdict(GATES_SETTLEMENTS_UM, asked(frame), "settlements_complete")
    assert (2, 0) == (seen.observed, seen.limit)
    assert "2024-01-08 00:00:00+00:00 does not follow" in seen.detail
    assert ["2024-01-08T00:00:00+00:00", "2024-01-18T08:00:00+00:00"] == [row["settled_at"] for row in seen.examples]


def test_a_change_of_interval_inside_the_month_is_no_hole():
    eight, two = raw_funding(), raw_funding(interval_h=2.0)
    cut = datetime(2024, 1, 10, 16, tzinfo=UTC)
    # Either label may stand on the settlement that ends the last long interval: SOLUSDT has both kinds.
    for keeps_old in (True, False):
        edge = (pl.col("settled_at") <= cut) if keeps_old else (pl.col("settled_at") < cut)
        later = (pl.col("settled_at") > cut) if keeps_old else (pl.col("settled_at") >= cut)
        assert set() == of_raw(pl.concat([eight.filter(edge), two.filter(later)]))
    torn = pl.concat([eight.filter(pl.col("settled_at") < cut), two.filter(pl.col("settled_at") > cut)])
    assert {"settlements_complete"} == of_raw(torn)


def labelled(*rows: tuple[int, int, int]):
    """Settlements of the month: (day, hour, interval) in order, filled between with the interval of the row before."""
    stamps = [(datetime(2024, 1, day, hour, tzinfo=UTC), float(own)) for day, hour, own in rows]
    ends = [at for at, _ in stamps[1:]] + [datetime(2024, 2, 1, tzinfo=UTC)]
    filled = []
    for (at, own), end in zip(stamps, ends, strict=True):
        n = -(-(end - at) // timedelta(hours=own))
        filled += [(at + timedelta(hours=own) * k, own) for k in range(n)]
    schema = {"settled_at": pl.Datetime("us", "UTC"), "funding_interval_h": pl.Float64}
    frame = pl.DataFrame(filled, schema=schema, orient="row").with_columns(
        symbol=pl.lit(SYMBOL), received_at=pl.col("settled_at"), funding_rate=pl.lit(1e-4), source=pl.lit("test")
    )
    return RAW_UM_FUNDING.conform(frame)


GREEN, RED = set(), {"settlements_complete"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # A strange settlement in the middle of an interval, at the month's start, in its middle and near its end.
        ([(1, 0, 8), (1, 4, 4), (1, 8, 8)], RED),
        ([(1, 0, 8), (10, 4, 4), (10, 8, 8)], RED),
        ([(1, 0, 8), (31, 12, 4), (31, 16, 8)], RED),
        ([(1, 0, 4), (10, 2, 2), (10, 4, 4)], RED),
        # An interval that is left and taken up again, each for long enough.
        ([(1, 0, 8), (10, 4, 4), (11, 8, 8)], GREEN),
        ([(1, 0, 4), (1, 8, 8)], GREEN),
        ([(1, 0, 1), (11, 0, 8)], GREEN),
        ([(1, 0, 8), (11, 0, 1)], GREEN),
        # The change is on one of the month's last settlements, or first ones.
        ([(1, 0, 4), (31, 16, 8)], GREEN),
        ([(1, 0, 4), (31, 8, 8)], GREEN),
        ([(1, 0, 8), (31, 16, 4)], GREEN),
        ([(1, 0, 8), (1, 8, 4)], GREEN),
        ([(1, 0, 8), (10, 8, 2), (10, 10, 4)], RED),
    ],
)
def test_a_change_of_interval_is_one_that_is_kept(rows, expected):
    assert expected == of_raw(labelled(*rows))


def test_a_settlement_that_is_lost_at_a_change_is_seen_where_an_interval_says_so():
    change_late = labelled((1, 0, 8), (31, 16, 4))
    assert datetime(2024, 1, 31, 20, tzinfo=UTC) == change_late["settled_at"][-1]
    assert RED == of_raw(change_late.head(-1))
    two_changes = labelled((1, 0, 8), (9, 20, 4), (10, 4, 2), (18, 16, 8))
    assert GREEN == of_raw(two_changes)
    assert [row for row in range(two_changes.height) if RED != of_raw(without(two_changes, [row]))] == []


@pytest.mark.parametrize("own", [4.0, 8.0])
def test_the_newest_settlement_of_an_open_month_may_bear_a_new_interval(own):
    as_of = datetime(2024, 1, 10, 9, tzinfo=UTC)
    raw = labelled((1, 0, 12 - own)).filter(pl.col("settled_at") <= as_of)
    raw = change(raw, raw.height - 1, funding_interval_h=own)
    assert GREEN == of_raw(raw, as_of=as_of)
    assert RED == of_raw(raw, as_of=as_of + timedelta(hours=own))


def test_a_month_in_progress_has_all_settlements_that_are_due():
    as_of = datetime(2024, 1, 20, 8, tzinfo=UTC)
    due = RAW.filter(pl.col("settled_at") <= as_of)
    assert set() == red_of(settle(due), RAW, as_of=as_of)
    assert {"settlements_complete", "identical_to_raw"} == red_of(settle(due).head(-1), RAW, as_of=as_of)
    assert {"settlements_complete"} == of_raw(due.head(-1), as_of=as_of)
    young = as_of - timedelta(seconds=1)
    assert {"stale_after_own_interval", "identical_to_raw"} == red_of(settle(due), RAW, as_of=young)


@pytest.mark.parametrize(
    ("listed_at", "first", "expected"),
    [
        (datetime(2024, 1, 11, 10, tzinfo=UTC), datetime(2024, 1, 11, 16, tzinfo=UTC), set()),
        (datetime(2024, 1, 11, 16, tzinfo=UTC), datetime(2024, 1, 11, 16, tzinfo=UTC), set()),
        (datetime(2024, 1, 11, 16, tzinfo=UTC), datetime(2024, 1, 12, tzinfo=UTC), set()),
        (datetime(2024, 1, 11, 10, tzinfo=UTC), datetime(2024, 1, 12, tzinfo=UTC), {"settlements_complete"}),
        (datetime(2023, 5, 1, tzinfo=UTC), datetime(2024, 1, 1, 8, tzinfo=UTC), {"settlements_complete"}),
    ],
)
def test_the_first_is_due_after_the_listing(listed_at, first, expected):
    assert expected == of_raw(RAW.filter(pl.col("settled_at") >= first), listing=Listing(listed_at))


def test_the_last_is_due_before_the_delisting():
    raw = RAW.filter(pl.col("settled_at") < datetime(2024, 1, 20, 8, tzinfo=UTC))
    listed_at = datetime(2023, 1, 1, tzinfo=UTC)
    assert set() == of_raw(raw, listing=Listing(listed_at, datetime(2024, 1, 20, 8, tzinfo=UTC)))
    late = Listing(listed_at, datetime(2024, 1, 20, 8, 1, tzinfo=UTC))
    assert {"settlements_complete"} == of_raw(raw, listing=late)
    assert {"settlements_complete"} == of_raw(raw)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"funding_rate": 0.5}, {"identical_to_raw"}),
        ({"funding_rate": math.nan}, {"identical_to_raw"}),
        ({"jitter_ms": 4.0}, {"identical_to_raw"}),
        ({"jitter_ms": None}, {"identical_to_raw"}),
        ({"funding_interval_h": 4.0}, {"identical_to_raw", "settlements_complete", "stale_after_own_interval"}),
        ({"stale_at": datetime(2024, 1, 4, 8, tzinfo=UTC)}, {"stale_after_own_interval"}),
        ({"known_at": datetime(2024, 1, 4, 1, tzinfo=UTC)}, {"stale_after_own_interval"}),
        ({"symbol": "BTCUSDT"}, {"rows_inside_partition"}),
    ],
)
def test_one_wrong_settlement_is_named_by_its_gate(values, expected):
    assert SETTLEMENTS["settled_at"][9] == datetime(2024, 1, 4, tzinfo=UTC)
    assert expected == red_of(change(SETTLEMENTS, 9, **values))


def test_settlements_are_those_of_raw_each_once():
    shown = verdict(GATES_SETTLEMENTS_UM, asked(change(SETTLEMENTS, 9, funding_rate=0.5)), "identical_to_raw")
    assert (1, "2024-01-04T00:00:00+00:00") == (shown.observed, shown.examples[0]["settled_at"])
    assert set() == red_of(SETTLEMENTS, pl.concat([RAW, RAW.head(3)]))
    twice = pl.concat([SETTLEMENTS, SETTLEMENTS.head(1)])
    assert 1 == verdict(GATES_SETTLEMENTS_UM, asked(twice), "identical_to_raw").observed
    more = verdict(GATES_SETTLEMENTS_UM, asked(SETTLEMENTS, without(RAW, [9])), "identical_to_raw")
    less = verdict(GATES_SETTLEMENTS_UM, asked(without(SETTLEMENTS, [9])), "identical_to_raw")
    assert [1, 1] == [more.observed, less.observed]
    assert {"identical_to_raw"} == red_of(SETTLEMENTS, RAW.clear())


@pytest.mark.parametrize(
    "column", ["symbol", "settled_at", "known_at", "funding_rate", "funding_interval_h", "stale_at"]
)
def test_a_column_that_is_all_null_is_seen(column):
    assert red_of(SETTLEMENTS.with_columns(pl.lit(None, SETTLEMENTS.schema[column]).alias(column)))
