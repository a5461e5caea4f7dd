"""What is known of something received, and how long it is believed; keeping the bytes and asking stay out."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

TRUST: Final = timedelta(minutes=10)
"""An answer is believed this long, so that a re-run after a failure asks only for what it lacks."""

RECHECK: Final = timedelta(days=1)
"""Old files, absent ones too, and listings are asked for again after this; the exchange re-issues a few a year."""

OLD: Final = timedelta(days=60)
"""A file about a stretch that ended this long ago is old; corrections come mostly in the weeks after a month's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Where a file of the inbox came from.

    Attributes:
        url: what was asked.
        status: 200, or 404 if there is no such file.
        sha256: of all bytes; empty if there are none.
        published_sha256: the exchange's own sum; None where it gives none.
        etag: validator of the next question.
        last_modified: the same, by date.
        size: all bytes.
        n_pages: files they lie in: `key`, `key.2`, `key.3` ...
        n_rows: distinct instants in them.
        fetched_at: when they were received.
        checked_at: when the exchange last said that they are its newest.
    """

    url: str
    status: int
    sha256: str = ""
    published_sha256: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    size: int = 0
    n_pages: int = 0
    n_rows: int = 0
    fetched_at: datetime
    checked_at: datetime

    @property
    def is_held(self) -> bool:
        """Whether there are bytes."""
        return self.status == HTTPStatus.OK

    def is_due(self, trust: timedelta, *, as_of: datetime, force: bool) -> bool:
        """Return whether the answer is older than the trust in it; `force` trusts only what was asked at this `as_of`.

        One from so far ahead came while a clock was wrong, and is asked for again too.
        """
        age = abs(as_of - self.checked_at)
        return age >= trust or (force and age > timedelta(0))


def file_trust(end: datetime, as_of: datetime) -> timedelta:
    """Return how long an answer about a file is believed whose stretch ended at `end`."""
    return RECHECK if as_of - end > OLD else TRUST


def record_to_text(record: Record) -> bytes:
    """Return the record as JSON."""
    return json.dumps(asdict(record), default=datetime.isoformat, indent=1).encode()


def record_from_text(text: bytes) -> Record | None:
    """Read what `record_to_text` wrote; None from a text torn by a crash, as if nothing had been received."""
    try:
        values: dict[str, Any] = json.loads(text)
        fetched_at, checked_at = (datetime.fromisoformat(values[name]) for name in ("fetched_at", "checked_at"))
        return replace(Record(**values), fetched_at=fetched_at, checked_at=checked_at)
    except (ValueError, TypeError, KeyError):
        return None
