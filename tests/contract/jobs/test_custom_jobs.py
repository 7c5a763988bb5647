"""Vertex AI custom jobs as the stock client sees them."""

import json
import time
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from localcloud.faults import Fault, Faults
from tests.contract.jobs.conftest import PARENT, custom_job, finished
from tests.support.waiting import wait_until

_CREATE = "aiplatform.projects.locations.customJobs.create"


def create(vertex: Any, body: dict[str, Any]) -> dict[str, Any]:
    return vertex.customJobs().create(parent=PARENT, body=body).execute()


def get(vertex: Any, job: dict[str, Any]) -> dict[str, Any]:
    return vertex.customJobs().get(name=job["name"]).execute()


def listed(vertex: Any, filter_text: str, **query: Any) -> list[str]:
    answer = vertex.customJobs().list(parent=PARENT, filter=filter_text, **query).execute()
    return [job["displayName"] for job in answer.get("customJobs", [])]


def cancel(vertex: Any, job: dict[str, Any]) -> Any:
    return vertex.customJobs().cancel(name=job["name"], body={}).execute()


def refused(action: Any) -> dict[str, Any]:
    with pytest.raises(HttpError) as caught:
        action()
    return json.loads(caught.value.content)["error"]


def test_a_job_runs_to_success(vertex: Any, name: str) -> None:
    """A created job has a name, runs, and ends in SUCCEEDED with its times."""
    job = create(vertex, custom_job(name, "exit 0"))
    assert job["name"].startswith(PARENT + "/customJobs/")
    assert job["state"] == "JOB_STATE_PENDING"
    done = finished(lambda: get(vertex, job))
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert done["createTime"] <= done["startTime"] <= done["endTime"]
    assert "error" not in done
    assert done["jobSpec"] == custom_job(name, "exit 0")["jobSpec"]


def test_the_container_contract(vertex: Any, cloud_logging: Any, name: str) -> None:
    """Arguments, variables, $(NAME) expansion and the AIP_ directories reach the process."""
    body = custom_job(name, "--model=$(AIP_MODEL_DIR)", "$$(HOME)", imageUri="r/show")
    container = body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
    container["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(NOT_SET)"}]
    body["jobSpec"]["baseOutputDirectory"] = {"outputUriPrefix": "gs://b/runs/7"}
    created = create(vertex, body)
    job = finished(lambda: get(vertex, created))
    job_id = job["name"].rpartition("/")[2]
    request = {
        "resourceNames": ["projects/baton-local"],
        "filter": f'resource.labels.job_id="{job_id}" logName:workerpool0-0',
    }
    shown = cloud_logging.list(body=request).execute()["entries"][0]
    assert shown["resource"]["type"] == "ml_job"
    seen = shown["jsonPayload"]
    assert seen["argv"] == ["--model=gs://b/runs/7/model/", "$(HOME)"]
    assert seen["env"]["B"] == "1-$(NOT_SET)"
    assert seen["env"]["AIP_CHECKPOINT_DIR"] == "gs://b/runs/7/checkpoints/"
    assert seen["env"]["AIP_TENSORBOARD_LOG_DIR"] == "gs://b/runs/7/logs/"
    assert seen["env"]["CLOUD_ML_JOB_ID"] == job_id
    assert json.loads(seen["env"]["CLUSTER_SPEC"])["task"] == {"type": "workerpool0", "index": 0}


def test_a_failed_job_carries_its_last_lines(vertex: Any, name: str) -> None:
    """job.error names the exit status and the last log lines."""
    script = 'echo first; echo \'{"level": "error", "message": "learning_rate=-1 is negative"}\' >&2; exit 4'
    job = create(vertex, custom_job(name, script))
    error = finished(lambda: get(vertex, job))["error"]
    assert error["code"] == 3
    assert "non-zero status of 4" in error["message"]
    assert error["message"].endswith("first\nlearning_rate=-1 is negative")


def test_creating_twice_makes_two_jobs(vertex: Any, name: str) -> None:
    """There is no idempotency, as in the cloud: the caller looks up by label."""
    create(vertex, custom_job(name, "exit 0"))
    create(vertex, custom_job(name, "exit 0"))
    assert listed(vertex, f'labels.run="{name}"') == [name, name]


def test_filters(vertex: Any, name: str) -> None:
    """The documented filter grammar works: labels, display_name, state, create_time, AND, OR, NOT."""
    body = custom_job(name, "exit 0")
    body["labels"]["step-kind"] = "train"
    created = create(vertex, body)
    job = finished(lambda: get(vertex, created))
    mine = f'labels.run="{name}"'
    assert listed(vertex, f'{mine} AND labels.step-kind="train"') == [name]
    assert listed(vertex, f"{mine} AND labels.step-kind=serve") == []
    assert listed(vertex, f"{mine} AND labels.step-kind:*") == [name]
    assert listed(vertex, f"{mine} AND NOT labels.step-kind:*") == []
    assert listed(vertex, f'display_name:"{name[:-1]}*" AND {mine}') == [name]
    assert listed(vertex, f'{mine} AND (state="JOB_STATE_FAILED" OR state="JOB_STATE_SUCCEEDED")') == [name]
    assert listed(vertex, f'{mine} AND state!="JOB_STATE_SUCCEEDED"') == []
    assert listed(vertex, f'{mine} AND create_time>="{job["createTime"]}"') == [name]
    assert listed(vertex, f'{mine} AND create_time<"{job["createTime"]}"') == []
    assert listed(vertex, f'{mine} AND displayName="{name}"') == [name]
    for wrong in ("labels.run=", "colour=red", "create_time>yesterday", "(state=x", 'state>"x"', "state"):
        assert "Invalid filter" in refused(lambda wrong=wrong: listed(vertex, wrong))["message"]  # type: ignore[misc]


