"""The switches of the market layer as the runbook has them (R2, R5, R6, R33-R36, R53), at the command line."""

import json
from pathlib import Path

import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.lake.store import Lake
from backtest_assets_tests.cli.terminal import call
from backtest_assets_tests.world import break_month, klines, write_klines, write_market

JANUARY = Partition.of_month("AAAUSDT", "2024-01")
SKIPPED = {
    "raw_um_ohlcv": ("skip_ingest_ohlcv", "um/klines/15m"),
    "raw_um_funding": ("skip_ingest_funding", "um/funding"),
    "raw_spot_ohlcv": ("skip_ingest_spot_ohlcv", "spot/klines/15m"),
}
CLEAN = {"raw_um_ohlcv": "bars_um", "raw_um_funding": "settlements_um", "raw_spot_ohlcv": "bars_spot"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_market(tmp_path / "market")


def backfill(root: Path, source: Path, *switches: str, code: int = 0, **changes: str) -> str:
    flags = {
        "symbols": "AAAUSDT",
        "start": "2024-01-01",
        "end": "2024-01-31",
        "source": f"files:{source}",
    } | changes
    parts = [part for name, value in flags.items() for part in (f"--{name}", value)]
    return call(root, "backfill", *parts, *switches, code=code)


def held(root: Path) -> dict[str, str]:
    """Publication of every table's January."""
    found = {path.name: Lake(root).current(path.name, JANUARY) for path in (root / "lake").iterdir()}
    return {table: one.publication_id for table, one in found.items() if one is not None}


@pytest.mark.parametrize("table", SKIPPED, ids=["r33", "r34", "r35"])
def test_a_skipped_ingest_uses_what_is_there_and_asks_the_source_for_nothing(root: Path, source: Path, table: str):
    switch, folder = SKIPPED[table]
    backfill(root, source)
    before = held(root)
    (source / folder / "AAAUSDT.parquet").write_bytes(b"no parquet any more")
    said = backfill(root, source, f"--{switch}", "1")
    assert "Nothing to do" in said
    assert before == held(root)
    assert "AAAUSDT.parquet" in backfill(root, source, code=1)


@pytest.mark.parametrize("table", ["raw_um_ohlcv", "raw_um_funding"], ids=["r33", "r34"])
def test_a_skipped_ingest_of_what_is_not_there_is_refused_by_partition_and_flag(root: Path, source: Path, table: str):
    said = backfill(root, source, f"--{SKIPPED[table][0]}", "1", code=1)
    assert f"because of --{SKIPPED[table][0]} 1: {table}[2024-01|AAAUSDT]: never materialised" in said
    assert set(SKIPPED) - {table} <= set(held(root))
    assert CLEAN[table] not in held(root)


def test_r35_spot_that_is_neither_there_nor_ingested_is_done_without(root: Path, source: Path):
    backfill(root, source, "--skip_ingest_spot_ohlcv", "1")
    assert {"raw_um_ohlcv", "raw_um_funding", "bars_um", "settlements_um", "coverage"} == set(held(root))
    backfill(root, source, "--skip_ingest_spot_ohlcv", "1", "--force", "1")
    assert {"raw_um_ohlcv", "raw_um_funding", "bars_um", "settlements_um", "coverage"} == set(held(root))


def test_r36_unchanged_inputs_are_not_rewritten_and_force_makes_everything_again(root: Path, source: Path):
    backfill(root, source)
    before = held(root)
    assert "Nothing to do" in backfill(root, source)
    assert before == held(root)
    digests = {table: Lake(root).current(table, JANUARY) for table in before}
    assert f"{len(before)} partitions published, 0 were up to date." in backfill(root, source, "--force", "1")
    forced = held(root)
    assert set() == set(before.values()) & set(forced.values())
    assert {table: one.digest for table, one in digests.items() if one} == {
        table: one.digest for table in forced if (one := Lake(root).current(table, JANUARY))
    }


def test_r36_a_month_that_changed_at_the_source_is_made_again_with_what_is_made_from_it(root: Path, source: Path):
    backfill(root, source)
    before = held(root)
    write_klines(source, "AAAUSDT", klines(0).with_columns(pl.col("volume") + 1))
    backfill(root, source)
    after = held(root)
    again = {"raw_um_ohlcv", "bars_um", "bars_spot", "coverage"}  # spot bars are held against um bars
    assert again == {table for table in after if after[table] != before[table]}


def test_r36_what_is_red_and_unchanged_is_not_tried_again_but_said_again(root: Path, source: Path):
    write_klines(source, "AAAUSDT", break_month(klines(0), "2024-01"))
    assert "refused" in backfill(root, source, code=1)
    said = backfill(root, source, code=1)
    assert "still refused, the source is unchanged: raw_um_ohlcv[2024-01|AAAUSDT]: gate ohlc_sane FAILED" in said
    quarantined = list((root / "quarantine" / "raw_um_ohlcv").rglob("verdicts.json"))
    assert 1 == len(quarantined)


def test_r5_symbols_are_taken_in_capitals_once_each(root: Path, source: Path):
    backfill(root, source, symbols=" aaausdt, AAAUSDT,bbbusdt ")
    assert {"AAAUSDT", "BBBUSDT"} == {partition["symbol"] for partition in Lake(root).partitions("bars_um")}
    assert "symbols" in backfill(root, source, symbols=" , ", code=2)


def test_r6_start_and_end_are_whole_utc_days_both_inclusive(root: Path, source: Path):
    said = backfill(root, source, "--only_days", "1", start="2024-01-10", end="2024-01-10", code=1)
    assert "bars_um[2024-01|AAAUSDT]: missing_days" in said
    count = "select count(*) as n, min(open_at)::varchar as a, max(open_at)::varchar as z from raw_um_ohlcv"
    (row,) = json.loads(call(root, "sql", count, "--json"))
    assert (96, "2024-01-10 00:00", "2024-01-10 23:45") == (row["n"], row["a"][:16], row["z"][:16])
    assert "lies after end" in backfill(root, source, start="2024-01-11", end="2024-01-10", code=2)


def test_r2_r53_each_data_root_is_its_own_and_a_second_source_is_refused_untouched(root: Path, source: Path):
    backfill(root, source)
    before = held(root)
    other = write_market(source.parent / "other")
    said = backfill(root, other, code=2)
    assert "data sets are never mixed: use another BACKTEST_DATA_ROOT (R53)" in said
    assert before == held(root)
    assert "Nothing to do" in backfill(root, source)
    (root.parent / "second").mkdir()
    assert "partitions published" in backfill(root.parent / "second", other)
    assert before == held(root)
