"""Tables that only grow: the whole chronicle of what was done, of every run of the lake, or a refusal.

What a chronicle was made from may have changed since: that does not undo what was done.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import dagster as dg

from backtest_assets.defs.admission import Admitted, Inspection, Refusal, TableLog, objection
from backtest_assets.defs.growth import Growth, growth_of
from backtest_assets.defs.partitions import partition_from_key
from backtest_assets.defs.reads import CHRONICLES, READS
from backtest_assets.defs.verdicts import evaluations
from backtest_assets.domain.market import Partition
from backtest_assets.errors import BacktestAssetsError
from backtest_assets.gates.registry import GATES
from backtest_assets.lake.publication import Input
from backtest_assets.lake.store import Lake
from backtest_assets.tables.registry import TABLES


@dataclass(frozen=True, slots=True)
class _Chronicle:
    """What the guard says of a chronicle, and the versions that led to what the lake serves; None if they cannot be read."""

    answer: Admitted | Refusal
    growth: Growth | None


_NO_CHRONICLE: Final = "nothing knows of it; materialise it first"
_LOST: Final = "{} recorded version {}, which the lake's did not grow from"
_CHRONICLE_FIX: Final = (
    "Nothing is counted without it: materialise it again if its run broke off; if files are gone or changed put them back "
    "from a backup, or use another BACKTEST_DATA_ROOT"
)
_LOST_FIX: Final = (
    "Nothing is counted without them: materialise it again, which brings them back from its older versions"
)


class Chronicles:
    """Asks about tables that only grow, and remembers within one pass in which nothing is written."""

    def __init__(self, instance: dg.DagsterInstance, lake: Lake, log_of: Callable[[str], TableLog]) -> None:
        """Read from an instance and a lake.

        Args:
            instance: gives the verdicts.
            lake: gives publications and lineage.
            log_of: what the event log says of a table.
        """
        self._instance, self._lake, self._log_of = instance, lake, log_of
        self._known: dict[str, Mapping[str, _Chronicle]] = {}
        self._grown: dict[tuple[str, str], Growth] = {}

    def inspect(self, table: str, required: Iterable[Partition] = ()) -> Inspection:
        """Ask of every partition of a table that only grows whether it is still the whole chronicle of what was done.

        Asked of are the partitions that the event log, the lake or the lineage of any published table knows of. One is
        admitted if its gates are green on exactly the version that the lake serves, its bytes and those of all its versions
        are what was published, it holds every row that any of them held, and every version that lineage recorded is the
        current one or one that it grew from. What it was made from may have changed since: that does not undo what was
        done.

        Args:
            table: the table.
            required: partitions that must be among them.

        Raises:
            KeyError: if the table has no registered gates.
        """
        known = self._of(table)
        lacking = [Refusal(table, p, _NO_CHRONICLE) for p in required if p.label not in known]
        return Inspection(
            tuple(one.answer for one in known.values() if isinstance(one.answer, Admitted)),
            (*(one.answer for one in known.values() if isinstance(one.answer, Refusal)), *lacking),
        )

    def _of(self, table: str) -> Mapping[str, "_Chronicle"]:
        if table not in self._known:
            witnessed = self._witnessed(table)
            log = self._log_of(table)
            labels = {*log.latest, *(one.label for one in self._lake.partitions(table)), *witnessed}
            self._known[table] = {
                label: self._chronicle(table, label, witnessed.get(label, {})) for label in sorted(labels)
            }
        return self._known[table]

    def _chronicle(self, table: str, label: str, witnessed: Mapping[str, str]) -> "_Chronicle":
        log, partition = self._log_of(table), partition_from_key(TABLES[table], label)
        rows = {gate: log.verdicts.get((gate.name, label)) for gate in GATES[table]}
        told = evaluations(self._instance, [row for row in rows.values() if row is not None])
        judged = {gate: None if row is None else told.get(row.row_id) for gate, row in rows.items()}
        materialization_id, growth, fix = log.latest.get(label), None, _CHRONICLE_FIX
        try:
            publication = self._lake.current(table, partition)
            reason = "the lake holds nothing of it" if publication is None else None
            if publication is not None:
                growth = self._growth(table, label)
                if growth.objection is not None:
                    reason, fix = growth.objection, _LOST_FIX
                gone = (who for who in witnessed.items() if who[0] not in growth.digests)
                reason = reason or objection(publication, materialization_id, judged)
                reason = reason or next((_LOST.format(who, digest[:12]) for digest, who in gone), None)
        except BacktestAssetsError as error:
            publication, reason = None, str(error)
        if reason is None and publication is not None and materialization_id is not None:
            return _Chronicle(Admitted(publication, materialization_id), growth)
        seen = f"; known to {', '.join(sorted(set(witnessed.values())))}" if witnessed else ""
        return _Chronicle(Refusal(table, partition, f"{reason}{seen}. {fix}"), growth)

    def _growth(self, table: str, label: str) -> Growth:
        if (table, label) not in self._grown:
            contract = TABLES[table]
            self._grown[table, label] = growth_of(self._lake, contract, partition_from_key(contract, label))
        return self._grown[table, label]

    def loss(self, table: str, label: str) -> str | None:
        """Return what a published partition of a chronicle lost, or why nobody knows; None if nothing, or of other tables."""
        if table not in CHRONICLES:
            return None
        try:
            lost = self._growth(table, label).objection
        except BacktestAssetsError as error:
            return f"{error}. {_CHRONICLE_FIX}"
        return None if lost is None else f"{lost}. {_LOST_FIX}"

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

    def objection(self, used: Input) -> str | None:
        """Return why what was made from a version of a chronicle may not be read; None if it may."""
        chronicle = self._of(used.table).get(used.partition)
        if chronicle is None:
            return f"made from {used.table}[{used.partition}], which is closed: {_NO_CHRONICLE}"
        if isinstance(chronicle.answer, Refusal):
            return f"made from {used.table}[{used.partition}], which is closed: {chronicle.answer.reason}"
        if chronicle.growth is None or used.digest not in chronicle.growth.digests:
            return f"made from a version of {used.table}[{used.partition}] that the lake's did not grow from"
        if used.digest not in chronicle.growth.whole:
            return f"made from a version of {used.table}[{used.partition}] that had lost rows; materialise it again"
        return None
