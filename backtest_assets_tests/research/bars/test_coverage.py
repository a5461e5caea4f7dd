from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backtest_assets.domain.clock import month_end, month_start
from backtest_assets.domain.market import Listing
from backtest_assets.errors import TableError
from backtest_assets.research.bars.coverage import cover, coverage_summary
from backtest_assets.tables.bars import COVERAGE
from backtest_assets.tables.raw import RAW_SPOT_OHLCV, RAW_UM_FUNDING, RAW_UM_LIQUIDATIONS, RAW_UM_OHLCV
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
    orders,
    settlements,
    snapshots,
)

KLINES, FUNDING, INTEREST, LIQUIDATIONS = (
    "raw_um_ohlcv",
    "raw_um_funding",
    "raw_um_open_interest",
    "raw_um_liquidations",
)


@dataclass(frozen=True)
class File:
    name: str
    sha256: str | None
    start: datetime
    end: datetime


WHOLE = File("month.zip", "aa", START, END)
EIGHT = settlements(*((8 * number, 8) for number in range(87)))


def ledger(dataset, frame, *, as_of=LATER, listing=None, origins=(WHOLE,), is_ingested=True):
    return cover(
        dataset, frame, symbol=SYMBOL, month=MONTH, as_of=as_of, listing=listing, origins=origins, is_ingested=is_ingested
    )  # fmt: skip


def told(rows: pl.DataFrame) -> list[tuple[object, ...]]:
    hours = (
        ((pl.col(name) - START).dt.total_seconds() / 3600).alias(name.removesuffix("_at"))
        for name in ("first_at", "until_at")
    )
    return rows.select(*hours, "n_instants", "state", "origin").rows()


def test_a_month_that_is_all_there_is_one_stretch():
    rows = ledger(KLINES, klines())
    assert COVERAGE.violations(rows).is_empty()
    assert [(0.0, 696.0, 2784, "present", "month.zip")] == told(rows)
    assert ("klines", "aa", KLINES) == rows.select("unit", "sha256", "dataset").row(0)
    assert [41_760] == ledger(KLINES, klines(1))["n_instants"].to_list()


def test_a_hole_is_an_outage_where_a_file_covers_it_and_missing_where_none_does():
    days = [File("1.zip", "a1", START, at(24)), File("2.zip", None, at(24), at(48)), File("4.zip", "a4", at(72), END)]
    frame = klines(without=[*range(4, 8), *range(96, 288), 2783])
    assert [
        (0.0, 1.0, 4, "present", "1.zip"),
        (1.0, 2.0, 4, "outage", "1.zip"),
        (2.0, 24.0, 88, "present", "1.zip"),
        (24.0, 48.0, 96, "source_missing", "2.zip"),
        (48.0, 72.0, 96, "source_missing", None),
        (72.0, 695.75, 2495, "present", "4.zip"),
        (695.75, 696.0, 1, "outage", "4.zip"),
    ] == told(ledger(KLINES, frame, origins=days))


def test_what_is_not_listed_is_not_expected_and_a_part_of_a_kline_is_not_listed():
    frame = klines(without=[*range(41), *range(81, 2784)])
    assert [
        (0.0, 10.25, 41, "not_listed", None),
        (10.25, 20.25, 40, "present", "month.zip"),
        (20.25, 696.0, 2703, "not_listed", None),
    ] == told(ledger(KLINES, frame, listing=Listing(at(10.1), at(20.4))))


def test_the_tail_of_an_open_month_that_has_not_arrived_is_not_a_hole():
    frame = klines(without=[5, *range(8, 2784)])
    assert [
        (0.0, 1.25, 5, "present", "month.zip"),
        (1.25, 1.5, 1, "outage", "month.zip"),
        (1.5, 2.0, 2, "present", "month.zip"),
        (2.0, 696.0, 2776, "not_yet", None),
    ] == told(ledger(KLINES, frame, as_of=at(300)))
    assert [(0.0, 696.0, 2784, "not_yet", None)] == told(ledger(KLINES, frame.clear(), as_of=at(300)))
    assert [(0.0, 696.0, 2784, "outage", "month.zip")] == told(ledger(KLINES, frame.clear(), as_of=END))


def test_rows_of_the_future_do_not_count():
    assert [(0.0, 1.0, 4, "present", "month.zip"), (1.0, 696.0, 2780, "not_yet", None)] == told(
        ledger(KLINES, klines(), as_of=at(1.2))
    )


