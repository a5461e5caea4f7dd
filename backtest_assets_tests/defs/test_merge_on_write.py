"""A month that comes in parts is, in the end, the month that came at once: byte for byte, in every order (issue 3.4).

Each of six symbols gets its parts in another order; a second lake gets all of them at once.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import pytest

from backtest_assets.defs.driver import Work
from backtest_assets.domain.market import Partition
from backtest_assets.lake.publication import Publication
from backtest_assets.sources.base import Dataset
from backtest_assets_tests.defs.market import Project, open_project
from backtest_assets_tests.exchange import exchange
from backtest_assets_tests.exchange_faults import OtherRows, Status

PARTS = (("2024-01-01", "2024-01-10"), ("2024-01-21", "2024-01-31"), ("2024-01-11", "2024-01-20"))
ORDERS = {f"{'ABCDEF'[n]}USDT": order for n, order in enumerate(permutations(PARTS))}
JANUARY = {symbol: Partition.of_month(symbol, "2024-01") for symbol in ORDERS}
TABLES = ("raw_um_ohlcv", "raw_um_funding", "bars_um", "settlements_um")
DATASETS = frozenset({Dataset.UM_OHLCV, Dataset.UM_FUNDING})


@dataclass
class Parts:
    """The lake that was filled in parts, and the one that was filled at once."""

    said: dict[tuple[str, int], str] = field(default_factory=dict)
    early: set[tuple[str, Partition]] = field(default_factory=set)
    held: dict[tuple[str, Partition], Publication] = field(default_factory=dict)
    at_once: dict[tuple[str, Partition], Publication] = field(default_factory=dict)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder, made = tmp_path_factory.mktemp("parts"), Parts()
    with exchange(symbols=tuple(ORDERS), months=("2024-01", "2024-02", "2024-03")) as ex:
        with open_project(folder / "parts", ex) as project:
            for n in range(len(PARTS)):
                for part in PARTS:
                    symbols = [symbol for symbol, order in ORDERS.items() if order[n] == part]
                    work = ingest(project, symbols, part)
                    made.said |= {(symbol, n): "\n".join(work.refusals) for symbol in symbols}
                if n < len(PARTS) - 1:
                    made.early |= set(project.current())
            made.held = project.current()
        with open_project(folder / "at_once", ex) as project:
            assert () == ingest(project, list(ORDERS), ("", "")).refusals
            made.at_once = project.current()
        yield made


def ingest(project: Project, symbols: list[str], part: tuple[str, str]) -> Work:
    first, last = part
    return project.drive([JANUARY[one] for one in symbols], datasets=DATASETS, first_day=first, last_day=last)


@pytest.mark.parametrize("symbol", ORDERS)
@pytest.mark.parametrize("table", TABLES)
def test_a_month_in_parts_in_any_order_is_the_same_bytes_as_at_once(parts: Parts, table: str, symbol: str):
    mine, whole = parts.held[table, JANUARY[symbol]], parts.at_once[table, JANUARY[symbol]]
    assert (whole.n_rows, whole.digest, whole.data.sha256) == (mine.n_rows, mine.digest, mine.data.sha256)


@pytest.mark.parametrize("symbol", ORDERS)
def test_bars_of_a_month_are_refused_by_what_is_missing_until_it_is_whole(parts: Parts, symbol: str):
    for n in range(2):
        assert f"bars_um[2024-01|{symbol}]: missing_days: " in parts.said[symbol, n]
        assert f"settlements_um[2024-01|{symbol}]: settlements_complete: " in parts.said[symbol, n]
    assert "" == parts.said[symbol, 2]
    assert ("raw_um_ohlcv", JANUARY[symbol]) in parts.early
    assert ("bars_um", JANUARY[symbol]) not in parts.early


def test_r36_a_forced_ingest_that_gets_nothing_keeps_what_was_there(tmp_path: Path):
    january = [JANUARY["AUSDT"]]
    with exchange(symbols=("AUSDT",)) as ex, open_project(tmp_path / "data", ex) as project:
        assert () == project.drive(january, datasets=DATASETS).refusals
        before = project.current()
        shutil.rmtree(project.root / "inbox" / "binance" / "data")
        ex.faults += [Status("/data/", 404), OtherRows("/v1/", lambda rows: rows.clear())]
        work = project.drive(january, datasets=DATASETS, is_forced=True)
        assert () == work.refusals
        assert {key: one.digest for key, one in before.items() if key[0] != "coverage"} == {
            key: one.digest for key, one in project.current().items() if key[0] != "coverage"
        }
        assert "2976" == project.current()["raw_um_ohlcv", january[0]].notes["rows_kept"]
        assert [] == [text for table in TABLES for text in project.refused(table, *january)]


@pytest.mark.parametrize("is_forced", [True, False], ids=["forced", "usual"])
def test_r36_an_ingest_that_fails_leaves_what_was_there_as_it_was_judged(tmp_path: Path, *, is_forced: bool):
    january = [JANUARY["AUSDT"]]
    with exchange(symbols=("AUSDT",)) as ex, open_project(tmp_path / "data", ex) as project:
        assert () == project.drive(january, datasets=DATASETS).refusals
        before = {key: one.publication_id for key, one in project.current().items() if key[0].startswith("raw")}
        shutil.rmtree(project.root / "inbox" / "binance" / "data")
        ex.faults.append(Status("/data/", 500))
        said = "\n".join(project.drive(january, datasets=DATASETS, is_forced=is_forced).refusals)
        assert "raw_um_ohlcv[2024-01|AUSDT]: " in said
        assert "at last status 500" in said
        assert "what was published before stays as it was judged" in said
        assert [] == [text for table in TABLES for text in project.refused(table, *january)]
        after = {key: one.publication_id for key, one in project.current().items() if key[0].startswith("raw")}
        assert before == after
