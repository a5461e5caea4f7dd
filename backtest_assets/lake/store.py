"""The lake: stage, publish, quarantine, read; the questions asked in between are the gates' business.

Publishing puts immutable files first, then their manifest, and last swings one pointer. Whoever resolves the pointer
once reads one version whole, whatever happens meanwhile.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import polars as pl

from backtest_assets.domain.gate import Verdict
from backtest_assets.domain.market import Partition
from backtest_assets.errors import LakeError, NotPublishedError, PublishConflictError, TamperedError, UsageError
from backtest_assets.lake import layout, staging
from backtest_assets.lake.backend import Backend, LocalBackend
from backtest_assets.lake.publication import Input, Publication, pointer_to
from backtest_assets.lake.staging import Staged
from backtest_assets.lake.versions import Versions
from backtest_assets.tables.contract import SCHEMA_VERSION, Table

_SHORT: Final = 12
"""Digits by which a message names a version."""
_NO_ATTACHMENTS: Final[Mapping[str, bytes]] = MappingProxyType({})


class Lake:
    """All tables under one data root.

    Args:
        root: the data root; made when first written to. Staging and quarantine always lie here.
        backend: the store of the published files; the local disk under `root` unless told otherwise.
    """

    def __init__(self, root: Path, *, backend: Backend | None = None) -> None:
        self._root = root.absolute()
        self._backend: Backend = LocalBackend(root) if backend is None else backend
        self._versions = Versions(self._backend)

    def stage(
        self,
        table: Table,
        partition: Partition,
        frame: pl.DataFrame,
        *,
        attachments: Mapping[str, bytes] = _NO_ATTACHMENTS,
    ) -> Staged:
        """Write rows aside as they are, conforming or not, and remember which version they would replace.

        Args:
            table: contract the rows should keep.
            partition: where they belong.
            frame: the rows; never changed.
            attachments: further files by name, for example `report.html`.

        Raises:
            UsageError: if the partition is not one of the table's layer, or an attachment's name is not plain.
            LakeError: if the disk does not take them; nothing is left behind.
        """
        wanted = layout.DIMENSIONS[table.layer]
        if tuple(name for name, _ in partition.keys) != wanted:
            message = f"table {table.name} is partitioned by {', '.join(wanted)}; {partition} is no partition of it"
            raise UsageError(message)
        expected = self._versions.pointer(table.name, partition)
        return staging.stage(self._root, table, partition, frame, attachments=attachments, expected=expected)

    def publish(
        self,
        staged: Staged,
        *,
        code_version: str,
        inputs: Sequence[Input],
        notes: Mapping[str, str],
        writer: str,
        as_of: datetime,
    ) -> Publication:
        """Make staged rows the partition's current version, atomically; the staging folder goes in any case.

        Args:
            staged: what to publish; that its gates are green is the caller's word.
            code_version: of the code that made it.
            inputs: what it was made from.
            notes: free text for the operator.
            writer: Dagster run id.
            as_of: when it is published; must carry a time zone.

        Raises:
            PublishConflictError: if another version was published since `stage`; it names the winner.
            TamperedError: if the staged files are no longer the ones that were staged.
            LakeError: if the disk does not take it, or the staged files are gone.
        """
        with staging.undone_on_failure(staged, "publish"):
            staged.check()
            previous, remark = self._predecessor(staged)
            publication = Publication(
                table=staged.table.name,
                partition=staged.partition,
                publication_id="",
                digest=staged.digest,
                n_rows=staged.n_rows,
                data=staged.data,
                attachments=staged.attachments,
                schema_version=SCHEMA_VERSION,
                code_version=code_version,
                inputs=tuple(inputs),
                notes={**notes, **remark},
                published_at=_utc(as_of),
                writer=writer,
                previous=previous,
            ).sealed()
            self._put(staged, publication)
        staging.discard(staged)
        return publication

    def quarantine(self, staged: Staged, verdicts: Sequence[Verdict], *, as_of: datetime) -> Path:
        """Move refused rows out of the way, with the verdicts that refused them; the current version stays.

        Args:
            staged: what was refused.
            verdicts: of all gates; numbers that are not finite are kept as text.
            as_of: when; must carry a time zone.

        Returns:
            The folder that keeps them: the staged files and `verdicts.json`.

        Raises:
            LakeError: if the disk does not take it, or the staged files are gone.
        """
        return staging.quarantine(self._root, staged, verdicts, as_of=_utc(as_of))

    def discard(self, staged: Staged) -> None:
        """Remove a staging folder; what cannot be removed now is left to `sweep`."""
        staging.discard(staged)

    def current(self, table: str, partition: Partition) -> Publication | None:
        """Return the partition's current version; None if it never had one.

        Raises:
            TamperedError: if the pointer or its manifest is not what was published.
        """
        return self._versions.current(table, partition)

    def history(self, table: str, partition: Partition) -> tuple[Publication, ...]:
        """Return the versions of a partition that lead to the current one, newest first.

        Raises:
            TamperedError: if the pointer or one of the manifests is not what was published.
        """
        return self._versions.history(table, partition)

    def partitions(self, table: str) -> tuple[Partition, ...]:
        """Return the partitions that have a current version, sorted.

        Raises:
            LakeError: if a folder looks like a partition but cannot be one.
        """
        return self._versions.partitions(table)

    def verify(self, publication: Publication) -> None:
        """Prove that a publication's manifest and every file of it are what was published.

        Raises:
            TamperedError: naming the file that is missing or different, and the fix.
        """
        self._versions.verify(publication)

    def addresses(self, publications: Sequence[Publication]) -> tuple[str, ...]:
        """Return where the rows of publications lie, for engines that open files themselves."""
        return tuple(
            self._backend.locate(layout.data_key(item.table, item.partition, item.data.name)) for item in publications
        )

    def scan(self, publications: Sequence[Publication]) -> pl.LazyFrame:
        """Read the rows of one table's publications lazily, in the order given; nothing is verified here.

        Raises:
            NotPublishedError: if there are none.
            LakeError: if they are of different schema versions.
        """
        if not publications:
            message = "nothing to read: no publication was given; materialise the partitions first"
            raise NotPublishedError(message)
        newest = max(item.schema_version for item in publications)
        old = [f"{item.table} {item.partition}" for item in publications if item.schema_version != newest]
        if old:
            message = (
                f"{', '.join(old)}: stored before schema version {newest}; materialise again to read them together"
            )
            raise LakeError(message)
        return pl.scan_parquet(list(self.addresses(publications)), glob=False, hive_partitioning=False)

    def attachment(self, publication: Publication, name: str) -> Path:
        """Return where an attachment of a publication lies.

        Raises:
            NotPublishedError: if the publication has no attachment of that name.
        """
        for file in publication.attachments:
            if file.name == name:
                stored = layout.attachment_file(name, file.sha256)
                return Path(self._backend.locate(layout.data_key(publication.table, publication.partition, stored)))
        known = ", ".join(file.name for file in publication.attachments) or "none"
        message = f"{publication.table} {publication.partition} has no attachment {name!r}; it has: {known}"
        raise NotPublishedError(message)

    def sweep(self, *, older_than: datetime) -> tuple[Path, ...]:
        """Remove what killed writers left: staging folders and half-written files last touched before `older_than`.

        Returns:
            What was removed, sorted.
        """
        return staging.sweep(self._root, older_than=_utc(older_than))

    def _put(self, staged: Staged, publication: Publication) -> None:
        where = (publication.table, publication.partition)
        if self._versions.pointer(*where) != staged.expected:
            raise self._lost(staged)
        for _, stored in staged.files:
            self._backend.put_new(layout.data_key(*where, stored), staged.folder / stored)
        self._backend.put_new(layout.manifest_key(*where, publication.publication_id), publication.to_json())
        try:
            self._backend.swing(layout.pointer_key(*where), staged.expected, pointer_to(publication))
        except PublishConflictError as error:
            raise self._lost(staged) from error

    def _predecessor(self, staged: Staged) -> tuple[str | None, Mapping[str, str]]:
        # A damaged predecessor must not keep a partition from being mended: the chain starts anew, and says so.
        if staged.expected is None:
            return None, {}
        try:
            return self._versions.resolve(staged.table.name, staged.partition, staged.expected).publication_id, {}
        except TamperedError as error:
            return None, {"repaired": str(error)}

    def _lost(self, staged: Staged) -> PublishConflictError:
        table, partition = staged.table.name, staged.partition
        try:
            winner = self.current(table, partition)
        except TamperedError as error:
            winner, why = None, f"the pointer was changed by hand ({error})"
        else:
            why = "the pointer was removed by hand" if winner is None else _named(winner)
        again = "materialise the partition again" if winner is None else "run the same command again"
        message = f"{table} {partition}: {why} while this version was made, which was not used; {again}"
        return PublishConflictError(message)


def _named(winner: Publication) -> str:
    return (
        f"another process made it (publication {winner.publication_id[:_SHORT]} of run {winner.writer}, "
        f"published at {winner.published_at.isoformat()})"
    )


def _utc(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        message = f"{instant.isoformat()} carries no time zone; give an instant in UTC"
        raise UsageError(message)
    return instant.astimezone(UTC)
