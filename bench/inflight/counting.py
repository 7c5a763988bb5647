"""Passes Cloud Storage's calls on as they are, and counts what they ask for."""

import asyncio
import re
from collections import Counter
from urllib.parse import unquote

_CHUNK_BYTES = 65_536
# How a request begins. A body is sent apart from its head or behind it, and none of the ledger's begins like this.
_REQUEST = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r\n")
_OBJECT = re.compile(r"/b/[^/]+/o/([^?]+)")
_PREFIX = re.compile(r"[?&]prefix=([^&]*)")


def asked(method: str, target: str) -> str:
    """Return what a call asks for in the ledger's words: `read runs`, `list inflight`, `write`."""
    found = _OBJECT.search(target)
    if found is not None:
        name = unquote(found[1])
        folder = "tombstone" if name.endswith("/cancelled.json") else name.partition("/")[0]
        return f"{'read' if method == 'GET' else method.lower()} {folder}"
    prefix = _PREFIX.search(target)
    if method == "GET" and prefix is not None:
        return f"list {unquote(prefix[1]).partition('/')[0]}"
    return "write" if "/upload/" in target else f"{method} {target.partition('?')[0]}"


class CountingProxy:
    """A door on loopback to the storage at `host` and `port`."""

    def __init__(self, host: str, port: int) -> None:
        self.counts: Counter[str] = Counter()
        self._behind = host, port
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen on a free port, and return it."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._behind)
        await asyncio.gather(self._pass(reader, there_writer, is_asking=True), self._pass(there_reader, writer))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_asking: bool = False
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                if is_asking and (request := _REQUEST.match(chunk)):
                    self.counts[asked(request[1].decode(), request[2].decode())] += 1
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass  # one side has gone: the other is closed below, which is all that a door can do
        finally:
            writer.close()
