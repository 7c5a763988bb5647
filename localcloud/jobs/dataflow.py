"""Dataflow v1b3: jobs run as local processes, with the service's names, states, messages and refusals.

Two ways in. A flex template launch runs its image with the parameters as flags; it answers, as the real one does, with the
job's id and times, no state yet. `jobs.create`, which Beam's DataflowRunner calls, runs the image of the SDK harness with
the address of the staged pipeline (`--pipeline_url`).

A job name is unique among the active jobs of a project and region. A second launch is refused with 409; a second create
that carries a clientRequestId is answered with the job that exists, whose own clientRequestId tells the caller.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from localcloud.discovery import Discovery
from localcloud.jobs import names, templates
from localcloud.jobs.images import Images
from localcloud.jobs.job_book import JobBook
from localcloud.jobs.job_index import Demand
from localcloud.jobs.names import Clock, invalid, precondition, timestamp
from localcloud.jobs.objects import Objects
from localcloud.jobs.paging import page
from localcloud.jobs.records import Job, Run
from localcloud.jobs.surroundings import Surroundings
from localcloud.rest import ApiError, Call, Handler

_EPOCH = "1970-01-01T00:00:00Z"
_IMPORTANCE = [  # from the least to the most important
    *("JOB_MESSAGE_IMPORTANCE_UNKNOWN", "JOB_MESSAGE_DEBUG", "JOB_MESSAGE_DETAILED"),
    *("JOB_MESSAGE_BASIC", "JOB_MESSAGE_WARNING", "JOB_MESSAGE_ERROR"),
]
_PAGE = 100
_LAUNCH = "dataflow.projects.locations.flexTemplates.launch"
_CREATE = "dataflow.projects.locations.jobs.create"


class Dataflow:
    """The handlers of the Dataflow API."""

    def __init__(
        self, book: JobBook, images: Images, objects: Objects, surroundings: Surroundings, clock: Clock
    ) -> None:
        self.discovery = Discovery.load("dataflow", "v1b3")
        self._book = book
        self._images = images
        self._objects = objects
        self._surroundings = surroundings
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """What this part answers, by method id; the rest of the API answers 501."""
        jobs = "dataflow.projects.locations.jobs."
        return {
            _LAUNCH: self.launch,
            _CREATE: self.create,
            jobs + "get": self.get,
            jobs + "list": self.list_page,
            jobs + "update": self.update,
            jobs + "messages.list": self.messages,
        }

    async def launch(self, call: Call) -> dict[str, Any]:
        """flexTemplates.launch."""
        launch = call.body["launchParameter"]
        project, region, name = call.params["projectId"], call.params["location"], launch["jobName"]
        names.check_dataflow_name(name)
        if launch.get("update"):
            raise ApiError(501, "UNIMPLEMENTED", f"update of {name!r}: the local cloud runs batch jobs only.")
        spec = await templates.container_spec(launch, self._objects, self.discovery)
        environment = {**spec.get("defaultEnvironment", {}), **launch.get("environment", {})}
        launch = {**launch, "environment": environment}
        templates.check_parameters(spec, launch.get("parameters", {}))
        names.check_labels(environment.get("additionalUserLabels", {}), "launch_parameter.environment")
        # No await from here on: the check and the record of the name must not be interleaved with another launch.
        if self._active(project, region, name) is not None:
            raise _already_active(name)
        if call.body.get("validateOnly"):
            return {}
        resource = {"image": spec["image"], "parameters": launch.get("parameters", {})}
        labels = environment.get("additionalUserLabels", {})
        argv = templates.arguments(launch, project, region)
        return {"job": _launched_view(self._create(_LAUNCH, (project, region, name), resource, labels, argv))}

    async def create(self, call: Call) -> dict[str, Any]:
        """jobs.create: a pipeline that Beam's DataflowRunner has staged."""
        body, project, region = call.body, call.params["projectId"], call.params["location"]
        name, request_id = body.get("name", ""), body.get("clientRequestId", "")
        names.check_dataflow_name(name)
        names.check_labels(body.get("labels", {}), "job.labels")
        if body.get("type") == "JOB_TYPE_STREAMING" or call.params.get("replaceJobId"):
            raise ApiError(
                501, "UNIMPLEMENTED", f"job {name!r}: the local cloud runs batch jobs only, and updates none."
            )
        image, argv = templates.submitted(body, project, region)
        if request_id:
            for job in self._book.newest(f"projects/{project}/locations/{region}"):
                if job.resource.get("clientRequestId") == request_id:
                    return _view(job)
        active = self._active(project, region, name)
        if active is not None and not request_id:
            raise _already_active(name)
        if active is not None:
            return _view(active)
        resource = {"image": image, "clientRequestId": request_id}
        return _view(self._create(_CREATE, (project, region, name), resource, body.get("labels", {}), argv))

    async def get(self, call: Call) -> dict[str, Any]:
        """jobs.get."""
        return _view(self._find(call))

    async def list_page(self, call: Call) -> dict[str, Any]:
        """jobs.list: newest first, by exact name, state class and creation or termination time."""
        wanted, name = call.params.get("filter", "ALL"), call.params.get("name")
        named = None if name is None else (lambda document: bool(document["name"] == name))
        jobs = (
            job
            for job in self._book.newest(_parent(call), named, Demand(name=name, is_active=wanted == "ACTIVE"))
            if _in_class(job, wanted) and _in_ranges(job, call.params)
        )
        found, token = page(
            call, jobs, lambda job: job.create_us, now_us=self._clock(), default_size=_PAGE, largest_size=1000
        )
        return ({"jobs": [_view(job) for job in found]} if found else {}) | token

    async def update(self, call: Call) -> dict[str, Any]:
        """jobs.update: cancel; drain is refused, as for every batch job."""
        job = self._find(call)
        requested = (call.body or {}).get("requestedState")
        if requested == "JOB_STATE_DRAINED":
            raise precondition(
                f"{_hash()}: Workflow modification failed. Causes: {_hash()}: Operation drain not allowed for job "
                f"{job.job_id}. Draining is supported for streaming jobs only."
            )
        if requested != "JOB_STATE_CANCELLED":
            raise invalid(f"{_hash()}: The requested state {requested!r} of job {job.job_id} is not allowed.")
        if not job.is_active:
            raise precondition(
                f"{_hash()}: Workflow modification failed. Causes: {_hash()}: Operation cancel not allowed for job "
                f"{job.job_id}. The job has already terminated in state {job.state}."
            )
        if job.state != "JOB_STATE_CANCELLING":
            job = self._book.cancel(job)
        return _view(job) | {"requestedState": "JOB_STATE_CANCELLED"}

    async def messages(self, call: Call) -> dict[str, Any]:
        """jobs.messages.list: ascending in time, from an importance upwards."""
        job = self._find(call)
        least = _IMPORTANCE.index(call.params.get("minimumImportance", "JOB_MESSAGE_BASIC"))
        start = names.parse_timestamp(call.params.get("startTime", _EPOCH))
        end = names.parse_timestamp(call.params.get("endTime", "9999-12-31T23:59:59Z"))
        shown = [
            {
                "id": f"JavaScriptObject-{number}",
                "time": timestamp(message["us"]),
                "messageText": message["text"],
                "messageImportance": message["importance"],
            }
            for number, message in enumerate(job.messages)
            if _IMPORTANCE.index(message["importance"]) >= least and start <= message["us"] < end
        ]
        return {"jobMessages": shown} if shown else {}

    def _create(
        self,
        method_id: str,
        place: tuple[str, str, str],
        resource: dict[str, Any],
        labels: dict[str, str],
        arguments: list[str],
    ) -> Job:
        now, image_uri = self._clock(), resource["image"]
        job_id = names.dataflow_job_id(now)
        run_id = f"dataflow-{job_id}"
        image = self._images.find(image_uri)
        job = Job(
            kind="dataflow",
            project=place[0],
            location=place[1],
            job_id=job_id,
            name=place[2],
            state="",
            create_us=now,
            update_us=now,
            run_id=run_id,
            resource=resource,
            labels=labels,
        )
        run = Run(
            run_id=run_id,
            owner=job.key,
            argv=image.argv(args=arguments) if image else [],
            env=self._surroundings.environment(image.env if image else {}),
            directory=image.directory if image else "",
            log=str(self._surroundings.log_path(run_id)),
            submitted_us=now,
            refusal="" if image else self._images.refusal(image_uri),
        )
        return self._book.create(job, run, method_id)

    def _active(self, project: str, region: str, name: str) -> Job | None:
        demand = Demand(name=name, is_active=True)
        jobs = self._book.newest(f"projects/{project}/locations/{region}", lambda d: bool(d["name"] == name), demand)
        return next((job for job in jobs if job.is_active), None)

    def _find(self, call: Call) -> Job:
        job_id = call.params["jobId"]
        job = self._book.get(f"{_parent(call)}/{job_id}")
        if job is None:
            text = (
                f"{_hash()}: Information about job {job_id} could not be found in our system. Please double check the "
                "id is correct. If it is please contact customer support."
            )
            raise ApiError(404, "NOT_FOUND", text, "notFound")
        return job


