"""gRPC over HTTP/2: the transport against frames that break the protocol, and noise."""

import asyncio
import random
from contextlib import suppress

import pytest

from localcloud.pubsub.transport.frames import (
    END_HEADERS,
    PADDED,
    ErrorCode,
    Kind,
    frame,
    head,
    rst_stream,
    window_update,
)
from tests.unit.pubsub.h2_client import H2Client, grpc_message
from tests.unit.pubsub.transport_server import ECHO, Server

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
