"""The only way to read a table: every registered gate green on exactly the bytes that are read, or a refusal.

A blocking check protects one run only; so every reader asks again, from the event log and the lake, over the static gate
registry and never over the loaded definitions (which are incomplete in some processes). The question goes all the way
up: what was made from a partition that is closed, or was made again since, may not be read either.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import dagster as dg
from dagster._core.events import DagsterEventType

from backtest_assets.defs.listing import LIFE, facts_of
from backtest_assets.defs.partitions import partition_from_key
from backtest_assets.defs.reads import READS, is_chronicle
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.verdicts import Told, VerdictRow, evaluations, newest_verdicts
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError, TamperedError
from backtest_assets.gates.gate import Gate
from backtest_assets.gates.registry import GATES
from backtest_assets.lake.publication import Input, Publication
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES

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
class _Table:
    """What the event log says of one table."""

    verdicts: Mapping[tuple[str, str], VerdictRow]
    latest: Mapping[str, int]
    judged: dict[str, str] = field(default_factory=dict[str, str])
    """Publication that the verdict of one gate is about, by partition as far as asked: all gates judge one publication."""


@dataclass(frozen=True, slots=True)
class _Chronicle:
    """What the guard says of a chronicle, and the content digests of the versions that led to what the lake serves."""

    answer: Admitted | Refusal
    held: frozenset[str]


_NO_CHRONICLE: Final = "nothing knows of it; materialise it first"
_LOST: Final = "{} recorded version {}, which the lake's did not grow from"
_CHRONICLE_FIX: Final = (
    "Nothing is counted without it: materialise it again if its run broke off; if files are gone or changed put them back "
    "from a backup, or use another BACKTEST_DATA_ROOT"
)


class Guard:
    """Asks about partitions, and remembers within one pass in which nothing is written."""

    def __init__(self, instance: dg.DagsterInstance, lake: LakeResource) -> None:
        self._instance, self._lake, self._limits = instance, lake.lake, lake.settings.limits
        self._tables: dict[str, _Table] = {}
        self._labels: set[str] = set()
        self._inspected: dict[tuple[str, Partition], Admitted | Refusal] = {}
        self._closed: dict[tuple[str, str], str | Publication] = {}
        self._chronicles: dict[str, Mapping[str, _Chronicle]] = {}

    def inspect(self, table: str, partitions: Iterable[Partition]) -> Inspection:
        """Ask of each partition whether it may be read.

        A partition is admitted if the newest completed evaluation of every registered gate is green, targets the
        partition's latest materialisation and is about the publication that the lake serves; if it was judged under the
        limits of this process; if its files still have their published bytes; and if everything it was made from is
        still what it was, and open.

        Raises:
            KeyError: if the table has no registered gates.
        """
        asked = tuple(partitions)
        fresh = [partition for partition in asked if (table, partition) not in self._inspected]
        if fresh:
            self._inspect(table, fresh)
        answers = [self._inspected[table, partition] for partition in asked]
        return Inspection(
            tuple(one for one in answers if isinstance(one, Admitted)),
            tuple(one for one in answers if isinstance(one, Refusal)),
        )

    def inspect_chronicles(self, table: str, required: Iterable[Partition] = ()) -> Inspection:
        """Ask of every partition of a table that only grows whether it is still the whole chronicle of what was done.

        Asked of are the partitions that the event log, the lake or the lineage of any published table knows of. One is
        admitted if its gates are green on exactly the version that the lake serves, its bytes are what was published,
        and every version that lineage recorded is the current one or one that it grew from. What it was made from may
        have changed since: that does not undo what was done.

        Args:
            table: the table.
            required: partitions that must be among them.

        Raises:
            KeyError: if the table has no registered gates.
        """
        known = self._chronicles_of(table)
        lacking = [Refusal(table, p, _NO_CHRONICLE) for p in required if p.label not in known]
        return Inspection(
            tuple(one.answer for one in known.values() if isinstance(one.answer, Admitted)),
            (*(one.answer for one in known.values() if isinstance(one.answer, Refusal)), *lacking),
        )

    def _chronicles_of(self, table: str) -> Mapping[str, "_Chronicle"]:
        if table not in self._chronicles:
            witnessed = self._witnessed(table)
            log = self._table(table)
            labels = {*log.latest, *(one.label for one in self._lake.partitions(table)), *witnessed}
            self._chronicles[table] = {
                label: self._chronicle(table, label, witnessed.get(label, {})) for label in sorted(labels)
            }
        return self._chronicles[table]

    def _chronicle(self, table: str, label: str, witnessed: Mapping[str, str]) -> "_Chronicle":
        log, partition = self._table(table), partition_from_key(TABLES[table], label)
        rows = {gate: log.verdicts.get((gate.name, label)) for gate in GATES[table]}
        told = evaluations(self._instance, [row for row in rows.values() if row is not None])
        judged = {gate: None if row is None else told.get(row.row_id) for gate, row in rows.items()}
        materialization_id, held = log.latest.get(label), frozenset[str]()
        try:
            publication = self._lake.current(table, partition)
            reason = "the lake holds nothing of it" if publication is None else None
            reason = reason or _objection(publication, materialization_id, judged)
            if reason is None and publication is not None:
                self._lake.verify(publication)
                held = frozenset(one.digest for one in self._lake.history(table, partition))
                reason = next(
                    (_LOST.format(who, digest[:12]) for digest, who in witnessed.items() if digest not in held), None
                )
        except BacktestAssetsError as error:
            publication, reason = None, str(error)
        if reason is None and publication is not None and materialization_id is not None:
            return _Chronicle(Admitted(publication, materialization_id), held)
        seen = f"; known to {', '.join(sorted(set(witnessed.values())))}" if witnessed else ""
        return _Chronicle(Refusal(table, partition, f"{reason}{seen}. {_CHRONICLE_FIX}"), held)

    def _witnessed(self, table: str) -> Mapping[str, Mapping[str, str]]:
        """Return the digests of a table's partitions that lineage in the lake recorded, each with a table that did."""
        found: dict[str, dict[str, str]] = {}
        for reader in (name for name, reads in READS.items() if any(read.table == table for read in reads)):
            for partition in self._lake.partitions(reader):
                publication = self._lake.current(reader, partition)
                for used in () if publication is None else publication.inputs:
                    if used.table == table:
                        found.setdefault(used.partition, {}).setdefault(used.digest, f"{reader}[{partition.label}]")
        return found

    def _chronicle_objection(self, used: Input) -> str | None:
        chronicle = self._chronicles_of(used.table).get(used.partition)
        if chronicle is None:
            return f"made from {used.table}[{used.partition}], which is closed: {_NO_CHRONICLE}"
        if isinstance(chronicle.answer, Refusal):
            return f"made from {used.table}[{used.partition}], which is closed: {chronicle.answer.reason}"
        if used.digest not in chronicle.held:
            return f"made from a version of {used.table}[{used.partition}] that the lake's did not grow from"
        return None

    def _inspect(self, table: str, partitions: Sequence[Partition]) -> None:
        log = self._table(table)
        self._labels |= {partition.label for partition in partitions}  # those of a month's inputs are the same
        rows = {p: {gate: log.verdicts.get((gate.name, p.label)) for gate in GATES[table]} for p in partitions}
        told = evaluations(
            self._instance, [row for gates in rows.values() for row in gates.values() if row is not None]
        )
        for partition, gates in rows.items():
            records = {gate: None if row is None else told.get(row.row_id) for gate, row in gates.items()}
            materialization_id = log.latest.get(partition.label)
            answer: Admitted | Refusal
            try:
                publication = self._lake.current(table, partition)
                reason = _objection(publication, materialization_id, records)
                if reason is None and publication is not None:
                    self._lake.verify(publication)
                    reason = self._limits_objection(publication) or self._upstream_objection(publication)
            except BacktestAssetsError as error:
                publication, reason = None, str(error)
            if reason is None and publication is not None and materialization_id is not None:
                answer = Admitted(publication, materialization_id)
            else:
                answer = Refusal(table, partition, reason or "it is not published", _attempt(records))
            self._inspected[table, partition] = answer

    def _upstream_objection(self, made: Publication) -> str | None:
        self._labels |= {used.partition for used in made.inputs}
        for used in made.inputs:
            if is_chronicle(made.table, used.table):
                objection = self._chronicle_objection(used)
                if objection is not None:
                    return objection
                continue
            found = self._state(used.table, used.partition)
            if isinstance(found, str):
                return f"made from {used.table}[{used.partition}], which is closed: {found}"
            if found.digest != used.digest or facts_of(found.notes, made.table) != used.facts:
                return f"made from another version of {used.table}[{used.partition}] than the lake serves; materialise it again"
        return None

    def _state(self, table: str, label: str) -> str | Publication:
        """Return what an upstream partition holds, or why it is closed, by verdict rows alone: bytes are read elsewhere."""
        key = (table, label)
        if key not in self._closed:
            self._closed[key] = "it is its own input"  # never seen: lineage has no cycles
            self._closed[key] = self._find_state(table, label)
        return self._closed[key]

    def _find_state(self, table: str, label: str) -> str | Publication:
        log = self._table(table)
        try:
            publication = self._lake.current(table, partition_from_key(TABLES[table], label))
        except BacktestAssetsError as error:
            return str(error)
        if publication is None or label not in log.latest:
            return "it is not published"
        rows = {gate: log.verdicts.get((gate.name, label)) for gate in GATES[table]}
        for gate, row in rows.items():
            if row is not None and not row.passed and gate.severity is Severity.ERROR:
                return f"gate {gate.name} FAILED"
        for gate, row in rows.items():
            if row is None or row.materialization_id != log.latest[label]:
                return f"gate {gate.name} has no verdict on its latest materialisation"
        if self._judged(table, label) != publication.publication_id:
            return "its gates judged another version than the lake serves"
        return self._limits_objection(publication) or self._upstream_objection(publication) or publication

    def _limits_objection(self, made: Publication) -> str | None:
        """Return why what was judged under other limits than this process has is no answer here; None if it was not."""
        if TABLES[made.table].layer != "market" or made.notes.get("limits_digest") == self._limits.digest:
            return None
        judged, here = made.notes.get("limits", ""), self._limits.changed
        if judged == here:
            return "judged under other default limits than this program has; materialise the partition again"
        return (
            f"judged under {_limits_text(judged)}, but this process has {_limits_text(here)}; set BACKTEST_MARKET_LIMITS "
            "as it was, or materialise the partition again"
        )

    def _judged(self, table: str, label: str) -> str:
        """Return the publication that a partition's verdicts are about; looked up at once for all labels met so far."""
        log, gate = self._table(table), GATES[table][0].name
        if label not in log.judged:
            rows = {one: log.verdicts.get((gate, one)) for one in {label, *self._labels} - log.judged.keys()}
            told = evaluations(self._instance, [row for row in rows.values() if row is not None])
            for one, row in rows.items():
                found = None if row is None else told.get(row.row_id)
                log.judged[one] = "" if found is None else str(found.facts.get("publication", ""))
        return log.judged[label]

    def _table(self, table: str) -> _Table:
        if table not in self._tables:
            latest = self._instance.event_log_storage.get_latest_storage_id_by_partition(
                dg.AssetKey(table), DagsterEventType.ASSET_MATERIALIZATION
            )
            self._tables[table] = _Table(newest_verdicts(self._instance, table), latest)
        return self._tables[table]


