from datetime import UTC, datetime

import polars as pl
import pytest

from backtest_assets.domain.market import Listing
from backtest_assets_tests.gates.evidence import (
    market_evidence,
)
from backtest_assets_tests.gates.raw_evidence import FUNDING, SPOT, UM, red_of, verdict_of


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
