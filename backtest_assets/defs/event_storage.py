"""SQLite event storage with pooled connections that writes a step's events in batches; the stock class is neither.

A range run records a materialisation and a dozen verdicts per partition. The stock class opens a connection, serialises
twice and commits three times for each. Here consecutive ones wait in memory and are written together before anything else
is read or written through this storage: no reader of this process can tell, another process sees them some milliseconds
later, and a killed process loses at most verdicts, which leaves partitions closed.

Private Dagster API: Dagster is pinned, and `characterization/test_dagster.py` holds the contract.
Measured: 3.4 instead of 11 ms of CPU per event with pooled connections, 0.6 ms with batches (144 partitions x 5 assets).
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from dagster_shared.serdes import serialize_value
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.pool import QueuePool

_MAX_OPEN_SHARDS: Final = 32
"""Databases kept open: one per run; a webserver lives long and must not keep thousands of files open."""

_MAX_WAITING: Final = 1_000
"""Events that wait in memory, about 5 MB."""

_BATCHED: Final = frozenset(
    {
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        DagsterEventType.ASSET_CHECK_EVALUATION,
    }
)


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """Stock SQLite event storage, but each process keeps its recent connections and writes what comes in runs at once."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[tuple[int, str], sa.Engine] = OrderedDict()
        self._engines_lock = threading.Lock()
        self._initialized_dbs: set[str] = set()
        self._tables: set[str] = set()
        self._waiting: list[EventLogEntry] = []
        self._waiting_lock = threading.RLock()
        self._is_flushing = False
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Build the storage from its block in dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, or let it wait for those that follow it."""
        with self._waiting_lock:
            if not _may_wait(event):
                super().store_event(event)
                return
            self._waiting.append(event)
            if len(self._waiting) >= _MAX_WAITING:
                self.flush()

    def flush(self) -> None:
        """Write every event that waits, in order."""
        with self._waiting_lock:
            if self._is_flushing or not self._waiting:
                return
            events, self._waiting, self._is_flushing = self._waiting, [], True
            try:
                for run_id in dict.fromkeys(entry.run_id for entry in events):
                    self._write(run_id, [entry for entry in events if entry.run_id == run_id])
            finally:
                self._is_flushing = False

    def _write(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        rows = [self._event_to_row(entry) for entry in events]
        with self.run_connection(run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        with self.index_connection() as connection:
            insert = SqlEventLogStorageTable.insert().returning(
                SqlEventLogStorageTable.c.id, sort_by_parameter_order=True
            )
            ids = list(connection.execute(insert, rows).scalars())
            assets = [(entry, i) for entry, i in zip(events, ids, strict=True) if _judgement(entry) is None]
            if assets:
                self._store_asset_event_tags(connection, *(list(side) for side in zip(*assets, strict=True)))
            for entry, event_id in {(e.dagster_event_type, _asset(e)): (e, i) for e, i in assets}.values():
                self._store_asset_event(connection, entry, event_id)  # of each asset and kind the last one counts
            self._judge(connection, events, rows, ids)

    def _judge(
        self,
        connection: sa.Connection,
        events: Sequence[EventLogEntry],
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[int],
    ) -> None:
        verdicts = [
            {
                "asset_key": judged.asset_key.to_string(),
                "check_name": judged.check_name,
                "run_id": entry.run_id,
                "partition": judged.partition,
                "execution_status": (_STATUS.SUCCEEDED if judged.passed else _STATUS.FAILED).value,
                "evaluation_event": row["event"],
                "evaluation_event_timestamp": row["timestamp"],
                "evaluation_event_storage_id": event_id,
                "materialization_event_storage_id": judged.target_materialization_data.storage_id
                if judged.target_materialization_data
                else None,
            }
            for entry, row, event_id in zip(events, rows, ids, strict=True)
            if (judged := _judgement(entry)) is not None
        ]
        if not verdicts:
            return
        key = ("asset_key", "check_name", "run_id", "partition")
        insert = upsert(AssetCheckExecutionsTable)
        update = {name: insert.excluded[name] for name in verdicts[0] if name not in key}
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=update), verdicts)

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """Write one row per partition; the stock class repeats the list of all partitions in each: n x n bytes."""
        planned = None if event.dagster_event is None else event.dagster_event.event_specific_data
        if not isinstance(planned, AssetCheckEvaluationPlanned) or planned.partitions_subset is None:
            super()._store_asset_check_evaluation_planned(event, event_id)
            return
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": _STATUS.PLANNED.value,
            "evaluation_event": serialize_value(_without_partitions(event, planned)),
            "evaluation_event_timestamp": self._event_to_row(event)["timestamp"],
            "evaluation_event_storage_id": event_id,
        }
        rows = [{**row, "partition": key} for key in planned.partitions_subset.get_partition_keys()]
        with self.index_connection() as connection:
            connection.execute(AssetCheckExecutionsTable.insert(), rows)

    @contextmanager
    def _connect(self, shard: str) -> Generator[sa.Connection]:
        self.flush()
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
        with engine.connect() as connection, connection.begin():
            yield connection

    def has_table(self, table_name: str) -> bool:
        """Return whether the index has a table; asked for every event, so a table once seen is remembered."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _engine(self, shard: str) -> sa.Engine:
        key = (os.getpid(), shard)  # a connection must never cross a fork
        with self._engines_lock:
            engine = self._engines.pop(key, None) or self._open(shard)
            self._engines[key] = engine
            stale = self._engines.popitem(last=False)[1] if len(self._engines) > _MAX_OPEN_SHARDS else None
        if stale is not None:
            stale.dispose()
        return engine

    def _open(self, shard: str) -> sa.Engine:
        engine = sa.create_engine(
            self.conn_string_for_shard(shard),
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=8,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        )
        event.listen(engine, "connect", _write_ahead)
        return engine

    def dispose(self) -> None:
        """Write what waits and close every connection."""
        self.flush()
        with self._engines_lock:
            engines = list(self._engines.values())
            self._engines.clear()
        for engine in engines:
            engine.dispose()
        super().dispose()


_STATUS: Final = AssetCheckExecutionRecordStatus


def _may_wait(entry: EventLogEntry) -> bool:
    """Whether an event is one of many alike; a verdict without a partition is one of a kind, and the stock class's."""
    if not entry.run_id or entry.dagster_event_type not in _BATCHED:
        return False
    judged = _judgement(entry)
    return judged is None or judged.partition is not None


def _judgement(entry: EventLogEntry) -> AssetCheckEvaluation | None:
    told = None if entry.dagster_event is None else entry.dagster_event.event_specific_data
    return told if isinstance(told, AssetCheckEvaluation) else None


def _asset(entry: EventLogEntry) -> str:
    key = None if entry.dagster_event is None else entry.dagster_event.asset_key
    return "" if key is None else key.to_string()


def _without_partitions(entry: EventLogEntry, planned: AssetCheckEvaluationPlanned) -> EventLogEntry:
    bare = AssetCheckEvaluationPlanned(asset_key=planned.asset_key, check_name=planned.check_name)
    return entry._replace(dagster_event=entry.get_dagster_event()._replace(event_specific_data=bare))


def _write_ahead(connection: Any, _record: object) -> None:  # noqa: ANN401  # DBAPI connections have no common type
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