def _limits_text(changed: str) -> str:
    return f"limits {changed}" if changed else "the default limits"


def inspect(
    instance: dg.DagsterInstance, lake: LakeResource, table: str, partitions: Iterable[Partition]
) -> Inspection:
    """Ask once of each partition whether it may be read; see `Guard.inspect`."""
    return Guard(instance, lake).inspect(table, partitions)


def refusal_failure(refused: Sequence[Refusal]) -> dg.Failure:
    """Return the failure that says which partitions may not be read, and why."""
    lines = "\n".join(f"- {refusal}" for refusal in refused)
    return dg.Failure(
        description=f"refused: {len(refused)} input partition(s) may not be read\n{lines}",
        metadata={"refused": dg.MetadataValue.md(lines)},
        allow_retries=False,
    )


def check_unaltered(instance: dg.DagsterInstance, lake: Lake, table: str, partition: Partition) -> Publication | None:
    """Return what a partition holds that must never be forgotten (frozen settings, the trial ledger).

    The version that the newest materialisation recorded must be the one the lake serves, or one it came from.

    Returns:
        The verified publication; None if the partition was never materialised.

    Raises:
        TamperedError: if it is missing, altered, or an older version was put back.
    """
    record = instance.get_latest_data_version_record(dg.AssetKey(table), partition_key=partition.label)
    made = None if record is None else record.asset_materialization
    current = lake.current(table, partition)
    if current is not None:
        lake.verify(current)
    if made is None:
        return current
    recorded = made.metadata["publication"].value
    if recorded not in {one.publication_id for one in lake.history(table, partition)}:
        message = (
            f"{table}[{partition.label}]: the lake no longer serves version {str(recorded)[:12]} that was recorded, nor one "
            "made from it; put its files back, or use a new run_id"
        )
        raise TamperedError(message)
    return current


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


def _objection(
    publication: Publication | None,
    materialization_id: int | None,
    records: Mapping[Gate, Told | None],
) -> str | None:
    """Return why a partition may not be read, the most telling reason first; None if it may."""
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


def _attempt(records: Mapping[Gate, Told | None]) -> Mapping[str, str]:
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
