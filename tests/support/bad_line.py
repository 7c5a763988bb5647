"""A TCP line between clients and one server that can go bad: cut, refused, held up, slow, or reset in mid-answer.

Clients are given the line's port, which stays while the server behind it comes and goes. It runs in the event loop of
`tests.support.loop_thread`; `mode` may be set from any thread.
"""

import asyncio
import socket
import struct
from enum import Enum

_CHUNK_BYTES = 65536
_SLOW_S = 0.05
_HELD_POLL_S = 0.02
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST


class Mode(Enum):
    """What the line does with what goes through it."""

    GOOD = "good"
    REFUSED = "refused"  # new connections are reset
    HELD = "held"  # nothing gets through; what was sent meanwhile arrives when the line is good again
    SLOW = "slow"  # every packet takes its time
    MID_ANSWER = "mid-answer"  # the next answers end in a reset after half of their first packet


class BadLine:
    """One listening port that leads to (host, port)."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mode = Mode.GOOD

    async def start(self) -> int:
        """Listen on a free loopback port; return it."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float = 1.0) -> None:
        """Close the port and everything that goes through it."""
        assert self._server is not None
        self._server.close()
        await self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cut(self) -> None:
        """Reset every connection that there is."""
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # a connection's handler is one
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.mode is Mode.REFUSED:
                return
            await self._join(reader, writer)
        except OSError:
            return  # an end is gone: so is the other, below
        finally:
            _reset(writer)
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers.add(far_writer)
        try:
            pumps = [
                asyncio.create_task(self._pump(reader, far_writer, is_answer=False)),
                asyncio.create_task(self._pump(far_reader, writer, is_answer=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            _reset(far_writer)
            self._writers.discard(far_writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool) -> None:
        while data := await source.read(_CHUNK_BYTES):
            while self.mode is Mode.HELD:
                await asyncio.sleep(_HELD_POLL_S)
            if self.mode is Mode.SLOW:
                await asyncio.sleep(_SLOW_S)
            if self.mode is Mode.MID_ANSWER and is_answer:
                sink.write(data[: len(data) // 2])
                await sink.drain()
                return
            sink.write(data)
            await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
