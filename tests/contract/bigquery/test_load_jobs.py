"""Load jobs by the stock client: uploads small and large, gs:// URIs, three formats, dispositions, bad rows."""

import gzip
import io
import json
import threading
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, MethodNotImplemented, NotFound
from google.cloud import bigquery, storage

SAMPLE = Path(__file__).parents[3] / "samples" / "natality_2022.csv"
NUMBERS = [bigquery.SchemaField("a", "INT64"), bigquery.SchemaField("b", "STRING")]


def load(
    client: bigquery.Client, table: str, data: bytes | str, *, size: int | None = None, **options: object
) -> bigquery.LoadJob:
    """Load bytes; with `size` in one multipart request, else resumable."""
    raw = data.encode() if isinstance(data, str) else data
    job = client.load_table_from_file(
        io.BytesIO(raw), table, size=size, job_config=bigquery.LoadJobConfig(**options), rewind=True
    )
    return job.result()


def rows(client: bigquery.Client, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in client.query(sql).result()]


def test_the_sample_of_births_loads_with_a_detected_schema(client: bigquery.Client, dataset: str) -> None:
    """20,000 births: names from the header, types from the rows, empty cells as NULL."""
    job = load(client, f"{dataset}.natality", SAMPLE.read_bytes(), source_format="CSV", autodetect=True)
    assert (job.output_rows, job.input_files, job.input_file_bytes) == (20_000, 1, SAMPLE.stat().st_size)
    table = client.get_table(f"{dataset}.natality")
    assert [(one.name, one.field_type) for one in table.schema] == [
        ("year", "INTEGER"),
        ("month", "INTEGER"),
        ("weight_pounds", "FLOAT"),
        ("is_male", "BOOLEAN"),
        ("mother_age", "INTEGER"),
        ("plurality", "INTEGER"),
        ("gestation_weeks", "INTEGER"),
    ]
    nulls = rows(
        client, f"SELECT COUNTIF(weight_pounds IS NULL), COUNTIF(gestation_weeks IS NULL) FROM {dataset}.natality"
    )
    assert (table.num_rows, nulls) == (20_000, [(17, 9)])


@pytest.mark.parametrize("in_one_request", [True, False])
def test_multipart_and_resumable_uploads_load_the_same(
    client: bigquery.Client, dataset: str, in_one_request: bool
) -> None:
    """One multipart request or a resumable session: the bytes that arrive are the bytes sent."""
    data = b"a,b\r\n1,x\r\n2,--boundary--\r\n3,\r\n"
    options = {"skip_leading_rows": 1, "schema": NUMBERS}
    load(client, f"{dataset}.t", data, size=len(data) if in_one_request else None, **options)
    assert rows(client, f"SELECT a, b FROM {dataset}.t ORDER BY a") == [(1, "x"), (2, "--boundary--"), (3, None)]


def test_an_upload_in_many_pieces_is_put_together(client: bigquery.Client, dataset: str) -> None:
    """A file larger than the client's chunk arrives whole and in order."""
    data = "".join(f"{number},{'x' * 50}\n" for number in range(60_000)).encode()
    upload = client._initiate_resumable_upload(
        io.BytesIO(data),
        {
            "configuration": {
                "load": {
                    "destinationTable": {"projectId": client.project, "datasetId": dataset, "tableId": "t"},
                    "schema": {"fields": [one.to_api_repr() for one in NUMBERS]},
                }
            }
        },
        0,
        None,
        None,
    )
    session, transport = upload
    session._chunk_size = 256 * 1024 * 2
    pieces = 0
    while not session.finished:
        response = session.transmit_next_chunk(transport)
        pieces += 1
    assert pieces > 5
    job = client.get_job(response.json()["jobReference"]["jobId"])
    assert job.result().output_rows == 60_000
    assert rows(client, f"SELECT COUNT(DISTINCT a), MIN(a), MAX(a) FROM {dataset}.t") == [(60_000, 0, 59_999)]