def _already_active(name: str) -> ApiError:
    text = (
        f"{_hash()}: There is already an active job named {name}. If you want to submit a second job, try again by "
        "setting a different name."
    )
    return ApiError(409, "ALREADY_EXISTS", text, "alreadyExists")


def _parent(call: Call) -> str:
    return f"projects/{call.params['projectId']}/locations/{call.params['location']}"


def _launched_view(job: Job) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "projectId": job.project,
        "name": job.name,
        "currentStateTime": _EPOCH,
        "createTime": timestamp(job.create_us),
        "location": job.location,
        "startTime": timestamp(job.create_us),
    }


def _view(job: Job) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": job.job_id,
        "projectId": job.project,
        "name": job.name,
        "type": "JOB_TYPE_BATCH",
        "currentState": job.state,
        "currentStateTime": timestamp(job.update_us),
        "createTime": timestamp(job.create_us),
        "location": job.location,
        "startTime": timestamp(job.create_us),
        "jobMetadata": {},
    }
    if job.labels:
        view["labels"] = job.labels
    if job.resource.get("clientRequestId"):
        view["clientRequestId"] = job.resource["clientRequestId"]
    return view


def _in_class(job: Job, wanted: str) -> bool:
    if wanted == "ACTIVE":
        return job.is_active
    return not job.is_active if wanted == "TERMINATED" else True


def _in_ranges(job: Job, params: Mapping[str, Any]) -> bool:
    for name, moment in (("createTimeRange", job.create_us), ("terminationTimeRange", job.end_us)):
        start, end = params.get(f"{name}.startTime"), params.get(f"{name}.endTime")
        if (start or end) and not moment:
            return False
        if start and moment < names.parse_timestamp(start):
            return False
        if end and moment >= names.parse_timestamp(end):
            return False
    return True


def _hash() -> str:
    """Dataflow begins its messages with the hexadecimal id of the request."""
    return f"({secrets.token_hex(8)})"
