"""What a rollout's worker does late, after a sleep, changes nothing that is another's by then."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from messages import TrainDone
from tests.simulation.worker import settings
from tests.support.vertex_project import Project
from workers.endpoint import deployed_model_id_of
from workers.errors import LaunchRefused, NotFound, TransientError
from workers.pipeline import PipelineSpec
from workers.record import StageRecord, State, Trigger
from workers.rollback import RestorePhase, UndeployPhase
from workers.rollout import TidyPhase, TrafficPhase
from workers.stage import Context

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINE, BEFORE = deployed_model_id_of("r1", 1), "1000000001"
SPEC = PipelineSpec.model_validate({"name": "p", "deploy": {"image": "serving", "endpoint": "served"}})


class Service:
    """One endpoint, whose etag follows from its content alone, and the model's versions."""

    def __init__(self, *deployed: str, split: dict[str, int]) -> None:
        self.deployed, self.split, self.labels = list(deployed), split, {"baton-pipeline": "p"}
        self.undeployed: list[str] = []
        self.before_patch: list[Callable[[], object]] = []

    def endpoints_get(self, name: str) -> dict[str, Any]:
        content = json.dumps([self.deployed, self.split, self.labels], sort_keys=True)
        models = [{"id": id_, "model": "m@1", "displayName": id_} for id_ in self.deployed]
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

    def models_listVersions(self, **_: Any) -> list[dict[str, Any]]:
        return []


def context(state: State = State.LAUNCHING, age_s: float = 0.0, fence: Callable[[], None] = lambda: None) -> Context:
    """Return what the phases of run r1 know, with an intent of this age; its deployment is there."""
    trigger = Trigger(id="e1", type="t", source="s", time=NOW, body={})
    yields = {"upload": {"model": "m@1"}, "deploy": {"deployed_model_id": MINE, "before": {BEFORE: 100}}}
    plain = StageRecord(run_id="r1", stage="deploy", pipeline="p", state=State.CLAIMED, trigger=trigger, config={})
    record = plain.moved(state, now=NOW - timedelta(seconds=age_s), by="w", attempt=1, yields=yields)
    event = TrainDone.model_validate({"pipeline": "p", "model_uri": "gs://b/m"})
    return Context(record=record, spec=SPEC, params=event.params, event=event, fence=fence)


def late() -> None:
    raise TransientError("late: look again before doing anything", retry_after_s=0.0)


@pytest.mark.parametrize("split", [{BEFORE: 100}, {}], ids=["beside another", "alone"])
def test_traffic_that_is_moved_late_is_refused_once_the_rollout_was_taken_back(split: dict[str, int]) -> None:
    """The worker that takes it back sees no traffic to move: the stalled request of the other must still go stale."""
    service = Service(BEFORE, MINE, split=dict(split))
    vertex, now = Project(service), settings()
    service.before_patch.append(lambda: RestorePhase(vertex, now).create(context()))
    with pytest.raises(TransientError, match="etag"):
        TrafficPhase(vertex, now).create(context(age_s=20.0))
    assert service.split == split


def test_traffic_goes_back_to_what_served_before() -> None:
    """The way back is in the ledger; the endpoint keeps its own labels."""
    service = Service(BEFORE, MINE, split={MINE: 100})
    RestorePhase(Project(service), settings()).create(context())
    assert service.split == {BEFORE: 100}
    assert service.labels == {"baton-pipeline": "p", "baton-moved": "20260101t000000z000000"}


def test_nothing_serves_where_nothing_served_before() -> None:
    """No answer is better than one from a model that did not pass."""
    service = Service(MINE, split={MINE: 100})
    RestorePhase(Project(service), settings()).create(context())
    assert service.split == {}


@pytest.mark.parametrize("phase", [RestorePhase, UndeployPhase])
def test_without_a_deployment_there_is_nothing_to_take_back(phase: type[RestorePhase] | type[UndeployPhase]) -> None:
    """Nor without an endpoint; with one there is, whether it serves or not."""
    service = Service(BEFORE, split={BEFORE: 100})
    work = phase(Project(service), settings())
    assert work.find(context()) is not None
    service.deployed.append(MINE)
    assert work.find(context()) is None

    def gone(name: str) -> dict[str, Any]:
        raise NotFound(f"{name} does not exist", "create it")

    service.endpoints_get = gone  # type: ignore[method-assign]
    assert work.find(context()) is not None


def test_what_looks_like_surplus_after_a_sleep_is_left_alone() -> None:
    """By then it may be the next run's turn, and the model without traffic its new deployment."""
    service = Service(BEFORE, MINE, "1000000003", split={MINE: 100})
    tidy = TidyPhase(Project(service), settings())
    with pytest.raises(TransientError, match="late"):
        tidy.create(context(fence=late))
    assert service.undeployed == []
    tidy.create(context())
    assert service.undeployed == ["1000000003"]


def test_traffic_for_a_model_that_is_gone_says_so() -> None:
    """Somebody has undeployed it by hand, say."""
    service = Service(BEFORE, split={BEFORE: 100})
    with pytest.raises(LaunchRefused, match=f"no deployed model {MINE} any more"):
        TrafficPhase(Project(service), settings()).create(context())
    assert service.split == {BEFORE: 100}


def test_one_refusal_does_not_leave_what_failed_serving() -> None:
    """It is tried again; only the stage's deadline ends that."""
    service = Service(BEFORE, MINE, split={MINE: 100})

    def refuse(**_: Any) -> dict[str, Any]:
        raise LaunchRefused("answered 400: an operation is under way", "wait")

    patch, service.endpoints_patch = service.endpoints_patch, refuse  # type: ignore[method-assign,assignment]
    restore = RestorePhase(Project(service), settings())
    with pytest.raises(TransientError, match="not taken back yet"):
        restore.create(context())
    service.endpoints_patch = patch  # type: ignore[method-assign]
    restore.create(context())
    assert service.split == {BEFORE: 100}
