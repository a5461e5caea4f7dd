import math
from datetime import date, datetime, timedelta
from typing import Any
from zipfile import ZipFile

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR, months_between
from backtest_assets.domain.market import Listing
from backtest_assets.errors import TableError
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.raw import RAW_SPOT_OHLCV, RAW_UM_OHLCV
from backtest_assets_tests.research.bars.rows import (
    END,
    LATER,
    MONTH,
    REAL,
    START,
    SYMBOL,
    at,
    klines,
    needs_real_data,
)

VALUES = [
    "open", "high", "low", "close", "volume_base", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote",
]  # fmt: skip
RAW = klines(without=range(100, 200))
FINE = {1: klines(1), 5: klines(5)}
OF_LENGTH = FINE | {15: klines(15)}


def clean(raw=RAW, *, symbol=SYMBOL, month=MONTH, as_of=LATER, listing=None):
    return clean_klines(raw, symbol=symbol, month=month, as_of=as_of, listing=listing)


def test_every_bar_of_the_month_is_there_and_missing_ones_are_gaps():
    result = clean()
    assert BARS_UM.schema == result.schema
    assert BARS_UM.violations(result).is_empty()
    assert 29 * 96 == result.height
    assert list(range(100, 200)) == result["is_gap"].arg_true().to_list()
    assert (100,) * len(VALUES) == result.filter("is_gap").select(VALUES).null_count().row(0)


def test_values_of_whole_bars_are_those_of_raw_untouched():
    assert_frame_equal(RAW.select("open_at", *VALUES), clean().filter(~pl.col("is_gap")).select("open_at", *VALUES))


@pytest.mark.parametrize("raw", [RAW, *FINE.values()])
def test_row_order_and_exact_repetitions_do_not_matter(raw):
    shuffled = pl.concat([raw, raw.head(5)]).sample(fraction=1.0, shuffle=True, seed=3)
    assert_frame_equal(clean(raw), clean(shuffled))


@pytest.mark.parametrize("raw", [RAW, *FINE.values()])
def test_what_is_known_by_an_instant_does_not_depend_on_later_rows(raw):
    whole = clean(raw)
    length = timedelta(minutes=raw["interval_min"][0])
    for cut in (at(0.25), at(27), at(140.3), at(600.01)):
        seen = raw.filter(pl.col("open_at") + length <= cut)
        known = clean(seen, as_of=cut)
        # A tail that has not arrived yet is no gap: it shows as one only when a later bar is there.
        newest = min(seen["open_at"].max() + length, cut)
        assert_frame_equal(whole.filter(pl.col("known_at") <= newest), known)
        assert_frame_equal(known, clean(raw, as_of=cut))


def test_before_the_first_close_there_is_no_bar():
    assert clean(as_of=at(0.24)).is_empty()


def test_no_rows_at_all_are_a_month_of_gaps_once_it_is_over_and_nothing_while_it_is_open():
    assert clean(RAW.clear())["is_gap"].all()
    assert 29 * 96 == clean(RAW.clear()).height
    assert clean(RAW.clear(), as_of=at(300)).is_empty()


