import io
import json
import math
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from backtest_assets.domain.gate import Verdict
from backtest_assets.domain.market import Partition
from backtest_assets.errors import LakeError, NotPublishedError, TamperedError, UsageError
from backtest_assets.lake.parquet import parquet_bytes
from backtest_assets.lake.store import Lake
from backtest_assets.tables.bars import BARS_UM
from backtest_assets.tables.outcomes import EVENT_OUTCOMES
from backtest_assets.tables.run import RESEARCH_RUN
from backtest_assets_tests.lake.shared import (
    AS_OF,
    MONTH,
    RUN,
    publish,
    publish_month,
    publish_run,
    settings_frame,
    stage_run,
    staging_of,
    version_read,
)


def test_what_is_published_is_what_is_read(tmp_path):
    lake = Lake(tmp_path)
    frame = BARS_UM.sample(3, 500)
    published = publish_month(lake, "BTCUSDT", "2024-01", frame)
    assert published == lake.current("bars_um", MONTH)
    assert_frame_equal(frame.with_columns(symbol=pl.lit("BTCUSDT")), lake.scan([published]).collect())
    assert published.n_rows == 500
    assert published.published_at == AS_OF + timedelta(minutes=1)
    assert staging_of(tmp_path) == []


def test_a_partition_never_published_is_none(tmp_path):
    lake = Lake(tmp_path)
    assert lake.current("bars_um", MONTH) is None
    assert lake.history("bars_um", MONTH) == ()
    assert lake.partitions("bars_um") == ()


def test_bytes_depend_on_the_values_only():
    frame = BARS_UM.sample(5, 3000)
    whole = parquet_bytes(BARS_UM, frame)
    pieces = pl.concat([frame[:7], frame[7:1200], frame[1200:]], rechunk=False)
    assert pieces.n_chunks() == 3
    for same in (
        pieces,
        pl.concat([frame[:50], frame])[50:],
        frame.sample(fraction=1, shuffle=True, seed=1).sort(BARS_UM.key),
    ):
        assert whole == parquet_bytes(BARS_UM, same)
    assert whole != parquet_bytes(BARS_UM, frame.reverse())


def test_the_file_carries_version_units_and_meaning(tmp_path):
    lake = Lake(tmp_path)
    (address,) = lake.addresses([publish_month(lake, "BTCUSDT", "2024-01")])
    metadata = pq.read_metadata(address).metadata
    assert metadata[b"schema_version"] == b"1"
    assert metadata[b"about"].decode() == BARS_UM.about
    assert json.loads(metadata[b"units"])["volume_quote"] == "quote"
    assert json.loads(metadata[b"columns"])["open_at"].startswith("Open time")


def years_of_bars():
    start = datetime(2020, 1, 1, tzinfo=UTC)
    instants = pl.datetime_range(start, start + timedelta(minutes=15 * 249_999), "15m", eager=True).alias("open_at")
    return BARS_UM.sample(1, 1).drop("open_at").join(instants.to_frame(), how="cross").select(BARS_UM.schema.names())


def test_row_groups_and_statistics_serve_pruning():
    frame = years_of_bars()
    metadata = pq.read_metadata(io.BytesIO(parquet_bytes(BARS_UM, frame)))
    assert metadata.num_row_groups == 3
    statistics = metadata.row_group(2).column(BARS_UM.schema.names().index("open_at")).statistics
    assert statistics.min == frame["open_at"][200_000]


def test_columns_and_times_are_pruned_in_the_files(tmp_path):
    lake = Lake(tmp_path)
    publications = [publish_month(lake, "BTCUSDT", month) for month in ("2024-01", "2024-02")]
    plan = lake.scan(publications).filter(pl.col("open_at") > AS_OF).select("close").explain()
    assert "PROJECT 2/13 COLUMNS" in plan
    assert 'SELECTION: col("open_at") >' in plan
    assert "FILTER" not in plan


def test_a_skipped_row_group_is_never_read(tmp_path):
    lake = Lake(tmp_path)
    frame = years_of_bars()
    publication = publish_month(lake, "BTCUSDT", "2024-01", frame)
    (address,) = lake.addresses([publication])
    first = pq.read_metadata(address).row_group(0)
    Path(address).chmod(0o644)
    with Path(address).open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * (sum(first.column(k).total_compressed_size for k in range(first.num_columns)) - 8))
    late = lake.scan([publication]).filter(pl.col("open_at") >= frame["open_at"][200_000]).select("open_at")
    assert late.collect().height == 50_000
    with pytest.raises(pl.exceptions.ComputeError):
        lake.scan([publication]).select("open_at").collect()


