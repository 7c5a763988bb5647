"""google.cloud.bigquery.storage.v1.BigQueryRead over gRPC: sessions, Arrow streams, splits.

The protobuf classes come from google-cloud-bigquery-storage and are imported by the first call, in a thread: that import
costs half a second and tens of megabytes, which a server that only waits should not pay.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from localcloud.bigquery.errors import BigQueryError, Invalid, Unsupported
from localcloud.bigquery.sessions import Session, Sessions, Snapshot, Stream, parse_stream, split

log = logging.getLogger(__name__)

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1))
# One batch ahead of the wire: the next is made while this one is sent.
_DONE = object()


class StorageReadServer:
    """The gRPC server of the part."""

    def __init__(self, sessions: Sessions, *, host: str, port: int) -> None:
        self._service = _Service(sessions)
        self._host = host
        self._port = port
        self._server: Any = None

    async def start(self) -> int:
        """Bind and serve; the port.

        Raises:
            OSError: the address is taken.
        """
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self._service,))
        try:
            port = server.add_insecure_port(f"{self._host}:{self._port}")
        except RuntimeError as error:
            raise OSError(
                f"cannot listen on {self._host}:{self._port} ({error}); stop what holds it or choose 0"
            ) from error
        await server.start()
        self._server = server
        return int(port)

    async def stop(self, grace_s: float) -> None:
        """Let streams end for a while, then cut them."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Routes the three methods; requests and answers stay bytes until the protobuf classes are needed."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._handlers = {
            f"/{SERVICE}/CreateReadSession": grpc.unary_unary_rpc_method_handler(self.create),
            f"/{SERVICE}/ReadRows": grpc.unary_stream_rpc_method_handler(self.read_rows),
            f"/{SERVICE}/SplitReadStream": grpc.unary_unary_rpc_method_handler(self.split),
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method, or None."""
        return self._handlers.get(handler_call_details.method)

    async def create(self, request: bytes, context: Any) -> bytes:
        """CreateReadSession."""
        answer: bytes = await self._guard(context, _create, self._sessions, request)
        return answer

    async def split(self, request: bytes, context: Any) -> bytes:
        """SplitReadStream."""
        answer: bytes = await self._guard(context, _split, self._sessions, request)
        return answer

    async def read_rows(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """ReadRows: from the offset to the stream's end."""
        answers = await self._guard(context, _read_rows, self._sessions, request)
        step = functools.partial(next, answers, _DONE)
        ahead = asyncio.ensure_future(self._guard(context, step))
        try:
            while True:
                answer = await ahead
                if answer is _DONE:
                    return
                ahead = asyncio.ensure_future(self._guard(context, step))
                yield answer
        finally:
            ahead.cancel()

    async def _guard(self, context: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Run in a thread; errors become gRPC's."""
        try:
            return await asyncio.to_thread(function, *args)
        except BigQueryError as error:
            await context.abort(_STATUS.get(error.code, grpc.StatusCode.INTERNAL), f"request failed: {error.message}")
        except Exception as error:
            log.exception("storage read failed", extra={"action": "storage_read_failed"})
            await context.abort(grpc.StatusCode.INTERNAL, f"The local BigQuery failed: {type(error).__name__}: {error}")


@functools.cache
def _messages() -> Any:
    """The raw protobuf classes, as a namespace."""
    from types import SimpleNamespace

    from google.cloud.bigquery_storage_v1 import types

    names = ("CreateReadSessionRequest", "ReadSession", "ReadRowsRequest", "ReadRowsResponse", "SplitReadStreamRequest",
             "SplitReadStreamResponse")  # fmt: skip
    return SimpleNamespace(**{name: getattr(types, name).pb() for name in names})


def _create(sessions: Sessions, request: bytes) -> bytes:
    messages = _messages()
    asked = messages.CreateReadSessionRequest.FromString(request)
    wanted = asked.read_session
    formats = messages.ReadSession.DESCRIPTOR.fields_by_name["data_format"].enum_type.values_by_name
    if wanted.data_format != formats["ARROW"].number:
        raise Unsupported("data_format AVRO is not offered locally; set data_format to ARROW.")
    options = wanted.read_options
    if wanted.table_modifiers.HasField("snapshot_time"):
        raise Unsupported(
            "table_modifiers.snapshot_time is not offered locally; a session reads the table as it is now."
        )
    if options.sample_percentage:
        raise Unsupported("read_options.sample_percentage is not offered locally; filter with row_restriction.")
    session = sessions.create(
        asked.parent,
        wanted.table,
        list(options.selected_fields),
        options.row_restriction,
        asked.max_stream_count,
        asked.preferred_min_stream_count,
    )
    return _session_answer(sessions, session, wanted)


def _session_answer(sessions: Sessions, session: Session, wanted: Any) -> bytes:
    names = session.stream_names()
    probe = Stream(session.name.rpartition("/")[2], 0, 0, f"{session.name}/streams/r0-0")
    answer = type(wanted)()
    answer.CopyFrom(wanted)
    answer.name = session.name
    answer.expire_time.FromNanoseconds(int(session.expires_s * 1e9))
    answer.arrow_schema.serialized_schema = sessions.snapshot(probe).schema.serialize().to_pybytes()
    answer.estimated_row_count = session.rows
    answer.estimated_total_bytes_scanned = session.size_bytes
    del answer.streams[:]
    for name in names:
        answer.streams.add(name=name)
    done: bytes = answer.SerializeToString()
    return done


def _read_rows(sessions: Sessions, request: bytes) -> Any:
    """An iterator over serialised answers; the checks run before it is handed out."""
    asked = _messages().ReadRowsRequest.FromString(request)
    stream = parse_stream(asked.read_stream)
    snapshot = sessions.snapshot(stream)
    rows = stream.end - stream.first
    if not 0 <= asked.offset <= rows:
        raise Invalid(f"offset {asked.offset} lies past the {rows} rows of {stream.name}; the stream ends there.")
    return _answers(snapshot, stream, int(asked.offset), rows)


def _answers(snapshot: Snapshot, stream: Stream, offset: int, rows: int) -> Any:
    response = _messages().ReadRowsResponse
    sent = offset
    for batch in snapshot.batches(stream.first + offset, stream.end):
        answer = response(row_count=batch.num_rows)
        answer.arrow_record_batch.serialized_record_batch = batch.serialize().to_pybytes()
        answer.arrow_record_batch.row_count = batch.num_rows
        answer.uncompressed_byte_size = batch.nbytes
        answer.stats.progress.at_response_start = sent / rows
        if sent == offset:
            answer.arrow_schema.serialized_schema = snapshot.schema.serialize().to_pybytes()
        sent += batch.num_rows
        answer.stats.progress.at_response_end = sent / rows
        yield answer.SerializeToString()


def _split(sessions: Sessions, request: bytes) -> bytes:
    messages = _messages()
    asked = messages.SplitReadStreamRequest.FromString(request)
    sessions.snapshot(parse_stream(asked.name))
    first, second = split(asked.name, asked.fraction)
    answer = messages.SplitReadStreamResponse()
    # A stream too short to be cut answers with neither, which tells the caller so.
    if (
        first.rpartition("/")[2] != asked.name.rpartition("/")[2]
        and parse_stream(second).end > parse_stream(second).first
    ):
        answer.primary_stream.name = first
        answer.remainder_stream.name = second
    done: bytes = answer.SerializeToString()
    return done
