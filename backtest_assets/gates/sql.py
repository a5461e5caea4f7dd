"""SQL over frames in memory, for gates that count again in another language; files, network and settings are locked away."""

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import polars as pl

_LOCKS: Final = (
    "SET TimeZone = 'UTC'",
    "SET threads = 1",
    "SET temp_directory = ''",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


def ask_sql(sql: str, frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Answer one query by DuckDB.

    Args:
        sql: names only the frames given.
        frames: tables by name.

    Returns:
        The rows of the answer.
    """
    (answer,) = ask_sqls((sql,), frames)
    return answer


def ask_sqls(queries: Sequence[str], frames: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, ...]:
    """Answer several queries about the same frames by DuckDB; locking it up costs more than most queries.

    Args:
        queries: name only the frames given.
        frames: tables by name.

    Returns:
        The rows of each answer, in order.
    """
    with duckdb.connect(":memory:") as connection:
        for name, frame in frames.items():
            connection.register(name, frame)
        for lock in _LOCKS:
            connection.execute(lock)
        return tuple(connection.sql(sql).pl() for sql in queries)