def test_list_columns_survive(tmp_path):
    lake = Lake(tmp_path)
    frame = EVENT_OUTCOMES.sample(1).with_columns(accrual_bps=pl.lit([1.0, -2.0]))
    published = publish(lake, lake.stage(EVENT_OUTCOMES, RUN, frame))
    assert_frame_equal(frame, lake.scan([published]).collect())


def test_an_empty_table_can_be_published(tmp_path):
    lake = Lake(tmp_path)
    published = publish(lake, lake.stage(RESEARCH_RUN, RUN, RESEARCH_RUN.empty()))
    assert_frame_equal(RESEARCH_RUN.empty(), lake.scan([published]).collect())


def test_history_follows_the_chain_newest_first(tmp_path):
    lake = Lake(tmp_path)
    versions = [publish_run(lake, version) for version in (1, 2, 3)]
    assert tuple(reversed(versions)) == lake.history("research_run", RUN)
    assert [None, versions[0].publication_id, versions[1].publication_id] == [item.previous for item in versions]
    for version in versions:
        lake.verify(version)


def test_equal_content_gives_a_new_manifest_and_no_new_file(tmp_path):
    lake = Lake(tmp_path)
    first = publish(lake, stage_run(lake, 1), version=1)
    files = sorted(tmp_path.rglob("data/*"))
    stamps = [file.stat().st_mtime_ns for file in files]
    second = publish(lake, stage_run(lake, 1), version=2)
    assert first.digest == second.digest
    assert first.publication_id != second.publication_id
    assert second.notes["why"] == "version 2"
    assert files == sorted(tmp_path.rglob("data/*"))
    assert stamps == [file.stat().st_mtime_ns for file in files]


def test_the_digest_covers_attachments_and_their_names(tmp_path):
    lake = Lake(tmp_path)
    frame = settings_frame(1)

    def digest(attachments: dict[str, bytes]) -> str:
        return lake.stage(RESEARCH_RUN, RUN, frame, attachments=attachments).digest

    different = [{}, {"a.html": b"x"}, {"b.html": b"x"}, {"a.html": b"y"}, {"a.html": b"x", "b.html": b"x"}]
    assert len({digest(attachments) for attachments in different}) == 5
    assert digest({"a.html": b"x", "b.html": b"y"}) == digest({"b.html": b"y", "a.html": b"x"})


def test_rows_that_break_the_contract_are_stored_as_given(tmp_path):
    lake = Lake(tmp_path)
    odd = pl.DataFrame({"unknown": [3, 1, None], "setting": [math.nan, 1.0, 2.0]})
    staged = lake.stage(RESEARCH_RUN, RUN, odd)
    folder = lake.quarantine(staged, [], as_of=AS_OF)
    assert_frame_equal(odd, pl.read_parquet(folder / staged.data.name))


def test_quarantine_keeps_rows_and_verdicts_and_leaves_the_current_version(tmp_path):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    verdicts = [
        Verdict("coverage", math.nan, 0.99, "fraction", passed=False, detail="nothing measured"),
        Verdict("rows", 3, math.inf, "rows", passed=True, detail="fine", examples=({"symbol": "X", "x": math.nan},)),
    ]
    folder = lake.quarantine(stage_run(lake, 2), verdicts, as_of=AS_OF)
    assert folder.parent == tmp_path / "quarantine/research_run/run_id=123"
    assert folder.name.startswith("20250601T120000Z-")
    record = json.loads((folder / "verdicts.json").read_text(), parse_constant=pytest.fail)
    assert [(v["gate"], v["observed"], v["passed"]) for v in record["verdicts"]] == [
        ("coverage", "nan", False),
        ("rows", 3, True),
    ]
    assert record["verdicts"][1]["examples"] == [{"symbol": "X", "x": "nan"}]
    (kept,) = folder.glob("*.parquet")
    assert_frame_equal(settings_frame(2), pl.read_parquet(kept))
    assert (folder / next(k for k, v in record["files"].items() if v == "report.html")).read_bytes() == b"v2" * 200
    assert version_read(lake) == 1
    assert staging_of(tmp_path) == []


