"""A look at many jobs: it costs calls by pages, not by jobs, and whoever gives no answer hides nobody else's."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.vertex_project import Project
from workers.asking import AT_MOST, Asking
from workers.dataflow import Dataflow
from workers.errors import LaunchRefused, TransientError
from workers.record import JobRef
from workers.stage import JobState, JobStatus
from workers.vertex import CustomJobs, Operations, Vertex

PAGE = 100  # what both services give at most here, whatever is asked for


class Pages:
    """A jobs API in Google's form: `list` in pages, `get`; it counts its calls.

    Args:
        jobs: id -> job as the API shows it.
        items: the name of a page's list.
    """

    def __init__(self, jobs: dict[str, dict[str, Any]], items: str) -> None:
        self.jobs, self.items = jobs, items
        self.calls: list[str] = []
        self.ended: set[str] = set()

    def list(self, **params: Any) -> Callable[[], dict[str, Any]]:
        def page() -> dict[str, Any]:
            self.calls.append("list")
            begin = int(params.get("pageToken", 0))
            active = [job for job_id, job in self.jobs.items() if job_id not in self.ended]
            answer: dict[str, Any] = {self.items: active[begin : begin + PAGE]}
            if begin + PAGE < len(active):
                answer["nextPageToken"] = str(begin + PAGE)
            return answer

        page.params = params  # type: ignore[attr-defined]
        return page

    def list_next(self, request: Any, answer: dict[str, Any]) -> Callable[[], dict[str, Any]] | None:
        token = answer.get("nextPageToken")
        return None if token is None else self.list(**{**request.params, "pageToken": token})

    def get(self, **params: Any) -> Callable[[], dict[str, Any]]:
        def one() -> dict[str, Any]:
            self.calls.append("get")
            job_id = params.get("jobId") or params["name"]
            done = {"currentState": "JOB_STATE_DONE", "state": "JOB_STATE_SUCCEEDED"}
            return {**self.jobs[job_id], **(done if job_id in self.ended else {})}

        return one

    def taken(self) -> tuple[int, int]:
        """Return how many lists and gets there were since this was asked last."""
        counts = self.calls.count("list"), self.calls.count("get")
        self.calls.clear()
        return counts


class Rest:
    """`GoogleRest` whose requests are functions; every step of the service's path is itself, up to the collection."""

    def __init__(self, collection: Pages) -> None:
        self.service = self
        self.collection = collection

    def projects(self) -> "Rest":
        return self

    def locations(self) -> "Rest":
        return self

    def jobs(self) -> Pages:
        return self.collection

    customJobs = jobs

    def read(self, request: Any) -> Any:
        return request()

    def pages(self, request: Any, next_request: Any, items: str) -> Iterator[dict[str, Any]]:
        while request is not None:
            answer = request()
            yield from answer.get(items, [])
            request = next_request(request, answer)


def dataflow(count: int) -> tuple[Pages, Any, list[JobRef]]:
    jobs = {
        f"j{n}": {"id": f"j{n}", "name": f"p-preprocess-r{n}-a1", "currentState": "JOB_STATE_RUNNING"}
        for n in range(count)
    }
    service: Any = Pages(jobs, "jobs")
    rest: Any = Rest(service)
    refs = [JobRef(id=job, name=job, kind="dataflow", location="l") for job in jobs]
    return service, Dataflow(rest, "p"), refs


def vertex(count: int) -> tuple[Pages, Any, list[JobRef]]:
    names = [f"projects/p/locations/l/customJobs/{n}" for n in range(count)]
    service = Pages({name: {"name": name, "state": "JOB_STATE_RUNNING"} for name in names}, "customJobs")
    rest: Any = Rest(service)
    here = Vertex("p", "http://127.0.0.1:1")
    here.rest = lambda location: rest  # type: ignore[method-assign]
    return service, CustomJobs(here), [JobRef(id=name, name=name, kind="custom-job", location="l") for name in names]


