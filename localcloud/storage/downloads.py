"""Downloads: whole, in part, of one generation, and unpacked for clients that don't accept gzip."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import BinaryIO

from localcloud.rest import Response
from localcloud.storage import errors, rows
from localcloud.storage.contents import BLOCK_BYTES, Contents, encode_crc32c, encode_md5
from localcloud.storage.database import Database
from localcloud.storage.preconditions import Preconditions

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PARTIAL_CONTENT = 206


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bytes of which object a client asks for, and what must hold."""

    bucket: str
    name: str
    generation: int | None
    preconditions: Preconditions


class Downloads:
    """The download door of a server."""

    def __init__(self, database: Database, contents: Contents) -> None:
        self._database = database
        self._contents = contents

    async def answer(self, wanted: Wanted, request_headers: Mapping[str, str]) -> Response:
        """The object's bytes, or the part of them that a `Range` header names.

        Raises:
            ApiError: 304, 404, 412, 416.
        """
        while True:
            row = rows.get_object(self._database.reader, wanted.bucket, wanted.name, wanted.generation)
            wanted.preconditions.check(row.generation, row.metageneration)
            check_etag(row, request_headers)
            data = self._inline_data(row)
            if data is not None:
                return _respond(row, data, None, request_headers)
            try:
                file = self._contents.path(row.content_id).open("rb")
            except FileNotFoundError:
                if self._is_current(row):
                    raise  # a content that a row mentions is always there: a bug, or somebody cleared the folder
                continue  # replaced or deleted since we read the row: read it again
            return _respond(row, None, file, request_headers)

    def _inline_data(self, row: rows.Object) -> bytes | None:
        found = self._database.reader.execute("SELECT data FROM contents WHERE id = ?", (row.content_id,)).fetchone()
        return found[0] if found else None

    def _is_current(self, row: rows.Object) -> bool:
        found = rows.find_object(self._database.reader, row.bucket, row.name, row.generation)
        return found is not None and found.content_id == row.content_id


def check_etag(row: rows.Object, headers: Mapping[str, str]) -> None:
    """Honour `If-Match` and `If-None-Match`.

    Raises:
        ApiError: 304, 412.
    """
    if_match = headers.get("if-match")
    if if_match is not None and not _names(if_match, row.etag):
        raise errors.condition_not_met(f"If-Match: {if_match}, found {row.etag}.")
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None and _names(if_none_match, row.etag):
        raise errors.not_modified(f"If-None-Match: {if_none_match}")


def _names(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]


def _respond(
    row: rows.Object, data: bytes | None, file: BinaryIO | None, request_headers: Mapping[str, str]
) -> Response:
    headers = _headers(row)
    content_type = row.fields.get("contentType", "application/octet-stream")
    encoding = row.fields.get("contentEncoding", "")
    may_transcode = encoding == "gzip" and "no-transform" not in row.fields.get("cacheControl", "")
    if may_transcode and "gzip" not in request_headers.get("accept-encoding", ""):
        headers["Warning"] = "214 UploadServer gunzipped"
        return Response(200, _unpacked(_pieces(data, file, 0, row.size_bytes)), headers, content_type)
    if encoding:
        headers["Content-Encoding"] = encoding
    try:
        span = _span(request_headers.get("range"), row.size_bytes)
    except BaseException:
        if file is not None:
            file.close()
        raise
    status = 200
    begin, end = 0, row.size_bytes
    if span is not None:
        begin, end = span
        status = _PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{row.size_bytes}"
    headers["Content-Length"] = str(end - begin)
    body = data[begin:end] if data is not None else _pieces(None, file, begin, end)
    return Response(status, body, headers, content_type)


def _headers(row: rows.Object) -> dict[str, str]:
    hashes = [f"crc32c={encode_crc32c(row.crc32c)}"]
    if row.md5 is not None:
        hashes.append(f"md5={encode_md5(row.md5)}")
    headers = {
        "ETag": row.etag,
        "Last-Modified": formatdate(row.updated_us / 1e6, usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": str(row.generation),
        "X-Goog-Metageneration": str(row.metageneration),
        "X-Goog-Hash": ",".join(hashes),
        "X-Goog-Storage-Class": row.fields.get("storageClass", "STANDARD"),
        "X-Goog-Stored-Content-Encoding": row.fields.get("contentEncoding", "identity"),
        "X-Goog-Stored-Content-Length": str(row.size_bytes),
    }
    for header, name in (
        ("Cache-Control", "cacheControl"),
        ("Content-Disposition", "contentDisposition"),
        ("Content-Language", "contentLanguage"),
    ):
        if name in row.fields:
            headers[header] = row.fields[name]
    return headers


def _span(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """The first byte and the one behind the last; None for the whole object.

    A header that cannot be read, or names several ranges, is ignored, as HTTP asks and the cloud does.

    Raises:
        ApiError: 416.
    """
    match = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        begin, end = max(0, size_bytes - int(last)), size_bytes
    else:
        begin, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < begin:
            return None
    if begin >= size_bytes:
        raise errors.range_not_satisfiable(size_bytes)
    return begin, end


async def _pieces(data: bytes | None, file: BinaryIO | None, begin: int, end: int) -> AsyncIterator[bytes]:
    if file is None:
        yield (data or b"")[begin:end]
        return
    with file:
        file.seek(begin)
        while begin < end:
            piece = await asyncio.to_thread(file.read, min(BLOCK_BYTES, end - begin))
            if not piece:
                raise EOFError(f"{file.name} is shorter than its row says: {begin} of {end} bytes")
            begin += len(piece)
            yield piece


async def _unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Decompressive transcoding, as the cloud does for `contentEncoding: gzip`."""
    unpacker = zlib.decompressobj(wbits=31)
    async for piece in pieces:
        if unpacked := unpacker.decompress(piece):
            yield unpacked
    yield unpacker.flush()
