"""What was received, kept as it came with a record beside it; what to ask for and what it means stay out.

`<data_root>/inbox/binance/<key>` holds the bytes, `<key>.record.json` says where they came from. The bytes are written
first and the record last, each by one atomic rename: without a record that fits them, bytes were never received.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from backtest_assets.errors import SourceError
from backtest_assets.sources.binance.record import Record, record_from_text, record_to_text

_PART: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_SHOWN: Final = 8  # hex digits of a SHA-256 that tell versions of a file apart
_LOOKS_S: Final = (0.0, 0.2)  # waits before looking: what does not fit, another process may be storing just now


class Inbox:
    """The inbox under one data root."""

    def __init__(self, data_root: Path) -> None:
        self._root = data_root / "inbox" / "binance"
        self._superseded = data_root / "inbox" / "superseded" / "binance"
        self._quarantine = data_root / "quarantine" / "inbox"
        self._swept: set[Path] = set()

    def record(self, key: str) -> Record | None:
        """Return what is known of a file; None if nothing, or if its bytes are not the ones that were received.

        Such bytes go to quarantine, so that they are fetched again and can still be looked at.
        """
        record, pages = None, None
        for wait_s in _LOOKS_S:
            time.sleep(wait_s)
            record = self._record(key)
            if record is None or not record.is_held:
                return record
            pages = self._pages(key, record)
            if pages is not None and _digest(pages) == record.sha256:
                return record
        if record is not None and pages is not None:
            about = {"reason": "changed in the inbox after it was received", "record": record.url}
            self.quarantine(key, b"".join(pages), about)
        self._record_path(key).unlink(missing_ok=True)
        return None

    def read(self, key: str, sha256: str) -> tuple[bytes, ...]:
        """Return the pages of a file.

        Raises:
            SourceError: if they are not the bytes with this digest.
        """
        for wait_s in _LOOKS_S:
            time.sleep(wait_s)
            record = self._record(key)
            pages = None if record is None else self._pages(key, record)
            if pages is not None and _digest(pages) == sha256:
                return pages
        message = f"{self._path(key)}: is not what was received (SHA-256 {sha256[:_SHOWN]}..); run the ingest again, it will be fetched anew"
        raise SourceError(message)

    def store(self, key: str, pages: Sequence[bytes], record: Record) -> Record:
        """Keep bytes as received, or the fact that there are none; what was there before is moved to `superseded/`.

        That there are none never displaces bytes: what one mirror lacks, another gave.

        Args:
            key: path in the inbox.
            pages: the bytes; none with status 404.
            record: what is known of them; digest, size and number of pages are filled in here.
        """
        record = replace(record, sha256=_digest(pages) if pages else "", size=sum(map(len, pages)), n_pages=len(pages))
        old = self._record(key)
        if not pages and old is not None and old.is_held:
            return record
        self._supersede(key, record)
        for path, page in zip(self._page_paths(key, len(pages)), pages, strict=True):
            self._write(path, page, durable=True)
        self.note(key, record)
        return record

    def note(self, key: str, record: Record) -> None:
        """Write the record of a file alone, for example after the exchange said it is still the newest."""
        self._write(self._record_path(key), record_to_text(record))

    def beside(self, key: str, suffix: str, content: bytes) -> None:
        """Keep a small companion such as `.CHECKSUM`, so that the inbox is an archive folder of its own."""
        self._write(self._path(f"{key}{suffix}"), content)

    def quarantine(self, key: str, content: bytes, about: Mapping[str, str]) -> Path:
        """Keep bytes that cannot be trusted where nothing reads them, with the reason; return where."""
        path = self._quarantine / self._checked(f"{key}.{hashlib.sha256(content).hexdigest()[:_SHOWN]}")
        self._write(path, content)
        self._write(path.with_name(f"{path.name}.json"), json.dumps(dict(about), indent=1).encode())
        return path

    def _supersede(self, key: str, newer: Record) -> None:
        old = self._record(key)
        if old is not None and (old.sha256, old.n_pages) == (newer.sha256, newer.n_pages):
            return  # the same bytes again: they and a record of them are there at every moment
        if old is None or not old.is_held or newer.published_sha256 is None:
            self._record_path(key).unlink(missing_ok=True)
            return
        # The record goes first: bytes without one are as good as not there if we are killed in between.
        kept = self._superseded / self._checked(f"{key}.{old.sha256[:_SHOWN]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process moves the same version
            self._record_path(key).replace(kept.with_name(f"{kept.name}.record.json"))
            for n, path in enumerate(self._page_paths(key, old.n_pages), start=1):
                path.replace(_page(kept, n))

    def _write(self, path: Path, content: bytes, *, durable: bool = False) -> None:
        self._sweep(path.parent)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(content)
                if (
                    durable
                ):  # a record torn by a power cut is as good as none; bytes must be there before their record is
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    def _sweep(self, folder: Path) -> None:
        """Make a folder and remove what dead processes left half written in it, once."""
        if folder in self._swept:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.part"):
            if not _is_alive(leftover.name.rsplit(".", 2)[1]):
                leftover.unlink(missing_ok=True)
        self._swept.add(folder)

    def _record(self, key: str) -> Record | None:
        path = self._record_path(key)
        return record_from_text(path.read_bytes()) if path.is_file() else None

    def _pages(self, key: str, record: Record) -> tuple[bytes, ...] | None:
        try:
            return tuple(path.read_bytes() for path in self._page_paths(key, record.n_pages))
        except FileNotFoundError:
            return None

    def _page_paths(self, key: str, n_pages: int) -> list[Path]:
        return [_page(self._path(key), n) for n in range(1, n_pages + 1)]

    def _record_path(self, key: str) -> Path:
        return self._path(f"{key}.record.json")

    def _path(self, key: str) -> Path:
        return self._root / self._checked(key)

    @staticmethod
    def _checked(key: str) -> str:
        if any(_PART.fullmatch(part) is None for part in key.split("/")):
            message = f"inbox: {key!r} cannot be a path below the inbox; use names of the archive's layout"
            raise SourceError(message)
        return key


def _digest(pages: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(pages)).hexdigest()


def _page(path: Path, n: int) -> Path:
    return path if n == 1 else path.with_name(f"{path.name}.{n}")


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        return True
    return True
