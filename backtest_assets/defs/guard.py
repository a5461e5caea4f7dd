"""The only way to read a table: every registered gate green on exactly the bytes that are read, or a refusal.

A blocking check protects one run only; so every reader asks again, from the event log and the lake, over the static gate
registry and never over the loaded definitions (which are incomplete in some processes).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import DagsterEventType
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError
from backtest_assets.gates.gate import Gate
from backtest_assets.gates.registry import GATES
from backtest_assets.lake.publication import Input, Publication
from backtest_assets.lake.store import Lake

_PAGE: Final = 1000
ATTEMPT: Final = ("code_version", "source", "fingerprint")
"""Facts that `publish` records with a red verdict: while they stay the same, trying again gives the same verdict."""
_COMPLETED: Final = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a partition may not be read.

    Attributes:
        table: its table.
        partition: the partition.
        reason: the most telling objection.
        attempt: what the red attempt was made of (`code_version`, `source`, `fingerprint`); empty if no gate was red.
    """

    table: str
    partition: Partition
    reason: str
    attempt: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return f"{self.table}[{self.partition.label}]: {self.reason}"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A partition that may be read: its verified publication and the materialisation that its verdicts are about."""

    publication: Publication
    materialization_id: int

    @property
    def as_input(self) -> Input:
        """The lineage record of reading it."""
        made = self.publication
        return Input(made.table, made.partition.label, made.digest, self.materialization_id)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the guard says of some partitions of one table."""

    admitted: tuple[Admitted, ...]
    refused: tuple[Refusal, ...]


def inspect(instance: dg.DagsterInstance, lake: Lake, table: str, partitions: Iterable[Partition]) -> Inspection:
    """Ask of each partition whether it may be read.

    A partition is admitted if the newest completed evaluation of every registered gate is green, targets the partition's
    latest materialisation and is about the publication that the lake serves, and the files still have their published bytes.

    Raises:
        KeyError: if the table has no registered gates.
    """
    gates = GATES[table]
    asked = tuple(partitions)
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        dg.AssetKey(table), DagsterEventType.ASSET_MATERIALIZATION, {partition.label for partition in asked}
    )
    newest = {gate: _newest(instance, table, gate, asked) for gate in gates}
    admitted: list[Admitted] = []
    refused: list[Refusal] = []
    for partition in asked:
        records = {gate: by_label.get(partition.label) for gate, by_label in newest.items()}
        try:
            publication = lake.current(table, partition)
            reason = _objection(publication, latest.get(partition.label), records)
            if reason is None and publication is not None:
                lake.verify(publication)
                admitted.append(Admitted(publication, latest[partition.label]))
                continue
        except BacktestAssetsError as error:
            reason = str(error)
        refused.append(Refusal(table, partition, reason or "it is not published", _attempt(records)))
    return Inspection(tuple(admitted), tuple(refused))


def require(
    instance: dg.DagsterInstance, lake: Lake, table: str, partitions: Iterable[Partition]
) -> tuple[Admitted, ...]:
    """Return the admitted partitions if all are.

    Raises:
        dagster.Failure: naming each refused partition, gate and reason; never retried.
    """
    inspection = inspect(instance, lake, table, partitions)
    if inspection.refused:
        raise refusal_failure(inspection.refused)
    return inspection.admitted


