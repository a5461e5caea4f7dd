from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.parse import parse_member, parse_members
from backtest_assets.sources.archive.unzip import read_member
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.archive_files import (
    LIQUIDATION_HEADER,
    Unit,
    archive_zip,
    daily_files,
    kline_csv,
    made_rows,
    monthly_file,
    there,
)

MONTH = "2024-02"
ROWS = made_rows(Dataset.UM_OHLCV, "BTCUSDT", MONTH)
DAYS = daily_files(Dataset.UM_OHLCV, "BTCUSDT", MONTH)


def members(dataset):
    files = daily_files(dataset, "BTCUSDT", MONTH) or [there(monthly_file(dataset, "BTCUSDT", MONTH))]
    rows = made_rows(dataset, "BTCUSDT", MONTH)
    return [(file, read_member(archive_zip(file, rows), name=file.name)) for file in files]


def klines(file, *, header=True, unit: Unit = "ms", shift=timedelta(0)):
    inside = ROWS.filter(pl.col("open_at").is_between(file.start, file.end, closed="left"))
    return file, kline_csv(inside.with_columns(pl.col("open_at") + shift), header=header, unit=unit)


@pytest.mark.parametrize("dataset", Dataset)
def test_many_files_are_what_each_is_alone(dataset):
    alone = pl.concat(parse_member(file, content, source="test") for file, content in members(dataset))
    assert_frame_equal(alone, parse_members(members(dataset), source="test"))
    assert_frame_equal(alone, parse_members(members(dataset)[::-1], source="test"))
    assert_frame_equal(
        made_rows(dataset, "BTCUSDT", MONTH).with_columns(source=pl.lit("test")),
        parse_members(members(dataset), source="test"),
    )


@pytest.mark.parametrize(
    "other",
    [klines(DAYS[1], header=False), klines(DAYS[1], unit="us"), (DAYS[1], klines(DAYS[1])[1].rstrip(b"\n"))],
)
def test_files_that_are_not_alike_are_read_one_by_one(other):
    files = [klines(DAYS[0]), other, klines(DAYS[2])]
    expected = ROWS.head(3 * 96).with_columns(source=pl.lit("test")).drop("close_at")
    assert_frame_equal(expected, parse_members(files, source="test").drop("close_at"))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (klines(DAYS[1], shift=timedelta(days=9)), r"02-02\.csv line 2: open_time .* outside 2024-02-02 to 2024-02-03"),
        (klines(DAYS[1], shift=timedelta(minutes=1)), r"02-02\.csv line 2: open_time .* is not on the grid"),
        ((DAYS[1], klines(DAYS[1])[1].replace(b"open_time", b"opened")), r"02-02\.csv line 1: its header is 'opened,"),
        ((DAYS[1], klines(DAYS[1])[1].replace(b",0\n", b"\n", 1)), r"02-02\.csv line 2: has 11 cells, not 12"),
        ((DAYS[1], b""), r"02-02\.csv: is empty"),
    ],
)
def test_what_is_wrong_is_named_by_its_own_file_and_line(wrong, why):
    with pytest.raises(SourceError, match=why):
        parse_members([klines(DAYS[0]), wrong, *(klines(day) for day in DAYS[2:])], source="test")


def test_days_of_which_all_hold_the_rows_of_another_far_day_are_refused():
    swapped = [(DAYS[0], klines(DAYS[9])[1]), (DAYS[9], klines(DAYS[0])[1])]
    with pytest.raises(SourceError, match=r"02-01\.csv line 2: open_time .* outside 2024-02-01"):
        parse_members(swapped, source="test")


def test_quiet_days_among_others_have_no_liquidations():
    quiet = [
        (file, content if file.start.day == 3 else f"{LIQUIDATION_HEADER}\n".encode())
        for file, content in members(Dataset.UM_LIQUIDATIONS)
    ]
    rows = parse_members(quiet, source="test")
    assert {date(2024, 2, 3)} == set(rows["liquidated_at"].dt.date())
    assert parse_members(quiet[:2], source="test").is_empty()


def test_each_file_is_judged_alone_whether_its_orders_are_written_twice():
    files = members(Dataset.UM_LIQUIDATIONS)
    (first, head_and_body), header = files[0], f"{LIQUIDATION_HEADER}\n".encode()
    body = head_and_body.removeprefix(header)
    mixed = [(first, header + body + body), *files[1:3]]
    expected = pl.concat(parse_member(file, content, source="test") for file, content in files[:3])
    assert_frame_equal(expected, parse_members(mixed, source="test"))
    assert_frame_equal(expected, parse_members([*mixed[1:], mixed[0]], source="test"))
