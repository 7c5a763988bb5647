"""A tiny BigQuery Storage Read API for one table: the two calls that the source makes, over real gRPC on a free port.

It can break each stream once, in the middle of its rows, with UNAVAILABLE: the client must go on from the offset it reached.
"""

from collections.abc import Iterator
from concurrent import futures
from types import TracebackType

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types

_SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"
TABLE = "projects/baton-local/datasets/samples/tables/natality"


class ReadApi:
    """Serves `table` in as many streams as are asked for (at most `most_streams`), a page of `page_rows` at a time."""

    def __init__(
        self, table: pa.Table, *, page_rows: int = 3, most_streams: int = 5, break_after_pages: int = 0
    ) -> None:
        self._table = table
        self._page_rows = page_rows
        self._most_streams = most_streams
        self._break_after_pages = break_after_pages
        self._streams: list[pa.Table] = []
        self._broken: set[int] = set()
        self.requests: list[types.CreateReadSessionRequest] = []
        self.offsets: list[tuple[str, int]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, self._handlers()),))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "ReadApi":
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    def stop(self) -> None:
        """Go away for good, in the middle of whatever is read."""
        self._server.stop(None).wait()

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._create_session,
                request_deserializer=types.CreateReadSessionRequest.deserialize,
                response_serializer=types.ReadSession.serialize,
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._read_rows,
                request_deserializer=types.ReadRowsRequest.deserialize,
                response_serializer=types.ReadRowsResponse.serialize,
            ),
        }

    def _create_session(
        self, request: types.CreateReadSessionRequest, context: grpc.ServicerContext
    ) -> types.ReadSession:
        self.requests.append(request)
        session = request.read_session
        if session.table != TABLE:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Not found: Table {session.table}")
        fields = list(session.read_options.selected_fields)
        absent = [name for name in fields if name not in self._table.column_names]
        if absent:
            message = f"request failed: The following selected fields do not exist in the table schema: {absent[0]}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        chosen = self._table.select(fields)
        count = min(request.max_stream_count, self._most_streams) if len(chosen) else 0
        self._streams = [
            chosen.slice(len(chosen) * n // count, len(chosen) * (n + 1) // count - len(chosen) * n // count)
            for n in range(count)
        ]
        return types.ReadSession(
            name="sessions/1",
            table=session.table,
            data_format=types.DataFormat.ARROW,
            arrow_schema=types.ArrowSchema(serialized_schema=chosen.schema.serialize().to_pybytes()),
            streams=[types.ReadStream(name=f"sessions/1/streams/{number}") for number in range(count)],
        )

    def _read_rows(
        self, request: types.ReadRowsRequest, context: grpc.ServicerContext
    ) -> Iterator[types.ReadRowsResponse]:
        self.offsets.append((request.read_stream, request.offset))
        number = int(request.read_stream.rpartition("/")[2])
        rest = self._streams[number].slice(request.offset).combine_chunks()
        for page, batch in enumerate(rest.to_batches(max_chunksize=self._page_rows)):
            if page == self._break_after_pages and self._break_after_pages and number not in self._broken:
                self._broken.add(number)
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke, on purpose")
            message = types.ArrowRecordBatch(serialized_record_batch=batch.serialize().to_pybytes())
            yield types.ReadRowsResponse(arrow_record_batch=message, row_count=len(batch))
