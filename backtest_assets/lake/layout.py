"""Where everything lies under the data root, as pure path functions; touching the disk stays out.

`lake/<table>/<partition>/` holds `data/<sha256>.parquet`, `manifests/<publication_id>.json` and the pointer
`current.json`. `staging/<token>/` is scratch, `quarantine/<table>/<partition>/<utc>-<token>/` keeps what was refused.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from backtest_assets.domain.market import Partition
from backtest_assets.errors import UsageError

LAKE: Final = PurePosixPath("lake")
STAGING: Final = PurePosixPath("staging")
QUARANTINE: Final = PurePosixPath("quarantine")
POINTER: Final = "current.json"
VERDICTS: Final = "verdicts.json"
PART_SUFFIX: Final = ".part"
DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"market": ("symbol", "month"), "research": ("run_id",)}
)

_TABLE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_STORED_FILE = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,16}")
_ATTACHMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.([a-z0-9]{1,16})")


def table_folder(table: str) -> PurePosixPath:
    """Return the folder of a table.

    Raises:
        UsageError: if the name is not lower case letters, digits and underscores.
    """
    return LAKE / _checked(_TABLE, table, "a table name", "bars_um")


def partition_folder(table: str, partition: Partition) -> PurePosixPath:
    """Return the folder of a partition.

    Raises:
        UsageError: if the table or the partition cannot name a folder.
    """
    return table_folder(table) / str(partition_of(partition.keys))


def partition_of(keys: Sequence[tuple[str, str]]) -> Partition:
    """Return the partition with these keys, held to the rules of its dimensions.

    Raises:
        UsageError: if the dimensions are neither (symbol, month) nor (run_id), or a value breaks their rules.
    """
    match tuple(keys):
        case (("symbol", symbol), ("month", month)):
            partition = Partition.of_month(symbol, month)
        case (("run_id", run_id),):
            partition = Partition.of_run(run_id)
        case _:
            partition = None
    if partition is None or partition.keys != tuple(keys):
        message = f"{list(keys)} is not a partition; it is (symbol, month) like BTCUSDT, 2024-03 or one run_id"
        raise UsageError(message)
    return partition


def pointer_key(table: str, partition: Partition) -> PurePosixPath:
    """Return the pointer of a partition: the one file that ever changes."""
    return partition_folder(table, partition) / POINTER


def manifest_key(table: str, partition: Partition, publication_id: str) -> PurePosixPath:
    """Return the manifest of a publication."""
    checked = _checked(_SHA256, publication_id, "a publication id", "a sha256 in hexadecimal")
    return partition_folder(table, partition) / "manifests" / f"{checked}.json"


def data_key(table: str, partition: Partition, name: str) -> PurePosixPath:
    """Return a content-addressed file of a partition."""
    return (
        partition_folder(table, partition) / "data" / _checked(_STORED_FILE, name, "a stored file", "<sha256>.parquet")
    )


def data_file(sha256: str) -> str:
    """Return the stored file name of a table's rows."""
    return f"{sha256}.parquet"


def attachment_file(name: str, sha256: str) -> str:
    """Return the stored file name of an attachment: its digest with the extension of its name.

    >>> attachment_file("report.html", "0" * 64)[60:]
    '0000.html'

    Raises:
        UsageError: if the name is not plain or has no extension.
    """
    _checked(_ATTACHMENT, name, "an attachment name", "report.html")
    return f"{sha256}.{name.rpartition('.')[2]}"


def staging_folder(token: str) -> PurePosixPath:
    """Return the scratch folder of one staging."""
    return STAGING / token


def quarantine_folder(table: str, partition: Partition, as_of: datetime, token: str) -> PurePosixPath:
    """Return the folder that keeps data refused at `as_of`."""
    stamp = as_of.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return QUARANTINE / partition_folder(table, partition).relative_to(LAKE) / f"{stamp}-{token[:8]}"


def _checked(pattern: re.Pattern[str], text: str, what: str, example: str) -> str:
    if pattern.fullmatch(text) is None:
        message = f"{text!r} is not {what}; for example {example}"
        raise UsageError(message)
    return text
