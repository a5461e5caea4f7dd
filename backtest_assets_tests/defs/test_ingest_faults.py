"""Every fault of the exchange, from the network to what the operator reads: one call over all of them, then one without.

Each symbol has its own fault in January's um klines; its February and its funding are sound. Spot is left out.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.defs.driver import Work
from backtest_assets.defs.judgements import judgements
from backtest_assets.domain.clock import month_end, month_start, utc
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.lake.publication import Publication
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.defs.market import Project, open_project
from backtest_assets_tests.exchange import Request, exchange
from backtest_assets_tests.exchange_faults import (
    Fault,
    OtherRows,
    Reset,
    SlowDrip,
    Status,
    WrongChecksum,
    day_repeated,
    duplicate_rows,
    header_change,
    out_of_order_rows,
    path_in_member,
    truncated_zip,
    two_members,
    without,
    zip_bomb,
)

JANUARY, FEBRUARY = MONTHS = ("2024-01", "2024-02")
TABLES = ("raw_um_ohlcv", "raw_um_funding", "bars_um", "settlements_um", "coverage")
WEEK = utc(date(2024, 1, 7))
DAY = timedelta(days=1)
LIVES = {
    "BORNUSDT": Listing(utc(date(2024, 2, 10)) + timedelta(hours=8)),
    "GONEUSDT": Listing(utc(date(2024, 1, 1)), utc(date(2024, 1, 15)) + timedelta(hours=9)),
}


def contradicting_rows(where: str) -> OtherRows:
    return OtherRows(where, lambda rows: pl.concat([rows, rows.tail(3).with_columns(pl.col("volume_base") + 1)]))


def january(symbol: str) -> str:
    return f"um/monthly/klines/{symbol}/15m/{symbol}-15m-2024-01.zip"


BROKEN_FILES: dict[str, tuple[Fault, str]] = {
    "SUMUSDT": (WrongChecksum(january("SUMUSDT")), "downloaded 2 times, each time wrong"),
    "TORNUSDT": (truncated_zip(january("TORNUSDT")), "fits its checksum but cannot be used: .*is no whole zip"),
    "BOMBUSDT": (zip_bomb(january("BOMBUSDT")), "unpack to .*bomb"),
    "TWOUSDT": (two_members(january("TWOUSDT")), r"2 members\), wanted exactly TWOUSDT-15m-2024-01.csv"),
    "PATHUSDT": (path_in_member(january("PATHUSDT")), r"holds '\.\./\.\./PATHUSDT-15m-2024-01.csv'"),
    "HEADUSDT": (header_change(january("HEADUSDT")), "n_fills"),
}
"""Files that cannot be used, and what is read about them; their bytes go to quarantine."""

NO_ANSWER: dict[str, tuple[Fault, str]] = {
    "DRIPUSDT": (SlowDrip(january("DRIPUSDT")), "no answer in up to 3 attempts, at last TimeoutError"),
    "CUTUSDT": (Reset(january("CUTUSDT")), "no answer in up to 3 attempts, at last ReadError"),
    "STORMUSDT": (Status(january("STORMUSDT"), 500), "no answer in up to 3 attempts, at last status 500"),
    "BUSYUSDT": (Status(january("BUSYUSDT"), 429, Retry_After="0"), "at last status 429, 0 s of pause asked for"),
}
REFUSED = {**BROKEN_FILES, **NO_ANSWER, "TWICEUSDT": (contradicting_rows(january("TWICEUSDT")), "no_duplicates: ")}

BORNE: dict[str, Fault] = {
    "ONCEUSDT": WrongChecksum(january("ONCEUSDT"), times=1),
    "WAITUSDT": Status(january("WAITUSDT"), 429, times=1, Retry_After="1"),
    "SHAKYUSDT": Status(january("SHAKYUSDT"), 500, times=2),
}
"""Trouble that the first call already gets over."""

REISSUED: dict[str, Sequence[Fault]] = {
    "LATEUSDT": [Status(january("LATEUSDT"), 404)],
    "SAMEUSDT": [duplicate_rows(january("SAMEUSDT"))],
    "MIXEDUSDT": [out_of_order_rows(january("MIXEDUSDT"))],
    "AGAINUSDT": [day_repeated(january("AGAINUSDT"), WEEK)],
}
"""Files that are usable as they are, and later come as they should have been."""
HOLE = "HOLEUSDT"
HOLES = [
    without(january(HOLE), WEEK, WEEK + 2 * DAY),
    *(Status(f"um/daily/klines/{HOLE}/15m/{HOLE}-15m-2024-01-{day}.zip", 404) for day in ("07", "08")),
]

FAULTS = [
    *(fault for fault, _ in REFUSED.values()),
    *BORNE.values(),
    *(fault for faults in REISSUED.values() for fault in faults),
    *HOLES,
]
SYMBOLS = (*REFUSED, *BORNE, *REISSUED, HOLE, *LIVES)
ASKED = (
    *(Partition.of_month(symbol, JANUARY) for symbol in SYMBOLS),
    *(Partition.of_month(symbol, FEBRUARY) for symbol in ("SUMUSDT", "STORMUSDT", HOLE, *LIVES)),
)


@dataclass
class Call:
    """What one call did, and how everything stood after it."""

    work: Work
    log: list[Request]
    held: dict[tuple[str, Partition], Publication]
    refused: list[str]

    @property
    def said(self) -> str:
        return "\n".join(self.work.refusals)

    @property
    def bodies(self) -> list[str]:
        return [one.path for one in self.log if one.status == 200 and one.path.endswith(".zip")]


@dataclass
class Story:
    project: Project
    first: Call
    ledger: dict[Partition, pl.DataFrame]
    second: Call

    def republished(self, table: str) -> set[Partition]:
        """What the second call published of a table."""
        before, after = (
            {key: one.publication_id for key, one in call.held.items()} for call in (self.first, self.second)
        )
        return {key[1] for key in after if key[0] == table and after[key] != before.get(key)}


def jan(symbol: str) -> Partition:
    return Partition.of_month(symbol, JANUARY)


def call(project: Project) -> Call:
    project.exchange.log.clear()
    work = project.drive(ASKED, datasets=frozenset({Dataset.UM_OHLCV, Dataset.UM_FUNDING}))
    refused = [text for table in TABLES for text in project.refused(table, *ASKED)]
    return Call(work, list(project.exchange.log), project.current(), refused)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A call with every fault, the faults gone, and the same call an hour later."""
    root = tmp_path_factory.mktemp("faults") / "data"
    with (
        exchange(symbols=SYMBOLS, months=(*MONTHS, "2024-03"), listings=LIVES, faults=list(FAULTS)) as ex,
        open_project(root, ex) as project,
    ):
        first = call(project)
        ledger = {p: project.rows("coverage", p) for p in ASKED if p["symbol"] in {HOLE, *LIVES}}
        ex.faults.clear()
        ex.now += timedelta(hours=1)
        yield Story(project, first, ledger, call(project))


