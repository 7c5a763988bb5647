"""Vertex AI: the API in a job's region, custom jobs found again by label, and long-running operations.

`customJobs.create` has no request id: calling it twice makes two jobs. So every job carries labels for run, stage and
attempt; look by label before creating, and after creating look again where somebody else may have made one too: of two
the earliest counts and the others are cancelled. Source: aiplatform v1 discovery document.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from workers.asking import Asking
from workers.durations import moment
from workers.errors import NotFound, StageError, TransientError
from workers.failures import is_worth_another_attempt
from workers.google_rest import GoogleRest, instant
from workers.logs import logger
from workers.record import JobRef
from workers.stage import JobState, JobStatus

_PAGE = 100  # more is not documented
_STATES = "customJobs(name,state),nextPageToken"  # all that a look needs of ten thousand jobs
_PLACE = re.compile(r"/locations/([^/]+)/")
KIND = "custom-job"
_SUCCEEDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"}
_FAILED = {"JOB_STATE_FAILED", "JOB_STATE_EXPIRED"}
_CANCELLED = {"JOB_STATE_CANCELLED"}
_CANCELLING = _CANCELLED | {"JOB_STATE_CANCELLING"}
_ACTIVE = " OR ".join(
    f'state="JOB_STATE_{state}"' for state in ("QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING")
)
_CODE_CANCELLED = 1  # google.rpc.Code


class Vertex:
    """Vertex AI of one project, a client per region.

    Args:
        endpoint: where it answers; "" = Google's address in each region.
    """

    def __init__(self, project: str, endpoint: str = "") -> None:
        self.project = project
        self._endpoint = endpoint
        self._clients: dict[str, GoogleRest] = {}

    def rest(self, location: str) -> GoogleRest:
        """Return the client for `location`."""
        key = "" if self._endpoint else location
        if key not in self._clients:
            address = self._endpoint or f"https://{location}-aiplatform.googleapis.com"
            self._clients[key] = GoogleRest("aiplatform", "v1", address)
        return self._clients[key]

    def close(self) -> None:
        """Close the connections of every region."""
        for rest in self._clients.values():
            rest.close()

    def parent(self, location: str) -> str:
        """Return `projects/P/locations/L`."""
        return f"projects/{self.project}/locations/{location}"

    def locations(self, location: str) -> Any:
        """Return the discovery service's `projects.locations`."""
        return self.rest(location).service.projects().locations()


