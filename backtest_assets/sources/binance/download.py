"""Files of the archive into the inbox, each held against its published checksum; which ones to want stays out."""

import asyncio
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Final

from backtest_assets.errors import SourceError
from backtest_assets.sources.archive.layout import ArchiveFile
from backtest_assets.sources.archive.unzip import ChecksumError, verify_checksum
from backtest_assets.sources.binance.client import Client, Reply
from backtest_assets.sources.binance.inbox import Inbox
from backtest_assets.sources.binance.pieces import parse_archive
from backtest_assets.sources.binance.record import Record, file_trust

FILE_BYTES_MAX: Final = 64 * 2**20
"""Largest archive file [bytes]; a month of 1m klines has 2 MB."""

CHECKSUM_BYTES_MAX: Final = 4096
"""Largest `.CHECKSUM` [bytes]; real ones have about 100."""

_SUFFIX: Final = ".CHECKSUM"
_DOWNLOADS: Final = 2  # a file that does not fit its checksum is fetched once more


class UnusableFileError(SourceError):
    """A file is the one that was published, and still has no rows to read; it is in quarantine."""


class Downloads:
    """One round of questions to the archive: each file is asked for at most once.

    Args:
        client: how to ask.
        inbox: where files are kept.
        base: URL that archive keys are appended to.
        as_of: when it is asked.
        force: ask again also for what is still trusted.
    """

    def __init__(self, client: Client, inbox: Inbox, base: str, *, as_of: datetime, force: bool) -> None:
        self._client = client
        self._inbox = inbox
        self._base = base
        self._as_of = as_of
        self._force = force
        self._asked: dict[str, asyncio.Task[Record]] = {}

    async def file(self, file: ArchiveFile) -> Record:
        """Return the record of a file that is now in the inbox, or of its absence.

        Raises:
            UnusableFileError: if it is as it was published and cannot be read.
            SourceError: naming the file if it cannot be had or cannot be trusted.
        """
        if file.key not in self._asked:
            self._asked[file.key] = asyncio.create_task(self._file(file))
        return await self._asked[file.key]

    async def is_published(self, file: ArchiveFile) -> bool:
        """Return whether the archive has a file, by its `.CHECKSUM`; nothing is kept."""
        return (await self._checksum(file)).status != HTTPStatus.NOT_FOUND

    async def _file(self, file: ArchiveFile) -> Record:
        held = self._inbox.record(file.key)
        if held is not None and held.url == self.url(file.key):
            if not held.is_due(file_trust(file.end, self._as_of), as_of=self._as_of, force=self._force):
                return held
            if held.is_held:
                return await self._recheck(file, held)
        return await self._download(file) or self._absent(file)

    async def _recheck(self, file: ArchiveFile, held: Record) -> Record:
        published = await self._checksum(file, held)
        # A file that the archive no longer lists was verified when it came; it stays.
        if published.status != HTTPStatus.OK or _published(published) == held.sha256:
            fresh = replace(held, checked_at=self._as_of)
            if published.status == HTTPStatus.OK:
                fresh = replace(fresh, etag=published.etag, last_modified=published.last_modified)
            self._inbox.note(file.key, fresh)
            return fresh
        newer = await self._download(file)
        if newer is None:
            message = f"{self.url(file.key)}: its checksum changed but the file is gone; run again later, the version received before is kept"
            raise SourceError(message)
        return newer

    async def _download(self, file: ArchiveFile) -> Record | None:
        trouble: list[str] = []
        for _ in range(_DOWNLOADS):
            got = await self._client.get(self.url(file.key), bytes_max=FILE_BYTES_MAX)
            if got.status == HTTPStatus.NOT_FOUND:
                return None
            published = await self._checksum(file)
            if published.status == HTTPStatus.NOT_FOUND:
                message = f"{self.url(file.key)}: has no {_SUFFIX} beside it, so it cannot be verified and is not used; run again when the exchange publishes one"
                raise SourceError(message)
            try:
                verify_checksum(got.content, _text(published), name=file.name)
            except ChecksumError as error:
                kept = self._inbox.quarantine(file.key, got.content, {"reason": str(error), "url": self.url(file.key)})
                trouble.append(f"{error} (kept at {kept})")
                continue
            return self._keep(file, got.content, published)
        message = f"{self.url(file.key)}: downloaded {_DOWNLOADS} times, each time wrong: {trouble[-1]}; run again later, or report it to the exchange"
        raise SourceError(message)

    def _keep(self, file: ArchiveFile, content: bytes, published: Reply) -> Record:
        try:
            instants = parse_archive(file, content)[file.dataset.instant]
        except SourceError as error:
            kept = self._inbox.quarantine(file.key, content, {"reason": str(error), "url": self.url(file.key)})
            message = f"{self.url(file.key)}: fits its checksum but cannot be used: {error}; kept at {kept}"
            raise UnusableFileError(message) from error
        record = Record(
            url=self.url(file.key),
            status=HTTPStatus.OK,
            published_sha256=_published(published),
            etag=published.etag,
            last_modified=published.last_modified,
            n_rows=instants.filter(instants.is_between(file.start, file.end, closed="left")).n_unique(),
            fetched_at=self._as_of,
            checked_at=self._as_of,
        )
        stored = self._inbox.store(file.key, (content,), record)
        self._inbox.beside(file.key, _SUFFIX, published.content)
        return stored

    def _absent(self, file: ArchiveFile) -> Record:
        status = HTTPStatus.NOT_FOUND
        record = Record(url=self.url(file.key), status=status, fetched_at=self._as_of, checked_at=self._as_of)
        return self._inbox.store(file.key, (), record)

    async def _checksum(self, file: ArchiveFile, held: Record | None = None) -> Reply:
        return await self._client.get(
            f"{self.url(file.key)}{_SUFFIX}",
            bytes_max=CHECKSUM_BYTES_MAX,
            etag=held.etag if held else None,
            last_modified=held.last_modified if held else None,
        )

    def url(self, key: str) -> str:
        """Return where the archive has a file or folder."""
        return f"{self._base}/{key}"


def _text(published: Reply) -> str:
    return published.content.decode("ascii", "replace")


def _published(published: Reply) -> str:
    return _text(published)[:64].lower()
