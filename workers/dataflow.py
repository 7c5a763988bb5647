"""Dataflow: launches flex templates, finds them again by name, and watches many with one list.

A job's name is unique only among active jobs of a project and region, and an error answer does not mean that no job was
made. So: list by name before launching, and adopt on 409. Source: Dataflow v1b3 discovery document; the rule "an error
may hide a launched job" is hashicorp/terraform-provider-google#14679.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from workers.asking import Asking
from workers.durations import moment
from workers.errors import AlreadyExists, NotFound, StageError, TransientError
from workers.failures import is_worth_another_attempt
from workers.google_rest import GoogleRest, instant
from workers.labels import STAGE
from workers.logs import logger
from workers.record import JobRef
from workers.stage import JobState, JobStatus

_PAGE = 1000  # Dataflow gives fewer where its own limit is lower
_STATES = "jobs(id,currentState),failedLocation,nextPageToken"  # all that a look needs of ten thousand jobs
_SUCCEEDED = {"JOB_STATE_DONE", "JOB_STATE_DRAINED", "JOB_STATE_UPDATED"}
_FAILED = {"JOB_STATE_FAILED"}
_CANCELLED = {"JOB_STATE_CANCELLED"}
_CANCELLING = _CANCELLED | {"JOB_STATE_CANCELLING"}
KIND = "dataflow"


class Dataflow:
    """The jobs of one project."""

    def __init__(self, rest: GoogleRest, project: str) -> None:
        self._rest = rest
        self._project = project
        self._asking = Asking()
        self._others: dict[str, set[str]] = {}  # location -> active jobs that turned out to be of another ledger

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    @property
    def _jobs(self) -> Any:
        return self._rest.service.projects().locations().jobs()

    def find(self, name: str, labels: Mapping[str, str], location: str) -> JobRef | None:
        """Return the job of that name that counts: the first made that was not cancelled; None where there is none."""
        self._asking.works_in(location)
        jobs = self._named(name, labels, location)
        # All cancelled: the attempt was stopped, and that is its outcome.
        chosen = ([job for job in jobs if job.get("currentState") not in _CANCELLING] or jobs)[:1]
        return ref(chosen[0], location) if chosen else None

    def launch(
        self,
        name: str,
        location: str,
        template_uri: str,
        parameters: Mapping[str, str],
        environment: Any,
        is_alone: Callable[[], bool] = lambda: False,
    ) -> JobRef:
        """Launch a flex template under `name`, or adopt the job of that name that is there already.

        The name protects only while a job is active: launched late, ours may be the second after one that has ended.

        Args:
            is_alone: asked once the job is there: nobody else can have launched one before, so there is no need to look.

        Raises:
            LaunchRefused: Dataflow will not run it as asked.
            TransientError: no clear answer; look before launching again.
        """
        body = {
            "launchParameter": {
                "jobName": name,
                "containerSpecGcsPath": template_uri,
                "parameters": dict(parameters),
                "environment": environment,
            }
        }
        self._asking.works_in(location)
        labels = environment["additionalUserLabels"]
        templates = self._rest.service.projects().locations().flexTemplates()
        try:
            answer = self._rest.send(templates.launch(projectId=self._project, location=location, body=body))
        except AlreadyExists as fault:
            found = self.find(name, labels, location)
            if found is None:  # refused for its name, yet not listed: the list is late
                raise TransientError(f"job {name} exists but is not listed yet", ambiguous=True) from fault
            return found
        ours = ref(answer["job"], location)
        return ours if is_alone() else self._first_of_twins(ours, labels)

    def _first_of_twins(self, ours: JobRef, labels: Mapping[str, str]) -> JobRef:
        try:
            twins = self._named(ours.name, labels, ours.location)
        except TransientError as fault:  # the job is there, listed or not
            raise TransientError(str(fault), ambiguous=True) from fault
        counting = [job for job in twins if job.get("currentState") not in _CANCELLING]
        if not counting or counting[0]["id"] == ours.id or ours.id not in {job["id"] for job in counting}:
            return ours  # one that is not listed yet is younger than all that are: names of active jobs are unique
        logger(job_id=ours.id).warning("twin-cancelled", kept=counting[0]["id"])
        try:
            self.cancel(ours)
        except (StageError, TransientError) as fault:  # it may be over; if it runs, `workers.strays` will see it
            logger(job_id=ours.id).warning("cancel-refused", reason=str(fault))
        return ref(counting[0], ours.location)

    def active(self, location: str, wanted: Mapping[str, str], known: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield the active jobs that carry the labels `wanted` and are not `known`, with their labels and location.

        They are of `location`, and before that of others where jobs of ours are known to be.
        """
        yield from self._asking.everywhere(location, lambda place: list(self._strays_in(place, wanted, known)))

    def _strays_in(self, location: str, wanted: Mapping[str, str], known: Collection[str]) -> Iterator[dict[str, Any]]:
        request = self._jobs.list(projectId=self._project, location=location, filter="ACTIVE", pageSize=_PAGE)
        listed = self._rest.pages(request, self._jobs.list_next, "jobs")
        mine = [job for job in listed if job["id"] not in known and f"-{wanted[STAGE]}-" in job.get("name", "")]
        others = self._others.setdefault(location, set())
        others.intersection_update([job["id"] for job in mine])
        for job in mine:
            if job["id"] in others:
                continue
            if "labels" not in job:  # a summary may come without them
                job = self._rest.read(self._jobs.get(projectId=self._project, location=location, jobId=job["id"]))
            if _carries(job, wanted):
                yield {"location": location, **job}
            else:
                others.add(job["id"])

    def _named(self, name: str, labels: Mapping[str, str], location: str) -> list[dict[str, Any]]:
        """Return the jobs of that name, the first made first; another ledger's may have the same name."""
        request = self._jobs.list(projectId=self._project, location=location, name=name, filter="ALL")
        jobs = self._rest.pages(request, self._jobs.list_next, "jobs")
        mine = [job for job in jobs if job.get("name") == name and ("labels" not in job or _carries(job, labels))]
        return sorted(mine, key=lambda job: (instant(job.get("createTime", "")), job["id"]))

    def statuses(self, jobs: Sequence[JobRef]) -> dict[str, JobStatus]:
        """Return the status of each job; a few are asked for one by one, many by listing the active ones."""
        return self._asking.statuses(jobs, self._status_of, self._active_in)

    def _active_in(self, location: str) -> dict[str, JobStatus]:
        request = self._jobs.list(
            projectId=self._project, location=location, filter="ACTIVE", pageSize=_PAGE, fields=_STATES
        )
        listed = {job["id"]: _status(job) for job in self._rest.pages(request, self._jobs.list_next, "jobs")}
        self._asking.listed(location, len(listed) // _PAGE + 1)
        return listed

    def _status_of(self, job: JobRef) -> JobStatus:
        try:
            answer = self._rest.read(self._jobs.get(projectId=self._project, location=job.location, jobId=job.id))
        except NotFound as fault:
            return JobStatus(JobState.VANISHED, message=f"Dataflow no longer knows job {job.id} ({fault.message})")
        status = _status(answer)
        if status.state is JobState.FAILED:
            text = "\n".join(self.messages(job)[-3:])
            return JobStatus(status.state, status.provider_state, text, is_worth_another_attempt(text))
        return status

    def cancel(self, job: JobRef) -> None:
        """Ask for the job's cancellation; a job that has ended stays as it ended."""
        body = {"requestedState": "JOB_STATE_CANCELLED"}
        try:
            self._rest.send(self._jobs.update(projectId=self._project, location=job.location, jobId=job.id, body=body))
        except NotFound:
            logger(job_id=job.id).info("cancel-of-unknown-job")

    def messages(self, job: JobRef) -> tuple[str, ...]:
        """Return the texts of the job's warnings and errors, oldest first; none where they are refused."""
        messages = self._jobs.messages()
        request = messages.list(
            projectId=self._project, location=job.location, jobId=job.id, minimumImportance="JOB_MESSAGE_WARNING"
        )
        try:
            rows = list(self._rest.pages(request, messages.list_next, "jobMessages"))
        except StageError as refused:  # they help people; without them the job has ended all the same
            logger(job_id=job.id).warning("messages-refused", reason=str(refused))
            return ()
        return tuple(str(row.get("messageText", "")) for row in rows)[-20:]


def _carries(job: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    there = job.get("labels", {})
    return all(there.get(key) == value for key, value in labels.items())


def ref(job: Mapping[str, Any], location: str) -> JobRef:
    """Return a job of the API as ours."""
    state = str(job.get("currentState", ""))
    return JobRef(id=job["id"], name=job["name"], kind=KIND, location=job.get("location") or location, state=state)


def _status(job: Mapping[str, Any]) -> JobStatus:
    state = str(job.get("currentState", "JOB_STATE_UNKNOWN"))
    if state in _SUCCEEDED:
        return JobStatus(JobState.SUCCEEDED, state, ended_at=moment(job.get("currentStateTime", "")))
    if state in _FAILED:
        return JobStatus(JobState.FAILED, state)
    if state in _CANCELLED:
        return JobStatus(JobState.CANCELLED, state)
    return JobStatus(JobState.ACTIVE, state)  # a state that we do not know is not an end