def test_every_type_is_read_from_csv(client: bigquery.Client, dataset: str) -> None:
    """Text becomes the column's type; what BigQuery accepts is accepted."""
    kinds = ["STRING", "INT64", "FLOAT64", "BOOL", "TIMESTAMP", "DATETIME", "DATE", "TIME", "NUMERIC", "BYTES", "JSON"]
    schema = [bigquery.SchemaField(f"c{at}", kind) for at, kind in enumerate(kinds)]
    data = (
        'it\'s,-5,1e3,t,2020-01-02 03:04:05 UTC,2020-01-02T03:04:05,2020-01-02,10:11:12,1.5,AP8=,"{""k"":[1]}"\n'
        ",,,,,,,,,,\n"
        '"",0,nan,NO,2020-01-02T03:04:05.5+01:00,2020-01-02 03:04:05,2020-1-2,1:2:3,-0.000000001,,null\n'
    )
    load(client, f"{dataset}.t", data, schema=schema)
    found = rows(
        client, f"SELECT c0, c1, c2, c3, UNIX_MICROS(c4), CAST(c5 AS STRING), c8, c9 FROM {dataset}.t WHERE c1 < 0"
    )
    assert [str(one) for one in found[0]] == [
        "it's",
        "-5",
        "1000.0",
        "True",
        "1577934245000000",
        "2020-01-02 03:04:05",
        "1.5",
        repr(b"\x00\xff"),
    ]
    assert rows(client, f"SELECT COUNT(*) FROM {dataset}.t WHERE c0 IS NULL AND c1 IS NULL") == [(1,)]
    assert rows(client, f"SELECT c3, UNIX_MICROS(c4) FROM {dataset}.t WHERE c0 = ''") == [(False, 1577930645500000)]


def test_csv_options_change_the_reading(client: bigquery.Client, dataset: str) -> None:
    """Delimiter, quote, null marker, quoted newlines, jagged and extra columns."""
    table = f"{dataset}.t"
    load(client, table, "1|'x|y'\n\\N|z\n", schema=NUMBERS, field_delimiter="|", quote_character="'", null_marker="\\N")
    assert rows(client, f"SELECT a, b FROM {table} ORDER BY a") == [(None, "z"), (1, "x|y")]
    with pytest.raises(BadRequest, match="allowQuotedNewlines"):
        load(client, table, '1,"x\ny"\n', schema=NUMBERS)
    load(client, table, '2,"x\ny"\n', schema=NUMBERS, allow_quoted_newlines=True, write_disposition="WRITE_TRUNCATE")
    assert rows(client, f"SELECT b FROM {table}") == [("x\ny",)]
    with pytest.raises(BadRequest, match="Columns"):
        load(client, table, "3\n", schema=NUMBERS)
    load(client, table, "3\n", schema=NUMBERS, allow_jagged_rows=True)
    with pytest.raises(BadRequest, match="Columns"):
        load(client, table, "4,x,extra\n", schema=NUMBERS)
    load(client, table, "4,x,extra\n", schema=NUMBERS, ignore_unknown_values=True)
    assert rows(client, f"SELECT a, b FROM {table} ORDER BY a") == [(2, "x\ny"), (3, None), (4, "x")]


def test_an_empty_file_makes_an_empty_table(client: bigquery.Client, dataset: str) -> None:
    """No bytes, or only a header: a table without rows; without a schema: an error that says so."""
    load(client, f"{dataset}.a", b"", size=0, schema=NUMBERS)
    load(client, f"{dataset}.b", "a,b\n", schema=NUMBERS, skip_leading_rows=1)
    assert [client.get_table(f"{dataset}.{name}").num_rows for name in ("a", "b")] == [0, 0]
    with pytest.raises(BadRequest, match="give a schema"):
        load(client, f"{dataset}.c", b"", size=0, autodetect=True)
    with pytest.raises(BadRequest, match="No schema specified on job or table"):
        load(client, f"{dataset}.c", "1,2\n")


