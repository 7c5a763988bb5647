"""Object contents: small ones inside SQLite, the others as files that are never seen half-written.

A large content is written to `incoming/`, fsynced, renamed into `contents/` (the folder is fsynced too), and only
then does a transaction mention it. A crash in between leaves a file that no row mentions; `clean` removes it at
start. Files are named by random ids, so no object name ever becomes a path, and a copy shares its source's file.
"""

import asyncio
import base64
import hashlib
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from localcloud.storage.database import Transaction

# One row and one shared fsync instead of a file, a folder and three: it is what makes a small write quick.
INLINE_LIMIT_BYTES = 64 * 1024
BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are safely kept, and not yet mentioned by any row.

    Attributes:
        id: names the file, or the row of `contents` when `data` is given.
        md5: None for a composed object, as in the cloud.
        data: the bytes themselves if they are few.
    """

    id: str
    size_bytes: int
    md5: bytes | None
    crc32c: int
    data: bytes | None = None
    component_count: int | None = None


@dataclass(slots=True)
class Digests:
    """md5 and crc32c of what has passed so far."""

    size_bytes: int = 0
    md5: "hashlib._Hash" = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    crc32c: int = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes in."""
        self.size_bytes += len(data)
        self.md5.update(data)
        self.crc32c = google_crc32c.extend(self.crc32c, data)


def inline_content(data: bytes) -> Content:
    """The content for few bytes: nothing is written until its transaction."""
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return Content(uuid.uuid4().hex, len(data), md5, google_crc32c.value(data), data)


def encode_crc32c(value: int) -> str:
    """As in Google's JSON and `x-goog-hash`: base64 of four big-endian bytes."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def encode_md5(value: bytes) -> str:
    """As in Google's JSON and `x-goog-hash`."""
    return base64.b64encode(value).decode()


class Contents:
    """The folder of content files below the data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._files = data_dir / "contents"
        self._incoming = data_dir / "incoming"

    def clean(self, db: sqlite3.Connection) -> int:
        """Make the folders; remove whatever a crash left behind. Returns how many files went."""
        self._files.mkdir(parents=True, exist_ok=True)
        left_over = sum(1 for _ in self._incoming.iterdir()) if self._incoming.exists() else 0
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir()
        known = {row[0] for row in db.execute("SELECT id FROM contents WHERE data IS NULL")}
        for path in self._files.glob("*/*"):
            if path.name not in known:
                path.unlink()
                left_over += 1
        return left_over

    def path(self, content_id: str) -> Path:
        """Where a content's file is; spread over 256 folders."""
        return self._files / content_id[:2] / content_id

    def new_incoming(self) -> tuple[Path, BinaryIO]:
        """A fresh file to write to, which no reader can see."""
        path = self._incoming / uuid.uuid4().hex
        return path, path.open("xb", buffering=0)

    def keep(self, path: Path, *, is_link: bool = False) -> str:
        """Move an fsynced file to its final name, durably; return its content id.

        Args:
            is_link: leave the old name in place too (a resumable session, whose row still counts on it).
        """
        content_id = uuid.uuid4().hex
        target = self.path(content_id)
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            _fsync_folder(self._files)
        if is_link:
            os.link(path, target)
        else:
            path.rename(target)
        _fsync_folder(target.parent)
        return content_id

    def discard(self, content_ids: Iterable[str]) -> None:
        """Delete files that no row mentions; one that is gone already is no matter."""
        for content_id in content_ids:
            self.path(content_id).unlink(missing_ok=True)


class ContentWriter:
    """Takes an upload's bytes in order; keeps few in memory and many in a file.

    Use: `write` for each piece, then either `finish` or `abandon`.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._buffer = bytearray()
        self._digests = Digests()
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    async def write(self, data: bytes) -> None:
        """Take the next bytes; blocks of them go to the disk in a thread."""
        self._buffer += data
        if len(self._buffer) >= BLOCK_BYTES:
            await asyncio.to_thread(self._flush)

    async def finish(self) -> Content:
        """All bytes are in: make them durable and say what they are."""
        if self._file is None and len(self._buffer) <= INLINE_LIMIT_BYTES:
            return inline_content(bytes(self._buffer))
        return await asyncio.to_thread(self._finish_file)

    def abandon(self) -> None:
        """The upload failed: leave nothing behind."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)
            self._file = None

    def _flush(self) -> None:
        if self._file is None:
            self._path, self._file = self._contents.new_incoming()
        data = bytes(self._buffer)
        self._buffer.clear()
        self._digests.update(data)
        write_all(self._file, data)

    def _finish_file(self) -> Content:
        self._flush()
        assert self._file is not None
        assert self._path is not None
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        digests = self._digests
        content_id = self._contents.keep(self._path)
        return Content(content_id, digests.size_bytes, digests.md5.digest(), digests.crc32c)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte to an unbuffered file, which may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


# -- the rows; each is called inside a transaction -----------------------------------------------------------------


def hold(transaction: Transaction, content: Content) -> None:
    """Note the first holder of a content that was just written."""
    transaction.db.execute("INSERT INTO contents VALUES (?, 1, ?)", (content.id, content.data))


def share(transaction: Transaction, content_id: str) -> None:
    """One more object row refers to this content."""
    transaction.db.execute("UPDATE contents SET holders = holders + 1 WHERE id = ?", (content_id,))


def release(transaction: Transaction, content_id: str) -> None:
    """One object row fewer refers to it; the last one takes the bytes along."""
    row = transaction.db.execute(
        "UPDATE contents SET holders = holders - 1 WHERE id = ? RETURNING holders, data IS NULL", (content_id,)
    ).fetchone()
    if row[0] == 0:
        transaction.db.execute("DELETE FROM contents WHERE id = ?", (content_id,))
        if row[1]:
            transaction.garbage.append(content_id)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