@pytest.mark.parametrize(
    ("dataset", "n"), [(KLINES, 2784), ("raw_spot_ohlcv", 2784), (FUNDING, 87), (INTEREST, 8352), (LIQUIDATIONS, 29)]
)
def test_a_dataset_that_was_never_ingested_is_one_stretch(dataset, n):
    tables = {
        KLINES: klines(),
        "raw_spot_ohlcv": klines(),
        FUNDING: EIGHT,
        INTEREST: snapshots([0]),
        LIQUIDATIONS: orders(),
    }
    frame = tables[dataset].clear()
    assert [(0.0, 696.0, n, "not_ingested", None)] == told(ledger(dataset, frame, is_ingested=False, origins=()))


def test_rows_of_a_dataset_that_is_said_not_to_be_ingested_are_refused():
    with pytest.raises(TableError, match="2784 rows of a dataset that is said not to be ingested"):
        ledger(KLINES, klines(), is_ingested=False)


def test_an_unknown_dataset_and_rows_of_another_month_are_refused():
    with pytest.raises(TableError, match="'bars_um' has no calendar"):
        ledger("bars_um", klines())
    with pytest.raises(TableError, match="outside the month"):
        ledger(KLINES, klines(month="2024-03"))


def test_settlements_are_expected_by_their_own_interval_from_head_to_tail():
    assert [(0.0, 696.0, 87, "present", "month.zip")] == told(ledger(FUNDING, EIGHT))
    holed = settlements((16, 8), (40, 8), (44, 4), (56, 4))
    assert [
        (0.0, 16.0, 2, "outage", "month.zip"),  # 0 and 8: the head, by the interval of 16
        (16.0, 24.0, 1, "present", "month.zip"),
        (24.0, 40.0, 2, "outage", "month.zip"),  # 24 and 32
        (40.0, 48.0, 2, "present", "month.zip"),
        (48.0, 56.0, 2, "outage", "month.zip"),  # 48 and 52
        (56.0, 60.0, 1, "present", "month.zip"),
        (60.0, 696.0, 159, "outage", "month.zip"),  # the tail, every 4 hours
    ] == told(ledger(FUNDING, holed))


def test_the_first_settlement_of_a_new_interval_may_end_an_old_one():
    frame = settlements(*((hour, 8) for hour in range(0, 200, 8)), *((hour, 4) for hour in range(200, 696, 4)))
    assert ["present"] == ledger(FUNDING, frame)["state"].to_list()


def test_settlements_outside_the_listing_or_to_come_are_not_expected():
    frame = settlements((16, 8), (24, 8))
    rows = ledger(FUNDING, frame, as_of=at(40), listing=Listing(at(9)))
    assert [
        (0.0, 16.0, 2, "not_listed", None),
        (16.0, 32.0, 2, "present", "month.zip"),
        (32.0, 696.0, 83, "not_yet", None),
    ] == told(rows)


def test_without_one_settlement_eight_hours_are_assumed():
    assert [(0.0, 696.0, 87, "source_missing", None)] == told(ledger(FUNDING, EIGHT.clear(), origins=()))


def test_a_settlement_without_an_interval_is_refused():
    with pytest.raises(TableError, match="without its interval"):
        ledger(FUNDING, settlements((0, 8)).with_columns(funding_interval_h=pl.lit(None, dtype=pl.Float64)))


def test_a_snapshot_counts_for_the_five_minutes_it_lies_in():
    rows = ledger(INTEREST, snapshots([0, 5.05, 15]))
    assert [
        (0.0, 10 / 60, 2, "present", "month.zip"),
        (10 / 60, 15 / 60, 1, "outage", "month.zip"),
        (15 / 60, 20 / 60, 1, "present", "month.zip"),
        (20 / 60, 696.0, 8348, "outage", "month.zip"),
    ] == [(pytest.approx(first), pytest.approx(until), *rest) for first, until, *rest in told(rows)]


def test_a_quiet_day_is_known_if_a_file_covers_all_of_it():
    files = [File("1.zip", "a", START, at(24)), File("2.zip", "b", at(24), at(47)), File("4.zip", None, at(72), at(96))]
    assert [
        (0.0, 24.0, 1, "present", "1.zip"),
        (24.0, 48.0, 1, "source_missing", None),
        (48.0, 72.0, 1, "present", None),
        (72.0, 96.0, 1, "source_missing", "4.zip"),
        (96.0, 696.0, 25, "source_missing", None),
    ] == told(ledger(LIQUIDATIONS, orders((60 * 50, "BUY", 1)), origins=files))
    assert [(0.0, 24.0, 1, "present", "1.zip"), (24.0, 696.0, 28, "not_yet", None)] == told(
        ledger(LIQUIDATIONS, orders(), origins=files, as_of=at(60))
    )


