from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from backtest_assets.domain.market import Partition
from backtest_assets.errors import LakeError, TamperedError, UsageError
from backtest_assets.lake.catalog import open_catalog, query
from backtest_assets.lake.store import Lake
from backtest_assets.tables.bars import BARS_SPOT, BARS_UM
from backtest_assets.tables.outcomes import EVENT_OUTCOMES
from backtest_assets.tables.run import RESEARCH_RUN
from backtest_assets_tests.lake.shared import publish, publish_month, publish_run

TABLES = (BARS_UM, BARS_SPOT, RESEARCH_RUN, EVENT_OUTCOMES)


@pytest.fixture
def lake(tmp_path):
    lake = Lake(tmp_path / "we'ird [1] *x? env=prod" / "owner=me")
    for symbol, month in (("BTCUSDT", "2024-01"), ("BTCUSDT", "2024-02"), ("ETHUSDT", "2024-01")):
        publish_month(lake, symbol, month)
    for run_id, version in (("123", 1), ("0042", 2), ("true", 3), ("2024-01-01", 4)):
        publish_run(lake, version, Partition.of_run(run_id))
    publish(
        lake,
        lake.stage(
            EVENT_OUTCOMES, Partition.of_run("r"), EVENT_OUTCOMES.sample(1).with_columns(accrual_bps=pl.lit([1.5]))
        ),
    )
    return lake


@pytest.fixture
def catalog(lake):
    with open_catalog(lake, TABLES) as connection:
        yield connection


def test_all_partitions_of_a_table_are_one_view(catalog):
    answer = query(catalog, "SELECT symbol, month, count(*) AS n FROM bars_um GROUP BY ALL ORDER BY ALL")
    assert answer.rows() == [("BTCUSDT", "2024-01", 20), ("BTCUSDT", "2024-02", 20), ("ETHUSDT", "2024-01", 20)]


def test_run_ids_stay_text(catalog):
    answer = query(catalog, "SELECT DISTINCT run_id, value_json, typeof(run_id) FROM research_run ORDER BY 2")
    assert [row[:2] for row in answer.rows()] == [("123", "v1"), ("0042", "v2"), ("true", "v3"), ("2024-01-01", "v4")]
    assert {"VARCHAR"} == set(answer["typeof(run_id)"])


def test_a_view_has_the_contracts_columns_then_the_partitions_without_duplicates(catalog):
    assert [*BARS_UM.schema.names(), "month"] == query(catalog, "FROM bars_um").columns
    assert [*RESEARCH_RUN.schema.names(), "run_id"] == query(catalog, "FROM research_run").columns


def test_a_table_without_partitions_is_an_empty_view_of_the_same_types(catalog):
    empty, full = query(catalog, "FROM bars_spot"), query(catalog, "FROM bars_um")
    assert empty.height == 0
    assert full.schema == empty.schema
    assert BARS_UM.schema["open_at"] == empty.schema["open_at"]


def test_lists_and_instants_come_back_as_they_were(catalog):
    answer = query(catalog, "SELECT accrual_bps, accrual_day, known_at FROM event_outcomes LIMIT 1")
    assert answer["accrual_bps"].to_list() == [[1.5]]
    assert answer.schema == {name: EVENT_OUTCOMES.schema[name] for name in answer.columns}
    said = query(catalog, "SELECT current_setting('TimeZone'), TIMESTAMPTZ '2024-01-01 00:00:00+02' AS t")
    assert ("UTC", datetime(2023, 12, 31, 22, tzinfo=UTC)) == said.row(0)


def test_only_the_current_version_is_seen(lake):
    publish_run(lake, 9, Partition.of_run("123"))
    with open_catalog(lake, TABLES) as connection:
        assert query(connection, "SELECT DISTINCT value_json FROM research_run WHERE run_id = '123'").rows() == [
            ("v9",)
        ]


def test_a_filter_on_a_partition_opens_only_its_files(catalog):
    plan = catalog.execute("EXPLAIN SELECT close FROM bars_um WHERE month = '2024-02'").fetchall()[0][1]
    assert "Scanning Files: 1/3" in plan


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "FROM research_run", "WITH a AS (SELECT 1 AS x) SELECT x FROM a", "VALUES (1)", "DESCRIBE bars_um", "SHOW TABLES", "SUMMARIZE bars_um", "SELECT 1;"],
)  # fmt: skip
def test_questions_are_answered(catalog, sql):
    assert query(catalog, sql).height > 0


