from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR, month_start
from backtest_assets.domain.market import Listing
from backtest_assets.errors import SettingsError
from backtest_assets.research.features.universe import build_universe
from backtest_assets.tables.features import UNIVERSE
from backtest_assets_tests import scenario

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 1, tzinfo=UTC)
MONTHS = ("2024-02", "2024-03")
LONG_AGO = Listing(datetime(2020, 1, 1, tzinfo=UTC))


def day(symbol: str, start: datetime, value: float | None, *, volume_base: float = 1.0) -> pl.DataFrame:
    """One real bar at the start of a day, close 101; `value` is its volume_quote."""
    return scenario.bars(1, start=start, symbol=symbol).with_columns(
        volume_quote=pl.lit(value, dtype=pl.Float64), volume_base=pl.lit(volume_base)
    )


def before_february(days: int) -> datetime:
    return FEBRUARY - timedelta(days=days)


HISTORY = pl.concat(
    [
        day("AUSDT", before_february(1), 50.0),
        day("AUSDT", before_february(3), 50.0),
        day("BUSDT", before_february(2), 300.0),
        day("CUSDT", before_february(1), 100.0),
        day("CUSDT", FEBRUARY, 1e9),  # February's own volume says nothing about February
    ]
)


def build(bars=HISTORY, *, symbols=("AUSDT", "BUSDT", "CUSDT"), months=MONTHS[:1], listings=None, top_n=0, lookback=30):
    return build_universe(
        bars, symbols=symbols, months=months, listings=listings or {}, top_n=top_n, lookback_days=lookback
    )