def test_of_two_files_over_one_instant_the_shorter_is_named_in_any_order():
    files = [File("day.zip", "b", at(24), at(48)), WHOLE, File("hour.zip", None, at(30), at(31))]
    assert [
        (0.0, 24.0, 96, "present", "month.zip"),
        (24.0, 48.0, 96, "present", "day.zip"),
        (48.0, 696.0, 2592, "present", "month.zip"),
    ] == told(ledger(KLINES, klines(), origins=files))
    assert_frame_equal(ledger(KLINES, klines(), origins=files), ledger(KLINES, klines(), origins=files[::-1]))


def state_of(number: int, open_at: datetime, case: "Case") -> tuple[str, str | None]:
    close = open_at + timedelta(minutes=case.minutes)
    if not (case.listing.listed_at <= open_at and close <= (case.listing.delisted_at or close)):
        return "not_listed", None
    if close > case.as_of or (case.as_of < END and number > case.newest):
        return "not_yet", None
    covering = sorted(
        (file for file in case.files if file.start <= open_at and close <= file.end),
        key=lambda file: (file.end - file.start, file.start, file.name),
    )
    held = next((file.name for file in covering if file.sha256), None)
    if number in case.there:
        return "present", held
    if held:
        return "outage", held
    return "source_missing", next((file.name for file in covering), None)


@dataclass(frozen=True)
class Case:
    minutes: int
    there: frozenset[int]
    as_of: datetime
    listing: Listing
    files: tuple[File, ...]

    @cached_property
    def newest(self) -> int:
        length = timedelta(minutes=self.minutes)
        return max((number for number in self.there if START + (number + 1) * length <= self.as_of), default=-1)


HOURS = st.integers(-30, 720)
FILES = st.lists(st.tuples(HOURS, st.integers(1, 400), st.booleans()), max_size=4)


