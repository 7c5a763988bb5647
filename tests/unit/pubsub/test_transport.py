"""gRPC over HTTP/2: the transport alone, with services of its own, against grpcio's client."""

import asyncio
import random

import grpc
import pytest

from localcloud.pubsub.transport.frames import (
    END_HEADERS,
    Kind,
    frame,
    window_update,
)
from tests.unit.pubsub.h2_client import H2Client
from tests.unit.pubsub.transport_server import BREAK, ECHO, HANG, POUR, REFUSE, REVERSE, Server


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 70_000, 5_000_000])
def test_unary_call_of_any_size(server: Server, size: int) -> None:
    """A message goes there and back whole, however many frames it takes."""

    async def work() -> None:
        message = random.Random(size).randbytes(size)
        async with server.channel() as channel:
            assert await channel.unary_unary(ECHO)(message) == message

    server.run(work())


def test_many_calls_at_once(server: Server) -> None:
    """2,000 calls on one connection, twice what it allows at once, are all answered."""

    async def work() -> None:
        async with server.channel() as channel:
            echo = channel.unary_unary(ECHO)
            answers = await asyncio.gather(*(echo(str(index).encode()) for index in range(2000)))
        assert answers == [str(index).encode() for index in range(2000)]

    server.run(work())


def test_stream_both_ways(server: Server) -> None:
    """Messages of all sizes go both ways in order, and the stream ends when the client has said all."""

    async def work() -> None:
        messages = [random.Random(index).randbytes(index * 37) for index in range(500)]
        async with server.channel() as channel:
            stream = channel.stream_stream(REVERSE)(iter(messages))
            assert [answer async for answer in stream] == [message[::-1] for message in messages]
            assert await stream.code() == grpc.StatusCode.OK

    server.run(work())


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_request(server: Server, compression: grpc.Compression) -> None:
    """A client may compress what it sends."""

    async def work() -> None:
        async with server.channel(compression=compression) as channel:
            assert await channel.unary_unary(ECHO)(b"x" * 100_000) == b"x" * 100_000

    server.run(work())


def test_refusal_arrives_whole(server: Server) -> None:
    """Status, message and details of a refusal arrive, whatever the message holds."""

    async def work() -> None:
        text = "100 % gone\nsecond line: Zürich → 'x'"
        async with server.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary(REFUSE)(text.encode())
        assert failure.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert failure.value.details() == text
        assert dict(failure.value.trailing_metadata() or ())["grpc-status-details-bin"] == b"\x08\x09"

    server.run(work())


def test_defect_is_internal_and_does_not_spread(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a handler is INTERNAL, is logged with its traceback, and the connection lives on."""

    async def work() -> None:
        async with server.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary(BREAK)(b"")
            assert failure.value.code() == grpc.StatusCode.INTERNAL
            assert await channel.unary_unary(ECHO)(b"alive") == b"alive"

    server.run(work())
    assert "a defect" in caplog.text


def test_unknown_method_names_itself(server: Server) -> None:
    """A method that is not offered is UNIMPLEMENTED, and the message names it."""

    async def work() -> None:
        async with server.channel() as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary("/google.iam.v1.IAMPolicy/GetIamPolicy")(b"")
        assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "google.iam.v1.IAMPolicy/GetIamPolicy" in str(failure.value.details())

    server.run(work())


def test_cancelled_call_ends_its_handler(server: Server) -> None:
    """A call that the client cancels, or lets run out, does not go on."""

    async def work() -> None:
        async with server.channel() as channel:
            call = channel.unary_unary(HANG)(b"")
            late = channel.unary_unary(HANG)(b"", timeout=0.1)
            await server.until(lambda: server.hanging == 2)
            call.cancel()
            await server.until(lambda: server.hanging == 0)
            assert await late.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    server.run(work())


def test_lost_connection_ends_its_handlers(server: Server) -> None:
    """When the socket goes, so does everything that ran for it."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        for index in range(10):
            client.call(1 + 2 * index, HANG, b"")
        await server.until(lambda: server.hanging == 10)
        client.writer.transport.abort()
        await server.until(lambda: server.hanging == 0)

    server.run(work())


def test_slow_reader_holds_the_writer(server: Server) -> None:
    """A handler gets no further than its client takes: a message counts as written once all of it is on its way."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        client.send(frame(Kind.HEADERS, END_HEADERS, 1, client.request_block(POUR)))
        for wide in (65_535, 20_000, 100_000):
            got = 0
            while got < wide:
                got += len((await client.wait_for(Kind.DATA)).payload)
            assert got == wide
            client.send(window_update(0, 1 << 20))
            if wide == 65_535:
                assert server.poured == 0
                client.send(window_update(1, 20_000))
            elif wide == 20_000:
                assert server.poured == 0
                client.send(window_update(1, 100_000))
        assert server.poured == 1
        await client.close()

    server.run(work())


def test_stop_lets_calls_finish_and_refuses_new_ones(server: Server) -> None:
    """Within the grace a running call ends well; afterwards the port is closed."""

    async def work() -> None:
        async with server.channel() as channel:
            stream = channel.stream_stream(REVERSE)()
            await stream.write(b"ab")
            assert await stream.read() == b"ba"
            stopping = asyncio.create_task(server.grpc.stop(5))
            await stream.write(b"cd")
            assert await stream.read() == b"dc"
            await stream.done_writing()
            assert await stream.read() == grpc.aio.EOF
            assert await stream.code() == grpc.StatusCode.OK
            await stopping
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await channel.unary_unary(ECHO)(b"")
            assert failure.value.code() == grpc.StatusCode.UNAVAILABLE

    server.run(work())