@pytest.mark.parametrize("symbol", REFUSED)
def test_r5_r6_a_month_that_cannot_be_had_is_refused_by_name_with_its_reason_and_nothing_is_stored(
    story: Story, symbol: str
):
    (line,) = [text for text in story.first.said.splitlines() if f"raw_um_ohlcv[2024-01|{symbol}]" in text]
    assert re.search(REFUSED[symbol][1], line), line
    assert {"raw_um_funding", "settlements_um", "coverage"} == {
        table for table, partition in story.first.held if partition == jan(symbol)
    }


def test_exactly_the_faulty_months_are_closed_and_the_rest_of_the_same_call_is_open(story: Story):
    closed = {text.split(":")[0] for text in story.first.refused}
    expected = {f"{table}[2024-01|{symbol}]" for symbol in REFUSED for table in ("raw_um_ohlcv", "bars_um")}
    assert expected | {f"bars_um[2024-01|{HOLE}]"} == closed
    assert len(REFUSED) + 1 == sum(text.startswith("- ") for text in story.first.said.splitlines())


@pytest.mark.parametrize("symbol", BROKEN_FILES)
def test_the_bytes_of_a_broken_file_are_kept_in_quarantine_with_url_and_reason(story: Story, symbol: str):
    folder = story.project.root / "quarantine" / "inbox" / "data" / "futures" / january(symbol).rpartition("/")[0]
    (about,) = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert about["url"].endswith(january(symbol))
    assert about["reason"]
    assert 2 == len(list(folder.iterdir()))
    assert [] == list(story.project.root.rglob(f"{symbol}*.csv"))


@pytest.mark.parametrize("symbol", NO_ANSWER)
def test_what_did_not_come_whole_left_nothing_behind(story: Story, symbol: str):
    assert [] == list((story.project.root / "quarantine").rglob(f"{symbol}*"))
    assert not re.search(f"{symbol}.*kept at", story.first.said)


def test_rows_that_contradict_each_other_are_kept_in_quarantine_with_their_verdicts(story: Story):
    folder = story.project.root / "quarantine" / "raw_um_ohlcv" / "symbol=TWICEUSDT" / "month=2024-01"
    (verdicts,) = folder.rglob("verdicts.json")
    assert '"no_duplicates"' in verdicts.read_text()
    assert 1 == len(list(folder.rglob("*.parquet")))


def test_trouble_that_passes_within_a_call_is_not_even_noticed(story: Story):
    for symbol in BORNE:
        assert ("bars_um", jan(symbol)) in story.first.held
        assert symbol not in story.first.said


