"""gRPC over HTTP/2: the transport alone, with services of its own, against grpcio's client and against raw frames."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import grpc
import pytest

from localcloud.pubsub.transport import Call, GrpcServer, Status, link
from localcloud.pubsub.transport.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PRIORITY_FLAG,
    ErrorCode,
    Kind,
    Setting,
    frame,
    head,
    rst_stream,
    window_update,
)
from localcloud.pubsub.transport.status import Method, Refusal
from tests.unit.pubsub.h2_client import H2Client, grpc_message

T = TypeVar("T")
ECHO, REVERSE, REFUSE = "/test.T/Echo", "/test.T/Reverse", "/test.T/Refuse"
BREAK, HANG, POUR = "/test.T/Break", "/test.T/Hang", "/test.T/Pour"


class _Refused(Refusal):
    code = Status.FAILED_PRECONDITION

    def details(self) -> bytes:
        return b"\x08\x09"


class Server:
    """A server with a few methods, on a loop which the tests drive."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.hanging = 0
        self.poured = 0
        methods = {
            ECHO: Method("Echo", False, bytes, self._echo),
            REFUSE: Method("Refuse", False, bytes, self._refuse),
            BREAK: Method("Break", False, bytes, self._break),
            HANG: Method("Hang", False, bytes, self._hang),
            REVERSE: Method("Reverse", True, bytes, self._reverse),
            POUR: Method("Pour", True, bytes, self._pour),
        }
        self.grpc = GrpcServer(methods.items())
        self.port = self.run(self.grpc.start("127.0.0.1", 0))

    def run(self, work: Awaitable[T]) -> T:
        async def whole() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(whole())

    def channel(self, **options: Any) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}",
            [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                *options.pop("options", ()),
            ],
            **options,
        )

    async def _echo(self, request: bytes, call: Call) -> bytes:
        return request

    async def _refuse(self, request: bytes, call: Call) -> bytes:
        raise _Refused(request.decode())

    async def _break(self, request: bytes, call: Call) -> bytes:
        raise RuntimeError("a defect")

    async def _hang(self, request: bytes, call: Call) -> bytes:
        self.hanging += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.hanging -= 1
        return b""

    async def _reverse(self, request: None, call: Call) -> bytes:
        while (message := await call.read()) is not None:
            await call.write(message[::-1])
        return b""

    async def _pour(self, request: None, call: Call) -> bytes:
        while True:
            await call.write(bytes(100_000))
            self.poured += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.run(made.grpc.stop(0.0))
    made.run(_settled())
    made.loop.close()


async def _settled() -> None:
    """Let ended tasks leave the loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5)


# ---- against grpcio ----


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


# ---- raw frames, well-formed ----


def test_request_in_pieces(server: Server) -> None:
    """Padding, priorities, continuations and messages cut anywhere are put together."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        block = client.request_block(ECHO)
        body = grpc_message(b"0123456789")
        client.send(
            frame(Kind.HEADERS, PADDED | PRIORITY_FLAG, 1, b"\x03" + bytes(5) + block[:2] + bytes(3)),
            frame(Kind.CONTINUATION, 0, 1, block[2:3]),
            frame(Kind.CONTINUATION, END_HEADERS, 1, block[3:]),
        )
        for byte in body:
            client.send(frame(Kind.DATA, PADDED, 1, b"\x02" + bytes((byte,)) + bytes(2)))
        client.send(
            frame(Kind.PRIORITY, 0, 1, bytes(5)), frame(99, 0, 0, b"unknown"), frame(Kind.DATA, END_STREAM, 1, b"")
        )
        fields, data = await client.answer(1)
        assert fields[":status"] == "200"
        assert fields["content-type"] == "application/grpc"
        assert fields["grpc-status"] == "0"
        assert data == body
        await client.close()

    server.run(work())


