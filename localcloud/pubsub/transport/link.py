"""One HTTP/2 connection as such: the socket, frames in and out, settings, pings, and how much may be sent.

Frames gather while the loop runs other callbacks and leave in one write.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from localcloud.pubsub.transport import frames
from localcloud.pubsub.transport.frames import ConnectionFault, ErrorCode, Kind, Setting
from localcloud.pubsub.transport.headers import MAX_HEADER_BYTES, TABLE_SIZE_ZERO

_LOG = logging.getLogger(__name__)
MAX_STREAMS = 1000
STREAM_WINDOW = 4 << 20
CONNECTION_WINDOW = 16 << 20
_WRITE_HIGH_WATER = 4 << 20
_KEEPALIVE_S = 30.0
_KEEPALIVE_PATIENCE_S = 10.0
_SETTINGS = {
    Setting.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
    Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
}


class Sender(Protocol):
    """What sends on a stream."""

    send_window: int


class Link(asyncio.Protocol):
    """The connection without its calls; `Connection` adds those."""

    def __init__(self) -> None:
        self._partial = b""
        self._has_preface = False
        self._is_within_headers = False
        self._last_id = 0
        self._out: list[Any] = []
        self._is_paused = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._send_window = frames.DEFAULT_WINDOW
        self.initial_send_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.DEFAULT_MAX_FRAME
        self._header_prefix = b""
        self._is_silent = False
        self._keepalive: asyncio.TimerHandle | None = None
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.PRIORITY: self._ignore,
            Kind.SETTINGS: self._settings,
            Kind.PUSH_PROMISE: self._push_promise,
            Kind.PING: self._ping,
            Kind.GOAWAY: self._ignore,
            Kind.WINDOW_UPDATE: self._window_update,
        }

    def senders(self) -> dict[int, Any]:
        """What sends, by stream."""
        raise NotImplementedError

    # ---- the socket ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        self.send(frames.settings(_SETTINGS))
        self.send(frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW))
        self._keepalive = self._loop.call_later(_KEEPALIVE_S, self._ask_for_life)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._wake()

    def pause_writing(self) -> None:
        """The socket is full."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._is_paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take frames apart."""
        self._is_silent = False
        if self._partial:
            data = self._partial + data
        try:
            self._partial = data[self._frames_in(data) :]
        except ConnectionFault as fault:
            self._partial = b""
            self._fault(fault)

    def _frames_in(self, data: bytes) -> int:
        """Handle every whole frame; answers how many bytes that was."""
        position, end = 0, len(data)
        if not self._has_preface:
            if data[: len(frames.PREFACE)] != frames.PREFACE[:end]:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2 without TLS")
            if end < len(frames.PREFACE):
                return 0
            self._has_preface, position = True, len(frames.PREFACE)
        handlers = self._handlers
        while end - position >= frames.FRAME_HEAD_BYTES and not self._transport.is_closing():
            length = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            if length > frames.DEFAULT_MAX_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = position + frames.FRAME_HEAD_BYTES
            if end - start < length:
                break
            kind = data[position + 3]
            if self._is_within_headers and kind != Kind.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "another frame within a header block")
            stream_id = int.from_bytes(data[position + 5 : start], "big") & 0x7FFFFFFF
            handler = handlers.get(kind)
            if handler is not None:
                handler(stream_id, data[position + 4], data[start : start + length])
            position = start + length
        return position

    def send(self, *pieces: Any) -> None:
        """Have the pieces leave, in order, once the running callbacks are done."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += pieces

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _fault(self, fault: ConnectionFault) -> None:
        _LOG.warning("connection refused", extra={"action": "connection_fault", "reason": str(fault)})
        self.send(frames.goaway(self._last_id, fault.code, str(fault)))
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._flush()
        self._transport.close()

    def _ask_for_life(self) -> None:
        """Half-dead peers: after 30 s of silence ask for an answer, and close if none comes within 10 s."""
        if self._is_silent:
            self.send(frames.frame(Kind.PING, 0, 0, b"alive?\0\0"))
            self._keepalive = self._loop.call_later(_KEEPALIVE_PATIENCE_S, self._end_if_silent)
        else:
            self._is_silent = True
            self._keepalive = self._loop.call_later(_KEEPALIVE_S, self._ask_for_life)

    def _end_if_silent(self) -> None:
        if self._is_silent:
            _LOG.info("a silent connection was closed", extra={"action": "connection_silent"})
            self._transport.abort()
        else:
            self._keepalive = self._loop.call_later(_KEEPALIVE_S, self._ask_for_life)

    # ---- flow control ----

    def can_send(self, call: Sender, size: int) -> bool:
        """Whether so many bytes can leave as one frame now."""
        return size <= self._max_frame and size <= self.room_for(call)

    def room_for(self, call: Sender) -> int:
        """How many bytes of one frame can leave now."""
        return 0 if self._is_paused else min(self._send_window, call.send_window, self._max_frame)

    def spend(self, call: Sender, size: int) -> None:
        """So many bytes leave."""
        self._send_window -= size
        call.send_window -= size

    def wait_for_room(self) -> asyncio.Future[None]:
        """A future that is done when it is worth looking again."""
        future = self._loop.create_future()
        self._waiting.add(future)
        return future

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _window_update(self, stream_id: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        senders = self.senders()
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if increment == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a window is opened by nothing")
        if stream_id == 0:
            self._send_window += increment
        elif stream_id in senders:
            senders[stream_id].send_window += increment
        if max(self._send_window, senders[stream_id].send_window if stream_id in senders else 0) > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too wide")
        self._wake()

    # ---- settings and pings ----

    def header_block(self, block: bytes) -> bytes:
        """A block of ours, with what the client's settings demand before the next one."""
        if self._header_prefix:
            block, self._header_prefix = self._header_prefix + block, b""
        return block

    def _settings(self, stream_id: int, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        if len(payload) % 6 or stream_id:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS")
        for at in range(0, len(payload), 6):
            key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if key == Setting.INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
            elif key == Setting.MAX_FRAME_SIZE:
                if not frames.DEFAULT_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}")
                self._max_frame = value
            elif key == Setting.HEADER_TABLE_SIZE and value < 4096:
                self._header_prefix = TABLE_SIZE_ZERO
        self.send(frames.frame(Kind.SETTINGS, frames.ACK, 0, b""))
        self._wake()

    def _resize_windows(self, value: int) -> None:
        if value > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}")
        for call in self.senders().values():
            call.send_window += value - self.initial_send_window
        self.initial_send_window = value

    def _ping(self, stream_id: int, flags: int, payload: bytes) -> None:
        if len(payload) != 8 or stream_id:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING")
        if not flags & frames.ACK:
            self.send(frames.frame(Kind.PING, frames.ACK, 0, payload))

    def _push_promise(self, stream_id: int, flags: int, payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _ignore(self, stream_id: int, flags: int, payload: bytes) -> None:
        """PRIORITY is advice; GOAWAY lets what runs finish."""
