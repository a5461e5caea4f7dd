from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.errors import TableError
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.research.bars.positioning import build_positioning
from backtest_assets.tables.bars import POSITIONING_UM
from backtest_assets.tables.raw import RAW_UM_LIQUIDATIONS, RAW_UM_OPEN_INTEREST
from backtest_assets_tests.research.bars.rows import LATER, MONTH, START, SYMBOL, at, klines, orders, snapshots

BARS = clean_klines(klines(without=[3]), symbol=SYMBOL, month=MONTH, as_of=LATER)
FIRST, SECOND = date(2024, 2, 1), date(2024, 2, 2)
NO_INTEREST, NO_ORDERS = RAW_UM_OPEN_INTEREST.empty(), RAW_UM_LIQUIDATIONS.empty()
INTEREST = ("open_interest_base", "open_interest_quote", "open_interest_age_min")
SUMS = ("liquidated_long_quote", "liquidated_short_quote", "n_liquidations")


def build(interest=NO_INTEREST, liquidations=NO_ORDERS, *, bars=BARS, days=(FIRST, SECOND), max_age_min=30.0):
    return build_positioning(bars, interest, liquidations, liquidation_days=days, max_age_min=max_age_min)


def test_there_is_a_row_for_every_bar_gaps_included():
    result = build()
    assert POSITIONING_UM.violations(result).is_empty()
    assert_frame_equal(BARS.select("symbol", "open_at", "known_at"), result.select("symbol", "open_at", "known_at"))


def test_without_either_source_everything_is_null():
    assert 6 * [BARS.height] == list(build(days=()).select(*INTEREST, *SUMS).null_count().row(0))


def test_a_snapshot_is_known_five_minutes_later_and_until_it_is_too_old():
    rows = build(snapshots([10, 11, 25])).head(5)
    # Closes at 15, 30, 45, 60, 75 minutes: 11 is not published at 15, 25 is at 30 and thirty-five minutes old at 60.
    assert [(10.0, 100.0, 5.0), (25.0, 250.0, 5.0), (25.0, 250.0, 20.0), (None,) * 3, (None,) * 3] == rows.select(
        INTEREST
    ).rows()
    assert [5.0, 5.0, 20.0, 35.0, None] == build(snapshots([10, 25]), max_age_min=35).head(5)[INTEREST[2]].to_list()


def test_a_sell_closes_a_long_and_a_buy_closes_a_short_in_the_bar_that_holds_the_instant():
    rows = build(liquidations=orders((0, "SELL", 10), (1, "SELL", 20), (14.99, "BUY", 5), (15, "BUY", 7))).head(3)
    assert [(30.0, 5.0, 3), (0.0, 7.0, 1), (0.0, 0.0, 0)] == rows.select(SUMS).rows()


def test_equal_orders_of_one_instant_are_all_counted_and_a_repeated_row_once():
    liquidations = orders((1, "SELL", 10), (1, "SELL", 10))
    assert (20.0, 0.0, 2) == build(liquidations=pl.concat([liquidations, liquidations])).select(SUMS).row(0)


def test_a_day_that_is_not_covered_is_unknown_and_a_quiet_covered_day_is_zero():
    result = build(liquidations=orders((1, "SELL", 10), (60 * 24 + 1, "BUY", 10)), days={SECOND})
    by_day = dict(result.select(pl.col("open_at").dt.date(), "n_liquidations").group_by("open_at").sum().iter_rows())
    assert 96 == result.filter(pl.col("open_at").dt.date() == FIRST)["n_liquidations"].null_count()
    assert 1 == by_day[SECOND]
    assert 28 * 96 == result["n_liquidations"].null_count()


def test_a_symbol_does_not_see_the_other():
    other = snapshots([10]).with_columns(symbol=pl.lit("OTHERUSDT"))
    strange = orders((1, "SELL", 10)).with_columns(symbol=pl.lit("OTHERUSDT"))
    assert_frame_equal(build(), build(other, strange))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order_side": pl.lit("UNKNOWN")}, "no side BUY or SELL"),
        ({"order_side": pl.lit(None, dtype=pl.String)}, "no side BUY or SELL"),
        ({"notional_quote": pl.lit(None, dtype=pl.Float64)}, "or no value"),
        ({"notional_quote": pl.lit(float("nan"))}, "or no value"),
    ],
)
def test_an_order_that_cannot_be_read_is_refused(change, said):
    with pytest.raises(TableError, match=said):
        build(liquidations=orders((1, "SELL", 10)).with_columns(**change))


def test_rows_that_contradict_each_other_are_refused():
    twice = pl.concat([snapshots([10]), snapshots([10]).with_columns(open_interest_base=pl.lit(9.0))])
    with pytest.raises(TableError, match="1 instants have rows that contradict each other, first at 2024-02-01 00:10"):
        build(twice)
    with pytest.raises(TableError, match="contradict"):
        build(liquidations=pl.concat([orders((1, "SELL", 10)), orders((1, "SELL", 11))]))


MINUTE = st.integers(0, 900)


@given(
    counted=st.sets(MINUTE, max_size=30),
    filled=st.lists(st.tuples(MINUTE, st.sampled_from(["BUY", "SELL"]), st.integers(1, 99)), max_size=20),
    max_age=st.integers(0, 60),
    seed=st.integers(0, 5),
)
def test_every_bar_agrees_with_plain_python(counted, filled, max_age, seed):
    interest = snapshots(sorted(counted)).sample(fraction=1.0, shuffle=True, seed=seed)
    liquidations = orders(*filled).sample(fraction=1.0, shuffle=True, seed=seed)
    found = build(interest, liquidations, bars=BARS.head(64), days=[FIRST], max_age_min=max_age)
    for row in found.iter_rows(named=True):
        close = (row["known_at"] - START) // timedelta(minutes=1)
        newest = max((minute for minute in counted if minute + 5 <= close), default=None)
        fresh = newest if newest is not None and close - newest <= max_age else None
        assert (fresh, None if fresh is None else close - fresh) == (row[INTEREST[0]], row[INTEREST[2]])
        inside = [(side, value) for minute, side, value in filled if close - 15 <= minute < close]
        sums = [sum(value for side, value in inside if side == wanted) for wanted in ("SELL", "BUY")]
        assert (*sums, len(inside)) == tuple(row[name] for name in SUMS)


def test_what_is_known_at_an_instant_does_not_depend_on_what_comes_after_it():
    interest, liquidations = snapshots(range(0, 900, 5)), orders(*((m, "SELL", m + 1.0) for m in range(0, 900, 7)))
    whole = build(interest, liquidations)
    for cut in (at(1), at(3.3), at(9.99)):
        known = build(
            interest.filter(pl.col("snapshot_at") + pl.duration(minutes=5) <= cut),
            liquidations.filter(pl.col("liquidated_at") < cut),
            bars=BARS.filter(pl.col("open_at") + BAR <= cut),
        )
        assert_frame_equal(whole.filter(pl.col("known_at") <= cut), known)