def test_pages(vertex: Any, name: str) -> None:
    """A list comes in pages, newest first, and new jobs between two pages shift nothing."""
    names = [create(vertex, custom_job(f"{name}-{n}", "exit 0") | {"labels": {"set": name}}) for n in range(5)]
    request = vertex.customJobs().list(parent=PARENT, filter=f"labels.set={name}", pageSize=2)
    seen: list[str] = []
    while request is not None:
        answer = request.execute()
        seen += [job["name"] for job in answer["customJobs"]]
        create(vertex, custom_job(f"{name}-late", "exit 0") | {"labels": {"set": name}})
        request = vertex.customJobs().list_next(request, answer)
    assert seen == [job["name"] for job in names][::-1]


def test_cancel_kills_what_ignores_it(vertex: Any, name: str) -> None:
    """A job that ignores TERM is killed after the grace, and is CANCELLED with error code 1."""
    job = create(vertex, custom_job(name, "trap '' TERM; echo ready; while true; do sleep 0.05; done"))
    wait_until(lambda: get(vertex, job)["state"] == "JOB_STATE_RUNNING", what="running")
    assert cancel(vertex, job) == {}
    done = finished(lambda: get(vertex, job))
    assert done["state"] == "JOB_STATE_CANCELLED"
    assert done["error"]["code"] == 1
    assert refused(lambda: cancel(vertex, job))["status"] == "FAILED_PRECONDITION"


def test_what_a_job_forks_ends_with_it(vertex: Any, name: str, tmp_path: Any) -> None:
    """A daemon that a job leaves behind in a session of its own dies with the job, as it would with its container."""
    beat = tmp_path / "beat"
    daemon = f"setsid sh -c 'while true; do echo x >>{beat}; sleep 0.02; done' & sleep 0.1"
    job = create(vertex, custom_job(name, daemon))
    assert finished(lambda: get(vertex, job))["state"] == "JOB_STATE_SUCCEEDED"
    assert beat.exists()

    def silent() -> bool:
        before = beat.stat().st_size
        time.sleep(0.1)
        return beat.stat().st_size == before

    wait_until(silent, what="the daemon's end")


def test_timeout(vertex: Any, name: str) -> None:
    """scheduling.timeout ends a job that runs too long."""
    body = custom_job(name, "sleep 600")
    body["jobSpec"]["scheduling"] = {"timeout": "0.2s"}
    job = create(vertex, body)
    done = finished(lambda: get(vertex, job))
    assert done["state"] == "JOB_STATE_FAILED"
    assert "timeout of 0.2 s" in done["error"]["message"]


def test_delete(vertex: Any, name: str) -> None:
    """A finished job can be deleted, a running one not; the answer is a finished operation."""
    job = create(vertex, custom_job(name, "sleep 600"))
    assert refused(lambda: vertex.customJobs().delete(name=job["name"]).execute())["status"] == "FAILED_PRECONDITION"
    cancel(vertex, job)
    finished(lambda: get(vertex, job))
    operation = vertex.customJobs().delete(name=job["name"]).execute()
    assert operation["done"]
    assert vertex.customJobs().operations().get(name=operation["name"]).execute() == operation
    assert refused(lambda: get(vertex, job))["code"] == 404


def test_many_wait_their_turn(vertex: Any, name: str) -> None:
    """Two hundred jobs at once all succeed, a few at a time, the others queued."""
    jobs = [create(vertex, custom_job(f"{name}-{n}", "exit 0") | {"labels": {"many": name}}) for n in range(200)]

    def succeeded() -> bool:
        return len(listed(vertex, f"labels.many={name} AND state=JOB_STATE_SUCCEEDED", pageSize=1000)) == len(jobs)

    wait_until(succeeded, timeout_s=30, what="two hundred successes")


def test_a_full_house_queues(vertex: Any, name: str) -> None:
    """Past the limit of parallel jobs a job is QUEUED, and one cancelled there never runs."""
    blockers = [create(vertex, custom_job(f"{name}-{n}", "sleep 600")) for n in range(8)]
    try:
        waiting = create(vertex, custom_job(name, "exit 0"))
        assert waiting["state"] == "JOB_STATE_QUEUED"
        cancel(vertex, waiting)
        done = finished(lambda: get(vertex, waiting))
        assert done["state"] == "JOB_STATE_CANCELLED"
        assert "startTime" not in done
    finally:
        for blocker in blockers:
            cancel(vertex, blocker)
    for blocker in blockers:
        finished(lambda blocker=blocker: get(vertex, blocker))  # type: ignore[misc]


