from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest_assets.errors import TableError
from backtest_assets.research.bars.settlements import funding_as_of, settle_funding
from backtest_assets.tables.bars import SETTLEMENTS_UM
from backtest_assets.tables.raw import RAW_UM_FUNDING
from backtest_assets_tests.research.bars.rows import (
    END,
    LATER,
    MONTH,
    REAL,
    SYMBOL,
    at,
    needs_real_data,
    settlements,
)

RAW = settlements((0, 8), (8, 8), (16, 8), (20, 4), (24, 4))


def settle(raw=RAW, *, symbol=SYMBOL, month=MONTH, as_of=LATER):
    return settle_funding(raw, symbol=symbol, month=month, as_of=as_of)


def closes(*hours: float, symbol: str = SYMBOL) -> pl.DataFrame:
    return pl.DataFrame(
        {"symbol": [symbol] * len(hours), "known_at": [at(hour) for hour in hours]},
        schema={"symbol": pl.String, "known_at": pl.Datetime("us", "UTC")},
    )


def test_a_settlement_has_its_rate_its_jitter_and_the_end_of_its_use():
    result = settle(settlements((8, 4), jitter_ms=3.5))
    assert SETTLEMENTS_UM.violations(result).is_empty()
    assert {
        "symbol": SYMBOL, "settled_at": at(8), "known_at": at(8), "funding_rate": 1e-4, "funding_interval_h": 4.0,
        "jitter_ms": 3.5, "stale_at": at(12.25),
    } == result.row(0, named=True)  # fmt: skip


def test_repetitions_and_row_order_do_not_matter():
    assert_frame_equal(settle(), settle(pl.concat([RAW, RAW.head(2)]).sample(fraction=1.0, shuffle=True, seed=2)))


def test_only_settlements_of_the_past_are_there_and_later_ones_change_nothing():
    for cut in (at(-1), at(8), at(19.99), at(20)):
        known = settle(RAW.filter(pl.col("settled_at") <= cut))
        assert_frame_equal(settle(as_of=cut), known)
        assert_frame_equal(settle().filter(pl.col("known_at") <= cut), known)


def test_no_settlements_give_no_rows():
    assert_frame_equal(SETTLEMENTS_UM.empty(), settle(RAW.clear()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"symbol": pl.lit("BTCUSDT")}, "another symbol"),
        ({"settled_at": pl.lit(END)}, "outside the month"),
        ({"funding_rate": pl.lit(0.5)}, "contradict"),
        ({"funding_interval_h": pl.lit(1.0)}, "contradict"),
    ],
)
def test_rows_that_cannot_be_placed_are_refused(change, said):
    with pytest.raises(TableError, match=said):
        settle(pl.concat([RAW, RAW.head(1).with_columns(**change).cast(RAW.schema)]))


@pytest.mark.parametrize("hours", [None, 0.0, -8.0, float("nan"), float("inf"), 25.0])
def test_a_settlement_of_unknown_interval_is_refused(hours):
    holed = RAW.with_columns(
        pl.when(pl.int_range(5) != 1).then("funding_interval_h").otherwise(hours).alias("funding_interval_h")
    )
    with pytest.raises(TableError, match=r"1 settlements cover no known number of hours up to 24, first .* 08:00"):
        settle(holed)


def test_a_rate_holds_from_its_settlement_until_its_interval_and_one_bar_are_over():
    funding = settle(settlements((8, 8), (16, 4)))
    rows = funding_as_of(closes(7.75, 8, 16, 20, 20.25, 20.5, 40), funding)
    assert [None, 1e-4, 2e-4, 2e-4, 2e-4, None, None] == rows["funding_rate"].to_list()
    assert [None, 1e-4, 4e-4, 4e-4, 4e-4, None, None] == rows["funding_rate_8h"].to_list()
    assert [None, 0.0, 0.0, 4.0, 4.25, 4.5, 24.0] == rows["funding_age_h"].to_list()
    assert [None, at(8), at(16), at(16), at(16), at(16), at(16)] == rows["funding_settled_at"].to_list()


def test_a_symbol_reads_its_own_settlements_only_and_rows_keep_their_order():
    other = settle(settlements((8, 8)).with_columns(symbol=pl.lit("OTHERUSDT")), symbol="OTHERUSDT")
    rows = pl.concat([closes(9, symbol="ZUSDT"), closes(9), closes(9, symbol="OTHERUSDT"), closes(17)])
    result = funding_as_of(rows, pl.concat([other, settle()]))
    assert_frame_equal(rows, result.select(rows.columns))
    assert [None, 2e-4, 1e-4, pytest.approx(3e-4)] == result["funding_rate"].to_list()


def test_without_settlements_every_value_is_null():
    result = funding_as_of(closes(1, 2), SETTLEMENTS_UM.empty())
    assert 4 * [2] == list(result.drop("symbol", "known_at").null_count().row(0))


@given(
    settled=st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from([1.0, 2.0, 4.0, 8.0])), unique_by=lambda one: one[0]
    ),
    bars=st.lists(st.integers(0, 900)),
)
def test_the_as_of_reading_agrees_with_plain_python(settled, bars):
    funding = settle(settlements(*settled))
    hours = sorted(number / 4 for number in bars)

    def by_hand(moment: datetime) -> float | None:
        known = [row for row in funding.iter_rows(named=True) if row["settled_at"] <= moment]
        newest = max(known, key=lambda row: row["settled_at"], default=None)
        return None if newest is None or moment > newest["stale_at"] else newest["funding_rate"]

    shuffled = funding.sample(fraction=1.0, shuffle=True, seed=1)
    assert [by_hand(at(hour)) for hour in hours] == funding_as_of(closes(*hours), shuffled)["funding_rate"].to_list()


@needs_real_data
def test_real_settlements_stay_as_they_are_through_three_changes_of_interval():
    path = REAL / "archive/data/futures/um/monthly/fundingRate/SOLUSDT/SOLUSDT-fundingRate-2022-11.csv"
    received = pl.from_epoch("calc_time", "ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    raw = RAW_UM_FUNDING.conform(
        pl.read_csv(path).select(
            symbol=pl.lit("SOLUSDT"), settled_at=received.dt.round("1m"), received_at=received, source=pl.lit("real"),
            funding_rate="last_funding_rate", funding_interval_h=pl.col("funding_interval_hours").cast(pl.Float64),
        )
    )  # fmt: skip
    result = settle(raw, symbol="SOLUSDT", month="2022-11")
    assert_frame_equal(raw.select("settled_at", "funding_rate"), result.select("settled_at", "funding_rate"))
    assert [8.0, 4.0, 2.0, 8.0] == result["funding_interval_h"].rle().struct.field("value").to_list()
    assert result["jitter_ms"].is_between(0, 30).all()
    # Where the interval grows from 2 to 8 hours the old rate is over long before the new one is settled: nobody knows it.
    unknown = result.with_columns(pause=pl.col("settled_at").shift(-1) - pl.col("stale_at")).filter(
        pl.col("pause") > timedelta(0)
    )
    assert [(datetime(2022, 11, 18, 8, tzinfo=UTC), timedelta(hours=5, minutes=45))] == unknown.select(
        "settled_at", "pause"
    ).rows()