def test_bytes_one_by_one(server: Server) -> None:
    """A connection that trickles is understood all the same."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        whole = frame(Kind.HEADERS, END_HEADERS, 1, client.request_block(ECHO)) + frame(
            Kind.DATA, END_STREAM, 1, grpc_message(b"hello")
        )
        for byte in whole:
            client.send(bytes((byte,)))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.answer(1))[1] == grpc_message(b"hello")
        await client.close()

    server.run(work())


def test_answer_waits_for_the_window(server: Server) -> None:
    """A client with a window of 10 bytes gets 10 bytes, and the rest when it opens the window."""

    async def work() -> None:
        client = await H2Client.open(server.port, {Setting.INITIAL_WINDOW_SIZE: 10})
        client.call(1, ECHO, b"x" * 30)
        assert len((await client.wait_for(Kind.DATA)).payload) == 10
        client.send(window_update(1, 7))
        assert len((await client.wait_for(Kind.DATA)).payload) == 7
        client.send(frame(Kind.SETTINGS, 0, 0, b"\x00\x04" + (100).to_bytes(4, "big")))
        assert len((await client.wait_for(Kind.DATA)).payload) == 18
        await client.close()

    server.run(work())


def test_ping_and_settings_are_acknowledged(server: Server) -> None:
    """Both get their ACK."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        client.send(frame(Kind.PING, 0, 0, b"12345678"))
        pong = await client.wait_for(Kind.PING)
        assert (pong.flags, pong.payload) == (ACK, b"12345678")
        await client.close()

    server.run(work())


def test_client_without_compression_table_is_obeyed(server: Server) -> None:
    """With HEADER_TABLE_SIZE 0 the next header block says that the table is empty."""

    async def work() -> None:
        client = await H2Client.open(server.port, {Setting.HEADER_TABLE_SIZE: 0})
        client.call(1, ECHO, b"")
        assert (await client.wait_for(Kind.HEADERS)).payload[:2] == b"\x20\x88"
        await client.close()

    server.run(work())


def test_same_block_means_the_same_until_the_table_changes(server: Server) -> None:
    """A remembered header block is read anew once the compression table has changed under it."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        for stream_id, path in ((1, ECHO), (3, ECHO), (5, "/no.Such/Method"), (7, ECHO), (9, ECHO)):
            client.call(stream_id, path, b"x")
            fields, _ = await client.answer(stream_id)
            assert fields["grpc-status"] == ("0" if path == ECHO else "12")
        await client.close()

    server.run(work())


def test_other_protocols_are_told_off(server: Server) -> None:
    """A request that is not gRPC is 415."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        block = client.encoder.encode([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")])
        client.send(frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, block))
        assert (await client.answer(1))[0] == {":status": "415"}
        await client.close()

    server.run(work())


def test_huge_message_is_refused_by_its_first_bytes(server: Server) -> None:
    """A message above the limit is INVALID_ARGUMENT before it is sent, and the rest of it is not wanted."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        client.send(frame(Kind.HEADERS, END_HEADERS, 1, client.request_block(ECHO)))
        client.send(frame(Kind.DATA, 0, 1, b"\x00" + (2**31).to_bytes(4, "big")))
        fields, _ = await client.answer(1)
        assert fields["grpc-status"] == "3"
        reset = await client.wait_for(Kind.RST_STREAM)
        assert reset.payload == ErrorCode.NO_ERROR.to_bytes(4, "big")
        client.call(3, ECHO, b"next")
        assert (await client.answer(3))[1] == grpc_message(b"next")
        await client.close()

    server.run(work())


def test_decompression_bomb_is_refused(server: Server) -> None:
    """A small message that would unpack into a huge one is INVALID_ARGUMENT."""
    import gzip

    async def work() -> None:
        client = await H2Client.open(server.port)
        packed = gzip.compress(bytes(200_000_000))
        body = b"\x01" + len(packed).to_bytes(4, "big") + packed
        client.send(frame(Kind.HEADERS, END_HEADERS, 1, client.request_block(ECHO, grpc_encoding="gzip")))
        for at in range(0, len(body), 16_000):
            client.send(frame(Kind.DATA, 0, 1, body[at : at + 16_000]))
        fields, _ = await client.answer(1)
        assert fields["grpc-status"] == "3"
        await client.close()

    server.run(work())


def test_requests_of_one_connection_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-sent requests cannot fill the memory: beyond the bound they are RESOURCE_EXHAUSTED."""
    monkeypatch.setattr("localcloud.pubsub.transport.connection._MAX_HELD_BYTES", 100_000)

    async def work() -> None:
        client = await H2Client.open(server.port)
        start = b"\x00" + (50_000).to_bytes(4, "big") + bytes(15_000)
        for index in range(10):
            stream_id = 1 + 2 * index
            client.send(frame(Kind.HEADERS, END_HEADERS, stream_id, client.request_block(ECHO)))
            client.send(frame(Kind.DATA, 0, stream_id, start))
        fields, _ = await client.answer(13)
        assert fields["grpc-status"] == "8"
        await client.close()

    server.run(work())


