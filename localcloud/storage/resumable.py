"""Resumable upload sessions: chunks appended to a file, remembered across restarts.

A session's row says how many bytes were fsynced; whatever the file holds beyond that is cut off before the next
chunk. Chunks count in steps of 256 KiB until the last, as in the cloud, so a client that is not careful to read the
`Range` of each answer is found out here. Source: "Resumable uploads" in Cloud Storage's documentation.
"""

import asyncio
import json
import os
import re
import sqlite3
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcloud.rest import ApiError
from localcloud.storage import errors
from localcloud.storage.contents import (
    BLOCK_BYTES,
    INLINE_LIMIT_BYTES,
    Content,
    Contents,
    Digests,
    inline_content,
    write_all,
)
from localcloud.storage.database import Database, Transaction

STEP_BYTES = 256 * 1024
_LIFETIME_US = 7 * 24 * 3600 * 1_000_000  # a session lives for a week, as in the cloud
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+|\*)|\*)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What a chunk says of itself.

    Attributes:
        offset: where its first byte belongs; None asks for the session's status only.
        end: behind its last byte; None if it does not say.
        total_bytes: size of the whole object; None if not known yet.
        is_whole: no Content-Range was sent: what comes is the object up to its end.
    """

    offset: int | None
    end: int | None = None
    total_bytes: int | None = None
    is_whole: bool = False

    @classmethod
    def parse(cls, header: str | None) -> "ContentRange":
        """Read a `Content-Range` header.

        Raises:
            ApiError: 400.
        """
        if not header:
            return cls(0, is_whole=True)
        match = _RANGE.fullmatch(header.strip())
        if match is None:
            raise errors.invalid(f"Invalid Content-Range {header!r}; write bytes FIRST-LAST/TOTAL or bytes */TOTAL.")
        first, last, total = match.groups()
        total_bytes = None if total == "*" else int(total)
        if first is None:
            return cls(None, None, total_bytes)
        end = None if last == "*" else int(last) + 1
        if end is not None and (end <= int(first) or (total_bytes is not None and end > total_bytes)):
            raise errors.invalid(f"Invalid Content-Range {header!r}: it ends before it begins, or behind the total.")
        return cls(int(first), end, total_bytes)


@dataclass(slots=True)
class Session:
    """One session as its row tells."""

    id: str
    bucket: str
    name: str
    request: dict[str, Any]
    received_bytes: int
    finished: dict[str, Any] | None


@dataclass(slots=True)
class _Live:
    """What this process knows of a session besides its row."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    digests: Digests | None = None


class Sessions:
    """All sessions of a server."""

    def __init__(self, data_dir: Path, database: Database, contents: Contents) -> None:
        self._folder = data_dir / "uploads"
        self._database = database
        self._contents = contents
        self._live: dict[str, _Live] = {}

    def clean(self, db: sqlite3.Connection, now_us: int) -> None:
        """Forget sessions of more than a week, and files without a session."""
        self._folder.mkdir(parents=True, exist_ok=True)
        db.execute("DELETE FROM sessions WHERE created_us < ?", (now_us - _LIFETIME_US,))
        known = {row[0] for row in db.execute("SELECT id FROM sessions WHERE finished IS NULL")}
        for path in self._folder.iterdir():
            if path.name not in known:
                path.unlink()

    async def create(self, bucket: str, name: str, request: dict[str, Any]) -> str:
        """Begin a session; return its id, a secret as in the cloud."""
        session_id = uuid.uuid4().hex + uuid.uuid4().hex
        (self._folder / session_id).touch()

        def insert(transaction: Transaction) -> None:
            transaction.db.execute(
                "INSERT INTO sessions (id, bucket, name, request, created_us) VALUES (?, ?, ?, ?, ?)",
                (session_id, bucket, name, json.dumps(request), transaction.now_us),
            )

        await self._database.write(insert)
        return session_id

    def find(self, session_id: str) -> Session:
        """The session.

        Raises:
            ApiError: 404.
        """
        row = self._database.reader.execute(
            "SELECT id, bucket, name, request, received_bytes, finished FROM sessions WHERE id = ?", (session_id,)
        ).fetchone()
        if row is None:
            raise errors.not_found(f"Upload session {session_id!r} does not exist or has expired; begin a new one.")
        finished = json.loads(row[5]) if row[5] else None
        return Session(row[0], row[1], row[2], json.loads(row[3]), row[4], finished)

    async def cancel(self, session_id: str) -> None:
        """Forget a session and its bytes.

        Raises:
            ApiError: 404.
        """
        self.find(session_id)
        await self._database.write(
            lambda transaction: transaction.db.execute("DELETE FROM sessions WHERE id = ?", (session_id,)).rowcount
        )
        self.forget(session_id)

    def forget(self, session_id: str) -> None:
        """Drop the bytes of a session that is finished or given up."""
        self._live.pop(session_id, None)
        (self._folder / session_id).unlink(missing_ok=True)

    def lock(self, session_id: str) -> asyncio.Lock:
        """One request at a time may append to a session."""
        return self._live.setdefault(session_id, _Live()).lock

    async def append(self, session: Session, said: ContentRange, chunks: AsyncIterator[bytes]) -> bool:
        """Keep a chunk's bytes durably, as far as they count; call it with the session's lock held.

        Returns:
            Whether the upload is complete; `session.received_bytes` is brought up to date.

        Raises:
            ApiError: 400 or 503 for a chunk that does not fit the session.
        """
        assert said.offset is not None
        _check_fit(session, said)
        live = self._live.setdefault(session.id, _Live())
        path = self._folder / session.id
        if live.digests is None or live.digests.size_bytes != session.received_bytes:
            live.digests = await asyncio.to_thread(_digest, path, session.received_bytes)
        appender = _Appender(path, live.digests, said, session.received_bytes)
        is_complete = False
        try:
            async for chunk in chunks:
                await appender.take(chunk)
            is_complete = _is_complete(said, said.offset + appender.taken_bytes)
        finally:  # also when the caller went away in the middle: what came so far counts
            await asyncio.to_thread(appender.settle, is_last=is_complete)
            session.received_bytes = live.digests.size_bytes
            await self._remember(session)
        return is_complete

    async def content(self, session: Session) -> Content:
        """The whole upload as content; its file keeps the session's name too, until `forget`."""
        path = self._folder / session.id
        if session.received_bytes <= INLINE_LIMIT_BYTES:
            return inline_content(path.read_bytes()[: session.received_bytes])
        live = self._live.setdefault(session.id, _Live())
        if live.digests is None or live.digests.size_bytes != session.received_bytes:
            live.digests = await asyncio.to_thread(_digest, path, session.received_bytes)
        content_id = await asyncio.to_thread(self._contents.keep, path, is_link=True)
        return Content(content_id, session.received_bytes, live.digests.md5.digest(), live.digests.crc32c)

    async def _remember(self, session: Session) -> None:
        def update(transaction: Transaction) -> None:
            transaction.db.execute(
                "UPDATE sessions SET received_bytes = ? WHERE id = ?", (session.received_bytes, session.id)
            )

        await self._database.write(update)


