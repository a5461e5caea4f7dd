"""Where a research asset works: its inputs read through the guard, its rows handed to `publish` with their lineage."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import dagster as dg
import polars as pl

from backtest_assets.defs.admission import Admitted
from backtest_assets.defs.frozen import frozen_run
from backtest_assets.defs.guard import Guard, every_row
from backtest_assets.defs.listing import listing_of
from backtest_assets.defs.publish import AssetEvent, Made, publish
from backtest_assets.defs.reads import EXECUTION_TABLES, READS, is_chronicle
from backtest_assets.defs.resources import LakeResource
from backtest_assets.defs.scope import admit
from backtest_assets.domain.market import Listing, Partition
from backtest_assets.domain.run import ResearchRun
from backtest_assets.lake.publication import Input
from backtest_assets.lake.store import Lake
from backtest_assets.tables.contract import Table
from backtest_assets.tables.registry import TABLES

PROMOTE: Final = "PROMOTE"
DECISION_TAG: Final = "backtest_assets/decision"
"""Tag of the Dagster run that decided: PROMOTE, KEEP_RESEARCH or ERROR (R86)."""
_TIME_COLUMNS: Final = ("open_at", "settled_at")


class Desk:
    """One materialisation of one research table.

    Attributes:
        run: the frozen settings.
        inputs: the lineage record: every partition read, with its digest.
    """

    def __init__(self, context: dg.AssetExecutionContext, lake: LakeResource, table: str) -> None:
        """Read every declared input of the table for the run of this step.

        Raises:
            dagster.Failure: if an input is refused, or execution is closed by the checklist (R80).
        """
        self._context, self._lake, self._table = context, lake, TABLES[table]
        self.run: ResearchRun = frozen_run(context.instance, lake, context.partition_key)
        self._admitted: dict[str, tuple[Admitted, ...]] = {}
        self._frames: dict[str, pl.DataFrame] = {}
        guard = Guard(context.instance, lake)
        for read in READS[table]:
            if read.only_if_promoted and self.decision != PROMOTE:
                continue
            self._admitted[read.table] = admit(guard, read, self.run)
            if read.table == "research_checklist" and table in EXECUTION_TABLES and self.decision != PROMOTE:
                raise self._closed()

    def __getitem__(self, table: str) -> pl.DataFrame:
        """Return the rows of a declared input, inside the run's window and warm-up, in key order.

        A chronicle has two columns more: `of_run_id`, and `ledger_digest`, the content digest of its partition.
        """
        if table not in self._frames:
            self._frames[table] = self._load(table)
        return self._frames[table]

    def previous(self) -> pl.DataFrame:
        """Return every row that this step's partition, a chronicle's, ever held; empty if it held none.

        Raises:
            TamperedError: if they are not what was published: what only grows must not restart from nothing.
        """
        partition = Partition.of_run(self.run.run_id)
        return every_row(self._context.instance, self._lake.lake, self._table.name, partition)

    @property
    def decision(self) -> str:
        """The checklist's decision for this run."""
        return str(self["research_checklist"]["decision"][0])

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Every partition admitted, in reading order."""
        return tuple(one.input_for(self._table.name) for group in self._admitted.values() for one in group)

    @property
    def listings(self) -> Mapping[str, Listing]:
        """When each symbol traded, as far as the market months that were read know."""
        known: dict[str, Listing] = {}
        for group in self._admitted.values():
            for one in group:
                listing = listing_of(one.publication.notes)
                if listing is not None:
                    known[one.publication.partition["symbol"]] = listing
        return known

    def frames(self) -> dict[str, pl.DataFrame]:
        """Return the rows of every admitted input by table name."""
        return {table: self[table] for table in self._admitted}

    def lineage(self) -> pl.DataFrame:
        """Return what was read as rows `table`, `partition`, `digest`."""
        rows = [(one.table, one.partition, one.digest) for one in self.inputs]
        return pl.DataFrame(
            rows, schema={"table": pl.String, "partition": pl.String, "digest": pl.String}, orient="row"
        )

    def digest_of(self, table: str) -> str:
        """Return the content digest of a research input."""
        return self._admitted[table][0].publication.digest

    def publish(
        self,
        frame: pl.DataFrame,
        *,
        attachments: Mapping[str, bytes] | None = None,
        shown: Mapping[str, pl.DataFrame] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Iterator[AssetEvent]:
        """Publish the rows of this step's table, with everything it read as lineage and as evidence for the gates.

        Args:
            frame: the rows.
            attachments: files published with them, by name.
            shown: small tables that the UI shows with the materialisation, by name.
            notes: texts that the UI shows and the manifest keeps, by name.
        """
        made = Made(
            frame, self.inputs, self.frames(), self.run, attachments or {}, notes or {},
            listings=self.listings, shown=shown or {},
        )  # fmt: skip
        yield from publish(
            self._context,
            self._lake,
            self._table,
            [(Partition.of_run(self.run.run_id), made)],
            as_of=self._lake.clock(),
        )

    def _load(self, table: str) -> pl.DataFrame:
        admitted = self._admitted[table]
        contract = TABLES[table]
        if not admitted:
            return contract.empty()
        if is_chronicle(self._table.name, table):
            return chronicle_rows(self._lake.lake, contract, admitted)
        rows = self._lake.lake.scan([one.publication for one in admitted])
        if contract.layer == "market":
            at = next(name for name in _TIME_COLUMNS if name in contract.schema)
            rows = rows.filter(pl.col(at) < self.run.window[1])
        return contract.conform(rows.collect())

    def _closed(self) -> dg.Failure:
        failed = self["research_checklist"].filter(~pl.col("is_passed"))
        reasons = "; ".join(f"{gate}: {detail}" for gate, detail in failed.select("gate", "detail").iter_rows())
        return dg.Failure(
            description=f"refused: the checklist of run {self.run.run_id} says {self.decision}, so execution stays closed (R80). {reasons}",
            allow_retries=False,
        )


def chronicle_rows(lake: Lake, table: Table, admitted: Iterable[Admitted]) -> pl.DataFrame:
    """Return the rows of a chronicle, each with the run and the content digest of its partition.

    Rows that were stored before the table gained a nullable column have null there.

    Args:
        lake: the store.
        table: contract of the chronicle.
        admitted: its partitions, at least one.

    Raises:
        TableError: if a partition does not keep the contract in anything else.
    """
    return pl.concat(
        table.conform(table.widen(lake.scan([one.publication]).collect())).with_columns(
            of_run_id=pl.lit(one.publication.partition["run_id"]), ledger_digest=pl.lit(one.publication.digest)
        )
        for one in admitted
    )
