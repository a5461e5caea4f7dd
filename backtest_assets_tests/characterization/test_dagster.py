"""Facts of the pinned Dagster that our code leans on; if one breaks, read docs/adr/0002 and 0005 before upgrading."""

import inspect
import sqlite3
import threading
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from backtest_assets.defs.event_storage import _MAX_OPEN_SHARDS, PooledSqliteEventLogStorage
from backtest_assets.defs.instance import open_instance
from backtest_assets.settings import Settings
from backtest_assets_tests.world import World


def test_the_pinned_version_is_the_characterised_one():
    assert dg.__version__ == "1.13.27"


def test_the_storage_overrides_exactly_what_exists():
    for name in ("_connect", "_initdb", "conn_string_for_shard", "dispose", "from_config_value"):
        assert hasattr(SqliteEventLogStorage, name)
    assert list(inspect.signature(SqliteEventLogStorage.__init__).parameters) == ["self", "base_dir", "inst_data"]


def test_the_instance_uses_the_pooled_storage_with_write_ahead(tmp_path: Path):
    with open_instance(Settings(tmp_path, tmp_path / "dagster", None)) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, PooledSqliteEventLogStorage)
        with storage.index_connection() as connection:
            assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 1


def test_connections_are_reused_and_old_ones_closed(tmp_path: Path):
    with open_instance(Settings(tmp_path, tmp_path / "dagster", None)) as instance:
        storage = instance.event_log_storage
        assert isinstance(storage, PooledSqliteEventLogStorage)
        before = storage._engine("run_0")
        assert storage._engine("run_0") is before
        for i in range(_MAX_OPEN_SHARDS + 5):
            storage._engine(f"run_{i}")
        assert len(storage._engines) <= _MAX_OPEN_SHARDS


def test_many_first_openers_initialise_the_home_once(tmp_path: Path):
    failures: list[Exception] = []

    def open_it() -> None:
        try:
            with open_instance(Settings(tmp_path, tmp_path / "dagster", None)) as instance:
                instance.get_dynamic_partitions("run_id")
        except Exception as error:  # noqa: BLE001  # any failure of any opener must reach the main thread
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_range_run_records_materialisation_and_verdict_per_partition(world: World):
    assert world.ingest() == ()
    instance = world.session.instance
    key = dg.AssetKey("bars_um")
    labels = {label for table, label, _ in world.watcher.settled if table == "bars_um"}
    assert set(instance.get_materialized_partitions(key)) == labels
    records = instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(key, "contract"), limit=100)
    assert {record.partition for record in records} >= labels
    event = instance.get_latest_data_version_record(key, partition_key=min(labels))
    assert event is not None
    assert event.asset_materialization is not None
    assert "digest" in event.asset_materialization.metadata


def test_a_user_config_in_the_home_is_never_overwritten(tmp_path: Path):
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with open_instance(Settings(tmp_path, home, None)):
        pass
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_an_initialisation_that_was_killed_half_way_is_begun_anew(tmp_path: Path):
    settings = Settings(tmp_path, tmp_path / "dagster", None)
    with open_instance(settings):
        pass
    (tmp_path / "dagster" / ".ready").unlink()
    index = next((tmp_path / "dagster" / "storage").rglob("index.db"))
    with sqlite3.connect(index) as connection:
        connection.execute("DROP TABLE dynamic_partitions")
    with open_instance(settings) as instance:
        assert instance.get_dynamic_partitions("run_id") == []


def test_a_ready_instance_is_never_wiped(tmp_path: Path):
    settings = Settings(tmp_path, tmp_path / "dagster", None)
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("run_id", ["R1"])
    index = next((tmp_path / "dagster" / "storage").rglob("index.db"))
    with sqlite3.connect(index) as connection:
        connection.execute("DROP TABLE dynamic_partitions")
    with pytest.raises(Exception, match="dynamic"), open_instance(settings):
        pass
    assert index.exists()


def test_a_moved_data_root_takes_its_instance_along(tmp_path: Path):
    with open_instance(Settings(tmp_path / "a", tmp_path / "a" / "dagster", None)) as instance:
        instance.add_dynamic_partitions("run_id", ["R1"])
    (tmp_path / "a").rename(tmp_path / "b")
    with open_instance(Settings(tmp_path / "b", tmp_path / "b" / "dagster", None)) as instance:
        assert instance.get_dynamic_partitions("run_id") == ["R1"]
    assert not (tmp_path / "a").exists()
