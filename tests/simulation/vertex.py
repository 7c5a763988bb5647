"""Simulated Vertex AI: custom jobs, models, endpoints, and the long-running operations on them."""

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.dataflow import timestamp
from tests.simulation.faults import Faults, Kind
from tests.simulation.jobs import Job, Jobs
from tests.simulation.network import LAG_S, Refused
from tests.simulation.rest import Handler, pages
from tests.simulation.scheduler import Scheduler
from tests.simulation.storage import Bucket

PAGE_SIZE = 3
_LABEL = re.compile(r'labels\.([\w-]+)="([^"]*)"')
_STATE = re.compile(r'state="JOB_STATE_(\w+)"')


@dataclass(slots=True)
class Version:
    """A version of a model; it is there once its upload is done."""

    number: int
    labels: dict[str, str]
    uri: str
    way: float
    there_from: float = float("inf")
    listed_from: float = float("inf")


@dataclass(slots=True)
class Operation:
    """A long-running operation; `ends` is called when it succeeds, and may refuse; `fails` where it comes to nothing."""

    name: str
    ends: Callable[[], None]
    fails: Callable[[], None]
    done: bool = False
    error: str = ""


@dataclass(slots=True)
class Endpoint:
    """An endpoint; `deployed` maps a deployed model's id to its body and the way its request took."""

    name: str
    ready: bool = False
    etag: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    split: dict[str, int] = field(default_factory=dict)
    deployed: dict[str, dict[str, Any]] = field(default_factory=dict)
    deploying: set[str] = field(default_factory=set)
    was: list[tuple[float, dict[str, int]]] = field(default_factory=list)


