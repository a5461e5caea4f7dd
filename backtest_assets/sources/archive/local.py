"""Files of the archive below a folder: found, digested and parsed once; which ones a slice needs is source.py's work."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl

from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import ArchiveFile
from backtest_assets.sources.archive.parse import parse_member, parse_members
from backtest_assets.sources.archive.unzip import MEMBER_BYTES_MAX, read_member, verify_digest

_FILES_KEPT: Final = 4  # parsed files, 6 MB for a month of 1m klines: what was just looked at is asked for again
_DIGESTS_KEPT: Final = 20_000  # a digest is 100 bytes: 5 datasets of 5 symbols over 2 years of daily files


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the archive that is there.

    Attributes:
        file: what it is about.
        path: where it lies.
        name: its path below the archive's root; it ends in `.csv` for a bare member.
        sha256: of its bytes.
        stat: modification time [ns] and size [bytes] when it was looked up.
    """

    file: ArchiveFile
    path: Path
    name: str
    sha256: str
    stat: tuple[int, int]

    def rows(self, *, source: str) -> pl.DataFrame:
        """Return its rows in the raw table's columns, as `parse_member` does.

        Args:
            source: kind of source, for the rows' `source`.

        Raises:
            SourceError: naming the file and the fix if it cannot be used.
        """
        return _rows(self, source)


def find_file(root: Path, file: ArchiveFile) -> LocalFile | None:
    """Look a file up below the archive's root: the zip, else its bare CSV member beside or instead of it.

    Raises:
        SourceError: if it is there and cannot be read, is absurdly large, or is not the one its `.CHECKSUM` names.
    """
    zipped = root / file.key
    for path in (zipped, zipped.with_suffix(".csv")):
        try:
            found = path.stat()
            stat = (found.st_mtime_ns, found.st_size)
            _check_size(path, found.st_size)
            digest = _digest(path, stat)
            checksum = path.with_name(f"{path.name}.CHECKSUM")
            if checksum.is_file():
                verify_digest(digest, checksum.read_text(encoding="utf-8", errors="replace"), name=path.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            message = f"{path}: cannot be read ({error}); mend or remove it"
            raise SourceError(message) from error
        return LocalFile(file, path, str(path.relative_to(root)), digest, stat)
    return None


def read_files(found: Sequence[LocalFile], *, source: str) -> pl.DataFrame:
    """Return the rows of several files of one dataset and symbol, at least one, as `parse_members` does.

    Raises:
        SourceError: naming the file and the fix if one cannot be used.
    """
    return parse_members([(one.file, _member(one)) for one in found], source=source)


def _check_size(path: Path, size: int) -> None:
    if size > MEMBER_BYTES_MAX:
        message = f"{path}: has {size:,} bytes, more than {MEMBER_BYTES_MAX:,}; it is no file of the archive, remove it"
        raise SourceError(message)


@lru_cache(maxsize=_DIGESTS_KEPT)
def _digest(path: Path, stat: tuple[int, int]) -> str:  # noqa: ARG001  # a changed file is another file
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=_FILES_KEPT)
def _rows(found: LocalFile, source: str) -> pl.DataFrame:
    return parse_member(found.file, _member(found), source=source)


def _member(found: LocalFile) -> bytes:
    try:
        content = found.path.read_bytes()
    except OSError as error:
        message = f"{found.path}: cannot be read ({error}); mend or remove it"
        raise SourceError(message) from error
    if hashlib.sha256(content).hexdigest() != found.sha256:
        message = f"{found.path}: changed while it was read; wait until nothing writes there, then try again"
        raise SourceError(message)
    return read_member(content, name=found.path.name) if found.path.suffix == ".zip" else content
