"""What the gates said of partitions, for people to read; whether one may be read is asked in `guard`."""

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg

from backtest_assets.defs.verdicts import Told, evaluations, newest_verdicts
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Gate
from backtest_assets.gates.registry import GATES


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
    newest = newest_verdicts(instance, table)
    asked = [(gate, p, newest.get((gate.name, p.label))) for p in partitions for gate in GATES[table]]
    told = evaluations(instance, [row for _, _, row in asked if row is not None])
    return tuple(_judged(table, gate, p, None if row is None else told.get(row.row_id)) for gate, p, row in asked)


def _judged(table: str, gate: Gate, partition: Partition, told: Told | None) -> Judged:
    where = (table, partition.label, gate.name)
    if told is None:
        never = "never evaluated; materialise the partition"
        return Judged(
            *where, gate.severity.value, passed=False, observed="", limit="", unit="", detail=never, dagster_run_id=""
        )
    facts = {name: _text(value) for name, value in told.facts.items()}
    return Judged(
        *where,
        told.severity.value,
        passed=told.passed,
        observed=facts.get("observed", ""),
        limit=facts.get("limit", ""),
        unit=facts.get("unit", ""),
        detail=told.detail,
        dagster_run_id=told.run_id,
    )


def _text(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