def test_resets_in_quick_succession(server: Server) -> None:
    """Thousands of calls opened and reset at once leave nothing running."""

    async def work() -> None:
        client = await H2Client.open(server.port)
        for index in range(5000):
            client.call(1 + 2 * index, HANG, b"")
            client.send(rst_stream(1 + 2 * index, ErrorCode.CANCEL))
        client.call(20_001, ECHO, b"alive")
        assert (await client.answer(20_001))[1] == grpc_message(b"alive")
        await server.until(lambda: server.hanging == 0)
        await client.close()

    server.run(work())


def test_silent_peer_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that answers no ping is closed, and its calls end."""
    monkeypatch.setattr(link, "_KEEPALIVE_S", 0.05)
    monkeypatch.setattr(link, "_KEEPALIVE_PATIENCE_S", 0.1)

    async def work() -> None:
        client = await H2Client.open(server.port)
        client.call(1, HANG, b"")
        await server.until(lambda: server.hanging == 1)
        await client.wait_for(Kind.PING)
        await server.until(lambda: server.hanging == 0)
        await client.close()

    server.run(work())


# ---- raw frames, hostile ----

_OPENING = frame(Kind.HEADERS, END_HEADERS, 1, b"\x83\x86\x84")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (head(16_385, Kind.DATA, 0, 1) + bytes(16_385), ErrorCode.FRAME_SIZE_ERROR),
        (frame(Kind.DATA, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.DATA, 0, 0, b""), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.HEADERS, END_HEADERS, 2, b"\x83"), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"), ErrorCode.COMPRESSION_ERROR),
        (frame(Kind.HEADERS, END_HEADERS, 1, b"\x00\x85\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (frame(Kind.HEADERS, END_HEADERS | PADDED, 1, b"\x09\x83"), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.HEADERS, 0, 1, b"\x83") + frame(Kind.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.CONTINUATION, END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (
            frame(Kind.HEADERS, 0, 1, b"") + frame(Kind.CONTINUATION, 0, 1, bytes(16_000)) * 5,
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
        (frame(Kind.WINDOW_UPDATE, 0, 0, b"\x01"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(Kind.SETTINGS, 0, 0, b"\x00" * 5), ErrorCode.FRAME_SIZE_ERROR),
        (frame(Kind.SETTINGS, 0, 0, b"\x00\x04\xff\xff\xff\xff"), ErrorCode.FLOW_CONTROL_ERROR),
        (frame(Kind.SETTINGS, 0, 0, b"\x00\x05\x00\x00\x00\x01"), ErrorCode.PROTOCOL_ERROR),
        (frame(Kind.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(Kind.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (rst_stream(5, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_broken_protocol_ends_the_connection(server: Server, raw: bytes, code: ErrorCode) -> None:
    """What no client may send is answered with GOAWAY and its reason, and only that connection ends."""

    async def work() -> None:
        client, bystander = await H2Client.open(server.port), await H2Client.open(server.port)
        client.send(raw)
        goaway = await client.wait_for(Kind.GOAWAY)
        assert int.from_bytes(goaway.payload[4:8], "big") == code
        assert await client.is_closed()
        bystander.call(1, ECHO, b"alive")
        assert (await bystander.answer(1))[1] == grpc_message(b"alive")
        await client.close()
        await bystander.close()

    server.run(work())


def test_other_greetings_are_refused(server: Server) -> None:
    """HTTP/1.1 on this port ends at once."""

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        client = H2Client(reader, writer)
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.is_closed()
        await client.close()

    server.run(work())


def test_noise_does_no_harm(server: Server) -> None:
    """Random frames, well-formed or not, never disturb another connection or leave a handler behind."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    noise = random.Random(seed)

    async def shout() -> None:
        client = await H2Client.open(server.port)
        client.send(_OPENING * noise.randrange(2))
        for _ in range(noise.randrange(30)):
            size = noise.choice((0, 1, 4, 5, 6, 8, noise.randrange(200)))
            kind, flags, stream_id = noise.randrange(11), noise.randrange(256), noise.choice((0, 1, 1, 2, 3, 5))
            client.send(frame(kind, flags, stream_id, noise.randbytes(size)))
        if noise.random() < 0.5:
            client.send(noise.randbytes(noise.randrange(50)))
        await client.writer.drain()
        await client.close()

    async def work() -> None:
        bystander = await H2Client.open(server.port)
        for index in range(300):
            with suppress(ConnectionError):  # the server may hang up while we shout
                await shout()
            if index % 50 == 0:
                bystander.call(1 + 2 * index, ECHO, b"alive")
                assert (await bystander.answer(1 + 2 * index))[1] == grpc_message(b"alive")
        await bystander.close()
        await server.until(lambda: not server.grpc._connections)

    server.run(work())
    assert server.hanging == 0
