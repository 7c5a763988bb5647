"""A raw HTTP/2 client for the transport's tests: it sends what it is told, well-formed or not."""

import asyncio
from typing import NamedTuple

import hpack

from localcloud.pubsub.transport.frames import END_HEADERS, END_STREAM, PREFACE, Kind, Setting, frame, settings

LIMIT_S = 10


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


class H2Client:
    """One connection. Use `await H2Client.open(port)`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()

    @classmethod
    async def open(cls, port: int, values: dict[Setting, int] | None = None) -> "H2Client":
        """Connect and greet."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.send(PREFACE, settings(values or {}))
        return client

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def request_block(self, path: str, **extra: str) -> bytes:
        """A compressed request head."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "x",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        fields |= {name.replace("_", "-"): value for name, value in extra.items()}
        return bytes(self.encoder.encode(list(fields.items())))

    def call(self, stream_id: int, path: str, message: bytes) -> None:
        """A whole unary request."""
        self.send(
            frame(Kind.HEADERS, END_HEADERS, stream_id, self.request_block(path)),
            frame(Kind.DATA, END_STREAM, stream_id, grpc_message(message)),
        )

    async def next(self) -> Frame:
        """The next frame, whatever it is.

        Raises:
            asyncio.IncompleteReadError: the server has closed the connection.
        """
        async with asyncio.timeout(LIMIT_S):
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload)

    async def wait_for(self, kind: Kind, stream_id: int | None = None) -> Frame:
        """The next frame of a kind; others are passed over, but header blocks are decompressed."""
        while True:
            found = await self.next()
            if found.kind == kind and stream_id in (None, found.stream_id):
                return found
            if found.kind == Kind.HEADERS:
                self.decoder.decode(found.payload)

    async def answer(self, stream_id: int) -> tuple[dict[str, str], bytes]:
        """All of a response: headers and trailers together, and the data."""
        fields: dict[str, str] = {}
        data = b""
        while True:
            found = await self.next()
            if found.kind == Kind.HEADERS:
                decoded = dict(self.decoder.decode(found.payload))
                if found.stream_id == stream_id:
                    fields |= {str(key): str(value) for key, value in decoded.items()}
            if found.stream_id == stream_id and found.kind == Kind.DATA:
                data += found.payload
            if found.stream_id == stream_id and found.flags & END_STREAM:
                return fields, data

    async def is_closed(self) -> bool:
        """Whether the server closes the connection; waits for it."""
        async with asyncio.timeout(LIMIT_S):
            while await self.reader.read(65536):
                pass
        return True

    async def close(self) -> None:
        self.writer.close()


def grpc_message(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\x00" + len(message).to_bytes(4, "big") + message
