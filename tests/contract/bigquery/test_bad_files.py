"""Files with something wrong in them: what is refused, what is told, and that nothing half-loaded stays."""

import decimal
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, MethodNotImplemented, NotFound
from google.cloud import bigquery

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


@pytest.mark.parametrize("value", ["1.0", "1e3", "0x10", "1_000", "9223372036854775808", "x", "--1"])
def test_what_is_no_integer_is_refused_by_value_and_place(client: bigquery.Client, dataset: str, value: str) -> None:
    """A cell that BigQuery's INT64 refuses stops the load and is told with its field and row."""
    with pytest.raises(BadRequest, match=rf"Could not parse '{value}' as INT64 for field a \(position 0\).*row 2"):
        load(client, f"{dataset}.t", f"1,x\n{value},y\n", schema=NUMBERS)
    with pytest.raises(NotFound):
        client.get_table(f"{dataset}.t")


def test_five_percent_of_broken_rows(client: bigquery.Client, dataset: str) -> None:
    """Past maxBadRecords nothing is loaded and the answer counts; within it the good rows are, and the bad are told."""
    seed = 5
    print(f"seed {seed}")
    source = random.Random(seed)
    broken = [lambda n: f"x{n},y", lambda n: f"{n}", lambda n: f"{n},y,z", lambda n: f'{n},"open']
    lines = [f"{number},good" for number in range(1900)]
    lines += [source.choice(broken[:3])(number) for number in range(100)]
    source.shuffle(lines)
    data = "\n".join(lines) + "\n"
    with pytest.raises(BadRequest, match=r"Rows: 2000; errors: 100; max bad: 99.*maxBadRecords to 100") as caught:
        load(client, f"{dataset}.t", data, schema=NUMBERS, max_bad_records=99)
    assert "row" in str(caught.value)
    with pytest.raises(NotFound):
        client.get_table(f"{dataset}.t")
    job = load(client, f"{dataset}.t", data, schema=NUMBERS, max_bad_records=100)
    assert job.output_rows == 1900
    assert job._properties["statistics"]["load"]["badRecords"] == "100"
    assert job.errors
    assert job.errors[0]["reason"] == "invalid"
    assert rows(client, f"SELECT COUNT(*), COUNT(DISTINCT a) FROM {dataset}.t WHERE b = 'good'") == [(1900, 1900)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1,caf\xe9\n", "utf-8"),
        (b'1,"open\n2,x\n', "quote"),
        (b"1;x\n" * 20_000, "errors: 10000 and more"),
        (b"1," + b"x" * (17 * 1024 * 1024) + b"\n", "line size"),
    ],
)
def test_broken_files_are_told_not_guessed(client: bigquery.Client, dataset: str, data: bytes, message: str) -> None:
    """Bytes that are no UTF-8, an open quote, a wrong delimiter, an endless line: the load fails and says which."""
    with pytest.raises(BadRequest, match=message):
        load(client, f"{dataset}.t", data, schema=NUMBERS)


def test_latin_1_and_a_byte_order_mark_are_read(client: bigquery.Client, dataset: str) -> None:
    """The encoding asked for is used; a byte order mark is no part of the first column's name."""
    load(client, f"{dataset}.t", b"1,caf\xe9\n", schema=NUMBERS, encoding="ISO-8859-1")
    assert rows(client, f"SELECT b FROM {dataset}.t") == [("caf\xe9",)]
    load(client, f"{dataset}.u", b"\xef\xbb\xbfa,b\n1,x\n", autodetect=True)
    assert [one.name for one in client.get_table(f"{dataset}.u").schema] == ["a", "b"]


def test_decimals_that_numeric_cannot_hold_are_refused(client: bigquery.Client, dataset: str) -> None:
    """A Parquet decimal with more than nine places is not rounded in silence."""
    out = io.BytesIO()
    pq.write_table(pa.table({"price": pa.array([decimal.Decimal("1.0123456789")], pa.decimal128(20, 10))}), out)
    with pytest.raises(MethodNotImplemented, match=r"price.*BIGNUMERIC"):
        load(client, f"{dataset}.t", out.getvalue(), source_format="PARQUET")
