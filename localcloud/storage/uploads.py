"""`storage.objects.insert`: media, multipart and resumable uploads."""

import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from localcloud.discovery import Discovery
from localcloud.rest import ApiError, Call, Response
from localcloud.storage import errors, objects, rows
from localcloud.storage.contents import (
    INLINE_LIMIT_BYTES,
    Content,
    Contents,
    ContentWriter,
    encode_crc32c,
    encode_md5,
)
from localcloud.storage.database import Database, Transaction
from localcloud.storage.multipart import MultipartBody
from localcloud.storage.names import check_object_name
from localcloud.storage.preconditions import Preconditions
from localcloud.storage.resumable import ContentRange, Session, Sessions

_RESUME_INCOMPLETE = 308
_CANCELLED = 499  # Google's answer to a cancelled session
_MAX_METADATA_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Expected:
    """Hashes that the client says its bytes have; None where it says nothing."""

    md5: str | None = None
    crc32c: str | None = None

    @classmethod
    def of(cls, resource: dict[str, Any], header: str | None) -> "Expected":
        """From the object resource, or from an `x-goog-hash: crc32c=...,md5=...` header, which goes first."""
        said = dict(part.strip().split("=", 1) for part in (header or "").split(",") if "=" in part)
        return cls(said.get("md5") or resource.get("md5Hash"), said.get("crc32c") or resource.get("crc32c"))

    def check(self, content: Content) -> None:
        """Compare with the bytes that came.

        Raises:
            ApiError: 400, naming both.
        """
        md5 = encode_md5(content.md5) if content.md5 is not None else None
        if self.md5 is not None and md5 is not None and self.md5 != md5:
            raise errors.invalid(f'Provided MD5 hash "{self.md5}" doesn\'t match calculated MD5 hash "{md5}".')
        crc32c = encode_crc32c(content.crc32c)
        if self.crc32c is not None and self.crc32c != crc32c:
            raise errors.invalid(f'Provided CRC32C "{self.crc32c}" doesn\'t match calculated CRC32C "{crc32c}".')


