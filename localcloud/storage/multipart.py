"""`multipart/related` uploads: a JSON part with the object's metadata, then the media, read as a stream.

The media part may be of any size, so it is passed on piece by piece; only as many bytes are held back as the
closing delimiter can be long.
"""

import email.message
import json
from collections.abc import AsyncIterator
from typing import Any

from localcloud.storage import errors

_MAX_HEAD_BYTES = 1024 * 1024  # the metadata part with its headers
_MAX_EPILOGUE_BYTES = 1024  # what may follow the closing delimiter


class MultipartBody:
    """One multipart/related body. Call `read_metadata`, then iterate `media`, then ask `media_type`."""

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        """Read the boundary from the request's Content-Type.

        Raises:
            ApiError: 400 if there is none.
        """
        header = email.message.Message()
        header["content-type"] = content_type
        boundary = header.get_param("boundary")
        if not isinstance(boundary, str) or not boundary:
            raise errors.invalid(
                f"A multipart upload needs a boundary in its Content-Type, found {content_type!r}; "
                "send multipart/related; boundary=..."
            )
        self._delimiter = b"--" + boundary.encode()
        self._chunks = chunks
        self._buffer = bytearray()
        self.media_type = ""

    async def read_metadata(self) -> dict[str, Any]:
        """The first part as JSON; afterwards the media part's own type is known too.

        Raises:
            ApiError: 400 if the body is not two parts, or the first is not a JSON object.
        """
        await self._read_to(self._delimiter)
        await self._read_to(b"\n")
        head = await self._read_to(b"\n" + self._delimiter)
        await self._read_to(b"\n")
        _, payload = _split_headers(head)
        media_head = await self._read_media_head()
        self.media_type = media_head.get("content-type", "")
        try:
            metadata = json.loads(payload or b"{}")
        except ValueError as error:
            raise errors.invalid(f"The first part of a multipart upload must be JSON: {error}.") from None
        if not isinstance(metadata, dict):
            raise errors.invalid("The first part of a multipart upload must be a JSON object.")
        return metadata

    async def media(self) -> AsyncIterator[bytes]:
        """The media part's bytes.

        Raises:
            ApiError: 400 if the closing delimiter is missing: the body was cut short.
        """
        closing = b"\n" + self._delimiter + b"--"
        held_back = len(closing) + 1 + _MAX_EPILOGUE_BYTES
        async for chunk in self._chunks:
            self._buffer += chunk
            if len(self._buffer) > 2 * held_back:
                yield bytes(self._buffer[:-held_back])
                del self._buffer[:-held_back]
        end = self._buffer.rfind(closing)
        if end < 0:
            raise errors.invalid("The multipart body ends without its closing delimiter; send it whole.")
        if self._buffer[end - 1 : end] == b"\r":
            end -= 1
        yield bytes(self._buffer[:end])

    async def _read_media_head(self) -> dict[str, str]:
        lines: list[bytes] = []
        while line := (await self._read_to(b"\n")).rstrip(b"\r"):
            lines.append(line)
        return _headers(lines)

    async def _read_to(self, mark: bytes) -> bytes:
        """Take everything before `mark` out of the stream, and the mark too."""
        while (at := self._buffer.find(mark)) < 0:
            chunk = await anext(self._chunks, None)
            if chunk is None or len(self._buffer) > _MAX_HEAD_BYTES:
                raise errors.invalid("Malformed multipart body: expected a JSON part and a media part.")
            self._buffer += chunk
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return taken


def _split_headers(part: bytes) -> tuple[dict[str, str], bytes]:
    lines = part.split(b"\n")
    for number, line in enumerate(lines):
        if not line.strip(b"\r"):
            return _headers(lines[:number]), b"\n".join(lines[number + 1 :])
    return {}, b""


def _headers(lines: list[bytes]) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
