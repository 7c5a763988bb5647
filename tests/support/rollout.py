"""One endpoint of Vertex AI in memory, the versions of its model, and what the phases of a rollout know of run r1."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from messages import TrainDone
from workers.endpoint import deployed_model_id_of
from workers.errors import LaunchRefused, NotFound, TransientError
from workers.pipeline import PipelineSpec
from workers.record import StageRecord, State, Trigger
from workers.stage import Context

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINE, BEFORE = deployed_model_id_of("r1", 1), "1000000001"
MODEL = "projects/p/locations/us-central1/models/p@1"
SPEC = PipelineSpec.model_validate({"name": "p", "deploy": {"image": "serving", "endpoint": "served"}})


class Service:
    """One endpoint, whose etag follows from its content alone, and the model's versions."""

    def __init__(self, *deployed: str, split: dict[str, int]) -> None:
        self.deployed, self.split, self.labels = list(deployed), split, {"baton-pipeline": "p"}
        self.names: dict[str, str] = {}  # deployed model -> its display name
        self.undeployed: list[str] = []
        self.versions: list[int] = []
        self.kept: set[int] = set()  # versions whose deletion is refused
        self.uploads: list[dict[str, Any]] = []
        self.before_patch: list[Callable[[], object]] = []

    def endpoints_get(self, name: str) -> dict[str, Any]:
        content = json.dumps([self.deployed, self.split, self.labels], sort_keys=True)
        models = [{"id": id_, "model": "m@1", "displayName": self.names.get(id_, id_)} for id_ in self.deployed]
        view = {"name": name, "deployedModels": models, "trafficSplit": dict(self.split), "labels": dict(self.labels)}
        return {**view, "etag": hashlib.sha256(content.encode()).hexdigest()}

    def endpoints_patch(self, name: str, updateMask: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.before_patch:
            self.before_patch.pop()()
        if body["etag"] != self.endpoints_get(name)["etag"]:
            raise TransientError(f"the etag of {name} has changed", retry_after_s=0.0)
        assert updateMask == "trafficSplit,labels"
        self.split, self.labels = body["trafficSplit"], body["labels"]
        return self.endpoints_get(name)

    def endpoints_undeployModel(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        self.undeployed.append(body["deployedModelId"])
        return {"name": f"{endpoint}/operations/1"}

    def endpoints_list(self, **_: Any) -> list[dict[str, Any]]:
        return [self.endpoints_get("projects/p/locations/l/endpoints/served")]

    def models_get(self, name: str) -> dict[str, Any]:
        if not self.versions:
            raise NotFound(f"{name} does not exist", "upload it")
        return {"name": name}

    def models_upload(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        self.uploads.append(body)
        return {"name": f"{parent}/models/p/operations/1"}

    def models_listVersions(self, name: str, **_: Any) -> list[dict[str, Any]]:
        """Return the versions in an order that says nothing."""
        self.models_get(name)
        return [
            {"name": f"{name}@{number}", "versionId": str(number)} for number in sorted(self.versions, reverse=True)
        ]

    def models_deleteVersion(self, name: str) -> dict[str, Any]:
        number = int(name.partition("@")[2])
        if number in self.kept:
            raise LaunchRefused(f"{name} is deployed", "undeploy it")
        self.versions.remove(number)
        return {"name": f"{name}/operations/1"}


def context(
    state: State = State.LAUNCHING, age_s: float = 0.0, fence: Callable[[], None] = lambda: None, **params: Any
) -> Context:
    """Return what the phases of run r1 know, with an intent of this age; its deployment is there."""
    trigger = Trigger(id="e1", type="t", source="s", time=NOW, body={})
    yields = {"upload": {"model": MODEL}, "deploy": {"deployed_model_id": MINE, "before": {BEFORE: 100}}}
    plain = StageRecord(run_id="r1", stage="deploy", pipeline="p", state=State.CLAIMED, trigger=trigger, config={})
    record = plain.moved(state, now=NOW - timedelta(seconds=age_s), by="w", attempt=1, yields=yields)
    event = TrainDone.model_validate({"pipeline": "p", "model_uri": "gs://b/m", "params": params})
    return Context(record=record, spec=SPEC, params=event.params, event=event, fence=fence)


def late() -> None:
    """Be the fence of a worker that slept."""
    raise TransientError("late: look again before doing anything", retry_after_s=0.0)
