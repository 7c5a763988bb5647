"""gRPC over HTTP/2: the transport against raw frames, well-formed ones and such as cost much."""

import asyncio

import pytest

from localcloud.pubsub.transport import link
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
    rst_stream,
    window_update,
)
from tests.unit.pubsub.h2_client import H2Client, grpc_message
from tests.unit.pubsub.transport_server import ECHO, HANG, Server


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
