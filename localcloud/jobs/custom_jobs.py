"""Vertex AI custom jobs: the first replica of the first worker pool runs as a local process with Vertex's environment.

As in the cloud there is no idempotency: creating twice makes two jobs; callers look up by label first.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from localcloud.jobs import filters, names
from localcloud.jobs.images import Images
from localcloud.jobs.job_book import JobBook
from localcloud.jobs.job_index import Demand
from localcloud.jobs.names import Clock, invalid, not_found, precondition, timestamp
from localcloud.jobs.operations import Operations
from localcloud.jobs.paging import page
from localcloud.jobs.records import ACTIVE_STATES, Job, Run
from localcloud.jobs.surroundings import Surroundings
from localcloud.rest import Call, Handler

_PREFIX = "aiplatform.projects.locations.customJobs."
_MAX_ENV = 100
_DEFAULT_TIMEOUT_S = 7 * 86_400.0
_FIELDS: dict[str, filters.Field] = {
    "display_name": lambda job: str(job["name"]),
    "state": lambda job: str(job["state"]),
    "create_time": lambda job: timestamp(job["create_us"]),
}
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


class CustomJobs:
    """The handlers of customJobs."""

    def __init__(
        self, book: JobBook, images: Images, operations: Operations, surroundings: Surroundings, clock: Clock
    ) -> None:
        self._book = book
        self._images = images
        self._operations = operations
        self._surroundings = surroundings
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """What this part answers, by method id."""
        return {
            _PREFIX + "create": self.create,
            _PREFIX + "get": self.get,
            _PREFIX + "list": self.list_page,
            _PREFIX + "cancel": self.cancel,
            _PREFIX + "delete": self.delete,
        }

    async def create(self, call: Call) -> dict[str, Any]:
        """customJobs.create."""
        body = call.body
        parent = names.location_of(call.params["parent"])
        names.check_display_name(body["displayName"], "custom_job.display_name")
        names.check_labels(body.get("labels", {}), "custom_job.labels")
        _check_pools(body["jobSpec"]["workerPoolSpecs"])
        if self._book.takes_duplicate(call.method_id):
            self._create(parent, body, call.method_id)
        return _view(self._create(parent, body, call.method_id))

    async def get(self, call: Call) -> dict[str, Any]:
        """customJobs.get."""
        return _view(self._find(call))

    async def list_page(self, call: Call) -> dict[str, Any]:
        """customJobs.list: newest first, by filter."""
        wanted = filters.ResourceFilter(call.params.get("filter", ""), _FIELDS)
        states = wanted.one_of("state")
        demand = Demand(labels=wanted.labels(), is_active=states is not None and states <= ACTIVE_STATES)
        jobs = self._book.newest(names.location_of(call.params["parent"]), wanted, demand)
        found, token = page(
            call, jobs, lambda job: job.create_us, now_us=self._clock(), default_size=100, largest_size=1000
        )
        return ({"customJobs": [_view(job) for job in found]} if found else {}) | token

    async def cancel(self, call: Call) -> dict[str, Any]:
        """customJobs.cancel: best effort; a finished job refuses."""
        job = self._find(call)
        if not job.is_active:
            raise precondition(f"The CustomJob {_name(job)!r} is in state {job.state} and can not be cancelled.")
        if job.state != "JOB_STATE_CANCELLING":
            self._book.cancel(job)
        return {}

    async def delete(self, call: Call) -> dict[str, Any]:
        """customJobs.delete: only a finished job."""
        job = self._find(call)
        if job.is_active:
            raise precondition(f"The CustomJob {_name(job)!r} is in state {job.state}; cancel it before deleting it.")
        self._book.delete(job)
        return self._operations.finished(_name(job), "DeleteOperationMetadata", {}, "google.protobuf.Empty")

    def _create(self, parent: str, body: Mapping[str, Any], method_id: str) -> Job:
        now = self._clock()
        job_id = names.new_number()
        run_id = f"custom-{job_id}"
        job = Job(
            kind="custom",
            project=parent.split("/")[1],
            location=parent.split("/")[3],
            job_id=job_id,
            name=body["displayName"],
            state="",
            create_us=now,
            update_us=now,
            run_id=run_id,
            resource={"jobSpec": body["jobSpec"]},
            labels=body.get("labels", {}),
        )
        return self._book.create(job, self._run(job, body["jobSpec"], now), method_id)

    def _run(self, job: Job, spec: Mapping[str, Any], now: int) -> Run:
        pools = spec["workerPoolSpecs"]
        container = pools[0].get("containerSpec", {})
        image = self._images.find(container.get("imageUri", ""))
        env = _vertex_environment(job, spec)
        for name, value in names.check_env(container.get("env", []), "container_spec.env", _MAX_ENV).items():
            env[name] = expand(value, env)
        scheduling = spec.get("scheduling", {})
        timeout = scheduling.get("timeout")
        return Run(
            run_id=job.run_id,
            owner=job.key,
            argv=_argv(image.argv(container.get("command", ()), container.get("args", ())), env) if image else [],
            env=self._surroundings.environment(image.env if image else {}, env),
            directory=image.directory if image else "",
            log=str(self._surroundings.log_path(job.run_id)),
            submitted_us=now,
            timeout_s=names.duration_s(timeout) if timeout else _DEFAULT_TIMEOUT_S,
            max_losses=0 if scheduling.get("disableRetries") else 3,
            refusal=self._refusal(pools, image is None),
        )

    def _refusal(self, pools: list[dict[str, Any]], image_is_unknown: bool) -> str:
        """Why the cloud could run this job and a laptop cannot: the job fails and says so; "" when it can."""
        if "pythonPackageSpec" in pools[0]:
            return "The local cloud runs no python_package_spec; build an image and use container_spec."
        replicas = sum(int(pool.get("replicaCount", 1)) for pool in pools)
        if replicas != 1:
            return (
                f"The local cloud runs one replica, not {replicas}; give worker_pool_specs one pool of replica_count 1."
            )
        return self._images.refusal(pools[0]["containerSpec"]["imageUri"]) if image_is_unknown else ""

    def _find(self, call: Call) -> Job:
        resource = call.params["name"]
        job = self._book.get(resource.replace("/customJobs/", "/"))
        if job is None:
            raise not_found(resource)
        return job


def expand(text: str, env: Mapping[str, str]) -> str:
    """Expand `$(NAME)` from the variables set so far; `$$` stands for `$`; an unknown name stays as written."""

    def replacement(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return env.get(found[1], found[0])

    return _REFERENCE.sub(replacement, text)


def _argv(argv: list[str], env: Mapping[str, str]) -> list[str]:
    return [argv[0], *(expand(part, env) for part in argv[1:])]


def _check_pools(pools: list[dict[str, Any]]) -> None:
    for number, pool in enumerate(pools):
        place = f"job_spec.worker_pool_specs[{number}]"
        if ("containerSpec" in pool) == ("pythonPackageSpec" in pool):
            raise invalid(f"{place}: exactly one of container_spec and python_package_spec must be set.")
        if not pool.get("machineSpec", {}).get("machineType"):
            raise invalid(
                f"List of found errors:\t1.Field: {place}.machine_spec.machine_type; "
                "Message: Required field is not set.\t"
            )
        if int(pool.get("replicaCount", 1)) < 1:
            raise invalid(f"{place}: replica_count {pool['replicaCount']} must be at least 1.")
        if number == 0 and int(pool.get("replicaCount", 1)) > 1:
            raise invalid(f"{place}: the first worker pool must have a replica_count of 1.")
        task = pool.get("containerSpec") or pool["pythonPackageSpec"]
        names.check_env(task.get("env", []), f"{place}.env", _MAX_ENV)
        texts = [*task.get("command", []), *task.get("args", []), *(item["value"] for item in task.get("env", []))]
        names.check_text(texts, place)


def _vertex_environment(job: Job, spec: Mapping[str, Any]) -> dict[str, str]:
    env = {
        "CLOUD_ML_JOB_ID": job.job_id,
        "CLOUD_ML_PROJECT_ID": job.project,
        "CLOUD_ML_REGION": job.location,
        "CLUSTER_SPEC": json.dumps(
            {
                "cluster": {"workerpool0": ["127.0.0.1:2222"]},
                "environment": "cloud",
                "task": {"type": "workerpool0", "index": 0},
            }
        ),
    }
    base = spec.get("baseOutputDirectory", {}).get("outputUriPrefix", "")
    if base:
        base = base.rstrip("/")
        env["AIP_MODEL_DIR"] = f"{base}/model/"
        env["AIP_CHECKPOINT_DIR"] = f"{base}/checkpoints/"
        env["AIP_TENSORBOARD_LOG_DIR"] = f"{base}/logs/"
    return env


def _name(job: Job) -> str:
    return f"{job.parent}/customJobs/{job.job_id}"


def _view(job: Job) -> dict[str, Any]:
    view: dict[str, Any] = {
        "name": _name(job),
        "displayName": job.name,
        **job.resource,
        "state": job.state,
        "createTime": timestamp(job.create_us),
        "updateTime": timestamp(job.update_us),
    }
    if job.start_us:
        view["startTime"] = timestamp(job.start_us)
    if job.end_us:
        view["endTime"] = timestamp(job.end_us)
    if job.error:
        view["error"] = job.error
    if job.labels:
        view["labels"] = job.labels
    return view