def test_json_lines_with_records_and_arrays(client: bigquery.Client, dataset: str) -> None:
    """Nested and repeated fields arrive; unknown names are refused unless ignored."""
    schema = [
        bigquery.SchemaField("a", "INT64", mode="REQUIRED"),
        bigquery.SchemaField(
            "r",
            "RECORD",
            fields=[
                bigquery.SchemaField("s", "STRING"),
                bigquery.SchemaField("n", "RECORD", mode="REPEATED", fields=[bigquery.SchemaField("x", "FLOAT64")]),
            ],
        ),
        bigquery.SchemaField("tags", "STRING", mode="REPEATED"),
    ]
    options = {"source_format": "NEWLINE_DELIMITED_JSON", "schema": schema}
    lines = [
        {"a": 1, "r": {"s": 'q"\\\n\u00e9', "n": [{"x": 1.5}, {"x": 2}]}, "tags": ["p", "q"]},
        {"a": "2", "r": None, "tags": None},
        {"a": 3},
    ]
    data = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    load(client, f"{dataset}.t", data, **options)
    assert rows(client, f"SELECT * FROM {dataset}.t ORDER BY a") == [
        (1, {"s": 'q"\\\n\u00e9', "n": [{"x": 1.5}, {"x": 2.0}]}, ["p", "q"]),
        (2, None, []),
        (3, None, []),
    ]
    for bad, message in [
        ('{"a": 4, "nope": 1}', "no such field: nope"),
        ('{"a": 4, "r": {"nope": 1}}', r"no such field: r\.nope"),
        ('{"tags": ["x"]}', "Missing required field: a"),
        ('{"a": 4, "tags": "x"}', "tags"),
        ('{"a": 4, "tags": ["x", null]}', "non-null"),
        ('{"a": [4]}', "scalar field: a"),
        ('{"a": 4, "r": 5}', "r is a record"),
        ('{"a": 4, "r": {"n": [{"x": "y"}]}}', r"r\.n\.x"),
        ("[4]", "not a JSON object"),
        ("{4", "not a JSON object"),
    ]:
        with pytest.raises(BadRequest, match=message):
            load(client, f"{dataset}.t", bad + "\n", **options)
    load(client, f"{dataset}.t", '{"a": 4, "nope": 1}\n', ignore_unknown_values=True, **options)
    assert rows(client, f"SELECT COUNT(*) FROM {dataset}.t") == [(4,)]


def test_json_schema_is_detected(client: bigquery.Client, dataset: str) -> None:
    """Names and types come from the rows, nested ones too."""
    data = '{"a": 1, "d": "2020-01-01"}\n{"a": 2.5, "tags": ["x"], "r": {"ok": true}}\n'
    load(client, f"{dataset}.t", data, source_format="NEWLINE_DELIMITED_JSON", autodetect=True)
    schema = client.get_table(f"{dataset}.t").schema
    assert [(one.name, one.field_type, one.mode) for one in schema] == [
        ("a", "FLOAT", "NULLABLE"),
        ("d", "DATE", "NULLABLE"),
        ("tags", "STRING", "REPEATED"),
        ("r", "RECORD", "NULLABLE"),
    ]


