"""The phases of a rollout on Vertex AI: upload the model, have an endpoint, deploy, move the traffic, tidy.

Each phase looks at what Vertex AI has before it does anything, so it may be repeated at will: a version carries its run
as a label, the endpoint's id is the pipeline's choice, and the deployed model's id follows from the run and attempt.
Between upload and deploy stands the turn (`workers.turn`), between traffic and tidy the smoke test (`workers.smoke`);
what a failed attempt made is taken back by `workers.rollback`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workers.endpoint import EndpointWork, deployed, deployed_model_id_of, section, traffic, train_done
from workers.errors import AlreadyExists, LaunchRefused, NotFound, TransientError
from workers.labels import job_labels
from workers.logs import logger
from workers.record import RESOURCE, JobRef
from workers.stage import Context, JobState, JobStatus
from workers.vertex import Operations

__all__ = [
    "RESOURCE",
    "DeployPhase",
    "EndpointPhase",
    "TidyPhase",
    "TrafficPhase",
    "UploadPhase",
    "deployed_model_id_of",
    "section",
]

_UNDER_WAY_S = 1.0  # somebody else makes the same thing: how soon to look whether it is there


class _Versions(EndpointWork):
    """The base of the phases that look at the model's versions."""

    def _versions(self, context: Context) -> list[dict[str, Any]]:
        """Return this attempt's versions, the first made first."""
        models = self._api(context).models()
        labels = {"baton-run": context.run_id, "baton-attempt": str(context.attempt)}
        filter_text = " AND ".join(f'labels.{key}="{value}"' for key, value in labels.items())
        request = models.listVersions(name=self._model_name(context), filter=filter_text, pageSize=100)
        rest = self._vertex.rest(self._location(context))
        try:
            found = list(rest.pages(request, models.listVersions_next, "models"))
        except NotFound:
            return []  # the model has no version at all yet
        return sorted(found, key=lambda version: int(version["versionId"]))

    def _model_id(self, context: Context) -> str:
        return context.params.model_name or context.spec.name

    def _model_name(self, context: Context) -> str:
        return f"{self._vertex.parent(self._location(context))}/models/{self._model_id(context)}"