@pytest.mark.parametrize("price", [None, math.nan, math.inf])
@pytest.mark.parametrize("minutes", [1, 5, 15])
def test_a_bar_with_a_missing_price_is_a_gap_without_any_value(price, minutes):
    raw = klines(minutes)
    holed = raw.with_columns(
        pl.when(pl.int_range(pl.len()) != 45 // minutes).then("high").otherwise(price).alias("high")
    )
    assert [3] == clean(holed)["is_gap"].arg_true().to_list()
    assert {None} == set(clean(holed).select(VALUES).row(3))


def test_bars_outside_the_listing_are_left_out_and_parts_of_bars_too():
    result = clean(klines(5), listing=Listing(at(10.01), at(20.2)))
    assert (at(10.25), at(20)) == (result["open_at"][0], result["known_at"][-1])
    assert 39 == result.height
    assert clean(listing=Listing(END)).is_empty()


def test_a_bar_of_minutes_is_worked_out_on_paper():
    prices = {"open": [10, 11, 12], "high": [13, 19, 12], "low": [9, 11, 8], "close": [11, 12, 9]}
    raw = (
        klines(5).head(3).with_columns(*(pl.Series(name, values, dtype=pl.Float64) for name, values in prices.items()))
    )
    raw = raw.with_columns(volume_base=pl.Series([1.0, 2.0, 4.0]), n_trades=pl.Series([1, None, 3]))
    bar = clean(raw, as_of=at(1)).row(0, named=True)
    assert (10.0, 19.0, 8.0, 9.0, 7.0, None) == (
        bar["open"], bar["high"], bar["low"], bar["close"], bar["volume_base"], bar["n_trades"],
    )  # fmt: skip
    assert 1 == clean(raw, as_of=at(1)).height


def by_hand(raw: pl.DataFrame, n_bars: int) -> list[dict[str, Any]]:
    minutes = raw["interval_min"][0] if raw.height else 15
    buckets: dict[datetime, list[dict[str, Any]]] = {}
    for row in sorted(raw.iter_rows(named=True), key=lambda row: row["open_at"]):
        buckets.setdefault(START + (row["open_at"] - START) // BAR * BAR, []).append(row)
    rows = []
    for open_at in (START + number * BAR for number in range(n_bars)):
        parts = buckets.get(open_at, [])
        if len(parts) < 15 // minutes or any(row[name] is None for row in parts for name in VALUES[:4]):
            rows.append({"open_at": open_at, "is_gap": True, **dict.fromkeys(VALUES)})
            continue
        sums = {
            name: None if any(row[name] is None for row in parts) else sum(row[name] for row in parts)
            for name in VALUES[4:]
        }
        prices = {
            "open": parts[0]["open"],
            "high": max(row["high"] for row in parts),
            "low": min(row["low"] for row in parts),
            "close": parts[-1]["close"],
        }
        rows.append({"open_at": open_at, "is_gap": False, **prices, **sums})
    return rows


@given(
    minutes=st.sampled_from([1, 5, 15]),
    lost=st.sets(st.integers(0, 299), max_size=12),
    priceless=st.sets(st.integers(0, 299), max_size=3),
    uncounted=st.sets(st.integers(0, 299), max_size=3),
    seed=st.integers(0, 9),
)
def test_bars_agree_with_plain_python_for_any_holes_and_any_order(minutes, lost, priceless, uncounted, seed):
    number = pl.int_range(pl.len())
    raw = (
        OF_LENGTH[minutes]
        .head(300)
        .with_columns(
            pl.when(~number.is_in(list(priceless))).then("low").alias("low"),
            pl.when(~number.is_in(list(uncounted))).then("taker_buy_base").alias("taker_buy_base"),
        )
        .filter(~number.is_in(list(lost)))
        .sample(fraction=1.0, shuffle=True, seed=seed)
    )
    found = clean(raw).select("open_at", "is_gap", *VALUES).to_dicts()
    assert by_hand(raw, 29 * 96) == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"symbol": pl.lit("BTCUSDT")}, "another symbol"),
        ({"symbol": pl.lit("ZZZUSDT")}, "another symbol"),
        ({"symbol": pl.lit(None, dtype=pl.String)}, "another symbol"),
        ({"open_at": pl.lit(None, dtype=pl.Datetime("us", "UTC"))}, "outside the month"),
        ({"open_at": pl.col("open_at") + pl.duration(minutes=1)}, "1 klines are off the 15-minute grid"),
        ({"open_at": pl.col("open_at") + pl.duration(days=29)}, "outside the month"),
        ({"open_at": pl.col("open_at") - pl.duration(minutes=15)}, "outside the month"),
        ({"close": pl.col("close") + 0.1}, "contradict"),
    ],
)
def test_rows_that_cannot_be_placed_are_refused(change, said):
    strange = pl.concat([RAW, RAW.head(1).with_columns(**change)])
    with pytest.raises(TableError, match=said):
        clean(strange)


@pytest.mark.parametrize("minutes", [3, 30, 60])
def test_klines_of_another_length_are_refused_though_they_agree(minutes):
    with pytest.raises(TableError, match=rf"klines are {minutes} minutes long"):
        clean(RAW.with_columns(interval_min=pl.lit(minutes)))