def test_parquet_brings_its_own_schema(client: bigquery.Client, dataset: str) -> None:
    """A Parquet file needs no schema; integers of any width, timestamps, lists and structs become BigQuery's types."""
    table = pa.table(
        {
            "small": pa.array([1, None], pa.int8()),
            "when": pa.array([0, 1_000_000], pa.timestamp("us", tz="UTC")),
            "local": pa.array([0, 1_000_000], pa.timestamp("us")),
            "tags": pa.array([["x"], []], pa.list_(pa.string())),
            "r": pa.array([{"a": 1.5}, None], pa.struct([("a", pa.float32())])),
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    load(client, f"{dataset}.t", out.getvalue(), source_format="PARQUET")
    load(client, f"{dataset}.t", out.getvalue(), source_format="PARQUET", write_disposition="WRITE_APPEND")
    schema = client.get_table(f"{dataset}.t").schema
    assert [(one.name, one.field_type, one.mode) for one in schema] == [
        ("small", "INTEGER", "NULLABLE"),
        ("when", "TIMESTAMP", "NULLABLE"),
        ("local", "DATETIME", "NULLABLE"),
        ("tags", "STRING", "REPEATED"),
        ("r", "RECORD", "NULLABLE"),
    ]
    assert rows(client, f"SELECT COUNT(*), SUM(small), SUM(r.a) FROM {dataset}.t") == [(4, 2, 3.0)]


def test_a_file_of_another_format_is_told_by_its_own_name(client: bigquery.Client, dataset: str) -> None:
    """A CSV said to be Parquet is refused without naming any file of ours."""
    with pytest.raises(BadRequest, match="the uploaded file") as caught:
        load(client, f"{dataset}.t", "a,b\n1,2\n", source_format="PARQUET")
    assert "incoming" not in str(caught.value)
    with pytest.raises(MethodNotImplemented, match="AVRO"):
        load(client, f"{dataset}.t", b"Obj\x01", source_format="AVRO")


def test_gzip_is_told_by_its_first_bytes(client: bigquery.Client, dataset: str) -> None:
    """A compressed CSV and a compressed NDJSON load as the plain ones do."""
    load(client, f"{dataset}.a", gzip.compress(b"a,b\n1,x\n"), autodetect=True)
    options = {"source_format": "NEWLINE_DELIMITED_JSON", "schema": NUMBERS}
    load(client, f"{dataset}.b", gzip.compress(b'{"a": 1, "b": "x"}\n'), **options)
    assert rows(client, f"SELECT * FROM {dataset}.a UNION ALL SELECT * FROM {dataset}.b") == [(1, "x"), (1, "x")]


def test_dispositions_decide_what_happens_to_the_rows_there(client: bigquery.Client, dataset: str) -> None:
    """Append adds, truncate replaces (schema too), empty refuses rows, never-create refuses a missing table."""
    table = f"{dataset}.t"
    with pytest.raises(NotFound, match="Not found: Table"):
        load(client, table, "1,x\n", schema=NUMBERS, create_disposition="CREATE_NEVER")
    load(client, table, "1,x\n", schema=NUMBERS, write_disposition="WRITE_EMPTY")
    with pytest.raises(Conflict, match="Already Exists: Table"):
        load(client, table, "2,y\n", schema=NUMBERS, write_disposition="WRITE_EMPTY")
    load(client, table, "2,y\n")
    assert rows(client, f"SELECT a FROM {table} ORDER BY a") == [(1,), (2,)]
    with pytest.raises(BadRequest, match="Cannot add fields"):
        load(client, table, "c\n3\n", autodetect=True)
    with pytest.raises(BadRequest, match="a has changed type from INTEGER to STRING"):
        load(client, table, "3,z\n", schema=[bigquery.SchemaField("a", "STRING"), NUMBERS[1]])
    addition = [bigquery.SchemaUpdateOption.ALLOW_FIELD_ADDITION]
    wider = [*NUMBERS, bigquery.SchemaField("c", "BOOL")]
    load(client, table, "3,z,true\n", schema=wider, schema_update_options=addition)
    assert rows(client, f"SELECT a, c FROM {table} ORDER BY a") == [(1, None), (2, None), (3, True)]
    other = [bigquery.SchemaField("only", "STRING")]
    load(client, table, "x\n", schema=other, write_disposition="WRITE_TRUNCATE")
    assert [one.name for one in client.get_table(table).schema] == ["only"]
    with pytest.raises(NotFound, match="Not found: Dataset"):
        load(client, "nowhere.t", "1,x\n", schema=NUMBERS)


def test_required_columns_are_never_null(client: bigquery.Client, dataset: str) -> None:
    """A REQUIRED column without a value is a bad row."""
    schema = [bigquery.SchemaField("a", "INT64", mode="REQUIRED"), NUMBERS[1]]
    with pytest.raises(BadRequest, match="Required column value is missing for field a"):
        load(client, f"{dataset}.t", ",x\n", schema=schema)


def test_gs_uris_with_a_wildcard(client: bigquery.Client, dataset: str, bucket: storage.Bucket) -> None:
    """All objects that the pattern matches are loaded, none else; a missing one is named."""
    for name, text in [
        ("in/a-1.csv", "1,x\n"),
        ("in/a-2.csv", "2,y\n"),
        ("in/b.csv", "9,z\n"),
        ("in/a?[1].csv", "3,q\n"),
    ]:
        bucket.blob(name).upload_from_string(text)
    options = bigquery.LoadJobConfig(schema=NUMBERS)
    uri = f"gs://{bucket.name}/in"
    job = client.load_table_from_uri(f"{uri}/a*.csv", f"{dataset}.t", job_config=options).result()
    assert (job.input_files, job.output_rows) == (3, 3)
    client.load_table_from_uri([f"{uri}/b.csv"], f"{dataset}.t", job_config=options).result()
    assert rows(client, f"SELECT SUM(a) FROM {dataset}.t") == [(15,)]
    for missing in (f"{uri}/nothere.csv", f"{uri}/nothere*"):
        with pytest.raises(NotFound, match="nothere"):
            client.load_table_from_uri(missing, f"{dataset}.t", job_config=options).result()
    for bad in ("file:///etc/passwd", "/etc/passwd", "gs://", f"{uri}/*/*.csv", "http://127.0.0.1/x"):
        with pytest.raises(BadRequest, match=r"URI|Uri"):
            client.load_table_from_uri(bad, f"{dataset}.t", job_config=options).result()
    assert client.get_table(f"{dataset}.t").num_rows == 4


def test_two_loads_of_one_table_at_once(client: bigquery.Client, dataset: str) -> None:
    """Appends at once lose nothing; replacements at once leave exactly one of them whole."""
    table = f"{dataset}.t"
    load(client, table, "0,start\n", schema=NUMBERS)
    failures: list[BaseException] = []

    def run(number: int, write: str) -> None:
        data = "".join(f"{number},{number}\n" for _ in range(500))
        try:
            load(client, table, data, schema=NUMBERS, write_disposition=write)
        except GoogleAPICallError as error:
            failures.append(error)

    for write in ("WRITE_APPEND", "WRITE_TRUNCATE"):
        threads = [threading.Thread(target=run, args=(number, write)) for number in range(1, 5)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(30)
        assert failures == []
        counts = rows(client, f"SELECT a, COUNT(*) FROM {table} GROUP BY a ORDER BY a")
        if write == "WRITE_APPEND":
            assert counts == [(0, 1), (1, 500), (2, 500), (3, 500), (4, 500)]
        else:
            assert [count for _, count in counts] == [500]


def test_a_job_id_is_accepted_once(client: bigquery.Client, dataset: str) -> None:
    """The same job id twice is a conflict, and the rows are loaded once: retries of a lost answer are safe."""
    job_id = f"load-{uuid.uuid4().hex}"
    options = bigquery.LoadJobConfig(schema=NUMBERS)

    def submit() -> bigquery.LoadJob:
        return client.load_table_from_file(io.BytesIO(b"1,x\n"), f"{dataset}.t", job_id=job_id, job_config=options)

    submit().result()
    with pytest.raises(Conflict, match=f"Already Exists: Job {client.project}:US.{job_id}") as caught:
        submit()
    assert caught.value.errors[0]["reason"] == "duplicate"
    assert client.get_job(job_id).state == "DONE"
    assert rows(client, f"SELECT COUNT(*) FROM {dataset}.t") == [(1,)]


def test_odd_headers_become_column_names(client: bigquery.Client, dataset: str) -> None:
    """Characters that no column name may hold become underscores; hostile ones too."""
    header = 'my col,1st,"a""; DROP TABLE x; --",ok,ok'
    load(client, f"{dataset}.t", f"{header}\n1,2,3,4,5\n", autodetect=True)
    names = [one.name for one in client.get_table(f"{dataset}.t").schema]
    assert names == ["my_col", "_1st", "a___DROP_TABLE_x____", "ok", "ok_4"]


def test_a_last_piece_sent_twice_makes_one_job(client: bigquery.Client, dataset: str) -> None:
    """The final PUT of a resumable upload, repeated because its answer was lost, answers the same job."""
    target = {"projectId": client.project, "datasetId": dataset, "tableId": "t"}
    fields = {"fields": [one.to_api_repr() for one in NUMBERS]}
    metadata = {"configuration": {"load": {"destinationTable": target, "schema": fields}}}
    upload, transport = client._initiate_resumable_upload(io.BytesIO(b"1,x\n"), metadata, 0, None, None)
    headers = {"content-range": "bytes 0-3/4"}
    answers = [transport.put(upload.resumable_url, data=b"1,x\n", headers=headers).json() for _ in range(2)]
    assert answers[0]["jobReference"] == answers[1]["jobReference"]
    assert rows(client, f"SELECT COUNT(*) FROM {dataset}.t") == [(1,)]