class UploadPhase(_Versions):
    """Registers the model as a new version of the pipeline's model.

    An upload under way is not listed, so after a take-over there may be two versions. Which one counts is decided by the
    compare-and-set that records it; `TidyPhase` deletes the other.
    """

    name = "upload"

    def find(self, context: Context) -> JobRef | None:
        versions = self._versions(context)
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
        context.fence()
        try:
            answer = self._send(context, models.upload(parent=parent, body=body))
        except AlreadyExists as fault:  # the model's first version is being made by somebody else
            raise TransientError(str(fault), retry_after_s=_UNDER_WAY_S) from fault
        return self._operation(context, answer)

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        versions = self._versions(context)
        if not versions:
            raise TransientError(f"the version of run {context.run_id} is not listed yet", retry_after_s=_UNDER_WAY_S)
        return {"model": _version_name(versions[0])}

    def _model(self, context: Context) -> dict[str, Any]:
        options, event = section(context.spec), train_done(context)
        model: dict[str, Any] = {
            "displayName": self._model_id(context),
            "labels": job_labels(context, self._settings),
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


class EndpointPhase(EndpointWork):
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
        except AlreadyExists as fault:  # being made by somebody else: it is there when `find` sees it
            raise TransientError(str(fault), retry_after_s=_UNDER_WAY_S) from fault

    def cancel(self, job: JobRef) -> None:
        """The endpoint is not this run's alone: others may wait for it."""

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {"endpoint": self._endpoint_name(context)}


class DeployPhase(EndpointWork):
    """Deploys the version beside what serves now, without any traffic: a late worker's deployment then harms nobody."""

    name = "deploy"

    def find(self, context: Context) -> JobRef | None:
        is_there = self._mine(context) in deployed(self._endpoint(context))
        return self._there(context, self._endpoint_name(context)) if is_there else None

    def create(self, context: Context) -> JobRef:
        options = section(context.spec)
        body: dict[str, Any] = {
            "deployedModel": {
                "id": self._mine(context),
                "model": context.yielded("upload", "model"),
                "displayName": context.job_name[:128],
                "dedicatedResources": {
                    "machineSpec": {"machineType": options.machine_type},
                    "minReplicaCount": options.min_replicas,
                    "maxReplicaCount": max(options.min_replicas, options.max_replicas),
                },
            }
        }
        request = self._api(context).endpoints().deployModel(endpoint=self._endpoint_name(context), body=body)
        try:
            return self._operation(context, self._send(context, request))
        except AlreadyExists as fault:  # under way already, by a worker that died before it could write it down
            raise TransientError(str(fault), retry_after_s=_UNDER_WAY_S) from fault

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        """Return the deployed model, and the split that serves before it: in the ledger before anything moves."""
        endpoint, mine = self._endpoint(context), self._mine(context)
        if mine not in deployed(endpoint):
            raise LaunchRefused(
                f"{job.id} is done, but {endpoint['name']} has no deployed model {mine}", "deploy again"
            )
        before = {id_: percent for id_, percent in traffic(endpoint).items() if id_ != mine}
        return {"deployed_model_id": mine, "before": before}


class TrafficPhase(EndpointWork):
    """Moves all traffic to the new version."""

    name = "traffic"

    def find(self, context: Context) -> JobRef | None:
        is_moved = traffic(self._endpoint(context)) == {self._mine(context): 100}
        return self._there(context, self._endpoint_name(context)) if is_moved else None

    def create(self, context: Context) -> JobRef:
        endpoint, mine = self._endpoint(context), self._mine(context)
        if mine not in deployed(endpoint):
            raise LaunchRefused(f"{endpoint['name']} has no deployed model {mine} any more", "deploy again")
        self._move_traffic(context, endpoint, {id_: 100 if id_ == mine else 0 for id_ in deployed(endpoint)})
        return self._there(context, self._endpoint_name(context))

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {"before": context.yielded("deploy", "before")}


class TidyPhase(_Versions):
    """Takes away what neither serves nor is the way back: the new version and the one before it stay."""

    name = "tidy"
    is_optional = True  # the model passed and serves; what was the way back before may be gone from here on

    def find(self, context: Context) -> JobRef | None:
        if self._twins(context) or next(self._surplus(context), None) is not None:
            return None
        return self._there(context, self._endpoint_name(context))

    def create(self, context: Context) -> JobRef:
        job = self._there(context, self._endpoint_name(context))
        for twin in self._twins(context):
            logger(run_id=context.run_id).warning("twin-version-deleted", version=twin)
            self._quietly(context, self._api(context).models().deleteVersion(name=twin))
        for surplus in list(self._surplus(context)):
            context.fence()  # after a sleep it may be the next run's turn, and what is surplus here its new deployment
            try:
                job = self._undeploy(context, surplus)
            except LaunchRefused as fault:
                logger(run_id=context.run_id).warning("undeploy-refused", reason=str(fault))
        return job

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        # A surplus model that could not be undeployed costs money but harms no run: the next rollout tries again.
        found = super().statuses(jobs)
        ended = (JobState.FAILED, JobState.CANCELLED, JobState.VANISHED)
        return {id_: JobStatus(JobState.SUCCEEDED) if s.state in ended else s for id_, s in found.items()}

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {"undeployed": job.kind == Operations.KIND}

    def _surplus(self, context: Context) -> Iterator[str]:
        endpoint = self._endpoint(context)
        keep = {self._mine(context), *context.yielded("deploy", "before"), *traffic(endpoint)}
        return (id_ for id_ in deployed(endpoint) if id_ not in keep)

    def _twins(self, context: Context) -> list[str]:
        names = [_version_name(version) for version in self._versions(context)]
        return [name for name in names if name != context.yielded("upload", "model")]

    def _quietly(self, context: Context, request: Any) -> None:
        try:
            self._send(context, request)
        except LaunchRefused as fault:  # gone already, or still needed by a deployment that is going
            logger(run_id=context.run_id).info("version-kept", reason=str(fault))


def _version_name(version: Mapping[str, Any]) -> str:
    return f"{version['name'].split('@')[0]}@{version['versionId']}"