def test_what_was_discarded_or_published_cannot_be_published_again(tmp_path):
    lake = Lake(tmp_path)
    staged = stage_run(lake, 1)
    lake.discard(staged)
    with pytest.raises(LakeError, match=r"research_run run_id=123: the staged file .* is gone"):
        publish(lake, staged)
    staged = stage_run(lake, 1)
    publish(lake, staged)
    with pytest.raises(LakeError, match="is gone"):
        publish(lake, staged)


def test_staged_bytes_changed_behind_the_gates_are_refused(tmp_path):
    lake = Lake(tmp_path)
    staged = stage_run(lake, 1)
    (staged.folder / staged.data.name).write_bytes(b"other")
    with pytest.raises(TamperedError, match="changed after it was staged"):
        publish(lake, staged)
    assert lake.current("research_run", RUN) is None
    assert staging_of(tmp_path) == []


def test_partitions_are_those_with_a_pointer(tmp_path):
    lake = Lake(tmp_path)
    for symbol, month in (("ETHUSDT", "2024-02"), ("BTCUSDT", "2024-02"), ("BTCUSDT", "2024-01")):
        publish_month(lake, symbol, month)
    (tmp_path / "lake/bars_um/symbol=XRPUSDT/month=2024-01/data").mkdir(parents=True)
    (tmp_path / "lake/bars_um/.DS_Store").write_text("")
    expected = [("BTCUSDT", "2024-01"), ("BTCUSDT", "2024-02"), ("ETHUSDT", "2024-02")]
    assert tuple(Partition.of_month(*keys) for keys in expected[:2]) == tuple(
        p for p in lake.partitions("bars_um") if p["symbol"] == "BTCUSDT"
    )
    assert sorted(Partition.of_month(*keys) for keys in expected) == list(lake.partitions("bars_um"))


def test_a_folder_that_only_looks_like_a_partition_is_refused(tmp_path):
    folder = tmp_path / "lake/bars_um/symbol=btc usdt/month=2024-01"
    folder.mkdir(parents=True)
    (folder / "current.json").write_text("{}")
    with pytest.raises(LakeError, match="move that folder out"):
        Lake(tmp_path).partitions("bars_um")


@pytest.mark.parametrize(
    ("table", "partition"),
    [
        (BARS_UM, RUN),
        (RESEARCH_RUN, MONTH),
        (RESEARCH_RUN, Partition((("run_id", "../../etc"),))),
        (RESEARCH_RUN, Partition((("run_id", "a/b"),))),
        (RESEARCH_RUN, Partition((("run_id", ".."),))),
        (BARS_UM, Partition((("symbol", "btcusdt"), ("month", "2024-01")))),
        (BARS_UM, Partition((("symbol", "BTCUSDT"), ("month", "2024-1")))),
        (BARS_UM, Partition((("month", "2024-01"), ("symbol", "BTCUSDT")))),
    ],
)
def test_a_partition_that_cannot_be_is_refused_before_anything_is_written(tmp_path, table, partition):
    with pytest.raises(UsageError):
        Lake(tmp_path).stage(table, partition, table.empty())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../x.html", "a/b.html", "", "noextension", ".html", "x.HTML", "a\0.html", "a.html\n"]
)
def test_an_attachment_name_that_is_not_plain_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="attachment name"):
        Lake(tmp_path).stage(RESEARCH_RUN, RUN, RESEARCH_RUN.empty(), attachments={name: b""})
    assert staging_of(tmp_path) == []


def test_reading_nothing_is_an_error(tmp_path):
    lake = Lake(tmp_path)
    with pytest.raises(NotPublishedError):
        lake.scan([])
    with pytest.raises(NotPublishedError, match=r"has: report\.html"):
        lake.attachment(publish_run(lake, 1), "other.html")


def test_an_instant_without_zone_is_refused(tmp_path):
    lake = Lake(tmp_path)
    with pytest.raises(UsageError, match="no time zone"):
        lake.sweep(older_than=datetime(2025, 1, 1))  # noqa: DTZ001  # the point of the test


def test_sweep_removes_old_leftovers_only(tmp_path):
    lake = Lake(tmp_path)
    publish_run(lake, 1)
    old, young = stage_run(lake, 2), stage_run(lake, 3)
    half = tmp_path / "lake/research_run/run_id=123/data/.0123.part"
    half.write_bytes(b"half")
    for path in (old.folder, half):
        os.utime(path, (0, 0))
    assert sorted([old.folder, half]) == list(lake.sweep(older_than=datetime(2000, 1, 1, tzinfo=UTC)))
    assert staging_of(tmp_path) == [young.folder]
    assert version_read(lake) == 1
