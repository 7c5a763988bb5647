"""Where two workers make the same Vertex AI job all the same, one is left: the same one for everybody who looks."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.vertex_project import Project
from workers.errors import LaunchRefused, TransientError
from workers.vertex import CustomJobs

LABELS = {"baton-run": "r1"}


class Service:
    """The custom jobs of a project; `hidden` ones are not listed yet."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.hidden: set[str] = set()

    def customJobs_create(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        number = len(self.jobs) + 1
        name = f"{parent}/customJobs/{number}"
        job = {**body, "name": name, "state": "JOB_STATE_PENDING", "createTime": f"2026-01-01T00:00:{number:02}Z"}
        self.jobs[name] = job
        return dict(job)

    def customJobs_list(self, **_: Any) -> Iterator[dict[str, Any]]:
        return (dict(job) for name, job in reversed(self.jobs.items()) if name not in self.hidden)

    def customJobs_cancel(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.jobs[name]["state"] = "JOB_STATE_CANCELLED"
        return {}

    def active(self) -> tuple[str, ...]:
        found = (name for name, job in self.jobs.items() if job["state"] == "JOB_STATE_PENDING")
        return tuple(name.rsplit("/", 1)[1] for name in found)


def body() -> dict[str, Any]:
    return {"displayName": "p-train-r1-a1", "labels": LABELS}


@pytest.mark.parametrize("hidden", [set(), {"1"}, {"2"}, {"1", "2"}])
def test_two_workers_never_cancel_each_others_job(hidden: set[str]) -> None:
    """Whatever each of them sees in the list, the first that was made is never cancelled."""
    service = Service()
    service.hidden = {f"projects/p/locations/l/customJobs/{number}" for number in hidden}
    jobs = CustomJobs(Project(service))
    jobs.create(body(), "l")
    jobs.create(body(), "l")
    assert service.active()[0] == "1"
    if "1" not in hidden:
        assert service.active() == ("1",), "the younger is cancelled as soon as the older is seen"


def test_the_later_look_finds_the_one_that_counts() -> None:
    """Once both are listed, everybody adopts the older."""
    service = Service()
    service.hidden = {"projects/p/locations/l/customJobs/1"}
    jobs = CustomJobs(Project(service))
    jobs.create(body(), "l")
    second = jobs.create(body(), "l")
    service.hidden = set()
    found = jobs.find(LABELS, "l")
    assert found is not None
    assert (second.id[-1], found.id[-1]) == ("2", "1")


@pytest.mark.parametrize("is_alone", [True, False])
def test_only_who_may_have_a_twin_looks_for_one(is_alone: bool) -> None:
    """The question is asked when the job is there: by then who asks may have been away for long."""
    service = Service()
    asked: list[int] = []
    listed: list[int] = []
    service.customJobs_list = lambda **_: listed.append(1) or iter(())  # type: ignore[method-assign,func-returns-value]

    def ask() -> bool:
        asked.append(len(service.jobs))
        return is_alone

    CustomJobs(Project(service)).create(body(), "l", ask)
    assert asked == [1]
    assert listed == ([] if is_alone else [1])


@pytest.mark.parametrize("fault", [LaunchRefused("400", "it is over"), TransientError("503")], ids=str)
def test_a_younger_twin_that_cannot_be_cancelled_fails_nothing(fault: Exception) -> None:
    """It may be over already; the older runs, and is the attempt's job."""
    service = Service()

    def refuse(name: str, body: dict[str, Any]) -> dict[str, Any]:
        raise fault

    service.customJobs_cancel = refuse  # type: ignore[method-assign]
    jobs = CustomJobs(Project(service))
    older = jobs.create(body(), "l")
    assert jobs.create(body(), "l") == older


def test_of_two_in_one_second_the_first_is_the_older() -> None:
    """The full second is written without a fraction."""
    service = Service()
    jobs = CustomJobs(Project(service))
    jobs.create(body(), "l", lambda: True)
    jobs.create(body(), "l", lambda: True)
    first, second = service.jobs.values()
    first["createTime"], second["createTime"] = "2026-01-01T00:00:01Z", "2026-01-01T00:00:01.500000Z"
    found = jobs.find(LABELS, "l")
    assert found is not None
    assert found.id == first["name"]
    second["createTime"] = "2026-01-01T00:00:01.000Z"
    assert jobs.find(LABELS, "l") == found, "made at the same time: by name"


@pytest.mark.parametrize("is_ambiguous", [True, False])
def test_a_job_that_is_there_but_cannot_be_looked_at_is_unclear(is_ambiguous: bool) -> None:
    """A 429 says that nothing was done; of the job that was made before it that is not true."""
    service = Service()

    def busy(**_: Any) -> Iterator[dict[str, Any]]:
        raise TransientError("429", ambiguous=is_ambiguous)

    service.customJobs_list = busy  # type: ignore[method-assign]
    with pytest.raises(TransientError) as unclear:
        CustomJobs(Project(service)).create(body(), "l")
    assert unclear.value.ambiguous
