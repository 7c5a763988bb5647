"""Simulated Dataflow: flex templates launched, jobs found by name, cancelled; a name is unique among active jobs only."""

import json
from typing import Any

from tests.simulation.jobs import ENDED, Job, Jobs
from tests.simulation.network import Refused
from tests.simulation.rest import Handler, pages
from tests.simulation.scheduler import Scheduler
from tests.simulation.storage import Bucket

PAGE_SIZE = 3


class DataflowService:
    """The handlers of the calls that the workers make."""

    def __init__(self, jobs: Jobs, scheduler: Scheduler) -> None:
        self._jobs = jobs
        self._scheduler = scheduler

    def handlers(self) -> dict[str, Handler]:
        return {
            "flexTemplates.launch": self.launch,
            "jobs.list": self.list_page,
            "jobs.get": self.get,
            "jobs.update": self.update,
            "jobs.messages.list": self.messages,
        }

    def launch(self, projectId: str, location: str, body: dict[str, Any]) -> dict[str, Any]:
        asked = body["launchParameter"]
        name = asked["jobName"]
        if any(job.name == name and job.is_active for job in self._jobs.all.values()):
            raise Refused(409, f"There is already an active job named {name}.", "ALREADY_EXISTS")
        labels = asked["environment"]["additionalUserLabels"]
        job = self._jobs.add(name, labels, location, asked["parameters"]["output"], self._scheduler.entered)
        return {"job": self._view(job, job.state)}

    def list_page(
        self, projectId: str, location: str, name: str = "", filter: str = "ALL", pageToken: str | None = None, **_: Any
    ) -> dict[str, Any]:
        found = [
            self._view(job, state)
            for job, state in self._jobs.listed()
            if (not name or job.name == name) and (filter != "ACTIVE" or state not in ENDED)
        ]
        return pages(found, "jobs", pageToken, PAGE_SIZE)

    def get(self, projectId: str, location: str, jobId: str) -> dict[str, Any]:
        job = self._known(jobId)
        return self._view(job, job.state)

    def update(self, projectId: str, location: str, jobId: str, body: dict[str, Any]) -> dict[str, Any]:
        job = self._known(jobId)
        self._jobs.cancel(job)
        return self._view(job, job.state)

    def messages(self, projectId: str, location: str, jobId: str, **_: Any) -> dict[str, Any]:
        job = self._known(jobId)
        return {"jobMessages": [{"messageText": job.message}]} if job.message else {}

    def _known(self, job_id: str) -> Job:
        job = self._jobs.find(job_id)
        if job is None:
            raise Refused(404, f"job {job_id} was not found", "NOT_FOUND")
        return job

    def _view(self, job: Job, state: str) -> dict[str, Any]:
        return {
            "id": job.id,
            "name": job.name,
            "location": job.location,
            "currentState": f"JOB_STATE_{state}",
            "createTime": timestamp(job.created),
            "labels": dict(job.labels),
        }


def write_dataset(bucket: Bucket, job: Job, bad: bool) -> None:
    """Leave what the Beam job leaves."""
    manifest = {"train": {"rows": 9}, "eval": {"rows": 3}, "rejects": {"total": 0}, "digest": f"by {job.id}"}
    bucket.put(f"{job.output}/manifest.json", b"{" if bad else json.dumps(manifest).encode())


def timestamp(seconds: float) -> str:
    """Return a virtual time as Google's services write times: of one length, so that they sort."""
    return f"2026-01-01T{seconds:016.6f}Z"
