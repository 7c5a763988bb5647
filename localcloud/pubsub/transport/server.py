"""The listening side."""

import asyncio
from collections.abc import Iterable

from localcloud.pubsub.transport.connection import Connection
from localcloud.pubsub.transport.status import Method

_BACKLOG = 1024


class GrpcServer:
    """Serves methods by path.

    Args:
        methods: by `/package.Service/Method`.
    """

    def __init__(self, methods: Iterable[tuple[str, Method]]) -> None:
        self._methods = dict(methods)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._gone = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Bind and serve; returns the port.

        Raises:
            OSError: it cannot be bound.
        """
        self._server = await asyncio.get_running_loop().create_server(self._connect, host, port, backlog=_BACKLOG)
        return int(self._server.sockets[0].getsockname()[1])

    def _connect(self) -> Connection:
        connection = Connection(self._methods.get, self._disconnected)
        self._connections.add(connection)
        return connection

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._gone.set()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let running ones finish within the grace, then close."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.end()
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + grace_s
        while any(not connection.is_idle for connection in self._connections) and loop.time() < deadline_s:
            await asyncio.sleep(0.005)
        for connection in list(self._connections):
            connection.abort()
        while self._connections:
            self._gone.clear()
            await self._gone.wait()
        await self._server.wait_closed()
        self._server = None