def test_a_pause_that_the_exchange_asks_for_is_made(story: Story):
    asked = [one for one in story.first.log if one.path.endswith(january("WAITUSDT"))]
    assert [429, 200] == [one.status for one in asked]
    assert asked[1].at - asked[0].at >= 1.0


def test_a_checksum_that_is_wrong_once_costs_one_more_download(story: Story):
    assert 2 == sum(january("ONCEUSDT") in path for path in story.first.bodies)


def test_a_month_without_a_file_is_made_of_its_days(story: Story):
    made = story.first.held["raw_um_ohlcv", jan("LATEUSDT")]
    assert 31 == len(json.loads(made.notes["origins"]))
    assert story.second.held["raw_um_ohlcv", jan("LATEUSDT")].digest == made.digest


def test_rows_that_repeat_each_other_count_once_and_are_counted(story: Story):
    repeated = {
        symbol: story.first.held["raw_um_ohlcv", jan(symbol)].notes["repeated_rows"]
        for symbol in ("SAMEUSDT", "AGAINUSDT", "MIXEDUSDT")
    }
    assert {"SAMEUSDT": "3", "AGAINUSDT": "96", "MIXEDUSDT": "0"} == repeated


def test_missing_days_are_kept_raw_refused_as_bars_and_told_by_the_ledger(story: Story):
    assert ("raw_um_ohlcv", jan(HOLE)) in story.first.held
    assert ("bars_um", jan(HOLE)) not in story.first.held
    assert f"bars_um[2024-01|{HOLE}]: missing_days: " in story.first.said
    (stretch,) = lacking(story.ledger[jan(HOLE)])
    assert ("outage", WEEK, 192) == (stretch["state"], stretch["first_at"], stretch["n_instants"])


def lacking(ledger: pl.DataFrame) -> list[dict[str, object]]:
    um = pl.col("dataset") == "raw_um_ohlcv"
    return ledger.filter(um, pl.col("state") != "present").to_dicts()


@pytest.mark.parametrize(("symbol", "month"), [("BORNUSDT", JANUARY), ("GONEUSDT", FEBRUARY)])
def test_a_month_in_which_a_symbol_did_not_trade_is_empty_green_and_not_listed(story: Story, symbol: str, month: str):
    partition = Partition.of_month(symbol, month)
    for table in ("raw_um_ohlcv", "bars_um", "settlements_um"):
        assert 0 == story.first.held[table, partition].n_rows
    (stretch,) = lacking(story.ledger[partition])
    assert ("not_listed", month_start(month), month_end(month)) == (
        stretch["state"],
        stretch["first_at"],
        stretch["until_at"],
    )


@pytest.mark.parametrize(("symbol", "month"), [("BORNUSDT", FEBRUARY), ("GONEUSDT", JANUARY)])
def test_a_month_in_which_a_symbol_was_listed_or_delisted_has_just_the_bars_of_its_life(
    story: Story, symbol: str, month: str
):
    partition = Partition.of_month(symbol, month)
    first, last = LIVES[symbol].within(month_start(month), month_end(month))
    assert (last - first) // timedelta(minutes=15) == story.first.held["bars_um", partition].n_rows
    (stretch,) = lacking(story.ledger[partition])
    assert "not_listed" == stretch["state"]


def test_after_the_faults_are_gone_the_same_call_completes(story: Story):
    assert () == story.second.work.refusals
    assert [] == story.second.refused
    for symbol in (*REFUSED, *REISSUED, HOLE):
        true = story.project.exchange.closed(Dataset.UM_OHLCV, symbol, month_start(JANUARY), month_end(JANUARY))
        assert_frame_equal(true, story.project.rows("raw_um_ohlcv", jan(symbol)))


def test_r36_the_second_call_downloads_nothing_again_that_was_good(story: Story):
    anew = {f"/data/futures/{january(symbol)}" for symbol in (*REFUSED, *REISSUED, HOLE)}
    assert sorted(anew) == sorted(story.second.bodies)


def test_r36_the_second_call_publishes_only_what_was_missing_or_came_otherwise(story: Story):
    assert {jan(symbol) for symbol in (*REFUSED, *REISSUED, HOLE)} == story.republished("raw_um_ohlcv")
    assert {jan(symbol) for symbol in (*REFUSED, HOLE)} == story.republished("bars_um")
    for table in ("raw_um_funding", "settlements_um"):
        assert set() == story.republished(table)


def test_the_operator_finds_every_refusal_in_the_failed_checks(tmp_path: Path):
    with exchange(faults=[truncated_zip(january("BTCUSDT"))]) as ex, open_project(tmp_path / "data", ex) as project:
        project.drive([jan("BTCUSDT")])
        told = judgements(project.session.instance, "raw_um_ohlcv", [jan("BTCUSDT")])
        assert {False} == {one.passed for one in told}
        assert all("is no whole zip" in one.detail for one in told)
