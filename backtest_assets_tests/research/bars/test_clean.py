from datetime import UTC, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import BAR
from backtest_assets.errors import TableError
from backtest_assets.research.bars.clean import clean_klines
from backtest_assets.tables.bars import BARS_UM
from backtest_assets_tests.scenario import (
    MONTH,
    SYMBOL,
    VALUES,
    bars,
    calm_week,
    funding_flip,
    gap_day,
    raw_klines,
    spot_missing,
)

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
RAW = raw_klines(without=range(100, 200))


def clean(raw=RAW, *, symbol=SYMBOL, month=MONTH, as_of=AS_OF):
    return clean_klines(raw, symbol=symbol, month=month, as_of=as_of)


def test_every_closed_bar_of_the_month_is_there_and_missing_ones_are_gaps():
    result = clean()
    assert BARS_UM.violations(result).is_empty()
    assert result.height == 31 * 96
    assert result["is_gap"].arg_true().to_list() == list(range(100, 200))
    assert result.filter("is_gap").select(VALUES).null_count().row(0) == (100,) * len(VALUES)


def test_values_are_those_of_raw_untouched():
    assert_frame_equal(RAW.select("open_at", *VALUES), clean().filter(~pl.col("is_gap")).select("open_at", *VALUES))


def test_row_order_and_exact_repetitions_do_not_matter():
    shuffled = pl.concat([RAW, RAW.head(5)]).sample(fraction=1.0, shuffle=True, seed=3)
    assert_frame_equal(clean(), clean(shuffled))


def test_what_is_known_by_an_instant_does_not_depend_on_later_rows():
    whole = clean()
    for cut in (
        datetime(2024, 1, 1, 0, 15, tzinfo=UTC),
        datetime(2024, 1, 2, 12, 7, tzinfo=UTC),
        datetime(2024, 1, 31, 23, 59, tzinfo=UTC),
    ):
        known = clean(RAW.filter(pl.col("open_at") + BAR <= cut), as_of=cut)
        assert_frame_equal(whole.filter(pl.col("known_at") <= cut), known)
        assert_frame_equal(known, clean(RAW, as_of=cut))


def test_before_the_first_close_there_is_no_bar():
    assert clean(as_of=datetime(2024, 1, 1, 0, 14, tzinfo=UTC)).is_empty()


def test_no_rows_at_all_are_a_month_of_gaps():
    assert clean(RAW.clear())["is_gap"].all()


def test_a_row_with_a_missing_price_is_a_gap_without_any_value():
    holed = RAW.with_columns(pl.when(pl.int_range(pl.len()) != 3).then("high").alias("high"))
    assert clean(holed).row(3, named=True)["volume_base"] is None
    assert clean(holed)["is_gap"][3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"symbol": pl.lit("BTCUSDT")}, "another symbol"),
        ({"open_at": pl.col("open_at") + pl.duration(minutes=1)}, "grid"),
        ({"open_at": pl.col("open_at") + pl.duration(days=31)}, "grid"),
        ({"close": pl.col("close") + 0.1}, "contradict"),
    ],
)
def test_rows_that_cannot_be_placed_are_refused(change, said):
    strange = pl.concat([RAW, RAW.head(1).with_columns(**change)])
    with pytest.raises(TableError, match=said):
        clean(strange)


def test_the_scenario_is_what_its_names_say():
    assert calm_week()["is_gap"].sum() == 0
    assert calm_week().select("open", "high", "low", "close").row(0) == (100.0, 101.5, 99.5, 101.0)
    assert calm_week()["close"].max() == 148.0
    assert gap_day().filter("is_gap")["open_at"].dt.date().unique().to_list() == [
        datetime(2024, 1, 2, tzinfo=UTC).date()
    ]
    assert spot_missing()["is_gap"].sum() == 4 * 96
    assert funding_flip()["funding_rate"].sign().rle().struct.field("len").to_list() == [9, 12]
    for frame in (calm_week(), gap_day(), spot_missing(), bars(10, gaps=[2])):
        assert BARS_UM.violations(frame).is_empty()