@pytest.mark.parametrize("provider", [dataflow, vertex])
def test_a_look_at_many_jobs_costs_its_pages(provider: Callable[[int], tuple[Pages, Any, list[JobRef]]]) -> None:
    """Three pages of jobs are three calls; one that has ended is one more, for it is in no list of active ones."""
    service, jobs, refs = provider(3 * PAGE)
    assert {status.state for status in jobs.statuses(refs).values()} == {JobState.ACTIVE}
    assert service.taken() == (3, 0)
    service.ended.add(refs[7].id)
    states = {job_id: status.state for job_id, status in jobs.statuses(refs).items()}
    assert service.taken() == (3, 1)
    assert len(states) == len(refs)
    assert [job_id for job_id, state in states.items() if state is not JobState.ACTIVE] == [refs[7].id]
    assert states[refs[7].id] is JobState.SUCCEEDED


@pytest.mark.parametrize("provider", [dataflow, vertex])
def test_a_few_are_asked_for_one_by_one(provider: Callable[[int], tuple[Pages, Any, list[JobRef]]]) -> None:
    """One is asked for by itself; twenty are one page."""
    service, jobs, refs = provider(1)
    jobs.statuses(refs)
    assert service.taken() == (0, 1)
    service, jobs, refs = provider(20)
    jobs.statuses(refs)
    assert service.taken() == (1, 0)


def test_the_cheaper_way_is_chosen_and_found_out_again() -> None:
    """As many are asked for one by one as a list has pages; then it is listed, and may have become shorter."""
    asking = Asking()
    assert asking.one_by_one("l", AT_MOST)
    assert not asking.one_by_one("l", AT_MOST + 1)
    asking.listed("l", 100)
    assert not asking.one_by_one("l", 101)
    assert asking.one_by_one("l", 60)
    assert not asking.one_by_one("l", 60)
    assert asking.one_by_one("l", 40)
    assert not asking.one_by_one("l", 40)
    assert asking.one_by_one("l", AT_MOST), "a few are always cheaper than a list"
    assert not asking.one_by_one("elsewhere", 60)


