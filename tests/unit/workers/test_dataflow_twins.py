"""Who launches a Dataflow job looks for a twin only where somebody else may have launched one."""

from collections.abc import Iterator
from typing import Any

import pytest

from workers.dataflow import Dataflow
from workers.errors import LaunchRefused, TransientError

NAME, LABELS = "p-preprocess-r1-a1", {"baton-run": "r1"}


class Service:
    """Dataflow's API and the client's way to it in one: each method answers a request, which `send` or `pages` makes."""

    list_next = None

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.made: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda: self  # service, projects, locations, jobs, flexTemplates

    @property
    def service(self) -> "Service":
        return self

    def add(self) -> dict[str, Any]:
        number = len(self.made) + 1
        job = {"id": str(number), "name": NAME, "labels": LABELS, "createTime": f"2026-01-01T00:00:0{number}Z"}
        self.made.append({**job, "currentState": "JOB_STATE_PENDING"})
        return self.made[-1]

    def launch(self, **_: Any) -> Any:
        return lambda: {"job": self.add()}

    def list(self, **_: Any) -> Any:
        return lambda: iter(self.made)

    def update(self, jobId: str, **_: Any) -> Any:
        return lambda: self.calls.append(f"cancel {jobId}")

    def send(self, request: Any) -> Any:
        return request()

    def pages(self, request: Any, _next: Any, _items: str) -> Iterator[dict[str, Any]]:
        self.calls.append("list")
        yield from request()


@pytest.mark.parametrize(("is_alone", "kept", "calls"), [(True, "2", []), (False, "1", ["list", "cancel 2"])])
def test_an_older_twin_is_kept_by_whoever_may_have_one(is_alone: bool, kept: str, calls: list[str]) -> None:
    """The question is asked when the job is there: by then who asks may have been away for long."""
    service = Service()
    service.add()
    asked: list[int] = []

    def ask() -> bool:
        asked.append(len(service.made))
        return is_alone

    environment = {"additionalUserLabels": LABELS}
    job = Dataflow(service, "p").launch(NAME, "l", "gs://b/t.json", {}, environment, ask)  # type: ignore[arg-type]
    assert asked == [2]
    assert (job.id, service.calls) == (kept, calls)


@pytest.mark.parametrize("fault", [LaunchRefused("400", "it is over"), TransientError("503")], ids=str)
def test_a_younger_twin_that_cannot_be_cancelled_fails_nothing(fault: Exception) -> None:
    """It may be over already; the older is kept all the same, and of two in a second the first is the older."""
    service = Service()
    service.add()["createTime"] = "2026-01-01T00:00:02Z"

    def late(**_: Any) -> Any:
        service.made[1]["createTime"] = "2026-01-01T00:00:02.500Z"
        return lambda: iter(service.made)

    def refuse() -> None:
        raise fault

    service.list = late  # type: ignore[method-assign]
    service.update = lambda jobId, **_: refuse  # type: ignore[method-assign]
    environment = {"additionalUserLabels": LABELS}
    job = Dataflow(service, "p").launch(NAME, "l", "gs://b/t.json", {}, environment)  # type: ignore[arg-type]
    assert job.id == "1"


def test_a_job_that_is_there_but_cannot_be_looked_at_is_unclear() -> None:
    """A 429 says that nothing was done; of the job that was launched before it that is not true."""
    service = Service()

    def busy(**_: Any) -> Any:
        raise TransientError("429")

    service.list = busy  # type: ignore[method-assign]
    environment = {"additionalUserLabels": LABELS}
    with pytest.raises(TransientError) as unclear:
        Dataflow(service, "p").launch(NAME, "l", "gs://b/t.json", {}, environment)  # type: ignore[arg-type]
    assert unclear.value.ambiguous
