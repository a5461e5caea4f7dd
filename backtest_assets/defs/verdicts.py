"""The newest verdict of every gate, straight from the event log's check table; what follows from it is the guard's.

Dagster's own queries order by the row's id, which is given when a run is planned, or by the clock, which may go back. The
storage id of the evaluation event is the order in which verdicts were given. Private schema: Dagster is pinned, and
`characterization/test_dagster.py` holds the contract.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster_shared.serdes import deserialize_value

from backtest_assets.errors import BrokenError

_CHUNK: Final = 500
_COMPLETED: Final = ("SUCCEEDED", "FAILED")


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One completed evaluation, without its text.

    Attributes:
        row_id: row of the check table.
        passed: the answer.
        materialization_id: the materialisation it is about; None if it was red.
    """

    row_id: int
    passed: bool
    materialization_id: int | None


def newest_verdicts(instance: dg.DagsterInstance, table: str) -> Mapping[tuple[str, str], VerdictRow]:
    """Return the newest completed evaluation by gate name and partition label."""
    columns = AssetCheckExecutionsTable.c
    query = (
        sa.select(
            columns.check_name,
            columns.partition,
            columns.id,
            columns.execution_status,
            columns.materialization_event_storage_id,
        )
        .where(
            columns.asset_key == dg.AssetKey(table).to_string(),
            columns.execution_status.in_(_COMPLETED),
            columns.partition.is_not(None),
        )
        .order_by(columns.evaluation_event_storage_id)
    )
    with _storage(instance).index_connection() as connection:
        rows = connection.execute(query).fetchall()
    return {
        (gate, label): VerdictRow(row_id, status == "SUCCEEDED", about) for gate, label, row_id, status, about in rows
    }


def evaluations(
    instance: dg.DagsterInstance, rows: Sequence[VerdictRow]
) -> Mapping[int, tuple[str, AssetCheckEvaluation]]:
    """Return Dagster run id and evaluation by row id."""
    columns = AssetCheckExecutionsTable.c
    found: dict[int, tuple[str, AssetCheckEvaluation]] = {}
    wanted = [row.row_id for row in rows]
    with _storage(instance).index_connection() as connection:
        for first in range(0, len(wanted), _CHUNK):
            query = sa.select(columns.id, columns.run_id, columns.evaluation_event).where(
                columns.id.in_(wanted[first : first + _CHUNK])
            )
            for row_id, run_id, text in connection.execute(query):
                event = deserialize_value(text, EventLogEntry).dagster_event
                if event is not None and isinstance(event.event_specific_data, AssetCheckEvaluation):
                    found[row_id] = (run_id, event.event_specific_data)
    return found


def _storage(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        message = f"event storage {type(storage).__name__} keeps no SQL check table; use an SQL storage in dagster.yaml"
        raise BrokenError(message)
    return storage
