"""An HTTP server inside the running event loop: bind, serve an ASGI app, stop. Every part with a REST door uses it.

Two things beyond plain uvicorn: the process keeps its own signal handlers, and an app may cut the caller's connection
(`scope["extensions"]["localcloud.abort"]()`), which is how a lost answer is rehearsed.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from localcloud.browsers import KeepBrowsersOut

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ABORT = "localcloud.abort"
# Clients keep connections for minutes (urllib3, httplib2 pools); closing an idle one under their hands would look like
# a lost request, and httplib2 does not always try again.
_KEEP_ALIVE_S = 600
_START_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class HttpServer:
    """One listening socket and its ASGI app, in the event loop that calls `start`."""

    def __init__(self, app: AsgiApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._app = KeepBrowsersOut(app, host)
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The bound port; 0 before `start` when a free one was asked for."""
        return self._port

    async def start(self) -> int:
        """Bind and serve; requests are answered once this returns.

        Raises:
            OSError: the address is taken or not ours; names it and the mend.
        """
        sock = _bind(self._host, self._port)
        self._port = sock.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name=f"http:{self._port}")
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not self._server.started:
                if self._task.done():
                    self._task.result()
                    raise RuntimeError(f"the HTTP server on {self._host}:{self._port} ended while starting")
                await asyncio.sleep(0)
        return self._port

    async def stop(self, grace_s: float = 1.0) -> None:
        """Stop listening, let requests in hand finish for `grace_s`, then cut them. Safe to call twice."""
        server, task, self._server, self._task = self._server, self._task, None, None
        if server is None or task is None:
            return
        # uvicorn types this as whole seconds, but only ever hands it to asyncio's timeouts.
        server.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment]
        server.should_exit = True
        try:
            await asyncio.wait_for(asyncio.shield(task), grace_s + 1.0)
        except TimeoutError:
            server.force_exit = True
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process that embeds it decides what SIGTERM means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """Lets the app cut the connection, and sends an answer's head and body together."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast(asyncio.Transport, _JoinedWrites(transport)))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}


class _JoinedWrites:
    """A transport that holds an answer's head until what follows it, at most until the loop's next turn.

    uvicorn writes head and body one by one: two system calls here, and a client that is woken twice.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            data, self._held = self._held, b""
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def abort(scope: Scope) -> None:
    """Cut the caller's connection without an answer; the app must return right afterwards."""
    scope["extensions"][ABORT]["call"]()
    # The protocol learns of it in the next turn of the loop; only then does uvicorn know that no answer is owed.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol number is given; without it each answer waits 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.set_inheritable(False)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(
            error.errno, f"cannot listen on {host}:{port} ({error.strerror}); stop what holds it or choose --port 0"
        ) from error
    return sock
