import itertools
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import month_start
from backtest_assets.lake.parquet import parquet_bytes
from backtest_assets.sources.base import Dataset, Delivery, Origin, Slice
from backtest_assets.sources.merge import merge_delivery, origins_from_text, origins_to_text
from backtest_assets_tests.archive_files import there
from backtest_assets_tests.scenario import MONTH, raw_funding, raw_klines

START = month_start(MONTH)
WHOLE = Slice.of_month(Dataset.UM_OHLCV, "AAAUSDT", MONTH)
KLINES = raw_klines()


def days(first: int, last: int) -> Slice:
    """Days of the month, counted from 1, both included."""
    return Slice(WHOLE.dataset, WHOLE.symbol, START + timedelta(days=first - 1), START + timedelta(days=last))


def part(wanted: Slice, name: str = "part.zip", rows: pl.DataFrame = KLINES) -> Delivery:
    inside = rows.filter(pl.col("open_at").is_between(wanted.start, wanted.end, closed="left"))
    return Delivery(inside, (Origin(name, "0" * 64, wanted.start, wanted.end),))


def lay(parts, kept=None):
    """Ingest one slice after the other."""
    origins = ()
    for wanted, delivery in parts:
        merged = merge_delivery(kept, origins, delivery, wanted)
        kept, origins = merged.frame, merged.origins
    return there(kept), origins


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_parts_of_a_month_in_any_order_give_the_bytes_of_the_whole(order):
    slices = [days(1, 10), days(21, 31), days(11, 20)]
    kept, _ = lay([(slices[i], part(slices[i])) for i in order])
    at_once, _ = lay([(WHOLE, part(WHOLE))])
    table = Dataset.UM_OHLCV.table
    assert parquet_bytes(table, at_once) == parquet_bytes(table, kept)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 8))
def test_any_cut_of_a_month_with_holes_in_any_order_gives_the_same_rows(seed, n_parts):
    rng = np.random.default_rng(seed)
    rows = KLINES.filter(pl.Series(rng.random(KLINES.height) > 0.1))
    cuts = sorted({0, 31, *rng.integers(1, 31, n_parts).tolist()})
    slices = [days(first + 1, last) for first, last in itertools.pairwise(cuts)]
    rng.shuffle(slices)
    kept, _ = lay([(wanted, part(wanted, rows=rows)) for wanted in slices])
    assert_frame_equal(rows, kept)


@pytest.mark.parametrize("sha256", [None, "9" * 64], ids=["no file", "a file without a row"])
def test_a_delivery_of_nothing_keeps_what_was_there(sha256):
    nothing = Delivery(KLINES.clear(), (Origin("gone.zip", sha256, WHOLE.start, WHOLE.end),))
    kept = Origin("part.zip", "0" * 64, WHOLE.start, WHOLE.end)
    merged = merge_delivery(KLINES, (kept,), nothing, WHOLE)
    assert_frame_equal(KLINES, merged.frame)
    assert (kept,) == merged.origins
    assert (0, KLINES.height) == (merged.n_repeated, merged.n_kept)


def test_a_corrected_row_replaces_the_one_that_is_there():
    corrected = KLINES.slice(5, 1).with_columns(volume_base=pl.lit(77.0))
    merged = merge_delivery(KLINES, (), Delivery(corrected), WHOLE)
    assert KLINES.height == merged.frame.height
    assert 77.0 == merged.frame["volume_base"][5]


def test_a_row_that_a_re_issued_file_no_longer_has_is_withdrawn_and_counted():
    reissued = part(WHOLE, "again.zip", KLINES.filter(pl.int_range(pl.len()) != 7))
    merged = merge_delivery(KLINES, (), reissued, WHOLE)
    assert_frame_equal(reissued.frame, merged.frame)
    assert (0, 1) == (merged.n_kept, merged.n_withdrawn)


def test_rows_that_no_delivered_file_is_about_stay():
    gap = Delivery(part(days(4, 4)).frame, (Origin("3-4.zip", "5" * 64, days(3, 3).start, days(4, 4).end),))
    merged = merge_delivery(KLINES, (), gap, WHOLE)
    assert (KLINES.height - 2 * 96, 96) == (merged.n_kept, merged.n_withdrawn)


def test_smaller_files_together_replace_the_one_they_cover():
    monthly = Origin("month.zip", "2" * 64, WHOLE.start, WHOLE.end)
    daily = tuple(Origin(f"{day}.zip", "1" * 64, days(day, day).start, days(day, day).end) for day in range(1, 32))
    assert daily == merge_delivery(KLINES, (monthly,), Delivery(KLINES, daily), WHOLE).origins


def test_a_repeated_day_counts_once_and_is_counted():
    day = part(days(3, 3)).frame
    merged = merge_delivery(None, (), Delivery(pl.concat([KLINES, day])), WHOLE)
    assert_frame_equal(KLINES, merged.frame)
    assert 96 == merged.n_repeated


def test_rows_out_of_order_come_back_in_order():
    merged = merge_delivery(None, (), Delivery(KLINES.reverse()), WHOLE)
    assert_frame_equal(KLINES, merged.frame)


def test_rows_that_contradict_each_other_all_stay_for_the_gate():
    other = KLINES.slice(5, 1).with_columns(close=pl.col("close") * 1.001)
    merged = merge_delivery(None, (), Delivery(pl.concat([KLINES, other])), WHOLE)
    assert KLINES.height + 1 == merged.frame.height


def test_funding_is_merged_by_settlement():
    funding = raw_funding()
    wanted = Slice.of_month(Dataset.UM_FUNDING, "AAAUSDT", MONTH)
    merged = merge_delivery(funding.head(40), (), Delivery(funding.tail(60)), wanted)
    assert_frame_equal(funding, merged.frame)


def test_a_file_hides_the_absence_it_covers_and_the_smaller_files_it_replaces():
    daily = tuple(Origin(f"{day}.zip", "1" * 64, days(day, day).start, days(day, day).end) for day in (1, 2))
    absent = Origin("3.zip", None, days(3, 3).start, days(3, 3).end)
    monthly = Origin("month.zip", "2" * 64, WHOLE.start, WHOLE.end)
    merged = merge_delivery(KLINES, (*daily, absent), Delivery(KLINES, (monthly,)), WHOLE)
    assert (monthly,) == merged.origins


def test_an_absence_never_hides_a_file():
    monthly = Origin("month.zip", "2" * 64, WHOLE.start, WHOLE.end)
    absent = Origin("3.zip", None, days(3, 3).start, days(3, 3).end)
    assert (monthly,) == merge_delivery(KLINES, (monthly,), Delivery(KLINES.clear(), (absent,)), days(3, 3)).origins


def test_origins_survive_their_text():
    origins = (Origin("a/b.zip", "3" * 64, START, WHOLE.end), Origin("c.zip", None, START, WHOLE.end))
    assert origins == origins_from_text(origins_to_text(origins))
    assert () == origins_from_text("")