class _Appender:
    """Writes one chunk behind what a session has, in whole steps of 256 KiB unless it is the last."""

    def __init__(self, path: Path, digests: Digests, said: ContentRange, received_bytes: int) -> None:
        assert said.offset is not None
        self._digests = digests
        self._to_skip = received_bytes - said.offset
        self._limit = None if said.end is None else said.end - said.offset
        self._buffer = bytearray()
        self.taken_bytes = 0
        self._file = path.open("r+b", buffering=0)
        self._file.truncate(digests.size_bytes)
        self._file.seek(digests.size_bytes)

    async def take(self, data: bytes) -> None:
        """Take the next bytes; those which the session has already are passed over.

        Raises:
            ApiError: 400 if there are more than the Content-Range said.
        """
        self.taken_bytes += len(data)
        if self._limit is not None and self.taken_bytes > self._limit:
            raise errors.invalid(f"The chunk is longer than the {self._limit} bytes that its Content-Range says.")
        skipped = min(self._to_skip, len(data))
        self._to_skip -= skipped
        self._buffer += data[skipped:]
        if len(self._buffer) >= BLOCK_BYTES:
            await asyncio.to_thread(self._write, len(self._buffer) // STEP_BYTES * STEP_BYTES)

    def settle(self, *, is_last: bool) -> None:
        """Write what counts of the rest, make all of it durable, and close the file."""
        with self._file:
            self._write(len(self._buffer) if is_last else len(self._buffer) // STEP_BYTES * STEP_BYTES)
            os.fsync(self._file.fileno())

    def _write(self, length: int) -> None:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        write_all(self._file, data)
        self._digests.update(data)


def _check_fit(session: Session, said: ContentRange) -> None:
    assert said.offset is not None
    if said.offset > session.received_bytes:
        raise ApiError(
            503,
            "UNAVAILABLE",
            f"Invalid request. According to the Content-Range header, the upload offset is {said.offset} byte(s), "
            f"which exceeds already uploaded size of {session.received_bytes} byte(s).",
            "backendError",
        )
    length = None if said.end is None else said.end - said.offset
    is_last = said.end is None or said.end == said.total_bytes
    if length is not None and length < STEP_BYTES and not is_last:
        raise errors.invalid(
            f"Invalid request. The number of bytes uploaded is required to be equal or greater than {STEP_BYTES}, "
            f"except for the final request (it's recommended to be the exact multiple of {STEP_BYTES}). "
            f"The received request contained {length} bytes, which does not meet this requirement."
        )


def _is_complete(said: ContentRange, reached: int) -> bool:
    """Whether the bytes up to `reached` are all.

    Raises:
        ApiError: 400 if a chunk carried fewer bytes than it said, or more than the object has.
    """
    if said.end is not None and reached != said.end:
        raise errors.invalid(f"The chunk ends at byte {reached}, but its Content-Range says {said.end}.")
    if said.total_bytes is not None and reached > said.total_bytes:
        raise errors.invalid(f"The upload has {reached} bytes, more than the {said.total_bytes} announced.")
    return said.is_whole or reached == said.total_bytes


def _digest(path: Path, size_bytes: int) -> Digests:
    """Read again what an earlier process received."""
    digests = Digests()
    with path.open("rb") as file:
        while digests.size_bytes < size_bytes:
            block = file.read(min(BLOCK_BYTES, size_bytes - digests.size_bytes))
            if not block:
                raise errors.not_found(f"Upload session {path.name!r} has lost its bytes; begin a new one.")
            digests.update(block)
    return digests
