"""Strays are searched for wherever a worker's jobs are, though it was started again and is set to one region."""

from typing import Any

import pytest

from tests.support.vertex_project import Project
from tests.unit.workers.test_dataflow_twins import Service as DataflowService
from workers.dataflow import KIND, Dataflow
from workers.dataflow import ref as dataflow_ref
from workers.errors import LaunchRefused, TransientError
from workers.record import JobRef
from workers.vertex import CustomJobs
from workers.vertex import ref as vertex_ref

LABELS = {"baton-stage": "train"}


def name(location: str, number: int) -> str:
    return f"projects/p/locations/{location}/customJobs/{number}"


class Regions:
    """Custom jobs in several regions, one stray in each; `away` ones do not answer."""

    def __init__(self) -> None:
        self.away: dict[str, Exception] = {}
        self.listed: list[str] = []

    def customJobs_list(self, parent: str, **_: Any) -> list[dict[str, Any]]:
        location = parent.rsplit("/", 1)[1]
        self.listed.append(location)
        if location in self.away:
            raise self.away[location]
        return [{"name": name(location, 9), "displayName": "p-train-r1-a1", "labels": LABELS}]

    def customJobs_get(self, name: str) -> dict[str, Any]:
        return {"name": name, "state": "JOB_STATE_RUNNING"}


def found(jobs: CustomJobs, location: str) -> list[tuple[str, str]]:
    return [(job.id, job.location) for job in (vertex_ref(job, location) for job in jobs.active(LABELS, location))]


def test_the_regions_of_watched_jobs_are_searched_too() -> None:
    """Each once, and the worker's own last."""
    service = Regions()
    jobs = CustomJobs(Project(service))
    assert found(jobs, "here") == [(name("here", 9), "here")]
    for place in ("there", "here"):
        jobs.statuses([JobRef(id=name(place, 1), name="n", kind="custom-job", location=place)])
    service.listed.clear()
    assert found(jobs, "here") == [(name("there", 9), "there"), (name("here", 9), "here")]
    assert service.listed == ["there", "here"]


def test_the_region_of_a_look_before_a_launch_is_searched_too() -> None:
    """Who launches there may sleep over it."""
    jobs = CustomJobs(Project(Regions()))
    jobs.find(LABELS, "there")
    assert {place for _, place in found(jobs, "here")} == {"here", "there"}


@pytest.mark.parametrize("fault", [TransientError("503"), LaunchRefused("403", "ask for it")], ids=str)
def test_another_region_that_is_away_hides_no_stray(fault: Exception) -> None:
    """It is searched again the next time."""
    service = Regions()
    service.away = {"there": fault}
    jobs = CustomJobs(Project(service))
    jobs.find(LABELS, "elsewhere")
    jobs.statuses([JobRef(id=name("there", 1), name="n", kind="custom-job", location="there")])
    assert {place for _, place in found(jobs, "here")} == {"here", "elsewhere"}
    service.away = {}
    assert {place for _, place in found(jobs, "here")} == {"here", "elsewhere", "there"}


def test_the_own_region_that_is_away_hides_no_stray_of_another() -> None:
    """What was found comes first, then the fault: the search is not over."""
    service = Regions()
    service.away = {"here": TransientError("503")}
    jobs = CustomJobs(Project(service))
    jobs.find(LABELS, "there")
    search = jobs.active(LABELS, "here")
    assert next(search)["name"] == name("there", 9)
    with pytest.raises(TransientError, match="503"):
        next(search)


def test_dataflow_jobs_are_told_with_their_region() -> None:
    """A stray is cancelled where it runs, not where the search was asked for."""

    class Service(DataflowService):
        def list(self, location: str, **_: Any) -> Any:
            return lambda: iter([{"id": f"{location}-9", "name": "p-train-r1-a1", "labels": LABELS}])

        def get(self, jobId: str, **_: Any) -> Any:
            return lambda: {"id": jobId, "currentState": "JOB_STATE_RUNNING"}

        def read(self, request: Any) -> Any:
            return request()

    dataflow = Dataflow(Service(), "p")  # type: ignore[arg-type]
    dataflow.statuses([JobRef(id="1", name="n", kind=KIND, location="there")])
    refs = [dataflow_ref(job, "here") for job in dataflow.active("here", LABELS, ())]
    assert [(job.id, job.location) for job in refs] == [("there-9", "there"), ("here-9", "here")]
