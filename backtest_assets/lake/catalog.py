"""SQL over everything published: one read-only DuckDB view per table; printing the answers stays out."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, cast

import duckdb
import polars as pl

from backtest_assets.domain.market import Partition
from backtest_assets.errors import LakeError, UsageError
from backtest_assets.lake.layout import DIMENSIONS
from backtest_assets.lake.store import Lake
from backtest_assets.tables.contract import Table

# Set after the views are made: from then on SQL sees the published files and nothing else, for good.
_LOCKS: Final = (
    "SET temp_directory = ''",
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


def named_in(sql: str, tables: Iterable[str]) -> tuple[str, ...]:
    """Return the tables that a statement names; all of them where DuckDB cannot tell without the tables.

    >>> named_in("select max(close) from BARS_UM", ["bars_um", "features"])
    ('bars_um',)
    """
    try:
        named = {name.lower() for name in duckdb.connect(":memory:").get_table_names(sql)}
    except duckdb.Error:
        return tuple(tables)
    return tuple(table for table in tables if table in named)


def open_catalog(
    lake: Lake, tables: Sequence[Table], *, without: Collection[tuple[str, Partition]] = ()
) -> duckdb.DuckDBPyConnection:
    """Open SQL views over the current version of every partition, as they are now.

    Args:
        lake: where the tables lie.
        tables: one view each, named like the table; tables without a publication are empty views.
        without: tables and partitions that are left out.

    Returns:
        An in-memory connection. Each view has the contract's columns, then the partition's (`run_id`, `symbol`, `month`,
        as text) where the contract lacks them. Instants are UTC. Only published files can be opened, and no setting
        changed.

    Raises:
        TamperedError: if a pointer or manifest is not what was published.
        LakeError: if DuckDB cannot read a published file.
    """
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    allowed: list[str] = []
    for table in tables:
        addresses = _current_addresses(lake, table, without)
        allowed += addresses
        try:
            connection.execute(f"CREATE VIEW {_name(table.name)} AS {_view(connection, table, addresses)}")
        except duckdb.Error as error:
            message = f"table {table.name}: DuckDB cannot read what is published: {error}; materialise it again"
            raise LakeError(message) from error
    connection.execute(f"SET allowed_paths = {_texts(allowed)}")
    for lock in _LOCKS:
        connection.execute(lock)
    return connection


def query(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    """Answer one SELECT (also WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE).

    Args:
        connection: from `open_catalog`.
        sql: one statement; nothing is written whatever it says.

    Raises:
        UsageError: with DuckDB's text, if it is more than one statement, not a SELECT, or cannot be answered.
    """
    try:
        kinds = [statement.type for statement in connection.extract_statements(sql)]
        if kinds != [duckdb.StatementType.SELECT]:
            found = ", ".join(kind.name for kind in kinds) or "nothing"
            message = f"sql: only one SELECT statement can be answered, this is: {found}"
            raise UsageError(message)
        # A WITH clause may hold an INSERT and still count as a SELECT; the transaction forbids it.
        connection.execute("BEGIN TRANSACTION READ ONLY")
        try:
            return _rows(connection.sql(sql))
        finally:
            connection.execute("ROLLBACK")
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        message = f"sql: {error}"
        raise UsageError(message) from error


def _rows(answer: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    spans = [name for name, kind in zip(answer.columns, answer.types, strict=True) if "INTERVAL" in str(kind)]
    try:
        return answer.pl()
    except pl.exceptions.PolarsError as error:
        if not spans:
            raise
        message = (
            f"sql: {', '.join(spans)}: an INTERVAL cannot be shown; cast it to VARCHAR, for example {spans[0]}::VARCHAR"
        )
        raise UsageError(message) from error


def _current_addresses(lake: Lake, table: Table, without: Collection[tuple[str, Partition]]) -> list[str]:
    wanted = (partition for partition in lake.partitions(table.name) if (table.name, partition) not in without)
    current = [lake.current(table.name, partition) for partition in wanted]
    return list(lake.addresses([publication for publication in current if publication is not None]))


def _view(connection: duckdb.DuckDBPyConnection, table: Table, addresses: Sequence[str]) -> str:
    empty = connection.from_arrow(cast("object", table.empty().to_arrow()))
    types = dict(zip(empty.columns, map(str, empty.types), strict=True))
    types |= {dimension: "VARCHAR" for dimension in DIMENSIONS[table.layer] if dimension not in types}
    if not addresses:
        return f"SELECT {', '.join(f'NULL::{kind} AS {_name(name)}' for name, kind in types.items())} WHERE false"
    source = f"read_parquet({_texts(addresses)}, hive_partitioning = true, hive_types_autocast = false, union_by_name = true)"
    stored = connection.sql(f"FROM {source}").columns
    # A column that the contract gained after the files were written is null in all of them.
    columns = (f"{_name(name) if name in stored else 'NULL'}::{kind} AS {_name(name)}" for name, kind in types.items())
    return f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608  # our own contract and paths, quoted


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _texts(values: Sequence[str]) -> str:
    return "[" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + "]"
