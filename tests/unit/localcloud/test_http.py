"""How answers leave the HTTP server: head and body together where both are there, each chunk as it comes where not."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from localcloud.http import AsgiApp, HttpServer, Receive, Scope, Send, abort

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _head(send: Send, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


def serve(app: AsgiApp, talk: Talk) -> None:
    """Have `talk` hold one connection to a server of the app."""

    async def body() -> None:
        server = HttpServer(app)
        port = await server.start()
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                await talk(reader, writer)
                writer.close()
        finally:
            await server.stop()

    asyncio.run(body())


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the server's transports were given, call by call."""
    calls: list[bytes] = []
    transport = asyncio.selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write = transport.write

    def noted(self: asyncio.Transport, data: bytes) -> None:
        if bytes(data[:4]) != b"GET ":
            calls.append(bytes(data))
        write(self, data)

    monkeypatch.setattr(transport, "write", noted)
    return calls


def test_head_and_body_leave_in_one_write(sent: list[bytes]) -> None:
    """Also in the second answer on the same connection, and where the body looks like a head."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _head(send, (b"content-length", b"13"))
        await send({"type": "http.response.body", "body": b"HTTP/1.1 here"})

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(13) == b"HTTP/1.1 here"

    serve(app, talk)
    assert len(sent) == 2
    assert all(data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"\r\n\r\nHTTP/1.1 here") for data in sent)


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    """A stream's first chunk may take minutes; its head is seen at once."""
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _head(send, (b"content-length", b"4"))
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"late"})

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        go_on.set()
        assert await reader.readexactly(4) == b"late"

    serve(app, talk)


def test_an_answer_without_a_body_and_its_close_arrive() -> None:
    """Nothing that was held is lost when the connection is closed after it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST)
        assert (await reader.read()).startswith(b"HTTP/1.1 204 ")

    serve(app, talk)


def test_an_aborted_request_has_no_answer() -> None:
    """How a lost answer is rehearsed: not a byte comes back."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await abort(scope)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST)
        try:
            got = await reader.read()
        except ConnectionResetError:  # a plain end is as good
            got = b""
        assert got == b""

    serve(app, talk)
