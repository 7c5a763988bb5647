"""The jobs service is killed with SIGKILL, at every step of what it does; nothing is lost and nothing runs twice."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from localcloud.jobs import JobsServer
from localcloud.jobs.images import Image, Images
from tests.contract.jobs.conftest import PARENT, client, custom_job, finished
from tests.contract.jobs.killed_service import ROOT, Service
from tests.support.loop_thread import LoopThread
from tests.support.waiting import wait_until

_MORE_STEPS_THAN_THERE_ARE = 60


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.end_everything()


@contextlib.contextmanager
def vertex_of(service: Service) -> Iterator[Any]:
    with client("aiplatform", "v1", service.port) as api:
        yield api.projects().locations()


def create(service: Service, body: dict[str, Any]) -> dict[str, Any] | None:
    """Create a job; None when the service died before it answered."""
    with vertex_of(service) as vertex, contextlib.suppress(OSError, HttpError):
        job: dict[str, Any] = vertex.customJobs().create(parent=PARENT, body=body).execute()
        return job
    return None


def jobs(service: Service, label: str) -> list[dict[str, Any]]:
    with vertex_of(service) as vertex:
        answer = vertex.customJobs().list(parent=PARENT, filter=f"labels.run={label}").execute()
    found: list[dict[str, Any]] = answer.get("customJobs", [])
    return found


def end_of(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    with vertex_of(service) as vertex:
        return finished(lambda: vertex.customJobs().get(name=job["name"]).execute())


def python_job(label: str, starts: Path) -> dict[str, Any]:
    """A job that a spare process can become."""
    body = custom_job(label, "")
    text = f"import time; open({str(starts)!r}, 'a').write('x\\n'); time.sleep(0.15)"
    script = starts.with_suffix(".py")
    script.write_text(text, encoding="utf-8")
    container = body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
    container |= {"command": ["python", "-S"], "args": [str(script)]}
    return body


def shell_job(label: str, starts: Path) -> dict[str, Any]:
    return custom_job(label, f"echo x >>{starts}; sleep 0.15")


@pytest.mark.slow
@pytest.mark.parametrize("body", [shell_job, python_job])
def test_killed_at_every_step_of_a_job(service: Service, body: Callable[[str, Path], dict[str, Any]]) -> None:
    """Whichever step the service dies at, a job that was answered exists, and each job runs exactly once."""
    service.start()
    for step in range(1, _MORE_STEPS_THAN_THERE_ARE):
        for number in range(2 * (body is python_job)):  # from the second of its kind on there are spares
            warm = create(service, body(f"warm-{step}-{number}", service.folder / f"warm-{step}-{number}"))
            assert warm is not None
            end_of(service, warm)
        if body is python_job:
            wait_until(lambda: service.spares() == 3, what="the spares")
        starts = service.folder / f"starts-{step}"
        service.kill_at(step)
        answered = create(service, body(f"step-{step}", starts))
        if answered is not None:
            with contextlib.suppress(OSError, HttpError, AssertionError):
                end_of(service, answered)
        if not service.dies():
            assert step > 8, "the launch has more steps than that"
            return
        service.start()
        found = jobs(service, f"step-{step}")
        assert answered is None or len(found) == 1
        for job in found:
            assert end_of(service, job)["state"] == "JOB_STATE_SUCCEEDED"
            assert starts.read_text() == "x\n", f"killed at step {step}"
    raise AssertionError("the service never survived")


def test_killed_while_jobs_run(service: Service) -> None:
    """Jobs run on while the service is dead: one ends meanwhile, one is found again; neither starts twice."""
    service.start()
    starts = service.folder / "starts"
    gate = service.folder / "gate"
    script = f"echo x >>{starts}; while [ ! -e {gate} ]; do sleep 0.02; done; echo done"
    short = create(service, custom_job("short", "sleep 0.2; exit 3"))
    long = create(service, custom_job("long", script))
    assert short is not None
    assert long is not None
    wait_until(starts.exists, what="the job's start")
    service.kill()
    service.start()
    (found,) = jobs(service, "long")
    assert found["state"] == "JOB_STATE_RUNNING"
    assert "non-zero status of 3" in end_of(service, short)["error"]["message"]
    gate.touch()
    assert end_of(service, long)["state"] == "JOB_STATE_SUCCEEDED"
    assert starts.read_text() == "x\n"


def test_a_stopped_service_ends_its_jobs_and_carries_on_later(service: Service) -> None:
    """SIGTERM ends every child, even one that ignores it; at the next start what was cut off runs again."""
    service.start()
    pids = service.folder / "pids"
    ready = service.folder / "ready"
    script = f"trap '' TERM; echo $$$$ >>{pids}; while [ ! -e {ready} ]; do sleep 0.02; done"
    job = create(service, custom_job("stubborn", script))
    assert job is not None
    wait_until(pids.exists, what="the job's start")
    assert service.stop() == 0
    pid = int(pids.read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout_s=2, what="the end of a process that was killed")
    service.start()
    wait_until(lambda: len(pids.read_text().split()) == 2, what="the job's second start")
    ready.touch()
    assert end_of(service, job)["state"] == "JOB_STATE_SUCCEEDED"


def test_a_cancel_survives_a_crash(service: Service) -> None:
    """A job asked to cancel just before the service is killed is cancelled by the next one."""
    service.start()
    job = create(service, custom_job("c", "trap '' TERM; while true; do sleep 0.02; done"))
    assert job is not None
    with vertex_of(service) as vertex:
        wait_until(lambda: jobs(service, "c")[0]["state"] == "JOB_STATE_RUNNING", what="running")
        vertex.customJobs().cancel(name=job["name"], body={}).execute()
    service.kill()
    service.start()
    assert end_of(service, job)["state"] == "JOB_STATE_CANCELLED"


def test_two_services_never_share_a_directory(service: Service) -> None:
    """A second service on the same data directory refuses to start, and the first one's jobs are untouched."""
    service.start()
    command = [sys.executable, "-m", "localcloud.jobs", "--data-dir", str(service.folder / "data")]
    second = subprocess.run(
        [*command, "--images", str(service.images)], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 2
    assert "in use by another jobs service" in second.stderr


def test_the_command_line(service: Service) -> None:
    """`python -m localcloud.jobs` says where it is, answers, and ends cleanly on SIGINT."""
    command = [sys.executable, "-m", "localcloud.jobs", "--data-dir", str(service.folder / "data")]
    running = subprocess.Popen(
        [*command, "--images", str(service.images), "--max-parallel-jobs", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    service.process = running  # ended with the test, however that goes
    assert running.stdout is not None
    service.port = int(running.stdout.readline().rpartition(":")[2])
    job = create(service, custom_job("cli", "exit 0"))
    assert job is not None
    assert end_of(service, job)["state"] == "JOB_STATE_SUCCEEDED"
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=20)[1] == ""
    assert running.returncode == 0
    missing = subprocess.run([*command, "--images", "none.toml"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "none.toml" in missing.stderr


def test_old_jobs_are_forgotten(tmp_path: Path) -> None:
    """What ended more than thirty days ago is gone at the next start, its log too; what is younger stays."""
    month_us = 31 * 86_400 * 1_000_000
    moment = [1_700_000_000_000_000]

    def clock() -> int:
        moment[0] += 1
        return moment[0]

    def server() -> JobsServer:
        return JobsServer(
            data_dir=tmp_path, images=Images({"shell": Image(("/bin/sh", "-c"))}, "t"), endpoints={}, clock=clock
        )

    for name, left in (("old", ["old"]), ("new", ["new"])):
        moment[0] += month_us
        with LoopThread() as loop, client("aiplatform", "v1", loop.start(server())) as api:
            jobs = api.projects().locations().customJobs()
            job = jobs.create(parent=PARENT, body=custom_job(name, "echo x")).execute()
            finished(jobs.get(name=job["name"]).execute)
            found = jobs.list(parent=PARENT).execute()["customJobs"]
            assert [job["displayName"] for job in found] == left
    assert len(list((tmp_path / "jobs" / "logs").glob("*.log"))) == 1


def test_kills_at_random_moments_under_load(service: Service) -> None:
    """While jobs are being created the service is killed again and again; every answered job runs exactly once."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    starts = service.folder / "starts"
    answered: list[dict[str, Any]] = []
    service.start()
    for round_number in range(4):
        killer = threading.Timer(moments.uniform(0.02, 0.3), service.kill)
        for number in range(40):
            if number == 1:
                killer.start()  # not before the first answer: on a busy machine there would be nothing to lose
            body = custom_job(f"r{round_number}-{number}", f"echo $CLOUD_ML_JOB_ID >>{starts}; sleep 0.05")
            job = create(service, body | {"labels": {"load": "yes"}})
            if job is None:
                break
            answered.append(job)
        killer.join()
        service.start()
    with vertex_of(service) as vertex:
        listing = vertex.customJobs()

        def ended() -> list[dict[str, Any]] | None:
            found = listing.list(parent=PARENT, filter="labels.load=yes", pageSize=1000).execute()["customJobs"]
            return found if all(job["state"] == "JOB_STATE_SUCCEEDED" for job in found) else None

        found = wait_until(ended, timeout_s=30, what="the end of all jobs")
    assert found is not None
    ids = sorted(job["name"].rpartition("/")[2] for job in found)
    assert {job["name"] for job in answered} <= {job["name"] for job in found}
    assert sorted(starts.read_text().split()) == ids


def test_a_deployed_model_serves_on(service: Service) -> None:
    """A model server survives the death of the service and is asked again; one that died meanwhile is restarted."""
    service.start()
    with vertex_of(service) as vertex:
        endpoint = _deploy(vertex)
        first = _pid(vertex, endpoint)
    service.kill()
    service.start()
    with vertex_of(service) as vertex:
        assert _pid(vertex, endpoint) == first
    service.kill()
    os.kill(first, signal.SIGKILL)
    service.start()
    with vertex_of(service) as vertex:
        assert _pid(vertex, endpoint) != first
    assert service.stop() == 0
    service.start()
    with vertex_of(service) as vertex:
        assert _pid(vertex, endpoint) != first


def test_nothing_outlives_a_test(service: Service) -> None:
    """What a service was running when it was killed ends with the test: the model server and its wrapper."""
    service.start()
    with vertex_of(service) as vertex:
        pid = _pid(vertex, _deploy(vertex))
    service.kill()
    wrapper = int(next((service.folder / "data" / "jobs" / "runs").glob("*/*/claim")).read_text())
    places = [Path(f"/proc/{number}") for number in (pid, wrapper)]
    assert all(place.exists() for place in places)
    service.end_everything()
    wait_until(lambda: not any(place.exists() for place in places), what="the end of both")


@pytest.mark.slow
def test_killed_at_every_step_of_a_deployment(service: Service) -> None:
    """Whichever step the service dies at, an answered deployment is carried to its end by the next service."""
    service.start()
    for step in range(1, _MORE_STEPS_THAN_THERE_ARE):
        with vertex_of(service) as vertex:
            model, endpoint = _model_and_endpoint(vertex, f"s{step}")
        service.kill_at(step)
        operation: dict[str, Any] | None = None
        with vertex_of(service) as vertex, contextlib.suppress(OSError, HttpError, AssertionError):
            operation = _begin_deployment(vertex, endpoint, model)
            _end_of_operation(vertex, operation)
        survived = not service.dies()
        if not survived:
            service.start()
        if operation is not None:
            with vertex_of(service) as vertex:
                assert "error" not in _end_of_operation(vertex, operation), f"killed at step {step}"
                assert _pid(vertex, endpoint)
                if not survived:
                    _undeploy(vertex, endpoint)
        if survived:
            assert step > 6, "a deployment has more steps than that"
            return
    raise AssertionError("the service never survived")


def _deploy(vertex: Any) -> str:
    model, endpoint = _model_and_endpoint(vertex, "e")
    assert "error" not in _end_of_operation(vertex, _begin_deployment(vertex, endpoint, model))
    return endpoint


def _model_and_endpoint(vertex: Any, name: str) -> tuple[str, str]:
    container = {"imageUri": "r/server", "healthRoute": "/health", "predictRoute": "/predict"}
    body = {"modelId": name, "model": {"displayName": name, "containerSpec": container}}
    operation = vertex.models().upload(parent=PARENT, body=body).execute()
    wait_until(lambda: vertex.models().operations().get(name=operation["name"]).execute().get("done"), what="upload")
    vertex.endpoints().create(parent=PARENT, endpointId=name, body={"displayName": name}).execute()
    return f"{PARENT}/models/{name}", f"{PARENT}/endpoints/{name}"


def _begin_deployment(vertex: Any, endpoint: str, model: str) -> dict[str, Any]:
    resources = {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": 1}
    body = {"deployedModel": {"model": model, "dedicatedResources": resources}, "trafficSplit": {"0": 100}}
    operation: dict[str, Any] = vertex.endpoints().deployModel(endpoint=endpoint, body=body).execute()
    return operation


def _undeploy(vertex: Any, endpoint: str) -> None:
    (deployed,) = vertex.endpoints().get(name=endpoint).execute()["deployedModels"]
    vertex.endpoints().undeployModel(endpoint=endpoint, body={"deployedModelId": deployed["id"]}).execute()


def _end_of_operation(vertex: Any, operation: dict[str, Any]) -> dict[str, Any]:
    operations = vertex.endpoints().operations()

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = operations.get(name=operation["name"]).execute()
        return found if found.get("done") else None

    found = wait_until(look, timeout_s=15, what="the deployment's end")
    assert found is not None
    return found


def _pid(vertex: Any, endpoint: str) -> int:
    """Ask the model server who it is, waiting while it is being restarted."""

    def ask() -> int:
        try:
            answer = vertex.endpoints().predict(endpoint=endpoint, body={"instances": ["x"]}).execute()
        except HttpError as error:
            if error.resp.status != 503:
                raise
            return 0
        return int(answer["predictions"][0]["PID"])

    return wait_until(ask, what="the model server's answer")