class Uploads:
    """The upload door of a server."""

    def __init__(self, discovery: Discovery, database: Database, contents: Contents, sessions: Sessions) -> None:
        self._discovery = discovery
        self._database = database
        self._contents = contents
        self._sessions = sessions

    async def insert(self, call: Call) -> dict[str, Any] | Response:
        """The handler of `storage.objects.insert`.

        Raises:
            ApiError: 400, 404, 412.
        """
        if any(name.startswith("x-goog-encryption-") for name in call.headers):
            raise errors.not_implemented(
                "Customer-supplied encryption keys are not kept by the local cloud; leave x-goog-encryption-* out."
            )
        query = call.raw_query
        if "upload_id" in query:
            return await self._continue(call, query["upload_id"])
        upload_type = query.get("uploadType", "media" if call.match.media else "none")
        if upload_type == "media":
            return await self._media(call)
        if upload_type == "multipart":
            return await self._multipart(call)
        if upload_type == "resumable":
            return await self._begin(call)
        raise errors.invalid(
            f"Upload type {upload_type!r} is not known; POST to /upload/storage/v1/b/BUCKET/o with uploadType "
            "media, multipart or resumable."
        )

    async def _media(self, call: Call) -> dict[str, Any]:
        resource = {"contentType": call.headers.get("content-type", objects.DEFAULT_CONTENT_TYPE)}
        return await self._receive(call, resource, _decoded(call))

    async def _multipart(self, call: Call) -> dict[str, Any]:
        body = MultipartBody(call.headers.get("content-type", ""), _decoded(call))
        resource = await body.read_metadata()
        resource.setdefault("contentType", body.media_type or objects.DEFAULT_CONTENT_TYPE)
        return await self._receive(call, resource, body.media())

    async def _receive(self, call: Call, resource: dict[str, Any], media: AsyncIterator[bytes]) -> dict[str, Any]:
        target = self._target(call, resource)
        if not _is_small(call):  # of what is small, the transaction says it as soon
            rows.find_bucket(self._database.reader, target.bucket)
        writer = ContentWriter(self._contents)
        try:
            async for chunk in media:
                await writer.write(chunk)
            content = await writer.finish()
        except BaseException:
            writer.abandon()
            raise
        return await self._commit(target, content, Expected.of(resource, call.headers.get("x-goog-hash")), None)

    def _target(self, call: Call, resource: dict[str, Any]) -> objects.Target:
        """Where the upload goes, from the request's parameters and the metadata sent with it."""
        checked = self._discovery.check_body(call.match, resource)
        name = call.params.get("name") or checked.get("name")
        if not name:
            raise errors.invalid("Required parameter: name. Give the object's name in the query or in the metadata.")
        fields = rows.object_fields(checked)
        if call.params.get("contentEncoding"):
            fields["contentEncoding"] = call.params["contentEncoding"]
        return objects.Target(call.params["bucket"], name, fields, Preconditions.of(call.params), call.base_url)

    async def _commit(
        self, target: objects.Target, content: Content, expected: Expected, session: Session | None
    ) -> dict[str, Any]:
        def create(transaction: Transaction) -> dict[str, Any]:
            resource = rows.object_resource(objects.create(transaction, target, content), target.base_url)
            if session is not None:
                transaction.db.execute(
                    "UPDATE sessions SET finished = ? WHERE id = ?", (json.dumps(resource), session.id)
                )
            return resource

        try:
            expected.check(content)
            return await self._database.write(create)
        except Exception:
            if content.data is None:
                self._contents.discard([content.id])
            raise

    # -- resumable -------------------------------------------------------------------------------------------------

    async def _begin(self, call: Call) -> Response:
        raw = b"".join([chunk async for chunk in _limited(_decoded(call))])
        resource = _json_object(raw)
        resource.setdefault("contentType", call.headers.get("x-upload-content-type", objects.DEFAULT_CONTENT_TYPE))
        target = self._target(call, resource)
        check_object_name(target.name)
        rows.find_bucket(self._database.reader, target.bucket)
        request = {
            "fields": target.fields,
            "preconditions": asdict(target.preconditions),
            "expected": asdict(Expected.of(resource, None)),
            "total_bytes": call.headers.get("x-upload-content-length"),
        }
        session_id = await self._sessions.create(target.bucket, target.name, request)
        location = (
            f"{call.base_url}/upload/storage/v1/b/{target.bucket}/o?uploadType=resumable"
            f"&name={quote(target.name, safe='')}&upload_id={session_id}"
        )
        return Response(headers={"Location": location, "X-GUploader-UploadID": session_id})

    async def _continue(self, call: Call, session_id: str) -> dict[str, Any] | Response:
        session = self._sessions.find(session_id)
        if session.finished is not None:
            return session.finished
        async with self._sessions.lock(session_id):
            if call.http_method == "DELETE":
                await self._sessions.cancel(session_id)
                return Response(_CANCELLED)
            session = self._sessions.find(session_id)  # another request may have moved it on
            if session.finished is not None:
                return session.finished
            said = ContentRange.parse(call.headers.get("content-range"))
            if said.offset is None:
                is_complete = said.total_bytes == session.received_bytes
            else:
                is_complete = await self._sessions.append(session, said, call.chunks)
            if not is_complete:
                return _incomplete(session)
            return await self._finish(call, session)

    async def _finish(self, call: Call, session: Session) -> dict[str, Any]:
        request = session.request
        announced = request["total_bytes"]
        if announced is not None and int(announced) != session.received_bytes:
            raise errors.invalid(
                f"The upload has {session.received_bytes} bytes, but X-Upload-Content-Length said {announced}."
            )
        content = await self._sessions.content(session)
        header = call.headers.get("x-goog-hash")
        expected = Expected.of({}, header) if header else Expected(**request["expected"])
        preconditions = Preconditions(**request["preconditions"])
        target = objects.Target(session.bucket, session.name, request["fields"], preconditions, call.base_url)
        try:
            resource = await self._commit(target, content, expected, session)
        except ApiError:
            await self._sessions.cancel(session.id)
            raise
        self._sessions.forget(session.id)
        return resource


def _incomplete(session: Session) -> Response:
    headers = {"X-GUploader-UploadID": session.id}
    if session.received_bytes:
        headers["Range"] = f"bytes=0-{session.received_bytes - 1}"
    return Response(_RESUME_INCOMPLETE, headers=headers)


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw or b"{}")
    except ValueError as error:
        raise errors.invalid(f"Invalid JSON payload received. {error}") from None
    if not isinstance(value, dict):
        raise errors.invalid("Invalid JSON payload received: the object's metadata must be a JSON object.")
    return value


async def _limited(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size_bytes = 0
    async for chunk in chunks:
        size_bytes += len(chunk)
        if size_bytes > _MAX_METADATA_BYTES:
            raise ApiError(413, "INVALID_ARGUMENT", f"Object metadata exceeds {_MAX_METADATA_BYTES} bytes.")
        yield chunk


def _is_small(call: Call) -> bool:
    """Whether all of the upload will stay in memory; what is packed for the way may become any size."""
    length = call.headers.get("content-length", "")
    is_packed = "content-encoding" in call.headers
    return not is_packed and length.isdecimal() and int(length) <= INLINE_LIMIT_BYTES


async def _decoded(call: Call) -> AsyncIterator[bytes]:
    """The body, unpacked if it was packed for the way (`Content-Encoding: gzip` on the request)."""
    if call.headers.get("content-encoding", "") != "gzip":
        async for chunk in call.chunks:
            yield chunk
        return
    unpacker = zlib.decompressobj(wbits=31)
    try:
        async for chunk in call.chunks:
            yield unpacker.decompress(chunk)
        yield unpacker.flush()
    except zlib.error as error:
        raise errors.invalid(f"The request says Content-Encoding: gzip, but its body is not: {error}.") from None
    if not unpacker.eof:
        raise errors.invalid("The request's gzip body ends too early; send it whole.")
