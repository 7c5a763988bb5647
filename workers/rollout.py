"""The phases of a rollout on Vertex AI: upload the model, have an endpoint, deploy, move the traffic, smoke-test, tidy.

Each phase looks at what Vertex AI has before it does anything, so it may be repeated at will: a version carries its run
as a label, the endpoint's id is the pipeline's choice, and the deployed model's id follows from the run and attempt.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from messages import TrainDone
from workers.errors import AlreadyExists, BadOutput, NotFound, PipelineError, TransientError
from workers.logs import logger
from workers.pipeline import DeploySection, PipelineSpec
from workers.record import JobRef
from workers.settings import Settings
from workers.sources import Sources, split_uri
from workers.stage import Context, JobState, JobStatus
from workers.vertex import Operations, Vertex

RESOURCE = "resource"  # a JobRef of this kind is something that is there already


def section(spec: PipelineSpec) -> DeploySection:
    """Return the pipeline's [deploy]."""
    if spec.deploy is None:
        raise PipelineError(f"pipeline {spec.name!r} has no [deploy]; add it to {spec.name}.toml")
    return spec.deploy


class _Phase:
    """What all phases of a rollout share."""

    name = ""

    def __init__(self, vertex: Vertex, settings: Settings) -> None:
        self._vertex = vertex
        self._settings = settings
        self._operations = Operations(vertex)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        return self._operations.statuses(jobs)

    def cancel(self, job: JobRef) -> None:
        """Operations of a rollout end by themselves within minutes; what they made stays without traffic."""

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


class UploadPhase(_Phase):
    """Registers the model as a new version of the pipeline's model."""

    name = "upload"

    def find(self, context: Context) -> JobRef | None:
        versions = self._mine(context)
        return self._there(context, _version_name(versions[0])) if versions else None

    def create(self, context: Context) -> JobRef:
        body: dict[str, Any] = {"model": self._model(context)}
        models = self._api(context).models()
        try:
            self._read(context, models.get(name=self._model_name(context)))
            body["parentModel"] = self._model_name(context)
        except NotFound:
            body["modelId"] = self._model_id(context)
        parent = self._vertex.parent(self._location(context))
        try:
            answer = self._send(context, models.upload(parent=parent, body=body))
        except AlreadyExists as fault:  # another run made the model's first version in between
            raise TransientError(str(fault), retry_after_s=0.1) from fault
        return self._operation(context, answer)

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        """Return the version; of two uploads of one run the first counts and the other is deleted."""
        versions = self._mine(context)
        if not versions:
            raise TransientError(f"the version of run {context.run_id} is not listed yet", retry_after_s=0.5)
        for twin in versions[1:]:
            logger(run_id=context.run_id).warning("twin-version-deleted", version=_version_name(twin))
            try:
                self._send(context, self._api(context).models().deleteVersion(name=_version_name(twin)))
            except NotFound:
                continue  # somebody else deleted it first
        return {"model": _version_name(versions[0])}

    def _mine(self, context: Context) -> list[dict[str, Any]]:
        models = self._api(context).models()
        filter_text = f'labels.baton-run="{context.run_id}" AND labels.baton-attempt="{context.attempt}"'
        request = models.listVersions(name=self._model_name(context), filter=filter_text, pageSize=100)
        rest = self._vertex.rest(self._location(context))
        try:
            found = list(rest.pages(request, models.listVersions_next, "models"))
        except NotFound:
            return []  # the model has no version at all yet
        return sorted(found, key=lambda version: int(version["versionId"]))

    def _model(self, context: Context) -> dict[str, Any]:
        options, event = section(context.spec), _train_done(context)
        model: dict[str, Any] = {
            "displayName": self._model_id(context),
            "labels": context.labels,
            "artifactUri": event.model_uri,
            "containerSpec": {
                "imageUri": self._settings.image(options.image),
                "predictRoute": options.predict_route,
                "healthRoute": options.health_route,
                "ports": [{"containerPort": options.port}],
            },
        }
        if context.params.version_name:
            model["versionAliases"] = [context.params.version_name]
        return model

    def _model_id(self, context: Context) -> str:
        return context.params.model_name or context.spec.name

    def _model_name(self, context: Context) -> str:
        return f"{self._vertex.parent(self._location(context))}/models/{self._model_id(context)}"