@given(
    minutes=st.sampled_from([5, 15]),
    lost=st.lists(st.tuples(st.integers(0, 2784), st.integers(1, 900)), max_size=4),
    as_of=HOURS,
    listed=HOURS,
    life=st.none() | st.integers(1, 700),
    files=FILES,
    seed=st.integers(0, 3),
)
def test_stretches_tile_the_month_and_agree_with_plain_python(minutes, lost, as_of, listed, life, files, seed):  # noqa: PLR0917  # hypothesis passes by name
    raw = klines(minutes)
    gone = {number for start, length in lost for number in range(start, start + length)}
    frame = raw.filter(~pl.int_range(pl.len()).is_in(list(gone))).sample(fraction=1.0, shuffle=True, seed=seed)
    case = Case(
        minutes if frame.height else 15,
        frozenset(range(raw.height)) - gone,
        at(as_of) + timedelta(minutes=3),
        Listing(at(listed), None if life is None else at(listed + life)),
        tuple(
            File(f"{number}.zip", "aa" if is_held else None, at(start), at(start + length))
            for number, (start, length, is_held) in enumerate(files)
        ),
    )
    rows = ledger(KLINES, frame, as_of=case.as_of, listing=case.listing, origins=case.files)
    assert COVERAGE.violations(rows).is_empty()
    assert [START, *rows["until_at"]] == [*rows["first_at"], END]
    opens = [
        START + number * timedelta(minutes=case.minutes)
        for number in range((END - START) // timedelta(minutes=case.minutes))
    ]
    by_hand = [state_of(number, open_at, case) for number, open_at in enumerate(opens)]
    found = [(row["state"], row["origin"]) for row in rows.iter_rows(named=True) for _ in range(row["n_instants"])]
    assert by_hand == found
    assert not any(one == other for one, other in pairwise(rows.select("state", "origin").rows()))
    count = Counter(state for state, _ in by_hand)
    summary = coverage_summary(rows).row(0, named=True)
    assert (count["present"], count["outage"], count["source_missing"]) == (
        summary["n_present"],
        summary["n_outage"],
        summary["n_source_missing"],
    )
    assert summary["n_expected"] == count["present"] + count["outage"] + count["source_missing"]


@given(
    hours=st.lists(st.tuples(st.integers(0, 695), st.sampled_from([1.0, 2.0, 4.0, 8.0])), unique_by=lambda one: one[0]),
    as_of=HOURS,
    listed=HOURS,
)
def test_settlements_tile_the_month_whatever_their_intervals(hours, as_of, listed):
    frame = settlements(*hours)
    rows = ledger(FUNDING, frame, as_of=at(as_of), listing=Listing(at(listed)))
    assert COVERAGE.violations(rows).is_empty()
    assert [START, *rows["until_at"]] == [*rows["first_at"], END]
    due = [hour for hour, _ in hours if listed <= hour <= as_of]
    assert len(due) == rows.filter(pl.col("state") == "present")["n_instants"].sum()


def test_the_summary_counts_and_finds_the_longest_unbroken_hole_over_all_reasons():
    days = [File("1.zip", "a1", START, at(24)), File("3.zip", "a3", at(48), END)]
    frame = klines(without=[*range(10, 20), *range(90, 200), *range(500, 609)])
    rows = ledger(KLINES, frame, origins=days)
    assert {
        "symbol": SYMBOL, "dataset": KLINES, "n_expected": 2784, "n_present": 2784 - 229, "n_outage": 10 + 14 + 109,
        "n_source_missing": 96, "n_not_ingested": 0, "longest_gap_at": at(22.5), "longest_gap_instants": 110,
        "longest_gap_h": 27.5,
    } == coverage_summary(rows).row(0, named=True)  # fmt: skip


def test_the_summary_has_a_row_per_dataset_and_says_what_was_never_ingested():
    rows = pl.concat(
        [
            ledger(KLINES, klines()),
            ledger(INTEREST, snapshots([]), is_ingested=False),
            ledger(FUNDING, EIGHT, listing=Listing(END)),
        ]
    )
    summary = coverage_summary(rows).select("dataset", "n_expected", "n_present", "n_not_ingested", "longest_gap_at")
    assert [(FUNDING, 0, 0, 0, None), (KLINES, 2784, 2784, 0, None), (INTEREST, 8352, 0, 8352, START)] == summary.rows()
    assert coverage_summary(rows.clear()).is_empty()


def test_a_hole_over_the_turn_of_a_month_is_one_hole():
    february = ledger(KLINES, klines(without=range(2700, 2784)))
    march = cover(
        KLINES, klines(month="2024-03", without=range(10)), symbol=SYMBOL, month="2024-03", as_of=LATER, listing=None,
        origins=[File("march.zip", "bb", END, LATER)], is_ingested=True,
    )  # fmt: skip
    summary = coverage_summary(pl.concat([march, february])).row(0, named=True)
    assert (at(675), 94, 23.5) == (
        summary["longest_gap_at"],
        summary["longest_gap_instants"],
        summary["longest_gap_h"],
    )


@needs_real_data
@pytest.mark.parametrize(
    ("month", "n_missing", "first_missing"),
    [
        ("2020-03", 31 * 96 - 1131, datetime(2020, 3, 12, 21, tzinfo=UTC)),
        ("2022-08", 31 * 96 - 2074, datetime(2022, 8, 22, 14, 30, tzinfo=UTC)),
        ("2022-10", 31 * 96, datetime(2022, 10, 1, tzinfo=UTC)),
        ("2024-02", 0, None),
    ],
)
def test_real_spot_holes_are_in_the_ledger(month, n_missing, first_missing):
    rows = pl.read_parquet(REAL / "market/spot/klines/15m/BTCUSDT.parquet").filter(
        pl.col("open_time").is_between(month_start(month), month_end(month), closed="left")
    )
    nothing = pl.lit(None)
    raw = RAW_SPOT_OHLCV.conform(
        rows.select(
            "open", "high", "low", "close", "taker_buy_base", "taker_buy_quote", symbol=pl.lit("BTCUSDT"),
            open_at=pl.col("open_time").dt.cast_time_unit("us"), interval_min=pl.lit(15), volume_base="volume",
            volume_quote="quote_volume", n_trades="trades", close_at=nothing, unused=nothing, source=pl.lit("real"),
        )
    )  # fmt: skip
    ledger_rows = cover(
        "raw_spot_ohlcv", raw, symbol="BTCUSDT", month=month, as_of=LATER, listing=Listing(datetime(2017, 8, 17, tzinfo=UTC)),
        origins=[File("all.parquet", "cc", month_start(month), month_end(month))], is_ingested=True,
    )  # fmt: skip
    summary = coverage_summary(ledger_rows).row(0, named=True)
    assert (n_missing, rows.height, first_missing) == (
        summary["n_outage"], summary["n_present"], summary["longest_gap_at"],
    )  # fmt: skip


def test_every_dataset_of_the_sources_has_a_calendar():
    for table in (RAW_UM_OHLCV, RAW_SPOT_OHLCV, RAW_UM_FUNDING, RAW_UM_LIQUIDATIONS):
        assert not ledger(table.name, table.empty()).is_empty()
