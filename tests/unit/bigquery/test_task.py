"""A job's body is interrupted wherever its cancellation finds it."""

import threading

import duckdb
import pytest

from localcloud.bigquery.engine import Engine
from localcloud.bigquery.errors import Stopped
from localcloud.bigquery.gcs import Storage
from localcloud.bigquery.jobs.task import Task
from localcloud.bigquery.resources import Sizes
from tests.support.waiting import wait_until

# Minutes of work: a pass means that it was interrupted.
_ENDLESS = "SELECT count(*) FROM range(100000) AS a, range(100000) AS b WHERE a.range * b.range % 7 = 3"
_LIMIT_S = 20.0


@pytest.fixture
def task(engine: Engine) -> Task:
    doc = {"jobReference": {"projectId": "p", "jobId": "j"}, "configuration": {"query": {}}}
    return Task(engine, Storage("http://127.0.0.1:1"), Sizes(), doc, {}, 0)


def _interrupters() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cancel:j"]


def test_a_cancel_between_two_statements_stops_the_next(task: Task) -> None:
    """DuckDB forgets an interrupt that finds no statement; the job is stopped all the same, and nothing keeps asking."""
    with task.read() as cursor:
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]
        task.cancel()
        give_up = threading.Timer(_LIMIT_S, cursor.interrupt)
        give_up.daemon = True
        give_up.start()
        with pytest.raises(duckdb.InterruptException):
            cursor.execute(_ENDLESS).fetchall()
        assert give_up.is_alive(), f"only the test's own interrupt, {_LIMIT_S} s later, stopped the statement"
        give_up.cancel()
    wait_until(lambda: not _interrupters(), 10, "the end of the interrupting thread")


def test_a_cancelled_job_reads_no_more(task: Task) -> None:
    """What has no cursor yet is refused one."""
    task.cancel()
    with pytest.raises(Stopped, match="cancelled"), task.read():
        raise AssertionError("a cancelled job got a cursor")
    wait_until(lambda: not _interrupters(), 10, "the end of the interrupting thread")