def refusal_failure(refused: Sequence[Refusal]) -> dg.Failure:
    """Return the failure that says which partitions may not be read, and why."""
    lines = "\n".join(f"- {refusal}" for refusal in refused)
    return dg.Failure(
        description=f"refused: {len(refused)} input partition(s) may not be read\n{lines}",
        metadata={"refused": dg.MetadataValue.md(lines)},
        allow_retries=False,
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate's newest completed evaluation of one partition, for people to read."""

    table: str
    partition: str
    gate: str
    severity: str
    passed: bool
    observed: str
    limit: str
    unit: str
    detail: str
    dagster_run_id: str


def judgements(instance: dg.DagsterInstance, table: str, partitions: Iterable[Partition]) -> tuple[Judged, ...]:
    """Return the newest evaluation of every registered gate on every partition; a gate never evaluated is red."""
    asked = tuple(partitions)
    rows: list[Judged] = []
    for gate in GATES[table]:
        newest = _newest(instance, table, gate, asked)
        rows += [_judged(table, gate, partition, newest.get(partition.label)) for partition in asked]
    return tuple(rows)


def _judged(table: str, gate: Gate, partition: Partition, record: AssetCheckExecutionRecord | None) -> Judged:
    evaluation = _evaluation(record)
    if record is None or evaluation is None:
        detail = "never evaluated; materialise the partition"
        return Judged(
            table,
            partition.label,
            gate.name,
            gate.severity.value,
            passed=False,
            observed="",
            limit="",
            unit="",
            detail=detail,
            dagster_run_id="",
        )
    facts = {
        name: _text(value.value) for name, value in evaluation.metadata.items() if name in {"observed", "limit", "unit"}
    }
    return Judged(
        table,
        partition.label,
        gate.name,
        evaluation.severity.value,
        passed=evaluation.passed,
        observed=facts.get("observed", ""),
        limit=facts.get("limit", ""),
        unit=facts.get("unit", ""),
        detail=evaluation.description or "",
        dagster_run_id=record.run_id,
    )


def _text(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _objection(
    publication: Publication | None,
    materialization_id: int | None,
    records: Mapping[Gate, AssetCheckExecutionRecord | None],
) -> str | None:
    """Return why a partition may not be read, the most telling reason first; None if it may."""
    for gate, evaluation in _red(records):
        return f"gate {gate.name} FAILED: {evaluation.description}"
    if materialization_id is None:
        return "never materialised; materialise it first"
    if publication is None:
        return "materialised once, but the lake holds nothing; materialise it again"
    return next(
        (
            f"gate {gate.name} {fault}; materialise the partition again, with its checks"
            for gate, record in records.items()
            if (fault := _fault(_evaluation(record), materialization_id, publication)) is not None
        ),
        None,
    )


def _red(records: Mapping[Gate, AssetCheckExecutionRecord | None]) -> Iterator[tuple[Gate, AssetCheckEvaluation]]:
    for gate, record in records.items():
        evaluation = _evaluation(record)
        if evaluation is not None and not evaluation.passed and not _is_remark(gate, evaluation):
            yield gate, evaluation


def _attempt(records: Mapping[Gate, AssetCheckExecutionRecord | None]) -> Mapping[str, str]:
    """Return what the red attempt was made of, if its newest verdicts agree on it."""
    attempts = [
        {name: str(value.value) for name, value in evaluation.metadata.items() if name in ATTEMPT}
        for _, evaluation in _red(records)
    ]
    return attempts[0] if attempts and all(attempt == attempts[0] for attempt in attempts) else {}


def _is_remark(gate: Gate, evaluation: AssetCheckEvaluation) -> bool:
    return gate.severity is Severity.WARN and evaluation.severity is dg.AssetCheckSeverity.WARN


def _fault(evaluation: AssetCheckEvaluation | None, materialization_id: int, publication: Publication) -> str | None:
    if evaluation is None:
        return "was never evaluated"
    target = evaluation.target_materialization_data
    if target is None or target.storage_id != materialization_id:
        return "judged another materialisation than the latest"
    seen = evaluation.metadata.get("publication")
    if seen is None or seen.value != publication.publication_id:
        return "judged another version than the lake serves"
    return None


def _evaluation(record: AssetCheckExecutionRecord | None) -> AssetCheckEvaluation | None:
    if record is None or record.event is None or record.event.dagster_event is None:
        return None
    data = record.event.dagster_event.event_specific_data
    return data if isinstance(data, AssetCheckEvaluation) else None


def _newest(
    instance: dg.DagsterInstance, table: str, gate: Gate, partitions: Sequence[Partition]
) -> Mapping[str, AssetCheckExecutionRecord]:
    """Return the newest completed evaluation of a gate by partition label.

    Rows are created when a run is planned, so their ids are not in the order of evaluation: the newest by event time counts.
    """
    key = dg.AssetCheckKey(dg.AssetKey(table), gate.name)
    wanted = {partition.label for partition in partitions}
    only = PartitionKeyFilter(key=next(iter(wanted))) if len(wanted) == 1 else None
    newest: dict[str, AssetCheckExecutionRecord] = {}
    cursor: int | None = None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(
            key, limit=_PAGE, cursor=cursor, status=_COMPLETED, partition_filter=only
        )
        for record in page:
            label = record.partition
            if label in wanted and (label not in newest or _evaluated_at(record) > _evaluated_at(newest[label])):
                newest[label] = record
        if len(page) < _PAGE or len(newest) == len(wanted):
            return newest
        cursor = page[-1].id


def _evaluated_at(record: AssetCheckExecutionRecord) -> float:
    return record.event.timestamp if record.event is not None else record.create_timestamp
