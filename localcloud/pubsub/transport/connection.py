"""One connection's calls: requests in, within bounds, and their handlers.

What a client sends is held only up to a bound for the whole connection; a stream that is not read is not topped up.
"""

import logging
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from localcloud.pubsub.transport import frames
from localcloud.pubsub.transport.call import Call
from localcloud.pubsub.transport.frames import ConnectionFault, ErrorCode, Kind
from localcloud.pubsub.transport.headers import MAX_HEADER_BYTES, NOT_GRPC, HeaderReader
from localcloud.pubsub.transport.link import MAX_STREAMS, STREAM_WINDOW, Link
from localcloud.pubsub.transport.status import Method, Refusal, Status

_LOG = logging.getLogger(__name__)
_MAX_HELD_BYTES = 512 << 20
_TOP_UP = 1 << 20


class _TooMuch(Refusal):
    """The requests of one connection would fill the memory."""

    code = Status.RESOURCE_EXHAUSTED


class Connection(Link):
    """The server's side of one connection.

    Args:
        find: the method of a path, None if there is none.
        closed: called once the connection is gone.
    """

    def __init__(self, find: Callable[[str], Method | None], closed: Callable[["Connection"], None]) -> None:
        super().__init__()
        self._find = find
        self._closed = closed
        self._calls: dict[int, Call] = {}
        self._reader = HeaderReader()
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and bytes of headers that go on
        self._is_ending = False
        self._to_release_bytes = 0
        self._held_bytes = 0
        self._handlers |= {
            Kind.DATA: self._data,
            Kind.HEADERS: self._headers,
            Kind.RST_STREAM: self._rst_stream,
            Kind.CONTINUATION: self._continuation,
        }

    def senders(self) -> dict[int, Call]:
        """The running calls."""
        return self._calls

    def connection_lost(self, exc: Exception | None) -> None:
        """End every call."""
        super().connection_lost(exc)
        self._is_ending = True
        for call in list(self._calls.values()):
            call.close()
        self._calls.clear()
        self._closed(self)

    def end(self) -> None:
        """Take no more calls; those that run may finish."""
        self._is_ending = True
        self.send(frames.goaway(self._last_id, ErrorCode.NO_ERROR))

    @property
    def is_idle(self) -> bool:
        """Whether no call runs."""
        return not self._calls

    # ---- requests ----

    def taken(self, call: Call, size: int) -> None:
        """The handler has taken so many bytes out of memory."""
        call.held_bytes -= size
        self._held_bytes -= size
        self._top_up(call)

    def _top_up(self, call: Call) -> None:
        """Let the client send on, unless it is far ahead of the handler."""
        if call.to_release_bytes >= _TOP_UP and not call.is_half_closed and not call.is_reading_behind:
            self.send(frames.window_update(call.id, call.to_release_bytes))
            call.to_release_bytes = 0

    def _top_up_connection(self, size: int) -> None:
        self._to_release_bytes += size
        if self._to_release_bytes >= _TOP_UP:
            self.send(frames.window_update(0, self._to_release_bytes))
            self._to_release_bytes = 0

    def _data(self, stream_id: int, flags: int, payload: bytes) -> None:
        call = self._calls.get(stream_id)
        size = len(payload)
        self._top_up_connection(size)
        if call is None:
            if stream_id == 0 or stream_id > self._last_id:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "data on a stream that was never opened")
            return  # of a call that has ended
        if call.is_half_closed:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "data after the end of its stream")
        call.held_bytes += size
        call.to_release_bytes += size
        self._held_bytes += size
        if call.to_release_bytes > STREAM_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window holds")
        try:
            if self._held_bytes > _MAX_HELD_BYTES:
                raise _TooMuch(f"more than {_MAX_HELD_BYTES} bytes of requests at once; send them one after another.")
            call.receive(frames.unpadded(flags, payload))
        except Refusal as refusal:
            call.fail(refusal.code, str(refusal))
            return
        self._top_up(call)
        if flags & frames.END_STREAM:
            self._half_close(call)

    # ---- calls ----

    def _headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        block = frames.unpadded(flags, payload)
        if flags & frames.PRIORITY_FLAG:
            block = block[5:]
        if flags & frames.END_HEADERS:
            self._head_complete(stream_id, flags, block)
        else:
            self._block, self._is_within_headers = (stream_id, flags, block), True

    def _continuation(self, stream_id: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a continuation of nothing")
        _, first_flags, block = self._block
        block += payload
        if len(block) > MAX_HEADER_BYTES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "headers without end")
        self._block = (stream_id, first_flags, block)
        if flags & frames.END_HEADERS:
            self._block, self._is_within_headers = None, False
            self._head_complete(stream_id, first_flags, block)

    def _head_complete(self, stream_id: int, flags: int, block: bytes) -> None:
        request = self._reader.read(block)
        call = self._calls.get(stream_id)
        if call is not None:  # trailers of a request
            if not flags & frames.END_STREAM or call.is_half_closed:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "headers in the middle of a request")
            self._half_close(call)
            return
        if stream_id <= self._last_id:
            return  # of a call that has ended
        if stream_id % 2 == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams are odd")
        self._last_id = stream_id
        if self._is_ending or len(self._calls) >= MAX_STREAMS:
            self.send(frames.rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
            return
        if request.method != "POST" or not request.content_type.startswith("application/grpc"):
            self.send(frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id, NOT_GRPC))
            return
        method = self._find(request.path)
        call = Call(self, stream_id, method or _NOWHERE, request)
        self._calls[stream_id] = call
        if flags & frames.END_STREAM:
            call.is_half_closed = True
        if method is None:
            call.fail(Status.UNIMPLEMENTED, f"{request.path[:200]} is not offered by this local Pub/Sub.")
        elif method.is_stream:
            call.task = self._loop.create_task(self._serve_stream(call))
        elif call.is_half_closed:
            self._half_close(call)

    def _half_close(self, call: Call) -> None:
        call.half_close()
        if not call.method.is_stream and not call.is_closed:
            call.task = self._loop.create_task(self._serve_unary(call))

    async def _serve_unary(self, call: Call) -> None:
        method = call.method
        try:
            request = method.parse(call.only_message())
            await call.finish(await method.call(request, call))
        except Refusal as refusal:
            call.fail(refusal.code, str(refusal), refusal.details())
        except DecodeError:
            call.fail(Status.INVALID_ARGUMENT, f"the request of {method.name} is malformed: it is not that message.")
        except Exception:  # noqa: BLE001 - the last line of defence: logged with its traceback, answered INTERNAL
            self._failed(call)

    async def _serve_stream(self, call: Call) -> None:
        try:
            await call.method.call(None, call)
            await call.finish(None)
        except Refusal as refusal:
            call.fail(refusal.code, str(refusal), refusal.details())
        except DecodeError:
            call.fail(Status.INVALID_ARGUMENT, f"a request of {call.method.name} is malformed: it is not that message.")
        except Exception:  # noqa: BLE001 - as above
            self._failed(call)

    def _failed(self, call: Call) -> None:
        _LOG.exception("a request failed", extra={"action": "request_failed", "method": call.method.name})
        call.fail(Status.INTERNAL, f"{call.method.name} failed inside the broker; its log has the traceback.")

    def ended(self, call: Call, reset: ErrorCode | None) -> None:
        """The answer is complete; the rest of the request, if there is one, is not wanted."""
        call.is_closed = True
        if reset is not None:
            self.send(frames.rst_stream(call.id, reset))
        self._forget(call)

    def _forget(self, call: Call) -> None:
        if self._calls.pop(call.id, None) is not None:
            self._held_bytes -= call.held_bytes
            call.held_bytes = 0

    def _rst_stream(self, stream_id: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4 or stream_id == 0 or stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM")
        call = self._calls.get(stream_id)
        if call is not None:
            self._forget(call)
            call.close()


async def _nowhere(request: Any, call: Any) -> bytes:
    return b""


_NOWHERE = Method("nowhere", False, bytes, _nowhere)
