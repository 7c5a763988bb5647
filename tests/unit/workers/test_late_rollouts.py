"""What a rollout's worker does late, after a sleep, changes nothing that is another's by then."""

from typing import Any

import pytest

from tests.simulation.worker import settings
from tests.support.rollout import BEFORE, MINE, Service, context, late
from tests.support.vertex_project import Project
from workers.errors import LaunchRefused, NotFound, TransientError
from workers.rollback import RestorePhase, UndeployPhase
from workers.rollout import TidyPhase, TrafficPhase


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