class VertexService:
    """The handlers of the calls that the workers make; everything is readable for the invariants."""

    def __init__(self, jobs: Jobs, scheduler: Scheduler, faults: Faults, rng: random.Random, bucket: Bucket) -> None:
        self.jobs = jobs
        self.models: dict[str, list[Version]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.operations: dict[str, Operation] = {}
        self.stuck: set[str] = set()  # deployed models of which an undeployment failed
        self._scheduler = scheduler
        self._faults = faults
        self._random = rng
        self._bucket = bucket

    def handlers(self) -> dict[str, Handler]:
        return {
            "customJobs.create": self.create_job,
            "customJobs.list": self.list_jobs,
            "customJobs.get": self.get_job,
            "customJobs.cancel": self.cancel_job,
            "models.get": self.get_model,
            "models.upload": self.upload,
            "models.listVersions": self.list_versions,
            "models.deleteVersion": self.delete_version,
            "models.operations.get": self.get_operation,
            "models.operations.cancel": self.cancel_operation,
            "endpoints.create": self.create_endpoint,
            "endpoints.get": self.get_endpoint,
            "endpoints.list": self.list_endpoints,
            "endpoints.patch": self.patch_endpoint,
            "endpoints.deployModel": self.deploy,
            "endpoints.undeployModel": self.undeploy,
            "endpoints.predict": self.predict,
            "endpoints.operations.get": self.get_operation,
            "endpoints.operations.cancel": self.cancel_operation,
        }

    # -- custom jobs -------------------------------------------------------------------------------------------------

    def create_job(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        output = body["jobSpec"]["baseOutputDirectory"]["outputUriPrefix"]
        job = self.jobs.add(body["displayName"], body["labels"], parent, output, self._scheduler.entered)
        return _job_view(job, job.state)

    def list_jobs(self, parent: str, filter: str, pageToken: str | None = None, **_: Any) -> dict[str, Any]:
        labels, states = dict(_LABEL.findall(filter)), set(_STATE.findall(filter))
        found = [
            _job_view(job, state)
            for job, state in reversed(self.jobs.listed())
            if all(job.labels.get(k) == v for k, v in labels.items()) and (not states or state in states)
        ]
        return pages(found, "customJobs", pageToken, PAGE_SIZE)

    def get_job(self, name: str) -> dict[str, Any]:
        job = self._known_job(name)
        return _job_view(job, job.state)

    def cancel_job(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.jobs.cancel(self._known_job(name))
        return {}

    def _known_job(self, name: str) -> Job:
        job = self.jobs.find(name)
        if job is None:
            raise Refused(404, f"CustomJob {name} does not exist", "NOT_FOUND")
        return job

    # -- models ------------------------------------------------------------------------------------------------------

    def get_model(self, name: str) -> dict[str, Any]:
        self._versions(name)
        return {"name": name}

    def upload(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        model, name = body["model"], body.get("parentModel") or f"{parent}/models/{body['modelId']}"
        if body.get("parentModel"):
            self._versions(name)
        elif name in self.models:
            raise Refused(409, f"{name} already exists", "ALREADY_EXISTS")
        now = self._scheduler.now
        versions = self.models.setdefault(name, [])
        version = Version(len(versions) + 1, model["labels"], model["artifactUri"], now - self._scheduler.entered)
        versions.append(version)

        def ends() -> None:
            version.there_from = self._scheduler.now
            version.listed_from = self._scheduler.now + self._random.choice((0.0, 0.0, LAG_S))

        def fails() -> None:
            if all(version.there_from == float("inf") for version in versions):
                self.models.pop(name, None)

        return self._begin(name, "upload", ends, (0.5, 3.0, 25.0), fails)

    def list_versions(self, name: str, filter: str, pageToken: str | None = None, **_: Any) -> dict[str, Any]:
        labels = dict(_LABEL.findall(filter))
        found = [
            {"name": f"{name}@{version.number}", "versionId": str(version.number), "labels": version.labels}
            for version in reversed(self._versions(name))
            if version.listed_from <= self._scheduler.now and all(version.labels.get(k) == v for k, v in labels.items())
        ]
        return pages(found, "models", pageToken, PAGE_SIZE)

    def delete_version(self, name: str) -> dict[str, Any]:
        model, _, number = name.partition("@")
        found = self.version(model, number)
        if any(d["model"] == name for e in self.endpoints.values() for d in e.deployed.values()):
            raise Refused(400, f"{name} is deployed", "FAILED_PRECONDITION")
        self.models[model][found.number - 1].there_from = float("inf")
        found.listed_from = float("inf")
        return self._begin(model, "delete", lambda: None, (0.5,))

    def version(self, model: str, number: str) -> Version:
        for version in self._versions(model):
            if str(version.number) == number and version.there_from <= self._scheduler.now:
                return version
        raise Refused(404, f"{model}@{number} does not exist", "NOT_FOUND")

    def _versions(self, name: str) -> list[Version]:
        versions = self.models.get(name, [])
        if not any(version.there_from <= self._scheduler.now for version in versions):
            raise Refused(404, f"{name} does not exist", "NOT_FOUND")
        return versions

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def create_endpoint(self, parent: str, endpointId: str, body: dict[str, Any]) -> dict[str, Any]:
        name = f"{parent}/endpoints/{endpointId}"
        if name in self.endpoints:
            raise Refused(409, f"{name} already exists", "ALREADY_EXISTS")
        endpoint = self.endpoints[name] = Endpoint(name, labels=dict(body["labels"]))

        def ends() -> None:
            endpoint.ready = True

        return self._begin(name, "create", ends, (0.5, 5.0, 20.0), lambda: self.endpoints.pop(name, None))

    def get_endpoint(self, name: str) -> dict[str, Any]:
        endpoint = self._endpoint(name)
        view: dict[str, Any] = {"name": name, "etag": str(endpoint.etag), "labels": dict(endpoint.labels)}
        if endpoint.deployed:
            view["deployedModels"] = [dict(body) for body in endpoint.deployed.values()]
        if endpoint.split:
            view["trafficSplit"] = dict(endpoint.split)
        return view

    def list_endpoints(self, parent: str, pageToken: str | None = None, **_: Any) -> dict[str, Any]:
        found = [self.get_endpoint(name) for name, endpoint in self.endpoints.items() if endpoint.ready]
        return pages(found, "endpoints", pageToken, PAGE_SIZE)

    def patch_endpoint(self, name: str, updateMask: str, body: dict[str, Any]) -> dict[str, Any]:
        endpoint = self._endpoint(name)
        if body.get("etag", str(endpoint.etag)) != str(endpoint.etag):
            raise Refused(409, f"the etag of {name} has changed", "ABORTED")
        split, mask = body.get("trafficSplit", {}), updateMask.split(",")
        labels = body.get("labels", {}) if "labels" in mask else endpoint.labels
        if labels != endpoint.labels or _without_zeros(split) != _without_zeros(endpoint.split):
            self._move_traffic(endpoint, split, set(endpoint.deployed))  # otherwise it may keep its etag
        endpoint.labels = dict(labels)
        return self.get_endpoint(name)

    def deploy(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        target, model = self._endpoint(endpoint), body["deployedModel"]
        model_name, _, number = model["model"].partition("@")
        self.version(model_name, number)
        if model["id"] in target.deployed or model["id"] in target.deploying:
            raise Refused(409, f"DeployedModel {model['id']} already exists", "ALREADY_EXISTS")
        target.deploying.add(model["id"])
        split = {model["id"] if k == "0" else k: v for k, v in body.get("trafficSplit", {}).items()}
        late = self._scheduler.now - self._scheduler.entered

        def ends() -> None:
            target.deploying.discard(model["id"])  # whatever comes of it
            self.version(model_name, number)
            target.deployed[model["id"]] = {**model, "way": late}
            if split:
                self._move_traffic(target, split, set(target.deployed))
            target.etag += 1

        fails = lambda: target.deploying.discard(model["id"])  # noqa: E731
        return self._begin(endpoint, f"deploy {model['id']}", ends, (5.0, 40.0, 120.0), fails)

    def undeploy(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        target, gone = self._endpoint(endpoint), body["deployedModelId"]
        if gone not in target.deployed:
            raise Refused(400, f"DeployedModel {gone} does not exist", "FAILED_PRECONDITION")
        split = body.get("trafficSplit") or target.split
        if split.get(gone) and len(target.deployed) > 1:
            raise Refused(400, f"DeployedModel {gone} has {split[gone]} % of the traffic", "FAILED_PRECONDITION")

        def ends() -> None:
            if gone in target.deployed and not (target.split.get(gone) and len(target.deployed) > 1):
                del target.deployed[gone]
                rest = {k: v for k, v in target.split.items() if k != gone}
                self._move_traffic(target, rest if sum(rest.values()) else {}, set(target.deployed))

        return self._begin(endpoint, f"undeploy {gone}", ends, (0.5, 10.0), lambda: self.stuck.add(gone))

    def predict(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        target = self._endpoint(endpoint)
        serving = [id_ for id_, percent in target.split.items() if percent]
        if not serving:
            raise Refused(400, f"{endpoint} has no traffic split", "FAILED_PRECONDITION")
        chosen = target.deployed[self._random.choice(serving)]
        model_name, _, number = chosen["model"].partition("@")
        uri = next(v.uri for v in self.models[model_name] if str(v.number) == number)
        answers = json.loads(self._bucket.contents[f"{uri}/served.json"].content)
        return {"predictions": answers, "deployedModelId": chosen["id"]}

    def _endpoint(self, name: str) -> Endpoint:
        endpoint = self.endpoints.get(name)
        if endpoint is None or not endpoint.ready:
            raise Refused(404, f"{name} does not exist", "NOT_FOUND")
        return endpoint

    def _move_traffic(self, endpoint: Endpoint, split: dict[str, int], known: set[str]) -> None:
        unknown = [id_ for id_ in split if id_ not in known]
        if unknown:
            raise Refused(400, f"DeployedModel ids {unknown} do not exist", "INVALID_ARGUMENT")
        if split and sum(split.values()) != 100:
            raise Refused(400, f"traffic percentages {split} do not sum to 100", "INVALID_ARGUMENT")
        endpoint.split = dict(split)
        endpoint.etag += 1
        endpoint.was.append((self._scheduler.now, dict(split)))

    # -- operations --------------------------------------------------------------------------------------------------

    def get_operation(self, name: str) -> dict[str, Any]:
        return _operation_view(self._operation(name))

    def cancel_operation(self, name: str) -> dict[str, Any]:  # as in the discovery document: without a body
        operation = self._operation(name)
        if not operation.done and self._random.random() < 0.7:  # best effort
            self._end(operation, "The operation was cancelled.")
        return {}

    def _operation(self, name: str) -> Operation:
        if name not in self.operations:
            raise Refused(404, f"operation {name} does not exist", "NOT_FOUND")
        return self.operations[name]

    def _begin(
        self,
        owner: str,
        what: str,
        ends: Callable[[], None],
        takes_s: tuple[float, ...],
        fails: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        now = self._scheduler.now
        operation = Operation(f"{owner}/operations/{len(self.operations) + 1}", ends, fails)
        self.operations[operation.name] = operation
        hit = self._faults.at("vertex", f"operation {what}", (Kind.JOB_FAILS,), now, min(self._faults.rate * 5, 0.2))
        error = "" if hit is None or what in ("create", "delete") else "Internal error of the operation"
        self._scheduler.at(now + self._random.choice(takes_s), lambda: self._end(operation, error))
        return _operation_view(operation)

    def _end(self, operation: Operation, error: str) -> None:
        if operation.done:
            return
        operation.done, operation.error = True, error
        if error:
            operation.fails()
            return
        try:
            operation.ends()
        except Refused as refusal:
            operation.error = refusal.message


def _without_zeros(split: dict[str, int]) -> dict[str, int]:
    return {id_: percent for id_, percent in split.items() if percent}


def _operation_view(operation: Operation) -> dict[str, Any]:
    view: dict[str, Any] = {"name": operation.name}
    if operation.done:
        view["done"] = True
        view |= {"error": {"code": 13, "message": operation.error}} if operation.error else {"response": {}}
    return view


def _job_view(job: Job, state: str) -> dict[str, Any]:
    view = {
        "name": job.id,
        "displayName": job.name,
        "labels": dict(job.labels),
        "state": f"JOB_STATE_{state}",
        "createTime": timestamp(job.created),
    }
    code = 3 if "exited" in job.message else 14  # INVALID_ARGUMENT whatever a program ends with, and UNAVAILABLE
    return view | ({"error": {"code": code, "message": job.message}} if job.message else {})


def write_model(bucket: Bucket, job: Job, bad: bool) -> None:
    """Leave what the trainer leaves, and what the model will answer when it serves."""
    model = f"{job.output}/model"
    bucket.put(f"{model}/metrics.json", b"[]" if bad else b'{"rmse_lb": 1.0}')
    put_served(bucket, model, [7.5], [7.5])


def put_served(bucket: Bucket, model: str, trained: list[float], served: list[float]) -> None:
    """Leave the trainer's own answers, and those that the serving container will give."""
    sample = {"instances": [{"x": 1}] * len(trained), "predictions": trained}
    bucket.put(f"{model}/smoke.json", json.dumps(sample).encode())
    bucket.put(f"{model}/served.json", json.dumps(served).encode())
