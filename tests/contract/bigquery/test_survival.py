"""kill -9 at the worst moments: what was answered is there after the restart, what was not is there once or not at all."""

import contextlib
import io
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
from google.api_core.exceptions import Conflict, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from tests.support.part_process import PartProcess
from tests.support.waiting import wait_until

FIELDS = [bigquery.SchemaField("a", "INT64"), bigquery.SchemaField("b", "STRING")]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[PartProcess]:
    with PartProcess("bigquery", tmp_path / "data", lines=2) as found:
        yield found


@contextlib.contextmanager
def connect(process: PartProcess) -> Iterator[bigquery.Client]:
    address = process.output()["BIGQUERY_EMULATOR_HOST"]
    client = bigquery.Client(
        project="baton-local", credentials=AnonymousCredentials(), client_options={"api_endpoint": address}
    )
    with contextlib.closing(client):
        yield client


def rows(client: bigquery.Client, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in client.query(sql).result()]


def end_of(client: bigquery.Client, job_id: str) -> str:
    """How a job ended: whole; or absent, when it was never accepted; empty while it runs."""
    try:
        job = client.get_job(job_id)
    except NotFound:
        return "absent"
    assert job.error_result is None, job.error_result
    return "whole" if job.state == "DONE" else ""


def restart(process: PartProcess) -> None:
    process.kill()
    process.start()


def test_what_was_answered_survives(process: PartProcess) -> None:
    """Datasets, tables, rows of every kind of writing, jobs and results outlive a kill -9; the addresses stay the same."""
    before = process.output()
    with connect(process) as client:
        client.create_dataset("d")
        table = client.create_table(bigquery.Table("baton-local.d.t", schema=FIELDS))
        client.insert_rows_json(table, [{"a": 1, "b": "streamed"}])
        options = bigquery.LoadJobConfig(schema=FIELDS)
        client.load_table_from_file(io.BytesIO(b"2,loaded\n"), table, job_config=options).result()
        client.query("INSERT INTO d.t (a, b) VALUES (3, 'said')").result()
        job = client.query("SELECT a FROM d.t ORDER BY a", job_id="kept", job_retry=None)
        job.result()
    restart(process)
    assert process.output() == before
    with connect(process) as client:
        assert rows(client, "SELECT a, b FROM d.t ORDER BY a") == [(1, "streamed"), (2, "loaded"), (3, "said")]
        kept = client.get_job("kept")
        assert [row.a for row in kept.result()] == [1, 2, 3]
        with pytest.raises(Conflict):
            client.query("SELECT 1", job_id="kept", job_retry=None)


def test_a_load_killed_half_way_is_whole_or_not_there(process: PartProcess) -> None:
    """Killed at some moment of a load, again and again: after the restart the job ends, and all rows are there once."""
    data = "".join(f"{number},{'x' * 30}\n" for number in range(150_000)).encode()
    with connect(process) as client:
        client.create_dataset("d")
        client.create_table(bigquery.Table("baton-local.d.t", schema=FIELDS))
    kept = 0
    for attempt, delay_s in enumerate((0.0, 0.02, 0.05, 0.1, 0.3)):
        job_id = f"load-{attempt}-{uuid.uuid4().hex}"

        def submit(job_id: str = job_id) -> None:
            with connect(process) as client, contextlib.suppress(Exception):
                upload = client.load_table_from_file(
                    io.BytesIO(data),
                    "baton-local.d.t",
                    job_id=job_id,
                    size=len(data),
                    num_retries=0,
                    job_config=bigquery.LoadJobConfig(write_disposition="WRITE_TRUNCATE", schema=FIELDS),
                )
                upload.result(retry=None)

        with connect(process) as client:
            client.get_table("d.t")  # the database is open, so the moments below fall into the load itself
        thread = threading.Thread(target=submit)
        thread.start()
        markers = Path(process._argv[4]) / "unfinished"
        with contextlib.suppress(AssertionError):
            wait_until(lambda markers=markers: markers.is_dir() and any(markers.iterdir()), 5, "a job under way")
        moment = time.monotonic() + delay_s
        wait_until(lambda moment=moment: time.monotonic() >= moment, 5, "the moment to kill")
        process.kill()
        thread.join(30)
        process.start()
        with connect(process) as client:
            ended = wait_until(lambda client=client, job_id=job_id: end_of(client, job_id), 20, "the resumed job")
            kept += ended == "whole"
            expected = (150_000, 150_000) if kept else (0, 0)
            assert rows(client, "SELECT COUNT(*), COUNT(DISTINCT a) FROM d.t") == [expected]
    assert not any(markers.iterdir())
    assert kept


