"""The Storage Read API by the stock client, over a plain insecure channel."""

import datetime
import decimal
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, MethodNotImplemented, NotFound
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types

PARENT = "projects/baton-local"


@pytest.fixture
def numbers(client: bigquery.Client, dataset: str) -> str:
    """x from 1 to 10,000, in order; the table's path."""
    client.query(
        f"CREATE TABLE {dataset}.numbers AS SELECT x, MOD(x, 10) AS digit, CONCAT('n', CAST(x AS STRING)) AS name "
        "FROM UNNEST(GENERATE_ARRAY(1, 10000)) AS x ORDER BY x"
    ).result()
    return path_of(f"{dataset}.numbers")


def path_of(table: str) -> str:
    dataset, name = table.split(".")
    return f"{PARENT}/datasets/{dataset}/tables/{name}"


def open_session(
    reader: BigQueryReadClient, table: str, streams: int = 0, data_format: str = "ARROW", **options: object
) -> types.ReadSession:
    session = types.ReadSession(table=table, data_format=data_format, read_options=options)
    return reader.create_read_session(parent=PARENT, read_session=session, max_stream_count=streams)


def read(reader: BigQueryReadClient, stream: str, offset: int = 0) -> pa.Table | None:
    schema, batches = None, []
    for answer in reader.read_rows(stream, offset=offset):
        if answer.arrow_schema.serialized_schema:
            schema = pa.ipc.read_schema(pa.py_buffer(answer.arrow_schema.serialized_schema))
        batches.append(
            pa.ipc.read_record_batch(pa.py_buffer(answer.arrow_record_batch.serialized_record_batch), schema)
        )
    return pa.Table.from_batches(batches) if batches else None


def column(reader: BigQueryReadClient, session: types.ReadSession, name: str = "x") -> list[object]:
    tables = [read(reader, stream.name) for stream in session.streams]
    return [value for table in tables if table is not None for value in table[name].to_pylist()]


@pytest.mark.parametrize("streams", [0, 1, 2, 3, 7])
def test_streams_cut_the_table_without_overlap_or_loss(reader: BigQueryReadClient, numbers: str, streams: int) -> None:
    """However many streams are asked for, together they give each row once."""
    session = open_session(reader, numbers, streams)
    assert 1 <= len(session.streams) <= (streams or 100)
    assert not streams or len(session.streams) == streams
    assert sorted(column(reader, session)) == list(range(1, 10_001))
    assert session.estimated_row_count == 10_000
    assert session.estimated_total_bytes_scanned > 0
    assert session.expire_time > datetime.datetime.now(datetime.UTC)


def test_chosen_fields_and_a_row_restriction(reader: BigQueryReadClient, numbers: str) -> None:
    """Only the columns asked for, in the table's order, and only the rows that hold."""
    options = {"selected_fields": ["name", "x"], "row_restriction": "digit = 3 AND x < 100 AND name LIKE 'n%'"}
    session = open_session(reader, numbers, 1, **options)
    table = read(reader, session.streams[0].name)
    assert table.column_names == ["x", "name"]
    assert table["x"].to_pylist() == list(range(3, 100, 10))
    assert session.estimated_row_count == 10
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
    assert schema.names == ["x", "name"]


@pytest.mark.parametrize(
    "restriction",
    [
        "x IN (SELECT x FROM other)",
        "1=1) UNION ALL (SELECT 1",
        "x = 1; DROP TABLE y",
        "getenv('HOME') = 'x'",
        "x = ",
        "nothing = 1",
        "EXISTS(SELECT 1)",
        "x = (SELECT COUNT(*) FROM read_csv('/etc/passwd'))",
        "x > @limit",
    ],
)
def test_hostile_row_restrictions_are_refused(reader: BigQueryReadClient, numbers: str, restriction: str) -> None:
    """A restriction is one condition over the table's columns, nothing else."""
    with pytest.raises(InvalidArgument):
        open_session(reader, numbers, 1, row_restriction=restriction)


