"""What a publication is and its canonical JSON; reading and writing it stays out.

A publication is named by the sha256 of its manifest, and names its predecessor: a manifest cannot be edited unnoticed.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

from backtest_assets.domain.market import Partition
from backtest_assets.errors import UsageError
from backtest_assets.lake.layout import attachment_file, data_file, partition_of

_T = TypeVar("_T")
_MANIFESTS_KEPT: Final = 2_048  # read manifests, some 5 kB each; what their bytes say never changes
_POINTER = re.compile(rb'\{"publication_id":"([0-9a-f]{64})"\}')
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Input:
    """One partition that a publication was made from.

    Attributes:
        table: its table.
        partition: its partition, as `Partition.label` or path.
        digest: content digest that was read.
        materialization_id: storage id of the materialisation that was read.
        facts: digest of the facts of its manifest that were used beside the rows; empty if none were.
    """

    table: str
    partition: str
    digest: str
    materialization_id: int
    facts: str = ""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One immutable file.

    Attributes:
        name: `<sha256>.parquet` for the rows; the given name for an attachment.
        sha256: of its bytes.
        n_bytes: its size [bytes].
    """

    name: str
    sha256: str
    n_bytes: int

    def __post_init__(self) -> None:
        if _SHA256.fullmatch(self.sha256) is None or self.n_bytes < 0:
            message = f"{self.name}: {self.sha256!r} with {self.n_bytes} bytes is not a stored file"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Publication:
    """One published version of one partition.

    Attributes:
        table: its table.
        partition: its partition.
        publication_id: sha256 of its manifest.
        digest: sha256 over the content of data and attachments.
        n_rows: rows of the data.
        data: the parquet file.
        attachments: further files, by name.
        schema_version: of the tables.
        code_version: of the code that made it.
        inputs: what it was made from.
        notes: free text for the operator.
        published_at: `as_of` of the publication [UTC].
        writer: Dagster run id.
        previous: publication it replaced; None for the first, or when the one before was damaged (`notes["repaired"]`).
    """

    table: str
    partition: Partition
    publication_id: str
    digest: str
    n_rows: int
    data: StoredFile
    attachments: tuple[StoredFile, ...]
    schema_version: int
    code_version: str
    inputs: tuple[Input, ...]
    notes: Mapping[str, str]
    published_at: datetime
    writer: str
    previous: str | None

    @property
    def files(self) -> tuple[tuple[StoredFile, str], ...]:
        """Every file with the name it is stored under."""
        return stored_names(self.data, self.attachments)

    def to_json(self) -> bytes:
        """Return the manifest: canonical JSON of all but `publication_id`, which is the sha256 of these bytes."""
        # Field by field: `asdict` copies deeply, and manifests are read some thousand times per backfill.
        body = {name: getattr(self, name) for name in _PLAIN}
        return _canonical(
            body
            | {
                "partition": self.partition.keys,
                "data": _flat(self.data),
                "attachments": [_flat(file) for file in self.attachments],
                "inputs": [_flat(one) for one in self.inputs],
                "notes": dict(self.notes),
                "published_at": self.published_at.isoformat(),
            }
        )

    def sealed(self) -> "Publication":
        """Return the publication under the name that its content gives it."""
        return replace(self, publication_id=sha256_of(self.to_json()))


_PLAIN: Final = ("table", "digest", "n_rows", "schema_version", "code_version", "writer", "previous")


def _flat(item: "StoredFile | Input") -> dict[str, object]:
    return {one.name: getattr(item, one.name) for one in fields(item)}


@lru_cache(maxsize=_MANIFESTS_KEPT)
def publication_from_json(manifest: bytes) -> Publication:
    """Read a manifest back, strictly: every field, of its type, nothing else, in canonical form.

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        raw: Mapping[str, Any] = json.loads(manifest)
        publication = _decode(raw).sealed()
    except (KeyError, TypeError, UsageError, RecursionError) as error:
        message = f"field {error} is missing or wrong"
        raise ValueError(message) from error
    if publication.to_json() != manifest:
        message = "it is not the canonical JSON of a publication"
        raise ValueError(message)
    if publication.data.name != data_file(publication.data.sha256):
        message = "its data file is not named by its content"
        raise ValueError(message)
    if publication.digest != digest_of(publication.data, publication.attachments):
        message = "its digest is not the digest of the files it names"
        raise ValueError(message)
    return publication


def digest_of(data: StoredFile, attachments: Sequence[StoredFile]) -> str:
    """Return the content digest: sha256 over the data's sha256 and the attachments' names and sha256s, by name."""
    return sha256_of(_canonical([data.sha256, sorted([file.name, file.sha256] for file in attachments)]))


def stored_names(data: StoredFile, attachments: Sequence[StoredFile]) -> tuple[tuple[StoredFile, str], ...]:
    """Return every file with the name it is stored under: rows keep theirs, attachments get their digest's."""
    return ((data, data.name), *((file, attachment_file(file.name, file.sha256)) for file in attachments))


def pointer_to(publication: Publication) -> bytes:
    """Return the pointer's bytes."""
    return _canonical({"publication_id": publication.publication_id})


def pointed_to(pointer: bytes) -> str:
    """Return the publication id that a pointer names.

    Raises:
        ValueError: if the bytes are not a pointer.
    """
    match = _POINTER.fullmatch(pointer)
    if match is None:
        message = "it is not a pointer"
        raise ValueError(message)
    return match[1].decode()


def sha256_of(content: bytes) -> str:
    """Return the sha256 of bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _decode(raw: Mapping[str, Any]) -> Publication:
    previous = raw["previous"]
    return Publication(
        table=_typed(raw, "table", str),
        partition=partition_of([(name, value) for name, value in _typed(raw, "partition", list[Any])]),
        publication_id="",
        digest=_typed(raw, "digest", str),
        n_rows=_typed(raw, "n_rows", int),
        data=_stored_file(_typed(raw, "data", dict[str, Any])),
        attachments=tuple(_stored_file(file) for file in _typed(raw, "attachments", list[Any])),
        schema_version=_typed(raw, "schema_version", int),
        code_version=_typed(raw, "code_version", str),
        inputs=tuple(
            Input(
                _typed(item, "table", str),
                _typed(item, "partition", str),
                _typed(item, "digest", str),
                _typed(item, "materialization_id", int),
                _typed(item, "facts", str),
            )
            for item in _typed(raw, "inputs", list[Any])
        ),
        notes={key: _typed(raw["notes"], key, str) for key in _typed(raw, "notes", dict[str, Any])},
        published_at=datetime.fromisoformat(_typed(raw, "published_at", str)).astimezone(UTC),
        writer=_typed(raw, "writer", str),
        previous=None if previous is None else _typed(raw, "previous", str),
    )


def _stored_file(raw: Mapping[str, Any]) -> StoredFile:
    return StoredFile(_typed(raw, "name", str), _typed(raw, "sha256", str), _typed(raw, "n_bytes", int))


def _typed(raw: Mapping[str, Any], key: str, kind: type[_T]) -> _T:
    value = raw[key]
    if type(value) is not (getattr(kind, "__origin__", kind)):
        message = f"{key!r}: {value!r}"
        raise TypeError(message)
    return value
