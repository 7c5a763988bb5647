"""The HTTP client for servers on this machine."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from localcloud.jobs.upstream import Answer, Upstream, UpstreamError

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Who: me\r\n\r\nhi"


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


def ask(serve: Serve, requests: int = 1, timeout_s: float = 5.0) -> list[Answer]:
    """Ask a server of our own, one request after another."""

    async def run() -> list[Answer]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except asyncio.IncompleteReadError:
                pass  # the client closed
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        upstream = Upstream("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            return [await upstream.request("POST", "/p", body=b"body", timeout_s=timeout_s) for _ in range(requests)]
        finally:
            upstream.close()
            server.close()
            await asyncio.sleep(0.01)

    return asyncio.run(run())


def test_connections_are_kept() -> None:
    """Several requests share a connection; status, headers and body come whole."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        while True:
            assert (await _request(reader)).endswith(b"body")
            writer.write(OK[:20])
            await asyncio.sleep(0.001)
            writer.write(OK[20:])

    answers = ask(serve, 3)
    assert [(a.status, a.headers["x-who"], a.body) for a in answers] == [(200, "me", b"hi")] * 3
    assert len(connections) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\n\r\nhi",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
def test_every_framing(raw: bytes) -> None:
    """Chunked answers, answers that end with the connection, and interim answers are understood."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(raw)

    assert [answer.body for answer in ask(serve, 2)] == [b"hi", b"hi"]


def test_a_connection_closed_meanwhile_is_replaced() -> None:
    """A server that closes kept connections after each answer is asked over a new one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(OK)

    assert len(ask(serve, 5)) == 5


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-le",
        b"nonsense\r\n\r\n",
    ],
    ids=["silence", "half a body", "half a head", "no HTTP"],
)
def test_no_answer_is_an_error(raw: bytes) -> None:
    """A connection that is cut, or answers what is no HTTP, is an UpstreamError."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(raw)

    with pytest.raises(UpstreamError):
        ask(serve)


def test_a_silent_server_times_out() -> None:
    """No answer in time is a TimeoutError."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        await reader.read()

    with pytest.raises(TimeoutError):
        ask(serve, timeout_s=0.05)


def test_nobody_there() -> None:
    """A port nobody listens on is an UpstreamError that names it."""
    with pytest.raises(UpstreamError, match=r"127\.0\.0\.1:1"):
        asyncio.run(Upstream("127.0.0.1", 1).request("GET", "/"))