def test_a_stream_resumes_at_any_offset(reader: BigQueryReadClient, numbers: str) -> None:
    """read_rows from an offset gives the rest, to the row; at the end nothing; past it an error."""
    stream = open_session(reader, numbers, 2).streams[1].name
    whole = read(reader, stream)["x"].to_pylist()
    for offset in (1, 777, len(whole) - 1):
        assert read(reader, stream, offset)["x"].to_pylist() == whole[offset:]
    assert read(reader, stream, len(whole)) is None
    with pytest.raises(GoogleAPICallError, match="offset"):
        read(reader, stream, len(whole) + 1)


def test_a_stream_can_be_split(reader: BigQueryReadClient, numbers: str) -> None:
    """The two halves of a split give what the stream gives, in order; the stream itself stays readable."""
    stream = open_session(reader, numbers, 1).streams[0].name
    answer = reader.split_read_stream(types.SplitReadStreamRequest(name=stream, fraction=0.3))
    first = read(reader, answer.primary_stream.name)["x"].to_pylist()
    second = read(reader, answer.remainder_stream.name)["x"].to_pylist()
    assert first + second == read(reader, stream)["x"].to_pylist()
    assert 0.2 < len(first) / 10_000 < 0.4
    again = reader.split_read_stream(types.SplitReadStreamRequest(name=answer.remainder_stream.name, fraction=0.5))
    assert read(reader, again.remainder_stream.name)["x"].to_pylist()[-1] == 10_000


def test_a_session_reads_a_snapshot(client: bigquery.Client, reader: BigQueryReadClient, numbers: str) -> None:
    """Rows added, changed, dropped after the session was made are not its business."""
    name = numbers.split("/")[3] + ".numbers"
    session = open_session(reader, numbers, 3)
    client.query(f"UPDATE {name} SET x = -x WHERE TRUE").result()
    client.query(f"INSERT INTO {name} (x) VALUES (0)").result()
    half = column(reader, session)
    client.delete_table(name)
    assert sorted(half) == sorted(column(reader, session)) == list(range(1, 10_001))


def test_an_empty_table_has_no_streams(client: bigquery.Client, reader: BigQueryReadClient, dataset: str) -> None:
    """A session over no rows has a schema and nothing to read."""
    client.query(f"CREATE TABLE {dataset}.empty (a INT64, b STRING)").result()
    session = open_session(reader, path_of(f"{dataset}.empty"), 4)
    assert list(session.streams) == []
    assert pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema)).names == ["a", "b"]


def test_every_type_has_bigquerys_arrow_type(client: bigquery.Client, reader: BigQueryReadClient, dataset: str) -> None:
    """Columns come as the Arrow types that BigQuery documents, values intact."""
    client.query(
        f"CREATE TABLE {dataset}.t AS SELECT 1 AS i, 1.5 AS f, TRUE AS b, 'x' AS s, b'\\x00' AS y, DATE '2020-01-02' AS d, "
        "TIMESTAMP '2020-01-02 03:04:05.678901+00' AS ts, DATETIME '2020-01-02 03:04:05' AS dt, TIME '01:02:03' AS t, "
        "NUMERIC '1.5' AS n, JSON '{\"a\":1}' AS j, ['p', 'q'] AS l, STRUCT(1 AS a, 'z' AS b) AS r"
    ).result()
    session = open_session(reader, path_of(f"{dataset}.t"), 1)
    table = read(reader, session.streams[0].name)
    assert [str(one.type) for one in table.schema] == [
        "int64",
        "double",
        "bool",
        "string",
        "binary",
        "date32[day]",
        "timestamp[us, tz=UTC]",
        "timestamp[us]",
        "time64[us]",
        "decimal128(38, 9)",
        "string",
        "list<item: string>",
        "struct<a: int64, b: string>",
    ]
    row = table.to_pylist()[0]
    assert row["n"] == decimal.Decimal("1.5")
    assert row["ts"] == datetime.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
    assert (row["l"], row["r"], row["y"]) == (["p", "q"], {"a": 1, "b": "z"}, b"\x00")


