"""Whether a partition may be read, by what was recorded of it: the words and the question that `guard` and `chronicle` share.

Asking the event log and the lake stays there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from backtest_assets.defs.listing import LIFE, facts_of
from backtest_assets.defs.verdicts import Told, VerdictRow
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Partition
from backtest_assets.gates.gate import Gate
from backtest_assets.lake.publication import Input, Publication

ATTEMPT: Final = ("code_version", "source", "fingerprint", "limits_digest", *LIFE)
"""Facts that `publish` records with a red verdict: while they stay the same, trying again gives the same verdict."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a partition may not be read.

    Attributes:
        table: its table.
        partition: the partition.
        reason: the most telling objection.
        attempt: what the red attempt was made of (`ATTEMPT`); empty if no gate was red.
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

    def input_for(self, reader: str) -> Input:
        """Return the lineage record of a table's reading it."""
        made = self.publication
        facts = facts_of(made.notes, reader)
        return Input(made.table, made.partition.label, made.digest, self.materialization_id, facts)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the guard says of some partitions of one table."""

    admitted: tuple[Admitted, ...]
    refused: tuple[Refusal, ...]


@dataclass(slots=True)
class TableLog:
    """What the event log says of one table."""

    verdicts: Mapping[tuple[str, str], VerdictRow]
    latest: Mapping[str, int]
    judged: dict[str, str] = field(default_factory=dict[str, str])
    """Publication that the verdict of one gate is about, by partition as far as asked: all gates judge one publication."""


def objection(
    publication: Publication | None,
    materialization_id: int | None,
    records: Mapping[Gate, Told | None],
) -> str | None:
    """Return why a partition may not be read, the most telling reason first; None if it may.

    Args:
        publication: what the lake serves.
        materialization_id: the latest materialisation.
        records: the newest completed evaluation of every registered gate.
    """
    for gate, told in _red(records):
        return f"gate {gate.name} FAILED: {told.detail}"
    if materialization_id is None:
        return "never materialised; materialise it first"
    if publication is None:
        return "materialised once, but the lake holds nothing; materialise it again"
    return next(
        (
            f"gate {gate.name} {fault}; materialise the partition again, with its checks"
            for gate, told in records.items()
            if (fault := _fault(told, materialization_id, publication)) is not None
        ),
        None,
    )


def _red(records: Mapping[Gate, Told | None]) -> Iterator[tuple[Gate, Told]]:
    for gate, told in records.items():
        if told is not None and not told.passed and not _is_remark(gate, told):
            yield gate, told


def attempt_of(records: Mapping[Gate, Told | None]) -> Mapping[str, str]:
    """Return what the red attempt was made of, if its newest verdicts agree on it."""
    attempts = [
        {name: str(value) for name, value in told.facts.items() if name in ATTEMPT} for _, told in _red(records)
    ]
    return attempts[0] if attempts and all(attempt == attempts[0] for attempt in attempts) else {}


def _is_remark(gate: Gate, told: Told) -> bool:
    return gate.severity is Severity.WARN and told.severity is Severity.WARN


def _fault(told: Told | None, materialization_id: int, publication: Publication) -> str | None:
    if told is None:
        return "was never evaluated"
    if told.materialization_id != materialization_id:
        return "judged another materialisation than the latest"
    if told.facts.get("publication") != publication.publication_id:
        return "judged another version than the lake serves"
    return None