class EndpointPhase(_Phase):
    """Has the endpoint: its id is chosen, so creating it twice makes one."""

    name = "endpoint"

    def find(self, context: Context) -> JobRef | None:
        try:
            return self._there(context, self._endpoint(context)["name"])
        except NotFound:
            return None

    def create(self, context: Context) -> JobRef:
        options = section(context.spec)
        body = {"displayName": options.endpoint, "labels": {"baton-pipeline": context.spec.name}}
        parent = self._vertex.parent(self._location(context))
        request = self._api(context).endpoints().create(parent=parent, endpointId=options.endpoint, body=body)
        try:
            return self._operation(context, self._send(context, request))
        except AlreadyExists:
            return self._there(context, self._endpoint_name(context))

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {"endpoint": self._endpoint_name(context)}


class DeployPhase(_Phase):
    """Deploys the version beside what serves now, without traffic as long as something else serves."""

    name = "deploy"

    def find(self, context: Context) -> JobRef | None:
        wanted = deployed_model_id(context)
        deployed = self._endpoint(context).get("deployedModels", [])
        return self._there(context, self._endpoint_name(context)) if wanted in {m["id"] for m in deployed} else None

    def create(self, context: Context) -> JobRef:
        options = section(context.spec)
        body: dict[str, Any] = {
            "deployedModel": {
                "id": deployed_model_id(context),
                "model": context.yielded("upload", "model"),
                "displayName": context.job_name[:128],
                "dedicatedResources": {
                    "machineSpec": {"machineType": options.machine_type},
                    "minReplicaCount": options.min_replicas,
                    "maxReplicaCount": max(options.min_replicas, options.max_replicas),
                },
            }
        }
        if not self._endpoint(context).get("trafficSplit"):
            body["trafficSplit"] = {"0": 100}
        request = self._api(context).endpoints().deployModel(endpoint=self._endpoint_name(context), body=body)
        try:
            return self._operation(context, self._send(context, request))
        except AlreadyExists as fault:  # under way already, by a worker that died before it could write it down
            raise TransientError(str(fault), retry_after_s=1.0) from fault

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {"deployed_model_id": deployed_model_id(context)}


class TrafficPhase(_Phase):
    """Moves all traffic to the new version, and remembers the split that it replaced."""

    name = "traffic"

    def find(self, context: Context) -> JobRef | None:
        return None  # writing the same split again changes nothing

    def create(self, context: Context) -> JobRef:
        endpoint, mine = self._endpoint(context), deployed_model_id(context)
        before = {k: v for k, v in endpoint.get("trafficSplit", {}).items() if v}
        split = {model["id"]: 100 if model["id"] == mine else 0 for model in endpoint.get("deployedModels", [])}
        body = {"trafficSplit": split}
        name = self._endpoint_name(context)
        self._send(context, self._api(context).endpoints().patch(name=name, updateMask="trafficSplit", body=body))
        return self._there(context, name).model_copy(update={"data": {"before": before}})

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {"before": job.data.get("before", {})}


class SmokePhase(_Phase):
    """Asks the endpoint what the trainer asked the model, and compares the answers; if they differ, traffic goes back."""

    name = "smoke"

    def __init__(self, vertex: Vertex, settings: Settings, sources: Sources) -> None:
        super().__init__(vertex, settings)
        self._sources = sources

    def find(self, context: Context) -> JobRef | None:
        return None  # asking again changes nothing

    def create(self, context: Context) -> JobRef:
        sample = self._sample(context)
        name = self._endpoint_name(context)
        request = self._api(context).endpoints().predict(endpoint=name, body={"instances": sample["instances"]})
        try:
            answer = self._read(context, request)
            _compare(answer, sample, section(context.spec).tolerance, name)
        except BadOutput:
            self._move_back(context)
            raise
        return self._there(context, name).model_copy(update={"data": {"predictions": answer["predictions"][:3]}})

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return dict(job.data)

    def _sample(self, context: Context) -> dict[str, Any]:
        """Read the rows, with the model's own answers, that the trainer left beside the model."""
        uri = f"{_train_done(context).model_uri.rstrip('/')}/smoke.json"
        content = self._sources.read(*split_uri(uri))
        mend = "let the trainer write {instances: […], predictions: […]} there"
        if content is None:
            raise BadOutput(f"{uri} is not there, so the rollout cannot be checked", mend)
        try:
            sample: dict[str, Any] = json.loads(content)
            if not sample["instances"] or len(sample["instances"]) != len(sample["predictions"]):
                raise BadOutput(f"{uri} holds no pairs of instance and prediction", mend)
        except (ValueError, KeyError, TypeError) as fault:
            raise BadOutput(f"{uri} cannot be read ({fault!r})", mend) from fault
        return sample

    def _move_back(self, context: Context) -> None:
        before = context.yielded("traffic", "before")
        mine = deployed_model_id(context)
        if not before or set(before) == {mine}:
            return  # nothing served before: better this than nothing, and the run says that it failed
        endpoint = self._endpoint(context)
        there = {model["id"] for model in endpoint.get("deployedModels", [])}
        split = {id_: int(before.get(id_, 0)) for id_ in there}
        if sum(split.values()) != 100:
            return  # what served before has been undeployed since; its split cannot come back
        body = {"trafficSplit": split}
        name = self._endpoint_name(context)
        self._send(context, self._api(context).endpoints().patch(name=name, updateMask="trafficSplit", body=body))
        logger(run_id=context.run_id).warning("traffic-moved-back", split=split)


