"""The newest verdict of every gate, straight from the event log's check table; what follows from it is the guard's.

Dagster's own queries order by the row's id, which is given when a run is planned, or by the clock, which may go back. The
storage id of the evaluation event is the order in which verdicts were given. Private schema: Dagster is pinned, and
`defs/test_verdicts.py` of the tests holds the contract.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from backtest_assets.domain.gate import Severity
from backtest_assets.errors import BrokenError

_CHUNK: Final = 500
_COMPLETED: Final = ("SUCCEEDED", "FAILED")


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One completed evaluation, without its text.

    Attributes:
        row_id: row of the check table.
        passed: the answer.
        materialization_id: the materialisation it is about; None if its partition was not published.
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


@dataclass(frozen=True, slots=True)
class Told:
    """What one completed evaluation says.

    Attributes:
        run_id: Dagster run.
        passed: the answer.
        severity: it counts with.
        detail: the answer in words.
        facts: its metadata, texts and numbers only.
        materialization_id: the materialisation it is about; None if its partition was not published.
    """

    run_id: str
    passed: bool
    severity: Severity
    detail: str
    facts: Mapping[str, str | float]
    materialization_id: int | None


def evaluations(instance: dg.DagsterInstance, rows: Sequence[VerdictRow]) -> Mapping[int, Told]:
    """Return what rows say, by row id; a row that says nothing readable is left out."""
    columns = AssetCheckExecutionsTable.c
    found: dict[int, Told] = {}
    wanted = [row.row_id for row in rows]
    with _storage(instance).index_connection() as connection:
        for first in range(0, len(wanted), _CHUNK):
            query = sa.select(columns.id, columns.run_id, columns.evaluation_event).where(
                columns.id.in_(wanted[first : first + _CHUNK])
            )
            for row_id, run_id, text in connection.execute(query):
                told = _told(run_id, text)
                if told is not None:
                    found[row_id] = told
    return found


def _told(run_id: str, text: str) -> Told | None:
    """Read the JSON itself: Dagster's own deserialisation takes 180 instead of 15 us, and there are ten per partition."""
    try:
        event: dict[str, Any] = json.loads(text)["dagster_event"]["event_specific_data"]
        target = event["target_materialization_data"]
        facts = {name: entry.get("text", entry.get("value")) for name, entry in event["metadata"].items()}
        return Told(
            run_id,
            event["success"] is True,
            Severity(event["severity"]["__enum__"].removeprefix("AssetCheckSeverity.")),
            event["description"] or "",
            {
                name: value
                for name, value in facts.items()
                if isinstance(value, (str, float, int)) and not isinstance(value, bool)
            },
            None if target is None else target["storage_id"],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # no verdict that can be read is no verdict: the guard refuses


def _storage(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        message = f"event storage {type(storage).__name__} keeps no SQL check table; use an SQL storage in dagster.yaml"
        raise BrokenError(message)
    return storage
