"""The scratch side of the lake: rows written aside, removed, or kept in quarantine; publishing them stays out."""

import json
import math
import shutil
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from backtest_assets.domain.gate import Scalar, Verdict
from backtest_assets.domain.market import Partition
from backtest_assets.errors import LakeError
from backtest_assets.lake import layout
from backtest_assets.lake.backend import storing
from backtest_assets.lake.parquet import parquet_bytes
from backtest_assets.lake.publication import StoredFile, digest_of, sha256_of, stored_names
from backtest_assets.lake.versions import tampered
from backtest_assets.tables.contract import Table


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows written aside, not yet published.

    Attributes:
        table: contract of the rows.
        partition: their partition.
        folder: scratch folder that holds the files.
        data: the parquet file.
        attachments: further files, by name.
        digest: content digest of all of them.
        n_rows: rows of the data.
        expected: the pointer as it was when the rows were staged; None if there was none.
    """

    table: Table
    partition: Partition
    folder: Path
    data: StoredFile
    attachments: tuple[StoredFile, ...]
    digest: str
    n_rows: int
    expected: bytes | None

    @property
    def files(self) -> tuple[tuple[StoredFile, str], ...]:
        """Every file with the name it is stored under."""
        return stored_names(self.data, self.attachments)

    def check(self) -> None:
        """Prove that the files are still the ones that were staged.

        Raises:
            LakeError: if they are gone.
            TamperedError: if their bytes changed.
        """
        for file, stored in self.files:
            path = self.folder / stored
            if not path.is_file():
                message = (
                    f"{self.table.name} {self.partition}: the staged file {path} is gone: it was published, quarantined, "
                    "discarded or swept before; materialise the partition again"
                )
                raise LakeError(message)
            if sha256_of(path.read_bytes()) != file.sha256:
                raise tampered(self.table.name, self.partition, str(path), "changed after it was staged")


def stage(
    root: Path,
    table: Table,
    partition: Partition,
    frame: pl.DataFrame,
    *,
    attachments: Mapping[str, bytes],
    expected: bytes | None,
) -> Staged:
    """Write rows and attachments into a new scratch folder; see `Lake.stage`."""
    rows = parquet_bytes(table, frame)
    digest = sha256_of(rows)
    data = StoredFile(layout.data_file(digest), digest, len(rows))
    files = tuple(StoredFile(name, sha256_of(content), len(content)) for name, content in sorted(attachments.items()))
    folder = root / layout.staging_folder(uuid.uuid4().hex)
    staged = Staged(table, partition, folder, data, files, digest_of(data, files), frame.height, expected)
    contents = {data.name: rows, **attachments}
    with undone_on_failure(staged, "stage"):
        folder.mkdir(parents=True)
        for file, stored in staged.files:
            (folder / stored).write_bytes(contents[file.name])
    return staged


def discard(staged: Staged) -> None:
    """Remove a scratch folder; what cannot be removed now is left to `sweep`."""
    shutil.rmtree(staged.folder, ignore_errors=True)


def quarantine(root: Path, staged: Staged, verdicts: Sequence[Verdict], *, as_of: datetime) -> Path:
    """Move a scratch folder to quarantine with its verdicts; see `Lake.quarantine`."""
    target = root / layout.quarantine_folder(staged.table.name, staged.partition, as_of, uuid.uuid4().hex)
    record = {
        "table": staged.table.name,
        "partition": str(staged.partition),
        "quarantined_at": as_of.isoformat(),
        "digest": staged.digest,
        "n_rows": staged.n_rows,
        "files": {stored: file.name for file, stored in staged.files},
        "verdicts": [_record(verdict) for verdict in verdicts],
    }
    with undone_on_failure(staged, "quarantine"):
        text = json.dumps(record, indent=1, allow_nan=False, default=str)
        (staged.folder / layout.VERDICTS).write_text(text, encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.folder.rename(target)
    return target


def sweep(root: Path, *, older_than: datetime) -> tuple[Path, ...]:
    """Remove what killed writers left behind; see `Lake.sweep`."""
    limit = older_than.timestamp()
    with storing("sweep", str(root)):
        staging = root / layout.STAGING
        folders = list(staging.iterdir()) if staging.is_dir() else []
        halves = list((root / layout.LAKE).rglob(f".*{layout.PART_SUFFIX}"))
        old = sorted(path for path in (*folders, *halves) if path.stat().st_mtime < limit)
        for path in old:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return tuple(old)


@contextmanager
def undone_on_failure(staged: Staged, doing: str) -> Generator[None]:
    """Remove the scratch folder if the work on it fails, and name the work.

    Raises:
        LakeError: if the disk refused.
    """
    try:
        with storing(f"{doing} {staged.table.name} {staged.partition}", str(staged.folder.parent)):
            yield
    except BaseException:
        discard(staged)
        raise


def _record(verdict: Verdict) -> Mapping[str, object]:
    return {
        "gate": verdict.gate,
        "observed": _jsonable(verdict.observed),
        "limit": _jsonable(verdict.limit),
        "unit": verdict.unit,
        "passed": verdict.passed,
        "detail": verdict.detail,
        "examples": [{name: _jsonable(value) for name, value in row.items()} for row in verdict.examples],
        "compared": [{name: _jsonable(value) for name, value in row.items()} for row in verdict.compared],
    }


def _jsonable(value: Scalar) -> Scalar:
    # JSON has no NaN: what could not be measured is kept as the text "nan".
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