class TidyPhase(_Phase):
    """Undeploys what neither serves nor is the way back: the new version and the one before it stay."""

    name = "tidy"

    def find(self, context: Context) -> JobRef | None:
        surplus = next(self._surplus(context), None)
        return self._there(context, self._endpoint_name(context)) if surplus is None else None

    def create(self, context: Context) -> JobRef:
        surplus = next(self._surplus(context), None)
        name = self._endpoint_name(context)
        if surplus is None:
            return self._there(context, name)
        request = self._api(context).endpoints().undeployModel(endpoint=name, body={"deployedModelId": surplus})
        try:
            return self._operation(context, self._send(context, request))
        except NotFound:
            return self._there(context, name)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        # A surplus model that could not be undeployed costs money but harms no run: the next rollout tries again.
        found = super().statuses(jobs)
        failed = (JobState.FAILED, JobState.VANISHED)
        return {id_: JobStatus(JobState.SUCCEEDED) if s.state in failed else s for id_, s in found.items()}

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {"undeployed": job.kind == Operations.KIND}

    def _surplus(self, context: Context) -> Iterator[str]:
        endpoint = self._endpoint(context)
        split = endpoint.get("trafficSplit", {})
        keep = {deployed_model_id(context), *context.yielded("traffic", "before")}
        for model in endpoint.get("deployedModels", []):
            if model["id"] not in keep and not split.get(model["id"]):
                yield model["id"]


def deployed_model_id(context: Context) -> str:
    """Return ten digits that follow from run and attempt: deploying twice is then refused instead of doubled."""
    return deployed_model_id_of(context.run_id, context.attempt)


def deployed_model_id_of(run_id: str, attempt: int) -> str:
    """Return the same id for whoever knows only run and attempt, such as a reader of the model server's logs."""
    digest = hashlib.sha256(f"{run_id}/{attempt}".encode()).digest()
    return str(10**9 + int.from_bytes(digest[:8]) % (9 * 10**9))


def _train_done(context: Context) -> TrainDone:
    assert isinstance(context.event, TrainDone)  # the intake let nothing else in
    return context.event


def _version_name(version: Mapping[str, Any]) -> str:
    return f"{version['name'].split('@')[0]}@{version['versionId']}"


def _compare(answer: Mapping[str, Any], sample: Mapping[str, Any], tolerance: float, place: str) -> None:
    predictions, wanted = answer.get("predictions", []), sample["predictions"]
    if len(predictions) != len(wanted):
        raise BadOutput(
            f"{place} answered {len(predictions)} predictions to {len(wanted)} instances", "mend the serving container"
        )
    for index, (got, want) in enumerate(zip(predictions, wanted, strict=True)):
        if not _is_close(got, want, tolerance):
            raise BadOutput(
                f"{place} answers {got!r} to instance {index}, the trainer's own model {want!r} (tolerance {tolerance:g})",
                "make serving prepare its input as training did",
            )


def _is_close(got: Any, want: Any, tolerance: float) -> bool:
    if isinstance(want, list):
        same = isinstance(got, list) and len(got) == len(want)
        return same and all(_is_close(g, w, tolerance) for g, w in zip(got, want, strict=True))
    if isinstance(want, int | float) and not isinstance(want, bool):
        number = isinstance(got, int | float) and not isinstance(got, bool) and math.isfinite(got)
        return number and math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance)
    return bool(got == want)
