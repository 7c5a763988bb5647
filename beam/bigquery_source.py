"""A BigQuery table as Arrow streams of the Storage Read API: the server's columns become ours without a row in between.

Not Beam's ReadFromBigQuery: it makes a dict of each row, and its endpoints cannot be set, so that it never reads a
local server. A stream is read from an offset, and a broken connection is taken up again where it broke (the client
library counts the rows that it has passed on). The session is a snapshot: all workers see the table as of one moment,
for six hours.
"""

# Google's client is typed in part only.
# mypy: disable-error-code="no-untyped-call, no-untyped-def"
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from beam.errors import BadFlag, EmptySource, MissingColumns, SourceError, SourceNotFound
from beam.shards import Batch, Columns, Shard, check_types

if TYPE_CHECKING:
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

SCHEME = "bq://"
ENDPOINT_VARIABLE = "BATON_BIGQUERY_STORAGE_ENDPOINT"
STREAMS_PER_WORKER = 4  # so that a worker that is done early finds more to do
BATCH_ROWS = 256 * 1024  # the API answers pages of a few thousand rows; they are joined to work on long columns
SETUP_TIMEOUT_S = 60.0
STREAM_RETRY_S = 300.0  # a broken stream is taken up again for so long; the client's own patience is a whole day

_NAME = re.compile(r"bq://(?P<project>(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]*)\.(?P<dataset>\w+)\.(?P<table>[\w$-]+)")
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class BigQueryShard(Shard):
    """One stream of a read session, or the first rows of it."""

    uri: str
    stream: str
    number: int
    schema: bytes  # the session's Arrow schema as an IPC message
    limit: int | None = None

    @property
    def place(self) -> str:
        """The table and the stream's number in its session."""
        return f"{self.uri}#stream-{self.number}"

    @property
    def rows_before(self) -> int | None:
        """A stream's rows are counted from its own beginning: a table has no order."""
        return 0

    @property
    def header_lines(self) -> int:
        """None: rows here are no lines."""
        return 0

    def batches(self) -> Iterator[Batch]:
        """Read the stream, `BATCH_ROWS` at a time."""
        schema = pa.ipc.read_schema(pa.py_buffer(self.schema))
        done = 0
        for records in _joined(self._pages(schema)):
            yield Batch(records, np.arange(done, done + len(records)))
            done += len(records)

    def _pages(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        left = self.limit
        reader = client()
        with reader:
            for message in self._messages(reader):
                page = pa.ipc.read_record_batch(pa.py_buffer(message), schema)
                if left is not None:
                    page, left = page.slice(0, left), left - len(page)
                yield page
                if left is not None and left <= 0:
                    return

    def _messages(self, reader: "BigQueryReadClient") -> Iterator[bytes]:
        from google.api_core import exceptions, retry

        policy = retry.Retry(predicate=retry.if_exception_type(exceptions.ServiceUnavailable), timeout=STREAM_RETRY_S)
        try:
            for answer in reader.read_rows(self.stream, offset=0, retry=policy):
                yield answer.arrow_record_batch.serialized_record_batch
        except exceptions.GoogleAPIError as error:
            raise SourceError(
                f"source {self.place!r} broke off while it was read ({error}); a session lives for six hours, "
                "so start the job again"
            ) from error


def plan(uri: str, columns: Columns, *, workers: int, project: str, limit: int | None = None) -> list[BigQueryShard]:
    """Open a read session over a table; one shard for each of its streams.

    With a limit there is one stream, in the order in which the table is stored: the same rows each time, as long as
    the table is not written to.

    Args:
        uri: `bq://project.dataset.table`.
        columns: what the pipeline needs.
        workers: how many will read; the session is asked for `STREAMS_PER_WORKER` times as many streams.
        project: who pays for the read; empty: the table's own project.
        limit: take the first so many rows only.

    Raises:
        BadFlag: the URI is no table's name.
        SourceNotFound: there is no such table.
        MissingColumns: the table lacks a column.
        EmptySource: the table has no row.
        UnsupportedSource: a column holds lists or records.
        SourceError: the API refuses.
    """
    name = _NAME.fullmatch(uri)
    if name is None:
        raise BadFlag(f"--source={uri} names no BigQuery table; write bq://project.dataset.table")
    table = "projects/{project}/datasets/{dataset}/tables/{table}".format(**name.groupdict())
    streams = 1 if limit is not None else STREAMS_PER_WORKER * workers
    session = _open_session(uri, table, f"projects/{project or name['project']}", columns, streams)
    if not session.streams:
        raise EmptySource(f"source {uri!r} is an empty table; load rows into it first")
    schema = bytes(session.arrow_schema.serialized_schema)
    check_types(uri, pa.ipc.read_schema(pa.py_buffer(schema)), columns)
    return [BigQueryShard(uri, stream.name, number, schema, limit) for number, stream in enumerate(session.streams)]


def client() -> "BigQueryReadClient":
    """Return a client for Google's endpoint, or for the one that `BATON_BIGQUERY_STORAGE_ENDPOINT` names.

    A loopback address is spoken to without TLS and without credentials.
    """
    # Imported on use: half a second that a job over files need not spend.
    from google.api_core.client_options import ClientOptions
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    endpoint = os.environ.get(ENDPOINT_VARIABLE, "")
    if not endpoint:
        return BigQueryReadClient()
    if not _LOOPBACK.fullmatch(endpoint):
        return BigQueryReadClient(client_options=ClientOptions(api_endpoint=endpoint))
    import grpc

    # A page of rows may be as large as the server likes; the channel's default of 4 MiB is for small messages.
    channel = grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)])
    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def _open_session(uri: str, table: str, parent: str, columns: Columns, streams: int):
    from google.api_core import exceptions, retry
    from google.cloud.bigquery_storage_v1 import types

    session = types.ReadSession(
        table=table,
        data_format=types.DataFormat.ARROW,
        read_options=types.ReadSession.TableReadOptions(selected_fields=list(columns)),
    )
    request = types.CreateReadSessionRequest(
        parent=parent, read_session=session, max_stream_count=streams, preferred_min_stream_count=streams
    )
    policy = retry.Retry(predicate=retry.if_exception_type(exceptions.ServiceUnavailable), timeout=SETUP_TIMEOUT_S)
    try:
        with client() as opener:
            return opener.create_read_session(request, retry=policy, timeout=SETUP_TIMEOUT_S)
    except exceptions.NotFound as error:
        raise SourceNotFound(
            f"source {uri!r} does not exist ({error.message}); check project, dataset and table"
        ) from error
    except exceptions.InvalidArgument as error:
        named = [name for name in columns if re.search(rf"\b{name}\b", error.message)]
        if not named:
            raise SourceError(f"source {uri!r} cannot be read ({error.message}); read a table, not a view") from error
        raise MissingColumns(
            f"source {uri!r} lacks the column(s) {', '.join(named)} ({error.message}); rename or add them"
        ) from error
    except exceptions.GoogleAPIError as error:
        where = os.environ.get(ENDPOINT_VARIABLE) or "Google's endpoint"
        raise SourceError(
            f"source {uri!r} cannot be read through {where} ({error}); check the address and the permission "
            "bigquery.readsessions.create"
        ) from error


def _joined(pages: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join pages into batches of at least `BATCH_ROWS` rows."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for page in pages:
        held.append(page)
        rows += len(page)
        if rows >= BATCH_ROWS:
            yield pa.concat_batches(held)
            held, rows = [], 0
    if rows:
        yield pa.concat_batches(held)
