"""What a chronicle's partition held over all its versions, and what the current one lost; who may read it stays in `chronicle`."""

from dataclasses import dataclass

import polars as pl

from backtest_assets.domain.market import Partition
from backtest_assets.lake.store import Lake
from backtest_assets.tables.contract import Table


@dataclass(frozen=True, slots=True)
class Growth:
    """The history of one partition of a table that only grows.

    Attributes:
        rows: every row that any version held, as the first version that held its key has it.
        lost: those that the current version lacks, or has otherwise.
        digests: content digests of all versions.
        whole: of them those under which no version lost anything of what was before it.
    """

    rows: pl.DataFrame
    lost: pl.DataFrame
    digests: frozenset[str]
    whole: frozenset[str]

    @property
    def objection(self) -> str | None:
        """Why the current version is not the whole chronicle; None if it is."""
        if self.lost.is_empty():
            return None
        return (
            f"{self.lost.height} of the {self.rows.height} rows that its versions held are gone or changed in the one that "
            "the lake serves"
        )


def growth_of(lake: Lake, table: Table, partition: Partition) -> Growth:
    """Read every version of a partition, oldest first, and add up what they held.

    Rows that were stored before the table gained a nullable column have null there. A partition without versions lost
    nothing.

    Args:
        lake: the store.
        table: contract of a table that only grows.
        partition: its partition.

    Raises:
        TamperedError: if a version's manifest or files are not what was published: nobody can say what it held.
        TableError: if a version does not keep the contract's columns.
    """
    rows = lost = table.empty()
    digests: set[str] = set()
    short: set[str] = set()
    served = ""
    for version in reversed(lake.history(table.name, partition)):
        if version.digest == served:
            continue
        lake.verify(version)
        held = table.conform(table.widen(lake.scan([version]).collect()))
        lost = rows.join(held, on=table.schema.names(), how="anti", nulls_equal=True)
        rows = pl.concat([rows, held]).unique(table.key, keep="first", maintain_order=True)
        digests.add(version.digest)
        if not lost.is_empty():
            short.add(version.digest)
        served = version.digest
    return Growth(table.conform(rows), lost, frozenset(digests), frozenset(digests - short))
