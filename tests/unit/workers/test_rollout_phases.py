"""Each phase of a rollout by itself: what it takes for its own, what it asks for, and what it leaves alone."""

from typing import Any

import pytest

from tests.simulation.worker import settings
from tests.support.rollout import BEFORE, MINE, MODEL, Service, context, late
from tests.support.vertex_project import Project
from workers.errors import AlreadyExists, LaunchRefused, NotFound, TransientError
from workers.record import RESOURCE, JobRef
from workers.rollback import DEPLOYED_MODEL, RestorePhase, UndeployPhase
from workers.rollout import DeployPhase, EndpointPhase, TidyPhase, TrafficPhase, UploadPhase
from workers.stage import JobState
from workers.vertex import Operations


@pytest.fixture
def service() -> Service:
    return Service(BEFORE, MINE, split={BEFORE: 100})


def upload(service: Service) -> UploadPhase:
    return UploadPhase(Project(service), settings())


def tidy(service: Service) -> TidyPhase:
    return TidyPhase(Project(service), settings())


def undeploy(service: Service) -> UndeployPhase:
    return UndeployPhase(Project(service), settings())


def test_of_two_versions_of_one_attempt_the_first_made_counts(service: Service) -> None:
    """An upload under way is not listed, so there may be two; none is no version, not an error."""
    assert upload(service).find(context()) is None
    service.versions = [10, 9]
    found = upload(service).find(context())
    assert found is not None
    assert (found.id, found.kind) == (MODEL.replace("@1", "@9"), RESOURCE)
    assert upload(service).collect(context(), found) == {"model": found.id}


def test_an_upload_that_is_not_listed_yet_is_waited_for(service: Service) -> None:
    """It is done, so it will be."""
    job = JobRef(id="o", name="n", kind=Operations.KIND)
    with pytest.raises(TransientError, match="not listed yet") as fault:
        upload(service).collect(context(), job)
    assert fault.value.retry_after_s == 1.0


def test_the_first_upload_makes_the_model_and_the_others_its_versions(service: Service) -> None:
    """The model's id is the pipeline's name, or what the event says; so is the version's alias."""
    upload(service).create(context())
    upload(service).create(context(model_name="births", version_name="v3"))
    service.versions = [1]
    upload(service).create(context())
    first, named, later = service.uploads
    assert first["modelId"] == "p"
    assert "versionAliases" not in first["model"]
    assert (named["modelId"], named["model"]["versionAliases"]) == ("births", ["v3"])
    assert "modelId" not in later
    assert later["parentModel"] == MODEL.partition("@")[0]


def test_a_late_worker_uploads_nothing(service: Service) -> None:
    """Its look was before its sleep: by now somebody else may have uploaded."""
    with pytest.raises(TransientError, match="late"):
        upload(service).create(context(fence=late))
    assert service.uploads == []


def test_a_model_that_somebody_else_is_making_is_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look finds its version."""

    def refuse(**_: Any) -> dict[str, Any]:
        raise AlreadyExists("models/p exists", "use it")

    monkeypatch.setattr(service, "models_upload", refuse)
    with pytest.raises(TransientError) as fault:
        upload(service).create(context())
    assert fault.value.retry_after_s == 1.0


def test_a_deployment_is_kept_with_what_served_beside_it(service: Service) -> None:
    """The way back is what others had of the traffic; a deployment that is done and gone is refused."""
    work, job = DeployPhase(Project(service), settings()), JobRef(id="o", name="n", kind=Operations.KIND)
    service.split = {BEFORE: 60, MINE: 40}
    assert work.collect(context(), job) == {"deployed_model_id": MINE, "before": {BEFORE: 60}}
    service.deployed.remove(MINE)
    with pytest.raises(LaunchRefused, match=f"o is done, but .* has no deployed model {MINE}"):
        work.collect(context(), job)


@pytest.mark.parametrize(
    ("versions", "others", "is_done"),
    [([1], [], True), ([1, 2], [], False), ([1], ["1000000003"], False)],
    ids=["nothing", "a twin version", "a surplus deployment"],
)
def test_it_is_tidy_when_neither_twin_nor_surplus_is_left(
    service: Service, versions: list[int], others: list[str], is_done: bool
) -> None:
    """What serves, the new deployment and the way back are no surplus."""
    service.versions, service.deployed = versions, [*service.deployed, *others]
    assert (tidy(service).find(context()) is not None) is is_done


def test_tidying_up_deletes_the_twin_versions_and_only_them(service: Service) -> None:
    """One that is still needed is kept for now, and holds nothing up."""
    service.versions, service.kept, service.deployed = [1, 2, 3], {2}, [*service.deployed, "1000000003"]
    job = tidy(service).create(context())
    assert service.versions == [1, 2]
    assert service.undeployed == ["1000000003"]
    assert job.kind == Operations.KIND
    assert tidy(service).collect(context(), job) == {"undeployed": True}


def test_a_surplus_that_stays_harms_no_run(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next rollout tries again: neither a refusal nor a failed operation is a failure."""
    service.versions, service.deployed = [1], [*service.deployed, "1000000003"]

    def refuse(**_: Any) -> dict[str, Any]:
        raise LaunchRefused("an operation is under way", "wait")

    undeployed = service.endpoints_undeployModel
    monkeypatch.setattr(service, "endpoints_undeployModel", refuse)
    assert tidy(service).create(context()).kind == RESOURCE
    monkeypatch.setattr(service, "endpoints_undeployModel", undeployed)
    job = tidy(service).create(context())
    failed = {"name": job.id, "done": True, "error": {"code": 13, "message": "internal"}}
    monkeypatch.setattr(service, "endpoints_operations_get", lambda name: failed, raising=False)
    running = {"name": job.id, "done": False}
    assert tidy(service).statuses([job])[job.id].state is JobState.SUCCEEDED
    monkeypatch.setattr(service, "endpoints_operations_get", lambda name: running)
    assert tidy(service).statuses([job])[job.id].state is JobState.ACTIVE