def test_nothing_of_a_killed_load_is_left_behind(process: PartProcess) -> None:
    """After the resumed job there is no staged table and no uploaded file in the data directory."""
    with connect(process) as client:
        client.create_dataset("d")
        job = client.load_table_from_file(
            io.BytesIO(b"1,x\n" * 50_000), "baton-local.d.t", job_config=bigquery.LoadJobConfig(schema=FIELDS)
        )
        process.kill()
        process.start()
    with connect(process) as client:
        wait_until(lambda: client.get_job(job.job_id).state == "DONE", 20, "the resumed job")
        assert rows(client, "SELECT COUNT(*) FROM d.t") == [(50_000,)]
    assert [one.name for one in (Path(process._argv[4]) / "incoming").iterdir() if not one.suffix] == []


def test_a_resumable_upload_goes_on_after_a_restart(process: PartProcess) -> None:
    """The bytes received before the kill count; the client sends the rest and the file is whole."""
    data = "".join(f"{number},y\n" for number in range(100_000)).encode()
    with connect(process) as client:
        client.create_dataset("d")
        target = {"projectId": "baton-local", "datasetId": "d", "tableId": "t"}
        fields = {"fields": [one.to_api_repr() for one in FIELDS]}
        metadata = {"configuration": {"load": {"destinationTable": target, "schema": fields}}}
        upload, transport = client._initiate_resumable_upload(io.BytesIO(data), metadata, 0, None, None)
        upload._chunk_size = 256 * 1024
        upload.transmit_next_chunk(transport)
        restart(process)
        while not upload.finished:
            response = upload.transmit_next_chunk(transport)
        job_id = response.json()["jobReference"]["jobId"]
        assert client.get_job(job_id).result().output_rows == 100_000
        assert rows(client, "SELECT COUNT(DISTINCT a) FROM d.t") == [(100_000,)]


def test_a_read_session_survives(process: PartProcess) -> None:
    """A stream half read before the kill is read to its end after the restart, from its offset."""
    with connect(process) as client:
        client.create_dataset("d")
        client.query("CREATE TABLE d.t AS SELECT x FROM UNNEST(GENERATE_ARRAY(1, 5000)) AS x ORDER BY x").result()
    address = process.output()["BATON_BIGQUERY_STORAGE_ENDPOINT"]
    with grpc.insecure_channel(address) as channel:
        reader = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
        session = reader.create_read_session(
            parent="projects/baton-local",
            read_session=types.ReadSession(table="projects/baton-local/datasets/d/tables/t", data_format="ARROW"),
            max_stream_count=1,
        )
    restart(process)
    with connect(process) as client:
        client.delete_table("d.t")
    with grpc.insecure_channel(address) as channel:
        reader = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))
        answers = list(reader.read_rows(session.streams[0].name, offset=4000))
    schema = pa.ipc.read_schema(pa.py_buffer(answers[0].arrow_schema.serialized_schema))
    parts = [pa.py_buffer(one.arrow_record_batch.serialized_record_batch) for one in answers]
    assert [x for part in parts for x in pa.ipc.read_record_batch(part, schema)["x"].to_pylist()] == list(
        range(4001, 5001)
    )


def test_a_graceful_stop_leaves_running_jobs_to_the_next_start(process: PartProcess) -> None:
    """SIGTERM ends the process soon and cleanly; a job that ran is taken up again."""
    endless = (
        "SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 100000)) AS a, UNNEST(GENERATE_ARRAY(1, 100000)) AS b "
        "WHERE MOD(a * b, 7) = 3"
    )
    with connect(process) as client:
        job = client.query(endless)
        assert client.get_job(job.job_id).state == "RUNNING"
    assert process.stop() == 0
    process.start()
    with connect(process) as client:
        assert client.get_job(job.job_id).state == "RUNNING"
        client.cancel_job(job.job_id)
        wait_until(lambda: client.get_job(job.job_id).state == "DONE", 20, "the cancelled job")
