import os
import signal
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.events import DagsterEventType
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from backtest_assets.defs.event_storage import PooledSqliteEventLogStorage
from backtest_assets.defs.instance import open_instance
from backtest_assets.settings import Settings

KEYS = [f"k{i:03d}" for i in range(60)]
PARTS = dg.StaticPartitionsDefinition(KEYS)
KEY = dg.AssetKey("thing")
MIRRORED = (
    "select dagster_event_type, partition from event_logs "
    "where dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_CHECK_EVALUATION') order by id"
)
RANGE = {ASSET_PARTITION_RANGE_START_TAG: KEYS[0], ASSET_PARTITION_RANGE_END_TAG: KEYS[-1]}


def evaluation(key: str, *, passed: bool = True) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
        asset_key=KEY, check_name="gate", passed=passed, metadata={}, partition=key, blocking=True
    )


def thing(body: Callable[[dg.AssetExecutionContext], Iterator[object]]) -> dg.AssetsDefinition:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # partitioned checks are a preview; the pinned version is characterised
        return dg.asset(
            name="thing",
            partitions_def=PARTS,
            backfill_policy=dg.BackfillPolicy.single_run(),
            check_specs=[dg.AssetCheckSpec("gate", asset="thing", partitions_def=PARTS, blocking=True)],
        )(body)


def judged(context: dg.AssetExecutionContext) -> Iterator[object]:
    yield dg.MaterializeResult()
    ids = context.instance.event_log_storage.get_latest_storage_id_by_partition(
        KEY, DagsterEventType.ASSET_MATERIALIZATION, set(KEYS)
    )
    assert set(KEYS) == set(ids)  # what waits is written before anything is read
    yield from (evaluation(key, passed=key != "k007") for key in KEYS)
    yield dg.AssetCheckResult(check_name="gate", passed=True)


def killed(context: dg.AssetExecutionContext) -> Iterator[object]:
    del context
    yield dg.MaterializeResult()
    yield from (evaluation(key) for key in KEYS[:30])
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(Settings(tmp_path, tmp_path / "dagster", None)) as opened:
        yield opened


def run_range(
    instance: dg.DagsterInstance, body: Callable[[dg.AssetExecutionContext], Iterator[object]] = judged
) -> dg.ExecuteInProcessResult:
    return dg.materialize([thing(body)], instance=instance, tags=RANGE, raise_on_error=False)


def index_rows(instance: dg.DagsterInstance, query: str) -> list[tuple[Any, ...]]:
    storage = instance.event_log_storage
    assert isinstance(storage, PooledSqliteEventLogStorage)
    with closing(sqlite3.connect(storage.path_for_shard("index"))) as connection:
        return connection.execute(query).fetchall()


def test_every_event_of_a_range_is_stored_once_in_order_in_both_databases(instance: dg.DagsterInstance):
    result = run_range(instance)
    assert not result.success  # k007 is red
    kinds = ("ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION")
    told = [(e.event_type_value, e.partition) for e in result.all_events if e.event_type_value in kinds]
    stored = [
        (e.event_type_value, e.partition)
        for record in instance.all_logs(result.run_id)
        if (e := record.dagster_event) and e.event_type_value in kinds
    ]
    assert 2 * len(KEYS) + 1 == len(told)
    assert told == stored == index_rows(instance, MIRRORED)


def test_each_partition_has_one_verdict_row_and_none_stays_planned(instance: dg.DagsterInstance):
    run_range(instance)
    rows = index_rows(
        instance, "select partition, execution_status from asset_check_executions where partition is not null"
    )
    assert {key: "FAILED" if key == "k007" else "SUCCEEDED" for key in KEYS} == dict(rows)
    assert len(KEYS) == len(rows)


def test_planned_rows_do_not_repeat_all_partitions(instance: dg.DagsterInstance):
    seen = list[int]()

    def looking(context: dg.AssetExecutionContext) -> Iterator[object]:
        del context
        planned = "select length(evaluation_event) from asset_check_executions where execution_status = 'PLANNED'"
        seen.extend(n for (n,) in index_rows(instance, planned))
        yield dg.MaterializeResult()
        yield dg.AssetCheckResult(check_name="gate", passed=True)

    run_range(instance, looking)
    assert len(KEYS) == len(seen)
    assert max(seen) < 1500


def test_dagsters_own_queries_see_the_batch(instance: dg.DagsterInstance):
    run_range(instance)
    assert set(KEYS) == instance.get_materialized_partitions(KEY)
    record = instance.get_latest_materialization_event(KEY)
    assert record is not None
    assert record.dagster_event is not None
    assert index_rows(instance, MIRRORED)[len(KEYS) - 1] == ("ASSET_MATERIALIZATION", record.dagster_event.partition)


def test_a_process_killed_while_events_wait_leaves_a_readable_log_without_the_verdicts(tmp_path: Path):
    code = f"""
from pathlib import Path
from typing import Any
from backtest_assets.defs.instance import open_instance
from backtest_assets.settings import Settings
from backtest_assets_tests.defs.test_event_storage import killed, run_range
with open_instance(Settings(Path({str(tmp_path)!r}), Path({str(tmp_path / "dagster")!r}), None)) as instance:
    run_range(instance, killed)
"""
    died = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=False,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    assert -signal.SIGKILL == died.returncode, died.stderr.decode()[-2000:]
    with open_instance(Settings(tmp_path, tmp_path / "dagster", None)) as instance:
        statuses = index_rows(instance, "select distinct execution_status from asset_check_executions")
        assert {"PLANNED"} >= {status for (status,) in statuses}
        run_range(instance)
        query = (
            "select count(*) from asset_check_executions where execution_status = 'SUCCEEDED' and partition is not null"
        )
        assert [(len(KEYS) - 1,)] == index_rows(instance, query)
