"""One call: its request messages as they arrive, its response as it leaves."""

import asyncio
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING

from localcloud.pubsub.transport.frames import END_HEADERS, END_STREAM, ErrorCode, Kind, frame, head
from localcloud.pubsub.transport.headers import OK_TRAILERS, RESPONSE_HEAD, RequestHead, error_trailers
from localcloud.pubsub.transport.status import Method, Refusal, Status

if TYPE_CHECKING:
    from localcloud.pubsub.transport.connection import Connection

# Pub/Sub takes requests of 10 MB. What is larger is refused by its first bytes, with a status that clients do not repeat.
MAX_MESSAGE_BYTES = 11_000_000
_PREFIX_BYTES = 5
_MAX_QUEUED = 64  # messages a stream may be ahead of its reader


class _BadCall(Refusal):
    """The call broke gRPC's rules."""

    def __init__(self, code: Status, message: str) -> None:
        super().__init__(message)
        self.code = code


class Call:
    """The server's side of one HTTP/2 stream. Handlers use `read`, `write` and `time_remaining`."""

    __slots__ = (
        "_bell",
        "_connection",
        "_deadline_s",
        "_encoding",
        "_gathered_bytes",
        "_has_head",
        "_messages",
        "_pieces",
        "_room",
        "_wanted_bytes",
        "held_bytes",
        "id",
        "is_closed",
        "is_half_closed",
        "method",
        "send_window",
        "task",
        "to_release_bytes",
    )

    def __init__(self, connection: "Connection", stream_id: int, method: Method, request: RequestHead) -> None:
        self.id = stream_id
        self.method = method
        self.task: asyncio.Task[None] | None = None
        self.is_half_closed = False
        self.is_closed = False
        self.send_window = connection.initial_send_window
        self.held_bytes = 0  # of the request, in memory and not with the handler yet
        self.to_release_bytes = 0
        self._connection = connection
        self._encoding = request.encoding
        self._deadline_s = None if request.timeout_s is None else time.monotonic() + request.timeout_s
        self._pieces: list[bytes] = []  # of a message that is not whole yet
        self._gathered_bytes = 0
        self._wanted_bytes = 0
        self._messages: deque[bytes] = deque()
        self._bell: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._has_head = False

    # ---- for handlers ----

    def time_remaining(self) -> float | None:
        """Seconds until the client gives up; None if it never does."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - time.monotonic())

    async def read(self) -> bytes | None:
        """The next request message; None when the client has said all."""
        while not self._messages:
            if self.is_half_closed or self.is_closed:
                return None
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell
        message = self._messages.popleft()
        self._connection.taken(self, len(message) + _PREFIX_BYTES)
        return message

    async def write(self, message: bytes) -> None:
        """Send a response message as fast as the client takes it; returns when all of it is on its way."""
        connection = self._connection
        if self.is_closed:
            return
        if not self._has_head:
            self._send_head()
        data = b"\x00" + len(message).to_bytes(4, "big") + message
        if connection.can_send(self, len(data)):
            connection.spend(self, len(data))
            connection.send(head(len(data), Kind.DATA, 0, self.id), data)
            await asyncio.sleep(0)  # let it leave, and others have their turn
            return
        view = memoryview(data)
        while view:
            size = min(len(view), connection.room_for(self))
            if size <= 0:
                self._room = connection.wait_for_room()
                await self._room
                if self._is_over():
                    return
                continue
            connection.spend(self, size)
            connection.send(head(size, Kind.DATA, 0, self.id), view[:size])
            view = view[size:]
        await asyncio.sleep(0)

    def _is_over(self) -> bool:
        return self.is_closed

    # ---- for the connection ----

    def receive(self, data: bytes) -> None:
        """Take in a piece of the request.

        Raises:
            Refusal: it breaks gRPC's framing.
        """
        if self._pieces:
            self._pieces.append(data)
            self._gathered_bytes += len(data)
            if self._gathered_bytes < self._wanted_bytes:
                return
            data, self._pieces = b"".join(self._pieces), []
        position, end = 0, len(data)
        wanted = _PREFIX_BYTES
        while end - position >= _PREFIX_BYTES:
            wanted = _PREFIX_BYTES + self._size_at(data, position)
            if end - position < wanted:
                break
            message = data[position + _PREFIX_BYTES : position + wanted]
            self._messages.append(self._inflated(message) if data[position] else message)
            position += wanted
            wanted = _PREFIX_BYTES
        if position < end:
            self._pieces = [data[position:] if position else data]
            self._gathered_bytes, self._wanted_bytes = end - position, wanted
        if self._messages:
            self._ring()

    def _size_at(self, data: bytes, position: int) -> int:
        size = int.from_bytes(data[position + 1 : position + _PREFIX_BYTES], "big")
        if size > MAX_MESSAGE_BYTES:
            raise _BadCall(
                Status.INVALID_ARGUMENT,
                f"The value for request_size is too large: {size} bytes; send at most {MAX_MESSAGE_BYTES}.",
            )
        return size

    @property
    def is_reading_behind(self) -> bool:
        """Whether more has arrived than the handler has read."""
        return self.method.is_stream and len(self._messages) >= _MAX_QUEUED

    def _inflated(self, message: bytes) -> bytes:
        if self._encoding not in ("gzip", "deflate"):
            raise _BadCall(Status.UNIMPLEMENTED, f"grpc-encoding {self._encoding!r} is not known; use gzip or deflate.")
        inflate = zlib.decompressobj(wbits=47 if self._encoding == "gzip" else 15)
        try:
            plain = inflate.decompress(message, MAX_MESSAGE_BYTES)
        except zlib.error as error:
            raise _BadCall(Status.INTERNAL, f"a message cannot be decompressed: {error}") from None
        if inflate.unconsumed_tail:
            raise _BadCall(Status.INVALID_ARGUMENT, f"a message of more than {MAX_MESSAGE_BYTES} bytes.")
        return plain

    def half_close(self) -> None:
        """The client has said all."""
        self.is_half_closed = True
        self._ring()

    def only_message(self) -> bytes:
        """The request of a unary call.

        Raises:
            Refusal: there is none, or more than one.
        """
        if len(self._messages) != 1 or self._pieces:
            raise _BadCall(Status.INTERNAL, f"{len(self._messages)} whole request messages, where one belongs.")
        message = self._messages.popleft()
        self._connection.taken(self, self.held_bytes)
        return message

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    # ---- the end ----

    def _send_head(self) -> None:
        self._has_head = True
        block = self._connection.header_block(RESPONSE_HEAD)
        self._connection.send(frame(Kind.HEADERS, END_HEADERS, self.id, block))

    async def finish(self, message: bytes | None) -> None:
        """Answer OK, with the one message of a unary call."""
        if self.is_closed:
            return
        if message is not None:
            size = _PREFIX_BYTES + len(message)
            if not self._has_head and self._connection.can_send(self, size):
                self._finish_at_once(message, size)
                return
            await self.write(message)
        elif not self._has_head:
            self._send_head()
        self._end(OK_TRAILERS)

    def _finish_at_once(self, message: bytes, size: int) -> None:
        """The usual unary answer: head, message and trailers in one piece."""
        connection, stream_id = self._connection, self.id
        connection.spend(self, size)
        block = connection.header_block(RESPONSE_HEAD)
        connection.send(
            head(len(block), Kind.HEADERS, END_HEADERS, stream_id),
            block,
            head(size, Kind.DATA, 0, stream_id),
            b"\x00",
            len(message).to_bytes(4, "big"),
            message,
        )
        self._end(OK_TRAILERS)

    def fail(self, code: Status, message: str, details: bytes = b"") -> None:
        """Answer a refusal."""
        block = error_trailers(code, message, details)
        self._end(block if self._has_head else RESPONSE_HEAD + block)

    def _end(self, block: bytes) -> None:
        if self.is_closed:
            return
        connection = self._connection
        block = connection.header_block(block)
        connection.send(head(len(block), Kind.HEADERS, END_HEADERS | END_STREAM, self.id), block)
        connection.ended(self, None if self.is_half_closed else ErrorCode.NO_ERROR)

    def close(self) -> None:
        """The stream is gone: end its handler."""
        self.is_closed = True
        self._ring()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self.task is not None:
            self.task.cancel()
