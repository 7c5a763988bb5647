"""The BigQuery source against a real gRPC server that speaks the Storage Read API."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from beam import bigquery_source
from beam.errors import BadFlag, EmptySource, MissingColumns, SourceError, SourceNotFound, UnsupportedSource
from tests.unit.beam.read_api import ReadApi

COLUMNS = {"a": pa.float64(), "flag": pa.bool_()}
URI = "bq://baton-local.samples.natality"
TABLE = pa.table({"spare": ["x"] * 20, "a": list(range(20)), "flag": [True, False] * 10})


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ReadApi]:
    """A server over `TABLE`, or with what the test's parameter says; the source is pointed at it."""
    with ReadApi(**{"table": TABLE, **getattr(request, "param", {})}) as api:
        monkeypatch.setenv(bigquery_source.ENDPOINT_VARIABLE, api.endpoint)
        yield api


def plan(limit: int | None = None, uri: str = URI) -> list[bigquery_source.BigQueryShard]:
    return bigquery_source.plan(uri, COLUMNS, workers=2, project="payer", limit=limit)


def read(shards: list[bigquery_source.BigQueryShard]) -> list[int]:
    return [value for shard in shards for batch in shard.batches() for value in batch.records.column("a").to_pylist()]


def test_all_streams_together_are_the_table(served: ReadApi) -> None:
    """Each row comes from one stream, with the columns that were asked for and no other."""
    shards = plan()
    assert len(shards) == 5
    assert read(shards) == list(range(20))
    (batch,) = shards[0].batches()
    assert batch.records.schema.names == ["a", "flag"]
    assert batch.rows.tolist() == [0, 1, 2, 3]


def test_at_least_four_streams_for_each_worker_are_asked_for(served: ReadApi) -> None:
    """Two workers ask for eight streams, paid for by the given project."""
    plan()
    (request,) = served.requests
    assert request.max_stream_count >= 8
    assert request.preferred_min_stream_count >= 8
    assert request.parent == "projects/payer"


@pytest.mark.parametrize("served", [{"break_after_pages": 1, "page_rows": 2}], indirect=True)
def test_a_broken_stream_goes_on_where_it_broke(served: ReadApi) -> None:
    """A connection that breaks in the middle of a stream is taken up from the offset: no row lost, none doubled."""
    assert read(plan()) == list(range(20))
    assert ("sessions/1/streams/0", 2) in served.offsets


def test_a_server_that_stays_away_ends_the_job(served: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is not waited for for ever: the error names the table and the stream."""
    monkeypatch.setattr(bigquery_source, "STREAM_RETRY_S", 0.2)
    shards = plan()
    served.stop()
    with pytest.raises(SourceError, match=r"natality#stream-0' broke off while it was read .* start the job again"):
        read(shards)


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens at the endpoint: after a minute at most, the error says which address was tried."""
    monkeypatch.setattr(bigquery_source, "SETUP_TIMEOUT_S", 0.2)
    monkeypatch.setenv(bigquery_source.ENDPOINT_VARIABLE, "127.0.0.1:9")
    with pytest.raises(SourceError, match=r"cannot be read through 127\.0\.0\.1:9 .*check the address"):
        plan()


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (7, 7), (20, 20), (100, 20)])
def test_a_limit_reads_the_first_rows_of_one_stream(served: ReadApi, limit: int, expected: int) -> None:
    """With a limit there is one stream, and its first N rows: the same each time."""
    shards = plan(limit)
    assert len(shards) == 1
    assert read(shards) == list(range(expected))


def test_pages_are_joined_to_long_batches(served: ReadApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages of the server become batches of at least `BATCH_ROWS` rows, numbered on."""
    monkeypatch.setattr(bigquery_source, "BATCH_ROWS", 5)
    (shard,) = plan(limit=20)
    assert [batch.rows.tolist() for batch in shard.batches()] == [
        list(range(6)),
        list(range(6, 12)),
        list(range(12, 18)),
        [18, 19],
    ]


def test_a_table_that_does_not_exist_is_named(served: ReadApi) -> None:
    """The error says which source, and what to check."""
    with pytest.raises(SourceNotFound, match=r"bq://baton-local\.samples\.births.*does not exist.*check"):
        plan(uri="bq://baton-local.samples.births")


@pytest.mark.parametrize("served", [{"table": TABLE.slice(0, 0)}], indirect=True)
def test_an_empty_table_is_refused(served: ReadApi) -> None:
    """A table without rows stops the job before it starts."""
    with pytest.raises(EmptySource, match="is an empty table"):
        plan()


@pytest.mark.parametrize("served", [{"table": TABLE.drop_columns(["flag"])}], indirect=True)
def test_a_missing_column_is_named(served: ReadApi) -> None:
    """The error names the column that the table lacks."""
    with pytest.raises(MissingColumns, match=r"lacks the column\(s\) flag \("):
        plan()


@pytest.mark.parametrize("served", [{"table": pa.table({"a": [[1], [2]], "flag": [True, True]})}], indirect=True)
def test_a_repeated_field_is_refused(served: ReadApi) -> None:
    """A column that holds a list in each row cannot be read as a number."""
    with pytest.raises(UnsupportedSource, match=r"holds list.* in the column a"):
        plan()


@pytest.mark.parametrize("uri", ["bq://natality", "bq://samples.natality", "bq://p.d.t.x", "bq://P!.d.t", "bq://"])
def test_an_address_that_is_no_table_is_refused(uri: str) -> None:
    """A source must name project, dataset and table; nothing is contacted otherwise."""
    with pytest.raises(BadFlag, match=r"write bq://project\.dataset\.table"):
        plan(uri=uri)
