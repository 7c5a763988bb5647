"""A small HTTP/1.1 client for servers on this machine: model servers and the local Cloud Storage.

Kept connections, plain requests, whole answers, nothing else. A prediction passes through here, and a general client costs
it as long as the model does (0.5 ms), and every start of the local cloud 75 ms and ten megabytes.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httptools

_MAX_IDLE = 64


class UpstreamError(Exception):
    """The server cannot be reached, cut the connection, or answers what is no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Upstream:
    """Keeps connections to one address."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[_Connection] = []

    def close(self) -> None:
        """Close the kept connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str = "",
        timeout_s: float = 30.0,
    ) -> Answer:
        """Send a request and return the whole answer.

        A kept connection that the server had closed meanwhile is replaced by a new one, once.

        Raises:
            UpstreamError: no answer.
            TimeoutError: none in time.
        """
        target = f"{path}?{urlencode(params)}" if params else path
        kind = f"content-type: {content_type}\r\n" if content_type else ""
        head = f"{method} {target} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n{kind}content-length: {len(body)}\r\n\r\n"
        message = head.encode("latin-1") + body
        async with asyncio.timeout(timeout_s):
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_open:
                    continue
                try:
                    return await self._ask(connection, message)
                except _ClosedBeforeAnswer:
                    break
            return await self._ask(await self._connect(), message)

    async def _ask(self, connection: "_Connection", message: bytes) -> Answer:
        try:
            answer = await connection.ask(message)
        except BaseException:
            connection.abort()
            raise
        if connection.is_open and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()
        return answer

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError as error:
            raise UpstreamError(f"cannot connect to {self._host}:{self._port}: {error}") from error
        return connection


class _ClosedBeforeAnswer(UpstreamError):
    """Nothing of an answer had come."""


class _Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._reset()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, message: bytes) -> asyncio.Future[Answer]:
        assert self._transport is not None
        self._reset()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return self._waiter

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []
        self._has_begun = False
        self._has_headers = False

    # asyncio's side

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            self.abort()  # nobody asked
            return
        self._has_begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamError(f"the answer is no HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._has_headers and "content-length" not in self._headers and "transfer-encoding" not in self._headers:
            self.on_message_complete()  # an answer without a length ends with its connection
        text = f"the connection was closed: {exc!r}" if exc else "the connection was closed"
        self._fail(UpstreamError(text) if self._has_begun else _ClosedBeforeAnswer(text))

    def _fail(self, error: UpstreamError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._has_headers = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._waiter is None or self._waiter.done() or status < 200:
            return
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        self._waiter.set_result(Answer(status, self._headers, b"".join(self._chunks)))
