"""What the lake needs from a store, and the local disk that offers it; what the bytes mean stays out.

The protocol is no more than an object store has: create, read, compare-and-swap, list. Keys are relative to the root.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from backtest_assets.errors import LakeError, PublishConflictError
from backtest_assets.lake.layout import PART_SUFFIX

_COPY_BYTES = 1 << 20
_IMMUTABLE = 0o444  # an editor, or SQL, must not change a published file by accident
_POINTER = 0o644


class Backend(Protocol):
    """A store with atomic creation and one conditional write."""

    def put_new(self, key: PurePosixPath, source: bytes | Path) -> None:
        """Create an immutable file, whole or not at all.

        The names of immutable files are made from their content. So the same bytes already there are fine, and other
        bytes under that name are damage, which is replaced.

        Raises:
            OSError: if the store cannot take it.
        """
        ...

    def read(self, key: PurePosixPath) -> bytes:
        """Return the bytes of a file.

        Raises:
            FileNotFoundError: if there is none.
        """
        ...

    def swing(self, pointer: PurePosixPath, expected: bytes | None, new: bytes) -> None:
        """Replace the pointer's bytes if they still are `expected` (None: no pointer yet), atomically and durably.

        Raises:
            PublishConflictError: if the pointer is another one by now; nothing was written.
        """
        ...

    def names(self, folder: PurePosixPath) -> tuple[str, ...]:
        """Return the names directly under a folder, sorted; none if it does not exist."""
        ...

    def locate(self, key: PurePosixPath) -> str:
        """Return the address under which Polars and DuckDB open a file."""
        ...


class LocalBackend:
    """A folder on a POSIX disk: files appear by rename after fsync, pointers change under a lock of their own."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def put_new(self, key: PurePosixPath, source: bytes | Path) -> None:
        """See `Backend.put_new`."""
        target = self._root / key
        if _holds(target, source):
            _sync_folder(target.parent)
        else:
            _install(target, source, mode=_IMMUTABLE)

    def read(self, key: PurePosixPath) -> bytes:
        """See `Backend.read`."""
        return (self._root / key).read_bytes()

    def swing(self, pointer: PurePosixPath, expected: bytes | None, new: bytes) -> None:
        """See `Backend.swing`."""
        target = self._root / pointer
        _make_folder(target.parent)
        with _locked(target.with_name(f".{target.name}.lock")):
            found = target.read_bytes() if target.exists() else None
            if found != expected:
                message = f"{target}: the pointer changed since it was read; read it again and build on what it names"
                raise PublishConflictError(message)
            _install(target, new, mode=_POINTER)

    def names(self, folder: PurePosixPath) -> tuple[str, ...]:
        """See `Backend.names`."""
        path = self._root / folder
        return tuple(sorted(entry.name for entry in path.iterdir())) if path.is_dir() else ()

    def locate(self, key: PurePosixPath) -> str:
        """See `Backend.locate`."""
        return str(self._root / key)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    # The kernel drops the lock when its holder dies, so a killed writer blocks nobody.
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(target: Path, source: bytes | Path, *, mode: int) -> None:
    _make_folder(target.parent)
    part = target.with_name(f".{uuid.uuid4().hex}{PART_SUFFIX}")
    try:
        with part.open("xb") as file:
            if isinstance(source, Path):
                with source.open("rb") as original:
                    shutil.copyfileobj(original, file, _COPY_BYTES)
            else:
                file.write(source)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _holds(target: Path, source: bytes | Path) -> bool:
    if not target.is_file():
        return False
    n_bytes = source.stat().st_size if isinstance(source, Path) else len(source)
    if target.stat().st_size != n_bytes:
        return False
    return target.read_bytes() == (source.read_bytes() if isinstance(source, Path) else source)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storing(doing: str, where: str) -> Generator[None]:
    """Turn what the disk refuses into one sentence for the operator.

    Raises:
        LakeError: naming the work, the path and the fix.
    """
    try:
        yield
    except OSError as error:
        message = (
            f"{doing}: {error.strerror or error} at {error.filename or where}; free space or mend permissions there, "
            "then materialise again; readers see one whole version, old or new"
        )
        raise LakeError(message) from error
