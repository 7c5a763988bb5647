"""Runs the local cloud's servers in an event loop of its own thread, beside a test that uses blocking clients."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
_TIMEOUT_S = 30.0


class Server(Protocol):
    async def start(self) -> int: ...

    async def stop(self, grace_s: float = 1.0) -> None: ...


class LoopThread:
    """An event loop in a thread, as a context manager; servers started through it are stopped at its end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server-loop", daemon=True)
        self._servers: list[Server] = []

    def __enter__(self) -> "LoopThread":
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in reversed(self._servers):
            self.run(server.stop(0.1))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_S)
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop; return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT_S)

    def start(self, server: Server) -> int:
        """Start a server; return its port."""
        port = self.run(server.start())
        self._servers.append(server)
        return port

    def stop(self, server: Server) -> None:
        """Stop one of them early."""
        self._servers.remove(server)
        self.run(server.stop(0.1))