def strays(service: Service) -> list[str]:
    return [f"{found.run_id} {found.attempt} {found.job.id}" for found in undeploy(service).active(())]


def test_a_deployment_of_a_run_of_ours_without_traffic_may_be_a_stray(service: Service) -> None:
    """Its id follows from the run and attempt that its name tells; what serves, and what others deployed, is none."""
    service.deployed = [MINE, BEFORE, "1000000003"]
    service.names = {MINE: "p-deploy-r1-a1", BEFORE: "by hand", "1000000003": "p-deploy-r1-a2"}
    assert strays(service) == [f"r1 1 {MINE}"]
    service.split = {MINE: 100}
    assert strays(service) == []


def test_a_stray_deployment_is_looked_at_again_before_it_goes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may serve by now, or be gone with its endpoint."""
    service.names = {MINE: "p-deploy-r1-a1"}
    (found,) = undeploy(service).active(())
    assert found.job.kind == DEPLOYED_MODEL
    assert undeploy(service).is_active(found.job)
    service.split = {MINE: 100}
    assert not undeploy(service).is_active(found.job)
    service.split, service.deployed = {BEFORE: 100}, [BEFORE]
    assert not undeploy(service).is_active(found.job)

    def gone(name: str) -> dict[str, Any]:
        raise NotFound(f"{name} does not exist", "create it")

    monkeypatch.setattr(service, "endpoints_get", gone)
    assert not undeploy(service).is_active(found.job)


def test_a_stray_deployment_is_undeployed_and_an_operation_cancelled(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phase's own jobs are operations."""
    cancelled: list[str] = []
    monkeypatch.setattr(service, "endpoints_operations_cancel", lambda name: cancelled.append(name), raising=False)
    service.names = {MINE: "p-deploy-r1-a1"}
    (found,) = undeploy(service).active(())
    undeploy(service).cancel(found.job)
    assert (service.undeployed, cancelled) == ([MINE], [])
    operation = JobRef(id=f"{found.job.name}/operations/1", name="n", kind=Operations.KIND)
    undeploy(service).cancel(operation)
    assert (service.undeployed, cancelled) == ([MINE], [operation.id])


@pytest.mark.parametrize("phase", [TrafficPhase, RestorePhase])
def test_a_late_worker_moves_no_traffic(service: Service, phase: type[TrafficPhase] | type[RestorePhase]) -> None:
    """Between its look at the endpoint and its write it asks whether it is still its turn."""
    with pytest.raises(TransientError, match="late"):
        phase(Project(service), settings()).create(context(fence=late))
    assert service.split == {BEFORE: 100}


def test_a_run_goes_to_the_region_that_its_event_names(service: Service) -> None:
    """Everything of it: the endpoint is asked for there."""
    found = EndpointPhase(Project(service), settings()).find(context(region="europe-west4"))
    assert found is not None
    assert found.id == "projects/p/locations/europe-west4/endpoints/served"
    assert found.location == "europe-west4"


def test_the_operation_of_a_phase_is_cancelled_but_not_the_endpoints(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment that nobody needs any more is stopped; for the endpoint others may wait."""
    cancelled: list[str] = []
    monkeypatch.setattr(service, "endpoints_operations_cancel", lambda name: cancelled.append(name), raising=False)
    operation = JobRef(id="projects/p/locations/l/endpoints/served/operations/1", name="n", kind=Operations.KIND)
    EndpointPhase(Project(service), settings()).cancel(operation)
    assert cancelled == []
    DeployPhase(Project(service), settings()).cancel(operation)
    assert cancelled == [operation.id]
