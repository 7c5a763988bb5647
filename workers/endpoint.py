"""What the phases of a rollout share: the endpoint, its traffic, and names that follow from run and attempt."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from messages import TrainDone
from workers.errors import LaunchRefused, NotFound, PipelineError
from workers.logs import logger
from workers.pipeline import DeploySection, PipelineSpec
from workers.record import RESOURCE, JobRef
from workers.settings import Settings
from workers.stage import Context, JobStatus
from workers.vertex import Operations, Vertex

MOVED = "baton-moved"  # the endpoint's label with the time of the intent that last moved its traffic


def section(spec: PipelineSpec) -> DeploySection:
    """Return the pipeline's [deploy]."""
    if spec.deploy is None:
        raise PipelineError(f"pipeline {spec.name!r} has no [deploy]; add it to {spec.name}.toml")
    return spec.deploy


def train_done(context: Context) -> TrainDone:
    """Return the event that the rollout began with."""
    assert isinstance(context.event, TrainDone)  # the intake let nothing else in
    return context.event


def deployed_model_id_of(run_id: str, attempt: int) -> str:
    """Return ten digits that follow from run and attempt: deploying twice is then refused instead of doubled."""
    digest = hashlib.sha256(f"{run_id}/{attempt}".encode()).digest()
    return str(10**9 + int.from_bytes(digest[:8]) % (9 * 10**9))


class EndpointWork:
    """The base of a rollout's phases."""

    name = ""

    def __init__(self, vertex: Vertex, settings: Settings) -> None:
        self._vertex = vertex
        self._settings = settings
        self._operations = Operations(vertex)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        return self._operations.statuses(jobs)

    def cancel(self, job: JobRef) -> None:
        """Ask for the operation's end; what it made by then is taken back by the phases that clean up."""
        self._operations.cancel(job)

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return ()

    def _location(self, context: Context) -> str:
        return context.params.region or self._settings.region

    def _api(self, context: Context) -> Any:
        return self._vertex.locations(self._location(context))

    def _read(self, context: Context, request: Any) -> dict[str, Any]:
        return self._vertex.rest(self._location(context)).read(request)

    def _send(self, context: Context, request: Any) -> dict[str, Any]:
        return self._vertex.rest(self._location(context)).send(request)

    def _there(self, context: Context, resource: str) -> JobRef:
        return JobRef(id=resource, name=context.job_name, kind=RESOURCE, location=self._location(context), state="DONE")

    def _operation(self, context: Context, answer: Mapping[str, Any]) -> JobRef:
        return self._operations.ref(answer, context.job_name, self._location(context))

    def _endpoint_name(self, context: Context) -> str:
        return f"{self._vertex.parent(self._location(context))}/endpoints/{section(context.spec).endpoint}"

    def _endpoint(self, context: Context) -> dict[str, Any]:
        return self._read(context, self._api(context).endpoints().get(name=self._endpoint_name(context)))

    def _mine(self, context: Context) -> str:
        return deployed_model_id_of(context.run_id, context.attempt)

    def _move_traffic(self, context: Context, endpoint: Mapping[str, Any], split: Mapping[str, int]) -> None:
        """Replace the split of the endpoint as it was read; refused where anybody changed it since.

        The fence stands between the read and the write: a worker that slept before it notices by its clock, one that
        sleeps after it carries an etag that the next owner's write makes stale. The label makes it one even where the
        split stays as it is: an etag may follow from the content.
        """
        context.fence()
        labels = {**endpoint.get("labels", {}), MOVED: f"{context.record.since:%Y%m%dt%H%M%Sz%f}"}
        body: dict[str, Any] = {"trafficSplit": dict(split), "labels": labels}
        if "etag" in endpoint:
            body["etag"] = endpoint["etag"]
        name = self._endpoint_name(context)
        request = self._api(context).endpoints().patch(name=name, updateMask="trafficSplit,labels", body=body)
        self._send(context, request)
        logger(run_id=context.run_id, stage=context.record.stage).info("traffic-moved", split=dict(split))

    def _undeploy(self, context: Context, deployed_model_id: str) -> JobRef:
        """Undeploy a model without traffic; one that is gone already is as good."""
        name = self._endpoint_name(context)
        request = self._api(context).endpoints().undeployModel(
            endpoint=name, body={"deployedModelId": deployed_model_id}
        )  # fmt: skip
        try:
            return self._operation(context, self._send(context, request))
        except NotFound:
            return self._there(context, name)
        except LaunchRefused:
            if deployed_model_id in deployed(self._endpoint(context)):
                raise
            return self._there(context, name)


def deployed(endpoint: Mapping[str, Any]) -> list[str]:
    """Return the ids of the models deployed at the endpoint."""
    return [model["id"] for model in endpoint.get("deployedModels", [])]


def traffic(endpoint: Mapping[str, Any]) -> dict[str, int]:
    """Return the endpoint's split, without the models that get nothing."""
    return {id_: int(percent) for id_, percent in endpoint.get("trafficSplit", {}).items() if percent}
