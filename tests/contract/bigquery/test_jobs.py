"""Jobs themselves: ids, lists, failures, cancelling, time limits."""

import datetime
import uuid

import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, MethodNotImplemented, NotFound
from google.cloud import bigquery

from tests.support.waiting import wait_until

# Far more work than a test waits for: a cross join of three large series.
ENDLESS = (
    "SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 100000)) AS a, UNNEST(GENERATE_ARRAY(1, 100000)) AS b, "
    "UNNEST(GENERATE_ARRAY(1, 100000)) AS c WHERE MOD(a * b + c, 7) = 3"
)


def test_a_query_job_id_is_accepted_once(client: bigquery.Client, dataset: str) -> None:
    """A repeated insert is a 409 whatever it asks for; the first job stands."""
    job_id = f"query-{uuid.uuid4().hex}"
    client.query("SELECT 1 AS a", job_id=job_id, job_retry=None).result()
    with pytest.raises(Conflict, match=job_id):
        client.query("SELECT 2 AS a", job_id=job_id, job_retry=None)
    assert [row.a for row in client.get_job(job_id).result()] == [1]


def test_a_failed_id_stays_taken(client: bigquery.Client) -> None:
    """A job that failed is done too: its id is not free again, and its error can be read."""
    job_id = f"bad-{uuid.uuid4().hex}"
    with pytest.raises(BadRequest):
        client.query("SELECT nothing", job_id=job_id, job_retry=None).result()
    with pytest.raises(Conflict):
        client.query("SELECT 1", job_id=job_id, job_retry=None)
    job = client.get_job(job_id)
    assert (job.state, job.error_result["reason"], job.error_result["location"]) == ("DONE", "invalidQuery", "query")


def test_a_job_tells_its_times_and_numbers(client: bigquery.Client) -> None:
    """Creation, start and end are in order; statistics are the statement's own."""
    job = client.query("SELECT 1")
    job.result()
    job = client.get_job(job.job_id)
    assert job.created <= job.started <= job.ended
    assert (job.statement_type, job.job_type, job.location) == ("SELECT", "query", "US")
    assert job.destination.dataset_id.startswith("_")


def test_jobs_are_listed_newest_first(client: bigquery.Client, dataset: str) -> None:
    """jobs.list pages, filters by state and by time."""
    ids = [f"{dataset}-{number}" for number in range(3)]
    start = datetime.datetime.now(datetime.UTC)
    for job_id in ids:
        client.query("SELECT 1", job_id=job_id, job_retry=None).result()
    listed = [one.job_id for one in client.list_jobs(min_creation_time=start, page_size=2, state_filter="done")]
    assert sorted(listed) == ids
    assert [one.job_id for one in client.list_jobs(min_creation_time=start, state_filter="running")] == []
    assert [one.job_id for one in client.list_jobs(max_creation_time=start - datetime.timedelta(days=365))] == []


def test_an_unknown_job_is_not_found(client: bigquery.Client) -> None:
    """The 404 names the job; so does one in a place where it is not."""
    with pytest.raises(NotFound, match=r"Not found: Job .*nosuchjob"):
        client.get_job("nosuchjob")
    job = client.query("SELECT 1")
    with pytest.raises(NotFound, match=job.job_id):
        client.get_job(job.job_id, location="europe-west1")


@pytest.mark.parametrize("job_id", ["a b", "x;y", "../x", "a'b", "ü", "a" * 1025])
def test_hostile_job_ids_are_refused(client: bigquery.Client, job_id: str) -> None:
    """A job id that BigQuery refuses is refused here."""
    with pytest.raises(BadRequest, match="Invalid job ID"):
        client.query("SELECT 1", job_id=job_id, job_retry=None)


def test_a_running_job_can_be_watched_and_cancelled(client: bigquery.Client) -> None:
    """A long query is RUNNING and says so; cancelled, it ends soon and says why."""
    job = client.query(ENDLESS)
    assert client.get_job(job.job_id).state == "RUNNING"
    assert job.job_id in [one.job_id for one in client.list_jobs(state_filter="running")]
    job.cancel()
    done = wait_until(lambda: (found := client.get_job(job.job_id)).state == "DONE" and found, what="the cancelled job")
    assert done.error_result["reason"] == "stopped"
    assert "cancelled" in done.error_result["message"]


def test_results_of_a_running_job_are_not_complete_yet(client: bigquery.Client) -> None:
    """getQueryResults waits for timeoutMs at most, then says jobComplete: false."""
    job = client.query(ENDLESS)
    path = f"/projects/{client.project}/queries/{job.job_id}"
    answer = client._connection.api_request(method="GET", path=path, query_params={"timeoutMs": 50})
    assert answer["jobComplete"] is False
    job.cancel()


def test_a_job_past_its_time_is_stopped(client: bigquery.Client) -> None:
    """jobTimeoutMs ends a job and the error names the limit."""
    options = bigquery.QueryJobConfig(job_timeout_ms=100)
    with pytest.raises(GoogleAPICallError, match=r"timed out after 0\.1 seconds"):
        client.query(ENDLESS, job_config=options, job_retry=None).result()


def test_a_deleted_job_is_gone(client: bigquery.Client) -> None:
    """jobs.delete forgets a finished job."""
    job = client.query("SELECT 1")
    job.result()
    client.delete_job_metadata(job.job_id, location="US")
    with pytest.raises(NotFound):
        client.get_job(job.job_id)


def test_what_is_not_offered_is_refused_by_name(client: bigquery.Client, dataset: str) -> None:
    """Methods and options that the stand-in lacks answer 501 and say which: nothing is ignored in silence."""
    with pytest.raises(MethodNotImplemented, match=r"bigquery\.routines\.list"):
        list(client.list_routines(dataset))
    table = bigquery.Table(f"{client.project}.{dataset}.t")
    table.external_data_configuration = bigquery.ExternalConfig("CSV")
    with pytest.raises(MethodNotImplemented, match="externalDataConfiguration"):
        client.create_table(table)


def test_an_unknown_field_is_refused_as_google_refuses_it(client: bigquery.Client) -> None:
    """A field that BigQuery does not know is a 400 here too."""
    with pytest.raises(BadRequest, match="Unknown name"):
        client._connection.api_request(
            method="POST", path=f"/projects/{client.project}/queries", data={"query": "SELECT 1", "nosuchfield": 1}
        )