def _without(path: str) -> dict[str, Any]:
    body: Any = custom_job("x", "exit 0")
    *parents, last = path.split(".")
    place = body
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    del place[last]
    return body


_POOL = "jobSpec.workerPoolSpecs.0."


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        (_without("displayName"), "Field: custom_job.display_name; Message: Required field is not set."),
        (_without("jobSpec"), "custom_job.job_spec"),
        (_without(_POOL + "machineSpec"), "machine_spec.machine_type"),
        (_without(_POOL + "containerSpec"), "exactly one of container_spec and python_package_spec"),
        (_without(_POOL + "containerSpec.imageUri"), "container_spec.image_uri"),
        (custom_job("x", "exit 0", imageURI="y"), 'Unknown name "imageURI" at \'custom_job.job_spec'),
        (custom_job("x" * 129, "exit 0"), "at most 128"),
        (custom_job("x", "a\0b"), "NUL"),
        (custom_job("x") | {"labels": {"Run": "1"}}, "label key 'Run'"),
        (custom_job("x") | {"labels": {"run": "UPPER"}}, "'UPPER'"),
        (custom_job("x", env=[{"name": "AIP_MODEL_DIR", "value": "mine"}]), "reserved"),
        (custom_job("x", env=[{"name": "A=B", "value": "mine"}]), "'A=B'"),
        (custom_job("x") | {"state": "JOB_STATE_NOWHERE"}, "JOB_STATE_NOWHERE"),
    ],
)
def test_refusals_name_the_field(vertex: Any, body: dict[str, Any], fragment: str) -> None:
    """What Vertex AI would refuse is refused with the field's path."""
    error = refused(lambda: create(vertex, body))
    assert error["code"] == 400
    assert fragment in error["message"]


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"imageUri": "eu-docker.pkg.dev/p/r/nowhere:1"}, "images.toml"),
        ({"command": ["/does/not/exist"]}, "non-zero status of 127"),
    ],
)
def test_what_cannot_start_fails(vertex: Any, name: str, change: dict[str, Any], fragment: str) -> None:
    """A job whose image or command is unknown is created, and fails with the reason."""
    job = create(vertex, custom_job(name, "exit 0", **change))
    done = finished(lambda: get(vertex, job))
    assert done["state"] == "JOB_STATE_FAILED"
    assert fragment in done["error"]["message"]


def test_more_replicas_than_a_laptop_runs(vertex: Any, name: str) -> None:
    """A job of several replicas is accepted, as in the cloud, and fails saying that only one can run here."""
    body = custom_job(name, "exit 0")
    body["jobSpec"]["workerPoolSpecs"].append({**body["jobSpec"]["workerPoolSpecs"][0], "replicaCount": "3"})
    job = create(vertex, body)
    assert "one replica, not 4" in finished(lambda: get(vertex, job))["error"]["message"]


def test_a_lost_answer_still_makes_the_job(vertex: Any, name: str, faults: Faults) -> None:
    """With lost_answer the job exists though the caller got an error: what a retry without looking would double."""
    faults.replace([Fault(_CREATE, "lost_answer", code=503, count=1)])
    assert refused(lambda: create(vertex, custom_job(name, "exit 0")))["code"] == 503
    assert listed(vertex, f"labels.run={name}") == [name]


def test_a_doubled_job(vertex: Any, name: str, faults: Faults) -> None:
    """With duplicate one create makes two jobs."""
    faults.replace([Fault(_CREATE, "duplicate", count=1)])
    create(vertex, custom_job(name, "exit 0"))
    assert listed(vertex, f"labels.run={name}") == [name, name]


def test_a_late_list(vertex: Any, name: str, faults: Faults) -> None:
    """With stale a list does not show what is younger than the lag."""
    create(vertex, custom_job(name, "exit 0"))
    faults.replace([Fault("aiplatform.projects.locations.customJobs.list", "stale", lag_s=60, count=1)])
    assert listed(vertex, f"labels.run={name}") == []
    assert listed(vertex, f"labels.run={name}") == [name]


def test_a_preempted_job_starts_anew(vertex: Any, name: str, faults: Faults, tmp_path: Any) -> None:
    """With preempt the processes are killed, and the job runs again and succeeds."""
    starts = tmp_path / "starts"
    faults.replace([Fault(_CREATE, "preempt", delay_s=0.2, count=1)])
    script = f"echo x >>{starts}; [ $(wc -l <{starts}) -gt 1 ] || sleep 600"
    job = create(vertex, custom_job(name, script))
    done = finished(lambda: get(vertex, job))
    assert done["state"] == "JOB_STATE_SUCCEEDED"
    assert starts.read_text() == "x\nx\n"


def test_a_slow_start(vertex: Any, name: str, faults: Faults) -> None:
    """With slow a job waits before it starts."""
    faults.replace([Fault(_CREATE, "slow", delay_s=0.3, count=1)])
    start = time.monotonic()
    job = create(vertex, custom_job(name, "exit 0"))
    finished(lambda: get(vertex, job))
    assert time.monotonic() - start >= 0.3