@pytest.mark.parametrize("provider", [dataflow, vertex])
def test_a_question_without_an_answer_does_not_hide_the_answers(
    provider: Callable[[int], tuple[Pages, Any, list[JobRef]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned before counts; the rest is asked for at the next look."""
    service, jobs, refs = provider(10)
    service.ended.update(ref.id for ref in refs[3:6])
    get, asked = service.get, []

    def refuse_the_second(**params: Any) -> Callable[[], dict[str, Any]]:
        asked.append(params)
        if len(asked) == 2:
            raise TransientError("503")
        return get(**params)

    monkeypatch.setattr(service, "get", refuse_the_second)
    states = jobs.statuses(refs)
    assert len(asked) == 2
    assert set(states) == {ref.id for ref in refs} - {ref.id for ref in refs[4:6]}
    monkeypatch.setattr(service, "get", lambda **params: refuse())
    with pytest.raises(TransientError):
        jobs.statuses(refs[3:4])


def refuse() -> Callable[[], dict[str, Any]]:
    raise TransientError("503")


def test_jobs_of_another_ledger_are_read_once() -> None:
    """A summary comes without labels: whether a job is ours takes a call, and is then known for as long as it runs."""
    service, jobs, refs = dataflow(250)
    for job in service.jobs.values():
        job["name"] = "p-train-r-a1"
    assert list(jobs.active("l", {"baton-stage": "train", "baton-ledger": "ours"}, {refs[0].id})) == []
    assert service.taken() == (3, 249)
    assert list(jobs.active("l", {"baton-stage": "train", "baton-ledger": "ours"}, {refs[0].id})) == []
    assert service.taken() == (3, 0)


def active(job: JobRef) -> JobStatus:
    return JobStatus(JobState.ACTIVE, job.id)


def some(location: str, count: int) -> list[JobRef]:
    return [JobRef(id=f"{location}-{n}", name="n", kind="k", location=location) for n in range(count)]


@pytest.mark.parametrize("provider", [dataflow, vertex])
def test_a_refused_job_counts_as_active_and_the_others_are_told(
    provider: Callable[[int], tuple[Pages, Any, list[JobRef]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not see one job sees the others; of the one it is said why nothing is known."""
    service, jobs, refs = provider(3)
    get = service.get

    def refuse_the_first(**params: Any) -> Callable[[], dict[str, Any]]:
        if refs[0].id in params.values():
            raise LaunchRefused("403", "ask for the permission")
        return get(**params)

    monkeypatch.setattr(service, "get", refuse_the_first)
    states = jobs.statuses(refs)
    assert states[refs[0].id] == JobStatus(JobState.ACTIVE, message="it cannot be looked at: 403")
    assert [states[ref.id].message for ref in refs[1:]] == ["", ""]
    assert jobs.statuses([]) == {}


@pytest.mark.parametrize("count", [1, 9], ids=["asked for", "listed"])
def test_a_location_that_is_away_hides_no_other(count: int) -> None:
    """Whichever comes first, and however it is looked at; only where none answers there is no answer."""
    asking = Asking()

    def ask(job: JobRef) -> JobStatus:
        if job.location == "away":
            raise TransientError("503")
        return active(job)

    def listed(location: str) -> dict[str, JobStatus]:
        if location == "away":
            raise TransientError("503")
        return {job.id: active(job) for job in some(location, count)}

    away, here = some("away", count), some("here", count)
    for jobs in (away + here, here + away):
        assert set(asking.statuses(jobs, ask, listed)) == {job.id for job in here}
    with pytest.raises(TransientError, match="503"):
        asking.statuses(away, ask, listed)


def test_a_list_that_is_refused_hides_no_other_location() -> None:
    """A region in which the worker may list nothing is an error of its own."""

    def listed(location: str) -> dict[str, JobStatus]:
        if location == "closed":
            raise LaunchRefused("403", "ask for the permission")
        return {job.id: active(job) for job in some(location, 9)}

    states = Asking().statuses(some("closed", 9) + some("here", 9), active, listed)
    assert [status.message for status in states.values()] == 9 * ["it cannot be looked at: 403"] + 9 * [""]


def test_jobs_that_never_answer_are_asked_for_last() -> None:
    """Each costs one look, and a service that is away costs one question a look, not one for each job."""
    asking, jobs, asked = Asking(), some("l", 6), []

    def ask(job: JobRef) -> JobStatus:
        asked.append(job)
        if job in jobs[:2]:
            raise TransientError("500")
        return active(job)

    for _ in range(2):
        with pytest.raises(TransientError):
            asking.statuses(jobs, ask)
    assert asked == jobs[:2]
    for _ in range(2):
        assert set(asking.statuses(jobs, ask)) == {job.id for job in jobs[2:]}


def test_jobs_that_never_answered_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have been gone for months."""
    monkeypatch.setattr("workers.asking._REMEMBERED", 5)
    asking = Asking()

    def ask(job: JobRef) -> JobStatus:
        raise TransientError("500")

    for job in some("l", 50):
        with pytest.raises(TransientError):
            asking.statuses([job], ask)
    assert len(asking._unanswered) <= 5


def test_what_the_list_told_counts_though_nothing_else_answers() -> None:
    """A job that has ended and cannot be read does not hide those that run."""
    service, jobs, refs = dataflow(10)
    service.ended.add(refs[0].id)
    service.get = lambda **params: refuse()  # type: ignore[method-assign]
    assert set(jobs.statuses(refs)) == {ref.id for ref in refs[1:]}


def test_a_failed_job_whose_messages_are_refused_has_failed() -> None:
    """The messages help people; that nobody may read them does not keep its run from going on."""
    service, jobs, refs = dataflow(1)
    service.jobs["j0"]["currentState"] = "JOB_STATE_FAILED"

    class Messages:
        list_next = None

        def list(self, **_: Any) -> Callable[[], dict[str, Any]]:
            def refused() -> dict[str, Any]:
                raise LaunchRefused("403", "grant dataflow.messages.list")

            return refused

    service.messages = Messages  # type: ignore[attr-defined]
    assert jobs.statuses(refs)["j0"].state is JobState.FAILED
    assert jobs.messages(refs[0]) == ()


def test_an_operation_that_gives_no_answer_hides_no_other() -> None:
    """Deployments are watched like jobs."""

    class Service:
        def operations_get(self, name: str) -> dict[str, Any]:
            if name == "a-0":
                raise TransientError("503")
            if name == "b-0":
                raise LaunchRefused("403", "ask for the permission")
            return {"name": name, "done": True}

    refs = [
        JobRef(id=job.id, name="n", kind=Operations.KIND, location=job.location) for job in some("a", 1) + some("b", 2)
    ]
    states = Operations(Project(Service())).statuses(refs)
    found = {job_id: status.state for job_id, status in states.items()}
    assert found == {"b-0": JobState.ACTIVE, "b-1": JobState.SUCCEEDED}
