"""Reading what is published: pointer, manifest, chain of versions, and the proof that the bytes are the same."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from backtest_assets.domain.market import Partition
from backtest_assets.errors import LakeError, TamperedError, UsageError
from backtest_assets.lake import layout
from backtest_assets.lake.backend import Backend, storing
from backtest_assets.lake.publication import Publication, pointed_to, publication_from_json, sha256_of


class Versions:
    """The published versions in a store."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def pointer(self, table: str, partition: Partition) -> bytes | None:
        """Return the pointer's bytes as they are; None if there is none."""
        key = layout.pointer_key(table, partition)
        with storing(f"read {table} {partition}", self._backend.locate(key)):
            try:
                return self._backend.read(key)
            except FileNotFoundError:
                return None

    def current(self, table: str, partition: Partition) -> Publication | None:
        """Return the version that the pointer names now; None if there is no pointer."""
        pointer = self.pointer(table, partition)
        return None if pointer is None else self.resolve(table, partition, pointer)

    def resolve(self, table: str, partition: Partition, pointer: bytes) -> Publication:
        """Return the version that a pointer names.

        Raises:
            TamperedError: if the pointer or its manifest is not what was published.
        """
        try:
            publication_id = pointed_to(pointer)
        except ValueError as error:
            path = self._backend.locate(layout.pointer_key(table, partition))
            raise tampered(table, partition, path, f"was changed: {error}") from error
        return self.load(table, partition, publication_id)

    def load(self, table: str, partition: Partition, publication_id: str) -> Publication:
        """Return a version by its id.

        Raises:
            TamperedError: if its manifest is missing, edited, or of another partition.
        """
        key = layout.manifest_key(table, partition, publication_id)
        path = self._backend.locate(key)
        with self._reading(table, partition, path):
            manifest = self._backend.read(key)
        if sha256_of(manifest) != publication_id:
            raise tampered(table, partition, path, "was changed: its content does not give its name")
        try:
            publication = publication_from_json(manifest)
        except ValueError as error:
            raise tampered(table, partition, path, f"cannot be trusted: {error}") from error
        if (publication.table, publication.partition) != (table, partition):
            what = f"was swapped: it belongs to {publication.table} {publication.partition}"
            raise tampered(table, partition, path, what)
        return publication

    def history(self, table: str, partition: Partition) -> tuple[Publication, ...]:
        """Return the current version and those it replaced, newest first."""
        found: list[Publication] = []
        version = self.current(table, partition)
        while version is not None:
            found.append(version)
            version = None if version.previous is None else self.load(table, partition, version.previous)
        return tuple(found)

    def partitions(self, table: str) -> tuple[Partition, ...]:
        """Return the partitions that have a pointer, sorted.

        Raises:
            LakeError: if a folder looks like a partition but cannot be one.
        """
        root = layout.table_folder(table)
        return tuple(sorted(self._walk(root, root)))

    def verify(self, publication: Publication) -> None:
        """Prove that a version's manifest and files are what was published.

        Raises:
            TamperedError: naming the file that is missing or different, and the fix.
        """
        table, partition = publication.table, publication.partition
        if self.load(table, partition, publication.publication_id) != publication:
            raise tampered(
                table, partition, f"publication {publication.publication_id}", "is not what its manifest records"
            )
        for file, stored in publication.files:
            key = layout.data_key(table, partition, stored)
            path = self._backend.locate(key)
            with self._reading(table, partition, path):
                content = self._backend.read(key)
            if sha256_of(content) != file.sha256:
                what = f"was changed: it has {len(content)} bytes, and {file.n_bytes} others were published"
                raise tampered(table, partition, path, what)

    def _walk(self, root: PurePosixPath, folder: PurePosixPath) -> Iterator[Partition]:
        with storing(f"list {folder}", self._backend.locate(folder)):
            names = self._backend.names(folder)
        if layout.POINTER in names:
            yield self._partition_at(root, folder)
        for name in names:
            if "=" in name:
                yield from self._walk(root, folder / name)

    def _partition_at(self, root: PurePosixPath, folder: PurePosixPath) -> Partition:
        keys = [(name, value) for name, _, value in (part.partition("=") for part in folder.relative_to(root).parts)]
        try:
            return layout.partition_of(keys)
        except UsageError as error:
            message = f"{self._backend.locate(folder)} is no partition: {error}; move that folder out of the lake"
            raise LakeError(message) from error

    @contextmanager
    def _reading(self, table: str, partition: Partition, path: str) -> Generator[None]:
        with storing(f"read {table} {partition}", path):
            try:
                yield
            except FileNotFoundError as error:
                raise tampered(table, partition, path, "is missing") from error


def tampered(table: str, partition: Partition, path: str, what: str) -> TamperedError:
    """Return the error for a stored file that is not what was published."""
    return TamperedError(f"{table} {partition}: {path} {what}; materialise this partition again to replace it")