def test_messages_stay_under_grpcs_limit(client: bigquery.Client, reader: BigQueryReadClient, dataset: str) -> None:
    """Wide rows are cut into messages that a channel without options takes (4 MiB)."""
    table = pa.table({"x": pa.array(range(300)), "big": pa.array(["y" * 100_000] * 300)})
    out = io.BytesIO()
    pq.write_table(table, out)
    out.seek(0)
    client.load_table_from_file(
        out, f"{dataset}.t", job_config=bigquery.LoadJobConfig(source_format="PARQUET")
    ).result()
    session = open_session(reader, path_of(f"{dataset}.t"), 1)
    sizes = [len(types.ReadRowsResponse.serialize(one)) for one in reader.read_rows(session.streams[0].name)]
    assert len(sizes) > 7
    assert max(sizes) < 4 * 1024 * 1024
    assert column(reader, session) == list(range(300))


def test_progress_and_counts_are_told(reader: BigQueryReadClient, numbers: str) -> None:
    """Each answer says how many rows it holds and how far the stream is; the first one carries the schema."""
    stream = open_session(reader, numbers, 1).streams[0].name
    answers = list(reader.read_rows(stream))
    assert sum(one.row_count for one in answers) == 10_000
    assert answers[0].arrow_schema.serialized_schema
    assert answers[-1].stats.progress.at_response_end == 1.0


def test_what_is_not_there_is_named(reader: BigQueryReadClient, dataset: str) -> None:
    """A missing table, column or session is an error that names it."""
    with pytest.raises(NotFound, match="nothere"):
        open_session(reader, path_of(f"{dataset}.nothere"), 1)
    with pytest.raises(NotFound, match="Session not found or expired"):
        read(reader, f"{PARENT}/locations/us/sessions/{'0' * 32}/streams/r0-10")
    for stream in ("nonsense", f"{PARENT}/locations/us/sessions/../../etc/streams/r0-1"):
        with pytest.raises(InvalidArgument, match="stream name"):
            read(reader, stream)


def test_a_stream_cannot_be_stretched(reader: BigQueryReadClient, numbers: str) -> None:
    """A stream's name made by hand gives no rows that the session does not have."""
    stream = open_session(reader, numbers, 1).streams[0].name
    with pytest.raises(InvalidArgument, match="10000 rows"):
        read(reader, stream.replace("r0-10000", "r0-20000"))


def test_avro_is_refused_by_name(reader: BigQueryReadClient, numbers: str) -> None:
    """The other format answers UNIMPLEMENTED and says which one is offered."""
    with pytest.raises(MethodNotImplemented, match="AVRO is not offered locally"):
        open_session(reader, numbers, 1, data_format="AVRO")


def test_a_missing_column_is_named(reader: BigQueryReadClient, numbers: str) -> None:
    """selected_fields with a name that the table lacks is an error with that name."""
    with pytest.raises(InvalidArgument, match="nothing"):
        open_session(reader, numbers, 1, selected_fields=["nothing"])


@pytest.mark.filterwarnings("ignore:Retrieving Arrow record batches:PendingDeprecationWarning")
def test_the_rest_client_downloads_through_it(
    client: bigquery.Client, reader: BigQueryReadClient, numbers: str
) -> None:
    """RowIterator.to_arrow with a read client gives the query's rows: results are tables like any other."""
    name = numbers.split("/")[3] + ".numbers"
    rows = client.query(f"SELECT x FROM {name} WHERE digit = 1 ORDER BY x").result()
    assert rows.to_arrow(bqstorage_client=reader)["x"].to_pylist() == list(range(1, 10_000, 10))
