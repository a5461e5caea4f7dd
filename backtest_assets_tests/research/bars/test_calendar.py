from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_assets.domain.clock import BAR, epoch_us
from backtest_assets.domain.market import Listing
from backtest_assets.errors import UsageError
from backtest_assets.research.bars.calendar import (
    expected_opens,
    expected_span,
    grid_ceil,
    grid_floor,
    newest_close,
)
from backtest_assets_tests.research.bars.rows import END, LATER, MONTH, START, at, klines

MINUTES = st.integers(-3 * 1440, 32 * 1440)


def span(*, as_of=LATER, listing=None, newest=None):
    return expected_span(MONTH, as_of=as_of, listing=listing, newest_close=newest)


def test_a_month_that_is_over_is_expected_whole_whatever_has_arrived():
    assert (START, END) == span() == span(newest=at(5)) == span(as_of=END)
    assert 29 * 96 == len(expected_opens(span()))
    assert 29 * 1440 == len(expected_opens(span(), 1))


@pytest.mark.parametrize(
    ("newest", "end"),
    [(None, START), (at(5), at(5)), (at(5.2), at(5)), (at(5.25), at(5.25)), (at(80), at(50)), (at(-9), START)],
)
def test_an_open_month_ends_with_the_newest_whole_bar_that_has_arrived_and_closed(newest, end):
    assert (START, end) == span(as_of=at(50.1), newest=newest)


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        (Listing(at(10.01)), (at(10.25), END)),
        (Listing(at(10)), (at(10), END)),
        (Listing(at(-500), at(20.4)), (START, at(20.25))),
        (Listing(at(10.01), at(20.4)), (at(10.25), at(20.25))),
        (Listing(at(10.01), at(10.2)), (at(10.25), at(10.25))),
    ],
)
def test_a_listing_is_rounded_to_the_bars_that_lie_wholly_within_it(listing, expected):
    assert expected == span(listing=listing)


@pytest.mark.parametrize("listing", [Listing(END), Listing(LATER), Listing(at(-90), at(-20)), Listing(at(-90), START)])
def test_a_month_without_any_listed_instant_expects_nothing(listing):
    start, end = span(listing=listing)
    assert start == end
    assert expected_opens((start, end)).is_empty()


def test_no_other_form_of_month_is_understood():
    with pytest.raises(UsageError, match="2024-3"):
        expected_span("2024-3", as_of=LATER, listing=None, newest_close=None)


def test_the_newest_close_is_that_of_the_newest_kline_closed_by_then():
    raw = klines(5).sample(fraction=1.0, shuffle=True, seed=1)
    assert END == newest_close(raw, as_of=END)
    assert at(1) == newest_close(raw, as_of=at(1) + timedelta(minutes=4))
    assert newest_close(raw, as_of=START) is None
    assert newest_close(raw.clear(), as_of=END) is None


@given(as_of=MINUTES, listed=MINUTES, life=st.none() | st.integers(1, 9000), newest=st.none() | MINUTES)
def test_a_bar_is_expected_exactly_if_it_is_listed_closed_and_not_after_the_newest(as_of, listed, life, newest):
    moment = START + timedelta(minutes=as_of)
    listed_at = START + timedelta(minutes=listed)
    delisted_at = None if life is None else listed_at + timedelta(minutes=life)
    arrived = None if newest is None else START + timedelta(minutes=newest)

    def is_expected(open_at: datetime) -> bool:
        is_here = moment >= END or (arrived is not None and open_at + BAR <= min(arrived, moment))
        return is_here and open_at >= listed_at and (delisted_at is None or open_at + BAR <= delisted_at)

    every = [START + number * BAR for number in range(29 * 96)]
    opens = expected_opens(span(as_of=moment, listing=Listing(listed_at, delisted_at), newest=arrived))
    assert [open_at for open_at in every if is_expected(open_at)] == opens.to_list()
    assert pl.Datetime("us", "UTC") == opens.dtype


@given(st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001  # made UTC below
def test_the_grid_encloses_an_instant_in_at_most_one_bar(naive):
    instant = naive.replace(tzinfo=START.tzinfo)
    low, high = grid_floor(instant), grid_ceil(instant)
    assert low <= instant <= high
    assert high - low in {timedelta(0), BAR}
    assert (0, 0) == (epoch_us(low) % 900_000_000, epoch_us(high) % 900_000_000)