class CustomJobs:
    """Custom training jobs."""

    def __init__(self, vertex: Vertex) -> None:
        self._vertex = vertex
        self._asking = Asking()

    def find(self, labels: Mapping[str, str], location: str) -> JobRef | None:
        """Return the job with these labels that counts: the first made that was not cancelled; None if none."""
        self._asking.works_in(location)
        jobs = self._with_labels(labels, location)
        counting = [job for job in jobs if job.get("state") not in _CANCELLING]
        chosen = (counting or jobs)[:1]
        return ref(chosen[0], location) if chosen else None

    def create(self, body: Mapping[str, Any], location: str, is_alone: Callable[[], bool] = lambda: False) -> JobRef:
        """Create the job, look again, and if somebody's was there before, cancel ours and return the other.

        Only ours: whether another's job counts is for the ledger to say. A worker that slept before its create would
        otherwise cancel the job that its successor has recorded. What is younger than ours is cancelled by whoever made
        it, when it looks or loses the compare-and-set, or by the search for strays.

        Args:
            is_alone: asked once the job is there: nobody else can have made one before, so there is no need to look.

        Raises:
            LaunchRefused: Vertex AI will not run it as asked.
            TransientError: no clear answer; look before creating again.
        """
        self._asking.works_in(location)
        jobs = self._vertex.locations(location).customJobs()
        rest = self._vertex.rest(location)
        created = rest.send(jobs.create(parent=self._vertex.parent(location), body=body))
        if is_alone():
            return ref(created, location)
        try:
            listed = self._with_labels(body["labels"], location)
        except TransientError as fault:  # the job is there, listed or not
            raise TransientError(str(fault), ambiguous=True) from fault
        older = [job for job in listed if job.get("state") not in _CANCELLING and _age(job) < _age(created)]
        if not older:
            return ref(created, location)
        logger(job_id=created["name"]).warning("twin-cancelled", kept=older[0]["name"])
        try:
            self.cancel(ref(created, location))
        except (StageError, TransientError) as fault:  # it may be over; if it runs, `workers.strays` will see it
            logger(job_id=created["name"]).warning("cancel-refused", reason=str(fault))
        return ref(older[0], location)

    def active(self, wanted: Mapping[str, str], location: str) -> Iterator[dict[str, Any]]:
        """Yield the active jobs that carry the labels `wanted`, with what tells them apart.

        They are of `location`, and before that of others where jobs of ours are known to be.
        """
        fields = "customJobs(name,displayName,labels,state,createTime),nextPageToken"
        filter_text = f"{_labelled(wanted)} AND ({_ACTIVE})"
        return self._asking.everywhere(location, lambda place: self._listed(filter_text, place, fields=fields))

    def statuses(self, jobs: Sequence[JobRef]) -> dict[str, JobStatus]:
        """Return the status of each job; a few are asked for one by one, many by listing those not ended."""
        return self._asking.statuses(jobs, self._status_of, self._active)

    def _active(self, location: str) -> dict[str, JobStatus]:
        listed = self._listed(f"labels.baton-run:* AND ({_ACTIVE})", location, fields=_STATES)
        self._asking.listed(location, len(listed) // _PAGE + 1)
        return {job["name"]: _status(job) for job in listed}

    def _status_of(self, job: JobRef) -> JobStatus:
        jobs = self._vertex.locations(job.location).customJobs()
        try:
            return _status(self._vertex.rest(job.location).read(jobs.get(name=job.id)))
        except NotFound as fault:
            return JobStatus(JobState.VANISHED, message=f"Vertex AI no longer knows {job.id} ({fault.message})")

    def cancel(self, job: JobRef) -> None:
        """Ask for the job's cancellation; a job that has ended stays as it ended."""
        jobs = self._vertex.locations(job.location).customJobs()
        try:
            self._vertex.rest(job.location).send(jobs.cancel(name=job.id, body={}))
        except NotFound:
            logger(job_id=job.id).info("cancel-of-unknown-job")

    def _with_labels(self, labels: Mapping[str, str], location: str) -> list[dict[str, Any]]:
        """Return the jobs that carry all of `labels`, the first made first."""
        return sorted(self._listed(_labelled(labels), location), key=_age)

    def _listed(self, filter_text: str, location: str, **options: str) -> list[dict[str, Any]]:
        jobs = self._vertex.locations(location).customJobs()
        request = jobs.list(parent=self._vertex.parent(location), filter=filter_text, pageSize=_PAGE, **options)
        return list(self._vertex.rest(location).pages(request, jobs.list_next, "customJobs"))


class Operations:
    """Long-running operations, watched like jobs."""

    KIND = "operation"

    def __init__(self, vertex: Vertex) -> None:
        self._vertex = vertex
        self._asking = Asking()

    def ref(self, operation: Mapping[str, Any], name: str, location: str) -> JobRef:
        """Return an operation as a job."""
        return JobRef(
            id=operation["name"], name=name, kind=self.KIND, location=location, state=_operation_state(operation)
        )

    def statuses(self, jobs: Sequence[JobRef]) -> dict[str, JobStatus]:
        """Return each operation's status; one that was adopted as done already (`kind` resource) has succeeded."""
        return self._asking.statuses(jobs, self._status_of)

    def response(self, job: JobRef) -> dict[str, Any]:
        """Return the response of a succeeded operation."""
        answer: dict[str, Any] = self._get(job).get("response", {})
        return answer

    def _status_of(self, job: JobRef) -> JobStatus:
        if job.kind != self.KIND:
            return JobStatus(JobState.SUCCEEDED, job.state)
        try:
            operation = self._get(job)
        except NotFound as fault:
            return JobStatus(JobState.VANISHED, message=f"Vertex AI no longer knows {job.id} ({fault.message})")
        state = _operation_state(operation)
        if not operation.get("done"):
            return JobStatus(JobState.ACTIVE, state)
        if "error" not in operation:
            return JobStatus(JobState.SUCCEEDED, state)
        code, text = int(operation["error"].get("code", 0)), str(operation["error"].get("message", operation["error"]))
        ended = JobState.CANCELLED if code == _CODE_CANCELLED else JobState.FAILED
        return JobStatus(ended, state, text, is_worth_another_attempt(text, code))

    def cancel(self, job: JobRef) -> None:
        """Ask for the operation's end: best effort, what is done stays done."""
        if job.kind != self.KIND:
            return  # something that is there already
        try:
            self._vertex.rest(job.location).send(self._collection(job).cancel(name=job.id))
        except NotFound:
            logger(job_id=job.id).info("cancel-of-unknown-operation")

    def _get(self, job: JobRef) -> dict[str, Any]:
        return self._vertex.rest(job.location).read(self._collection(job).get(name=job.id))

    def _collection(self, job: JobRef) -> Any:
        # An operation's name tells where it belongs; the discovery client wants to know which collection's it is.
        locations = self._vertex.locations(job.location)
        if "/models/" in job.id:
            return locations.models().operations()
        if "/endpoints/" in job.id:
            return locations.endpoints().operations()
        return locations.operations()


def _operation_state(operation: Mapping[str, Any]) -> str:
    if not operation.get("done"):
        return "RUNNING"
    return "FAILED" if "error" in operation else "DONE"


def _labelled(labels: Mapping[str, str]) -> str:
    return " AND ".join(f'labels.{key}="{value}"' for key, value in sorted(labels.items()))


def _age(job: Mapping[str, Any]) -> tuple[tuple[int, int, str], str]:
    """Order jobs by their creation, the same for everybody who looks."""
    return instant(job.get("createTime", "")), job["name"]


def ref(job: Mapping[str, Any], location: str) -> JobRef:
    """Return a custom job of the API as ours; its name tells its location, and `location` is for where it does not."""
    named = _PLACE.search(job["name"])
    place = location if named is None else named[1]
    return JobRef(id=job["name"], name=job["displayName"], kind=KIND, location=place, state=str(job.get("state", "")))


def _status(job: Mapping[str, Any]) -> JobStatus:
    state = str(job.get("state", "JOB_STATE_UNSPECIFIED"))
    if state in _SUCCEEDED:
        return JobStatus(JobState.SUCCEEDED, state, ended_at=moment(job.get("endTime", "")))
    if state in _FAILED:
        error = job.get("error", {})
        text = str(error.get("message", ""))
        return JobStatus(JobState.FAILED, state, text, is_worth_another_attempt(text, int(error.get("code", 0))))
    if state in _CANCELLED:
        return JobStatus(JobState.CANCELLED, state)
    return JobStatus(JobState.ACTIVE, state)  # a state that we do not know is not an end