@pytest.mark.parametrize("other", [5, None])
def test_klines_of_two_lengths_in_a_month_are_refused(other):
    mixed = RAW.with_columns(
        interval_min=pl.when(pl.int_range(pl.len()) > 9).then("interval_min").otherwise(pl.lit(other, dtype=pl.Int64))
    )
    with pytest.raises(TableError, match="a month must have one length"):
        clean(mixed)


def test_minutes_off_their_own_grid_are_refused():
    with pytest.raises(TableError, match="1 klines are off the 5-minute grid"):
        clean(pl.concat([FINE[5], FINE[5].head(1).with_columns(open_at=pl.col("open_at") + pl.duration(minutes=2))]))


def real_spot(symbol: str) -> pl.DataFrame:
    rows = pl.read_parquet(REAL / f"market/spot/klines/15m/{symbol}.parquet")
    return RAW_SPOT_OHLCV.conform(
        rows.select(
            "open", "high", "low", "close", "taker_buy_base", "taker_buy_quote",
            symbol=pl.lit(symbol), open_at=pl.col("open_time").dt.cast_time_unit("us"),
            interval_min=pl.lit(15), volume_base="volume", volume_quote="quote_volume", n_trades=pl.col("trades").cast(pl.Int64),
            close_at=pl.lit(None), unused=pl.lit(None), source=pl.lit("real"),
        )
    )  # fmt: skip


@needs_real_data
def test_the_known_holes_of_real_spot_bars_are_gaps_and_all_else_is_as_it_was():
    raw = real_spot("BTCUSDT")
    first, last = raw["open_at"][0], raw["open_at"][-1]
    in_month = {
        month: rows
        for (month,), rows in raw.with_columns(month=pl.col("open_at").dt.strftime("%Y-%m"))
        .partition_by("month", as_dict=True, include_key=False)
        .items()
    }
    months = months_between(first, last)
    bars = pl.concat(
        clean(in_month.get(month, raw.clear()), symbol="BTCUSDT", month=month, as_of=last + BAR) for month in months
    ).filter(pl.col("open_at") >= first)
    assert_frame_equal(raw.select("open_at", *VALUES), bars.filter(~pl.col("is_gap")).select("open_at", *VALUES))
    runs = bars.with_columns(run=pl.col("is_gap").rle_id()).filter("is_gap").group_by("run", maintain_order=True)
    holes = runs.agg(first=pl.col("open_at").min(), until=pl.col("known_at").max())
    assert 20 == holes.height
    largest = holes.sort(pl.col("until") - pl.col("first")).tail(2)
    assert [
        (date(2020, 3, 12), date(2020, 4, 18)),
        (date(2022, 8, 22), date(2023, 1, 1)),
    ] == largest.select(pl.col("first", "until").dt.date()).rows()


@needs_real_data
def test_real_minutes_make_the_bars_that_the_archive_itself_has():
    folder = REAL / "archive/data/spot/daily/klines/BTCUSDT/1m"
    names = [*VALUES[:4], "volume_base", "close_time", "volume_quote", "n_trades", "taker_buy_base", "taker_buy_quote"]
    days = []
    for path in sorted(folder.glob("BTCUSDT-1m-2020-01-*.zip")):
        with ZipFile(path) as archive:
            rows = pl.read_csv(
                archive.read(archive.namelist()[0]), has_header=False, new_columns=["open_time", *names, "ignore"]
            )
        days.append(rows)
    minutes = pl.concat(days)
    raw = RAW_UM_OHLCV.conform(
        minutes.select(
            *VALUES, symbol=pl.lit("BTCUSDT"), interval_min=pl.lit(1), close_at=pl.lit(None), unused=pl.lit(None),
            open_at=pl.from_epoch("open_time", "ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            source=pl.lit("real"),
        )
    )  # fmt: skip
    bars = clean(raw, symbol="BTCUSDT", month="2020-01").filter(~pl.col("is_gap"))
    assert raw.height // 15 == bars.height
    archived = real_spot("BTCUSDT").join(bars, on="open_at", how="semi")
    prices = ["open_at", *VALUES[:4], "volume_base"]
    assert_frame_equal(archived.select(prices), bars.select(prices), rel_tol=1e-9)
