"""Copy jobs, and extract jobs into a real gs:// stand-in, by the stock client."""

import csv
import gzip
import io
import json

import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, MethodNotImplemented, NotFound
from google.cloud import bigquery, storage


@pytest.fixture
def people(client: bigquery.Client, dataset: str) -> str:
    client.query(
        f"CREATE TABLE {dataset}.people AS SELECT * FROM UNNEST([STRUCT(1 AS id, 'Ada, \"x\"' AS name, 1.5 AS score, "
        "TIMESTAMP '2020-01-02 03:04:05+00' AS seen, TRUE AS ok), (2, NULL, NULL, NULL, FALSE)])"
    ).result()
    return f"{dataset}.people"


def rows(client: bigquery.Client, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in client.query(sql).result()]


def test_a_table_is_copied(client: bigquery.Client, people: str) -> None:
    """The copy has the schema and the rows; it is refused onto rows unless told to."""
    client.copy_table(people, f"{people}_2").result()
    assert rows(client, f"SELECT * FROM {people}_2 ORDER BY id") == rows(client, f"SELECT * FROM {people} ORDER BY id")
    assert client.get_table(f"{people}_2").schema == client.get_table(people).schema
    with pytest.raises(Conflict, match="Already Exists"):
        client.copy_table(people, f"{people}_2").result()
    options = bigquery.CopyJobConfig(write_disposition="WRITE_APPEND")
    client.copy_table([people, people], f"{people}_2", job_config=options).result()
    assert rows(client, f"SELECT COUNT(*) FROM {people}_2") == [(6,)]
    with pytest.raises(NotFound, match="nothere"):
        client.copy_table(f"{people}_nothere", f"{people}_3").result()
    with pytest.raises(MethodNotImplemented, match="SNAPSHOT"):
        client.copy_table(people, f"{people}_3", job_config=bigquery.CopyJobConfig(operation_type="SNAPSHOT")).result()


def test_a_table_is_extracted_in_each_format(client: bigquery.Client, people: str, bucket: storage.Bucket) -> None:
    """CSV with a header, NDJSON, Parquet: each can be read by its own reader, compressed too."""

    def extract(name: str, **options: object) -> bytes:
        uri = f"gs://{bucket.name}/{people}/{name}"
        client.extract_table(people, uri, job_config=bigquery.ExtractJobConfig(**options)).result()
        return bucket.blob(f"{people}/{name}").download_as_bytes()

    table = list(csv.DictReader(io.StringIO(extract("a.csv").decode())))
    assert [row["name"] for row in table] == ['Ada, "x"', ""]
    assert table[0] == {"id": "1", "name": 'Ada, "x"', "score": "1.5", "seen": "2020-01-02 03:04:05 UTC", "ok": "true"}
    tabs = extract("a.tsv", field_delimiter="\t", print_header=False, compression="GZIP")
    assert gzip.decompress(tabs).decode().splitlines()[1].split("\t")[0] == "2"
    lines = extract("a.json", destination_format="NEWLINE_DELIMITED_JSON").decode().splitlines()
    assert json.loads(lines[0])["id"] == "1"
    parquet = pq.read_table(io.BytesIO(extract("a.parquet", destination_format="PARQUET", compression="SNAPPY")))
    assert parquet["score"].to_pylist() == [1.5, None]


def test_a_wildcard_becomes_shard_numbers(client: bigquery.Client, people: str, bucket: storage.Bucket) -> None:
    """`*` is replaced by twelve digits, and what was extracted loads again."""
    uri = f"gs://{bucket.name}/{people}/shard-*.csv"
    job = client.extract_table(people, uri).result()
    assert job.destination_uri_file_counts == [1]
    assert [blob.name for blob in bucket.list_blobs(prefix=f"{people}/shard")] == [f"{people}/shard-000000000000.csv"]
    client.load_table_from_uri(uri, f"{people}_2", job_config=bigquery.LoadJobConfig(autodetect=True)).result()
    assert rows(client, f"SELECT id, name, ok FROM {people}_2 ORDER BY id") == [(1, 'Ada, "x"', True), (2, None, False)]


def test_what_cannot_be_extracted_is_refused(client: bigquery.Client, people: str, bucket: storage.Bucket) -> None:
    """Nested columns as CSV, a missing bucket, a place that is no gs:// URI."""
    client.query(f"CREATE TABLE {people}_n AS SELECT [1] AS list").result()
    with pytest.raises(BadRequest, match=r"nested schema.*list"):
        client.extract_table(f"{people}_n", f"gs://{bucket.name}/n.csv").result()
    with pytest.raises(GoogleAPICallError, match="no-such-bucket"):
        client.extract_table(people, "gs://no-such-bucket/x.csv").result()
    with pytest.raises(BadRequest, match="gs://"):
        client.extract_table(people, "file:///tmp/x.csv").result()