def verdicts(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.select("symbol", "rank", "is_listed", "is_eligible", "reason").rows()


def test_symbols_rank_by_what_they_traded_strictly_before_the_month_and_ties_by_name():
    result = build(top_n=2)
    assert UNIVERSE.violations(result).is_empty()
    assert [
        ("AUSDT", 2, True, True, "ranked"),
        ("BUSDT", 1, True, True, "ranked"),
        ("CUSDT", 3, True, False, "below_top_n"),
    ] == verdicts(result)
    assert [100.0, 300.0, 100.0] == result["dollar_volume_quote"].to_list()
    assert [2, 1, 1] == result["n_days"].to_list()
    assert {FEBRUARY} == set(result["known_at"])


def test_without_a_top_every_listed_symbol_with_bars_is_eligible():
    assert [True] * 3 == build()["is_eligible"].to_list()


def test_what_is_older_than_the_lookback_does_not_count():
    assert [("AUSDT", 50.0, 1), ("BUSDT", None, 0), ("CUSDT", 100.0, 1)] == build(lookback=1).select(
        "symbol", "dollar_volume_quote", "n_days"
    ).rows()
    assert ("BUSDT", None, False, False, "no_bars") == verdicts(build(lookback=1))[1]
    assert ("BUSDT", None, True, False, "no_bars") == verdicts(build(lookback=1, listings={"BUSDT": LONG_AGO}))[1]


def test_quote_volume_stands_before_base_times_close_and_the_row_says_which_it_was():
    bars = pl.concat(
        [
            day("AUSDT", before_february(1), 7.0),
            day("BUSDT", before_february(1), None, volume_base=2.0),
            day("CUSDT", before_february(1), None, volume_base=2.0),
            day("CUSDT", before_february(2), 1.0),
        ]
    )
    assert [(7.0, "volume_quote"), (202.0, "base_x_close"), (203.0, "mixed")] == build(bars).select(
        "dollar_volume_quote", "volume_measure"
    ).rows()


def test_gaps_are_no_history():
    gaps = scenario.bars(96, start=before_february(1), symbol="AUSDT", gaps=range(96))
    assert [("AUSDT", None, False, False, "no_bars")] == verdicts(build(gaps, symbols=["AUSDT"]))


def test_the_catalogue_says_who_is_listed_at_the_months_first_instant():
    listings = {
        "AUSDT": Listing(JANUARY, FEBRUARY),
        "BUSDT": Listing(FEBRUARY),
        "CUSDT": Listing(JANUARY, FEBRUARY + timedelta(days=2)),
    }
    assert [
        ("AUSDT", None, False, False, "delisted"),
        ("BUSDT", None, False, False, "not_listed"),
        ("CUSDT", 1, True, True, "ranked"),
    ] == verdicts(build(listings=listings, top_n=1))


def test_a_month_later_its_own_history_is_needed():
    result = build(months=MONTHS, lookback=29)
    assert ["no_bars", "no_bars", "ranked"] == result.filter(pl.col("month") == "2024-03")["reason"].to_list()
    assert 1e9 == result["dollar_volume_quote"][-1]


def first_month(*, listing=None, first_gap=False, history=(), top_n=0):
    bars = [scenario.bars(96, start=FEBRUARY, symbol="AUSDT", gaps=[0] if first_gap else []), *history]
    return build(pl.concat(bars), symbols=["AUSDT"], listings={"AUSDT": listing}, top_n=top_n)


def test_a_first_month_without_history_takes_the_catalogues_word_or_the_first_bars():
    assert [("AUSDT", None, True, True, "no_history_yet")] == verdicts(first_month(listing=LONG_AGO))
    assert [("AUSDT", None, True, True, "no_history_yet")] == verdicts(first_month())
    assert [FEBRUARY] == first_month(listing=LONG_AGO)["known_at"].to_list()
    assert [FEBRUARY + BAR] == first_month()["known_at"].to_list()


def test_a_first_month_without_history_is_refused_where_nothing_shows_the_symbol_or_a_rank_is_asked():
    assert [("AUSDT", None, False, False, "no_bars")] == verdicts(first_month(first_gap=True))
    assert [("AUSDT", None, False, False, "not_listed")] == verdicts(first_month(listing=Listing(FEBRUARY)))
    assert [("AUSDT", None, True, False, "no_bars")] == verdicts(first_month(listing=LONG_AGO, top_n=1))
    old = day("AUSDT", before_february(60), 1.0)
    assert [("AUSDT", None, True, False, "no_bars")] == verdicts(first_month(listing=LONG_AGO, history=[old]))


def test_only_the_first_month_is_excused():
    late = pl.concat([HISTORY, scenario.bars(96, start=month_start("2024-03"), symbol="BUSDT")])
    assert [False] == build(late, symbols=["BUSDT"], months=MONTHS)["is_eligible"].to_list()[1:]


@pytest.mark.parametrize(("top_n", "lookback"), [(-1, 30), (0, 0)])
def test_settings_that_cannot_be_are_refused(top_n, lookback):
    with pytest.raises(SettingsError, match="give at least 0 and 1"):
        build(top_n=top_n, lookback=lookback)


def test_no_months_give_no_rows():
    assert_frame_equal(UNIVERSE.empty(), build(months=()))


SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")
TRADES = st.lists(
    st.tuples(st.sampled_from(SYMBOLS), st.integers(-40, 50), st.integers(0, 9)),
    unique_by=lambda one: one[:2],
    max_size=12,
)
LISTED = st.none() | st.tuples(st.integers(-60, 40), st.none() | st.integers(1, 80))


@given(
    trades=TRADES,
    listed=st.tuples(LISTED, LISTED, LISTED),
    top_n=st.integers(0, 3),
    lookback=st.integers(1, 45),
    seed=st.integers(0, 3),
)
def test_every_row_agrees_with_plain_python_in_any_order(trades, listed, top_n, lookback, seed):
    def moment(number: int) -> datetime:
        return FEBRUARY + timedelta(days=number)

    bars = pl.concat(
        [HISTORY.clear(), *(day(symbol, moment(number), float(value)) for symbol, number, value in trades)]
    ).sample(fraction=1.0, shuffle=True, seed=seed)
    listings = {
        symbol: one and Listing(moment(one[0]), None if one[1] is None else moment(one[0] + one[1]))
        for symbol, one in zip(SYMBOLS, listed, strict=True)
    }
    found = {
        (month, symbol): (rank, is_eligible)
        for month, symbol, rank, is_eligible in build(
            bars, months=MONTHS, listings=listings, top_n=top_n, lookback=lookback
        )
        .select("month", "symbol", "rank", "is_eligible")
        .rows()
    }
    for month in MONTHS:
        start = month_start(month)
        days = (start - FEBRUARY).days
        volume = {}
        for symbol in SYMBOLS:
            one = listings[symbol]
            is_listed = one is None or (one.listed_at < start and (one.delisted_at is None or one.delisted_at > start))
            inside = [value for name, number, value in trades if name == symbol and days - lookback <= number < days]
            if is_listed and inside:
                volume[symbol] = sum(inside)
        order = sorted(volume, key=lambda symbol: (-volume[symbol], symbol))
        for symbol in SYMBOLS:
            rank = order.index(symbol) + 1 if symbol in order else None
            is_first = month == MONTHS[0] and top_n == 0 and not any(s == symbol and n < days for s, n, _ in trades)
            one = listings[symbol]
            shows = (
                (symbol, days) in {trade[:2] for trade in trades}
                if one is None
                else one.listed_at < start and (one.delisted_at is None or one.delisted_at > start)
            )
            expected = (rank is not None and (top_n == 0 or rank <= top_n)) or (is_first and shows)
            assert (rank, expected) == found[month, symbol]


def test_later_bars_change_no_row_that_is_known_before_them():
    whole = build(HISTORY, months=MONTHS)
    cut = FEBRUARY + timedelta(hours=3)
    known = build(HISTORY.filter(pl.col("known_at") <= cut), months=MONTHS)
    assert_frame_equal(whole.filter(pl.col("known_at") <= cut), known.filter(pl.col("known_at") <= cut))
