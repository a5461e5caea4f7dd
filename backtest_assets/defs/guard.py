"""The only way to read a table: every registered gate green on exactly the bytes that are read, or a refusal.

A blocking check protects one run only; so every reader asks again, from the event log and the lake, over the static gate
registry and never over the loaded definitions (which are incomplete in some processes). The question goes all the way
up: what was made from a partition that is closed, or was made again since, may not be read either.
"""

from collections.abc import Iterable, Sequence

import dagster as dg
import polars as pl
from dagster._core.events import DagsterEventType

from backtest_assets.defs.admission import Admitted, Inspection, Refusal, TableLog, attempt_of, objection
from backtest_assets.defs.chronicle import Chronicles
from backtest_assets.defs.growth import growth_of
from backtest_assets.defs.listing import facts_of
from backtest_assets.defs.partitions import partition_from_key
from backtest_assets.defs.reads import is_chronicle
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.verdicts import evaluations, newest_verdicts
from backtest_assets.domain.gate import Severity
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError, TamperedError
from backtest_assets.gates.registry import GATES
from backtest_assets.lake.publication import Publication
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES


class Guard:
    """Asks about partitions, and remembers within one pass in which nothing is written."""

    def __init__(self, instance: dg.DagsterInstance, lake: LakeResource) -> None:
        self._instance, self._lake, self._limits = instance, lake.lake, lake.settings.limits
        self._tables: dict[str, TableLog] = {}
        self._labels: set[str] = set()
        self._inspected: dict[tuple[str, Partition], Admitted | Refusal] = {}
        self._closed: dict[tuple[str, str], str | Publication] = {}
        self._chronicles = Chronicles(instance, self._lake, self._table)

    def inspect(self, table: str, partitions: Iterable[Partition]) -> Inspection:
        """Ask of each partition whether it may be read.

        A partition is admitted if the newest completed evaluation of every registered gate is green, targets the
        partition's latest materialisation and is about the publication that the lake serves; if it was judged under the
        limits of this process; if its files still have their published bytes; if it, where it only grows, holds what any
        version of it held; and if everything it was made from is still what it was, and open.

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
        """Ask of every partition of a table that only grows; see `Chronicles.inspect`."""
        return self._chronicles.inspect(table, required)

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
                reason = objection(publication, materialization_id, records)
                if reason is None and publication is not None:
                    self._lake.verify(publication)
                    reason = (
                        self._chronicles.loss(table, partition.label)
                        or self._limits_objection(publication)
                        or self._upstream_objection(publication)
                    )
            except BacktestAssetsError as error:
                publication, reason = None, str(error)
            if reason is None and publication is not None and materialization_id is not None:
                answer = Admitted(publication, materialization_id)
            else:
                answer = Refusal(table, partition, reason or "it is not published", attempt_of(records))
            self._inspected[table, partition] = answer

    def _upstream_objection(self, made: Publication) -> str | None:
        self._labels |= {used.partition for used in made.inputs}
        for used in made.inputs:
            if is_chronicle(made.table, used.table):
                objection = self._chronicles.objection(used)
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
        lost = self._chronicles.loss(table, label)
        return lost or self._limits_objection(publication) or self._upstream_objection(publication) or publication

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

    def _table(self, table: str) -> TableLog:
        if table not in self._tables:
            latest = self._instance.event_log_storage.get_latest_storage_id_by_partition(
                dg.AssetKey(table), DagsterEventType.ASSET_MATERIALIZATION
            )
            self._tables[table] = TableLog(newest_verdicts(self._instance, table), latest)
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


def every_row(instance: dg.DagsterInstance, lake: Lake, table: str, partition: Partition) -> pl.DataFrame:
    """Return every row that any version of a chronicle's partition held: what its next version must hold too.

    Rows that a version on top of them lost come back from the older ones; of a row that was changed the first word stands.

    Raises:
        TamperedError: as `check_unaltered`; or if any version's files are not what was published.
        TableError: if a version does not keep the contract.
    """
    check_unaltered(instance, lake, table, partition)
    return growth_of(lake, TABLES[table], partition).rows