@pytest.mark.parametrize(
    "sql",
    [
        "", "-- nothing", "SELEC 1", "SELECT 1; SELECT 2", "SELECT 1; DROP VIEW bars_um", "SELECT * FROM nowhere",
        "CREATE TABLE t AS SELECT 1", "DROP VIEW bars_um", "INSERT INTO bars_um VALUES (1)", "DELETE FROM bars_um",
        "COPY bars_um TO '/tmp/stolen.csv'", "COPY (SELECT 1) TO '/tmp/stolen.csv'", "EXPORT DATABASE '/tmp/stolen'",
        "ATTACH '/tmp/x.db'", "INSTALL httpfs", "LOAD httpfs", "SET threads = 1", "RESET enable_external_access",
        "SET enable_external_access = true", "PRAGMA enable_profiling", "CALL pragma_version()", "EXPLAIN ANALYZE SELECT 1",
        "BEGIN", "PREPARE p AS SELECT 1", "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')", "FROM '/etc/passwd'", "SELECT * FROM sniff_csv('/etc/passwd')", "SELECT error('x')",
        "FROM query('COPY bars_um TO ''/tmp/stolen.csv''')", "SELECT getenv('HOME')", "SELECT INTERVAL 1 DAY", "SELECT 'x'::INTEGER",
        "WITH a AS (INSERT INTO bars_um VALUES (1) RETURNING *) FROM a", "FROM python_secret",
    ],
)  # fmt: skip
def test_everything_else_is_refused(catalog, sql):
    python_secret = pl.DataFrame({"x": [1]})
    with pytest.raises(UsageError, match=r"^sql: "):
        query(catalog, sql)
    assert python_secret.height == 1
    assert query(catalog, "SELECT count(*) FROM bars_um").item() == 60


def test_a_with_clause_that_writes_is_refused_even_into_memory(catalog):
    catalog.execute("CREATE TABLE mine AS SELECT 1 AS x")
    with pytest.raises(UsageError, match="read-only"):
        query(catalog, "WITH a AS (INSERT INTO mine VALUES (2) RETURNING *) FROM a")
    assert query(catalog, "FROM mine").rows() == [(1,)]


def test_the_connection_itself_cannot_leave_the_lake(catalog, lake, tmp_path):
    (other,) = lake.addresses([publish_run(lake, 7, Partition.of_run("after"))])
    for sql in (
        f"COPY bars_um TO '{tmp_path}/out.csv'",
        f"ATTACH '{tmp_path}/x.db'",
        "SELECT * FROM read_text('/etc/passwd')",
        f"FROM read_parquet('{other.replace(chr(39), chr(39) * 2)}')",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET allowed_directories = ['/']",
        "INSTALL httpfs",
    ):
        with pytest.raises(duckdb.Error):
            catalog.execute(sql)
    assert [path.name for path in tmp_path.iterdir()] == ["we'ird [1] *x? env=prod"]


def test_a_published_file_overwritten_through_the_connection_is_seen(catalog, lake):
    publication = lake.current("research_run", Partition.of_run("123"))
    (address,) = lake.addresses([publication])
    overwrite = f"COPY (SELECT 1) TO '{address.replace(chr(39), chr(39) * 2)}' (FORMAT parquet, USE_TMP_FILE false)"
    with pytest.raises(UsageError, match="this is: COPY"):
        query(catalog, overwrite)
    lake.verify(publication)
    # DuckDB has no read-only paths: the file's mode stops a raw COPY, but for root, and then the digest tells.
    with pytest.raises((duckdb.Error, TamperedError)):  # noqa: PT012  # which of the two depends on who runs the test
        catalog.execute(overwrite)
        lake.verify(publication)


def test_a_column_the_contract_gained_later_is_null_in_old_files(lake):
    publish(lake, lake.stage(BARS_SPOT, Partition.of_month("BTCUSDT", "2024-01"), BARS_SPOT.sample(1).drop("n_trades")))
    with open_catalog(lake, TABLES) as connection:
        answer = query(connection, "FROM bars_spot")
    assert answer["n_trades"].null_count() == answer.height > 0
    assert answer.schema["n_trades"] == pl.Int64


def test_a_missing_file_or_a_changed_pointer_is_named(lake):
    publication = lake.current("research_run", Partition.of_run("123"))
    (address,) = lake.addresses([publication])
    content = Path(address).read_bytes()
    Path(address).chmod(0o644)
    Path(address).write_bytes(content[:5])
    with pytest.raises(LakeError, match="table research_run: DuckDB cannot read"):
        open_catalog(lake, TABLES)
    Path(address).write_bytes(content)
    (Path(address).parents[1] / "current.json").write_text("{}")
    with pytest.raises(TamperedError, match="run_id=123"):
        open_catalog(lake, TABLES)
