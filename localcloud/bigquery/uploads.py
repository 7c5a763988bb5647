"""Files that arrive with a jobs.insert: multipart in one request, or resumable in pieces that survive a restart.

A resumable session is two files in the data directory: what was asked for, and the bytes so far. Its offset is the length of
the second, so nothing has to be kept in step.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, BinaryIO

from localcloud.bigquery.errors import Invalid, NotFound
from localcloud.bigquery.names import new_physical

_BUFFER_BYTES = 1024 * 1024
# One request's worth; the client goes over to resumable at 10 MB.
_MAX_MULTIPART_BYTES = 256 * 1024 * 1024
# Google forgets a session after a week.
_SESSION_LIFETIME_S = 7 * 24 * 3600
_SESSION_ID = re.compile(r"[0-9a-f]{32}")
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True)
class Progress:
    """Where a resumable session stands, and what it was opened for."""

    received: int
    is_complete: bool
    request: dict[str, Any]


class Uploads:
    """The uploads of one data directory."""

    def __init__(self, incoming: Path) -> None:
        self._incoming = incoming
        self._busy: set[str] = set()

    async def multipart(self, chunks: AsyncIterator[bytes], content_type: str) -> tuple[Any, str]:
        """Take a `multipart/related` request: its JSON part, and the name of the file with the other part."""
        header = Message()
        header["content-type"] = content_type
        boundary = header.get_param("boundary")
        if header.get_content_maintype() != "multipart" or not isinstance(boundary, str):
            raise Invalid(
                f"Content-Type is {content_type!r}; a multipart upload needs multipart/related with a boundary."
            )
        raw = bytearray()
        async for chunk in chunks:
            raw += chunk
            if len(raw) > _MAX_MULTIPART_BYTES:
                raise Invalid(f"A multipart upload is at most {_MAX_MULTIPART_BYTES} bytes here; use a resumable one.")
        return await asyncio.to_thread(self._split, bytes(raw), boundary.encode())

    async def start(self, request: dict[str, Any]) -> str:
        """Open a resumable session; its id."""
        session = uuid.uuid4().hex
        await asyncio.to_thread(self._open, session, request)
        return session

    async def resume(self, session: str, content_range: str, chunks: AsyncIterator[bytes]) -> Progress:
        """Take the next piece, or (an empty piece) tell how far the session is.

        Raises:
            NotFound: no such session.
            Invalid: a range that does not continue what came before.
        """
        request = await asyncio.to_thread(self._request, session)
        if session in self._busy:
            raise Invalid(f"Upload {session} is being written by another request; wait for its answer.")
        self._busy.add(session)
        try:
            return await self._take(session, request, content_range, chunks)
        finally:
            self._busy.discard(session)

    def finish(self, session: str) -> str:
        """Hand the bytes of a complete session over to a job; the file's name. Safe to call again."""
        name = f"t_{session}"
        part = self._part(session)
        if part.exists():
            part.rename(self._incoming / name)
        return name

    def sweep(self, owned: set[str]) -> None:
        """At a start: remove sessions that nobody came back to for a week, and files that belong to nothing any more.

        Args:
            owned: files of jobs that are still to be run.
        """
        if not self._incoming.is_dir():
            return
        for head in self._incoming.glob("*.upload"):
            if time.time() - head.stat().st_mtime > _SESSION_LIFETIME_S:
                head.with_suffix(".part").unlink(missing_ok=True)
                head.unlink(missing_ok=True)
        for file in self._incoming.glob("t_*"):
            if file.name not in owned and not self._head(file.name.removeprefix("t_")).exists():
                file.unlink(missing_ok=True)

    async def _take(
        self, session: str, request: dict[str, Any], content_range: str, chunks: AsyncIterator[bytes]
    ) -> Progress:
        part = self._part(session)
        if not part.exists():
            # The last piece was here before: its bytes went to the job, only the answer got lost.
            async for _ in chunks:
                pass
            return Progress(0, True, request)
        received = part.stat().st_size
        first, last, total = _parse_range(content_range)
        if first is None:
            async for _ in chunks:
                pass
            return Progress(received, total == received, request)
        if first > received:
            raise Invalid(
                f"Content-Range {content_range!r} begins past the {received} bytes received; continue from there."
            )
        received = await _append(part, first, chunks)
        if last is not None and received != last + 1:
            return Progress(received, False, request)
        return Progress(received, total is not None and received >= total, request)

    def _open(self, session: str, request: dict[str, Any]) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._part(session).touch()
        _write_json(self._head(session), request)

    def _request(self, session: str) -> dict[str, Any]:
        if not _SESSION_ID.fullmatch(session) or not self._head(session).is_file():
            raise NotFound(f"Not found: upload {session[:40]!r}; start a new one.")
        found: dict[str, Any] = json.loads(self._head(session).read_bytes())
        return found

    def _split(self, raw: bytes, boundary: bytes) -> tuple[Any, str]:
        parts = raw.split(b"--" + boundary)[1:-1]
        if len(parts) != 2:
            raise Invalid(f"A multipart upload has two parts, metadata and data; this one has {len(parts)}.")
        bodies = [_body_of(part) for part in parts]
        try:
            metadata = json.loads(bodies[0])
        except ValueError as error:
            raise Invalid(f"The first part of the upload is no JSON: {error}") from error
        self._incoming.mkdir(parents=True, exist_ok=True)
        name = new_physical()
        (self._incoming / name).write_bytes(bodies[1])
        return metadata, name

    def _head(self, session: str) -> Path:
        return self._incoming / f"{session}.upload"

    def _part(self, session: str) -> Path:
        return self._incoming / f"{session}.part"


async def _append(part: Path, offset: int, chunks: AsyncIterator[bytes]) -> int:
    """Write from `offset` on (an overlap was sent again, and is written again); the length afterwards."""
    stream: BinaryIO = await asyncio.to_thread(part.open, "r+b")
    buffer = bytearray()
    try:
        stream.seek(offset)
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) >= _BUFFER_BYTES:
                await asyncio.to_thread(stream.write, bytes(buffer))
                buffer.clear()
    finally:
        # What came before a cut connection counts: the caller asks how far we are, and goes on.
        await asyncio.to_thread(_close, stream, bytes(buffer))
    return part.stat().st_size


def _close(stream: BinaryIO, rest: bytes) -> None:
    with stream:
        stream.write(rest)


def _parse_range(value: str) -> tuple[int | None, int | None, int | None]:
    """First byte, last byte, total; None where unknown. No header means: the whole file in one piece."""
    if not value:
        return 0, None, None
    found = _RANGE.fullmatch(value.strip())
    if found is None:
        raise Invalid(f"Content-Range {value!r} is not 'bytes FIRST-LAST/TOTAL'.")
    first, last, total = found.groups()
    whole = None if total == "*" else int(total)
    return (None, None, whole) if first is None else (int(first), int(last), whole)


def _body_of(part: bytes) -> bytes:
    """The body of a MIME part: after its headers, before the line break that belongs to the next boundary."""
    part = part.removeprefix(b"\r\n")
    head, separator, body = part.partition(b"\r\n\r\n")
    BytesHeaderParser().parsebytes(head)
    if not separator:
        raise Invalid("A part of the upload has no end of its headers.")
    return body.removesuffix(b"\r\n")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)
