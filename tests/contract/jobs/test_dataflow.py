"""Dataflow flex templates as the stock client sees them."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.cloud import storage
from googleapiclient.errors import HttpError

from tests.contract.jobs.conftest import PROJECT, REGION, client, finished
from tests.support.waiting import wait_until


def launch(dataflow: Any, name: str, image: str = "noop", **fields: Any) -> dict[str, Any]:
    parameter = {"jobName": name, "containerSpec": {"image": image, "sdkInfo": {"language": "PYTHON"}}, **fields}
    return send(dataflow, parameter)["job"]


def send(dataflow: Any, parameter: dict[str, Any], **request: Any) -> dict[str, Any]:
    body = {"launchParameter": parameter, **request}
    return dataflow.flexTemplates().launch(projectId=PROJECT, location=REGION, body=body).execute()


def get(dataflow: Any, job_id: str) -> dict[str, Any]:
    return dataflow.jobs().get(projectId=PROJECT, location=REGION, jobId=job_id).execute()


def cancel(dataflow: Any, job_id: str, state: str = "JOB_STATE_CANCELLED") -> dict[str, Any]:
    body = {"requestedState": state}
    return dataflow.jobs().update(projectId=PROJECT, location=REGION, jobId=job_id, body=body).execute()


def messages(dataflow: Any, job_id: str, **query: Any) -> list[dict[str, Any]]:
    request = dataflow.jobs().messages().list(projectId=PROJECT, location=REGION, jobId=job_id, **query)
    return request.execute().get("jobMessages", [])


def refused(action: Any) -> dict[str, Any]:
    with pytest.raises(HttpError) as caught:
        action()
    return json.loads(caught.value.content)["error"]


def test_a_launched_job_runs_to_done(dataflow: Any, name: str) -> None:
    """A launch answers with the job's id at once, and the job ends in DONE."""
    job = launch(dataflow, name, environment={"additionalUserLabels": {"run": "r1"}})
    assert job["name"] == name
    assert "currentState" not in job
    done = finished(lambda: get(dataflow, job["id"]))
    assert done["currentState"] == "JOB_STATE_DONE"
    assert done["labels"] == {"run": "r1"}
    assert done["type"] == "JOB_TYPE_BATCH"


def test_a_no_op_takes_milliseconds(dataflow: Any, name: str) -> None:
    """From launch to DONE a job that does nothing costs little more than starting a process."""
    best_s = 10.0
    for attempt in range(5):
        start = time.perf_counter()
        job = launch(dataflow, f"{name}-{attempt}")
        while get(dataflow, job["id"])["currentState"] != "JOB_STATE_DONE":
            assert time.perf_counter() - start < 5
        best_s = min(best_s, time.perf_counter() - start)
    print(f"launch to DONE: {best_s * 1000:.1f} ms")
    assert best_s < 0.1


def test_the_job_gets_parameters_and_a_clean_environment(
    dataflow: Any, cloud_logging: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters arrive as --key=value, then Dataflow's own; the service's secrets do not arrive."""
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "hunter2")
    job = launch(
        dataflow,
        name,
        "show",
        parameters={"output": "gs://b/x y", "limit": "3"},
        environment={"tempLocation": "gs://b/tmp"},
    )
    finished(lambda: get(dataflow, job["id"]))
    filter_text = f'resource.type="dataflow_step" AND resource.labels.job_id="{job["id"]}" AND logName:"worker"'
    body = {"resourceNames": [f"projects/{PROJECT}"], "filter": filter_text}
    shown = cloud_logging.list(body=body).execute()["entries"][0]["jsonPayload"]
    assert shown["argv"] == [
        "--output=gs://b/x y",
        "--limit=3",
        f"--project={PROJECT}",
        f"--region={REGION}",
        f"--job_name={name}",
        "--temp_location=gs://b/tmp",
    ]
    env = shown["env"]
    assert "SECRET_OF_THE_SHELL" not in env
    assert env["FROM_IMAGE"] == "yes"
    assert env["STORAGE_EMULATOR_HOST"].startswith("http://127.0.0.1:")
    assert env["BATON_DATAFLOW_ENDPOINT"].startswith("http://127.0.0.1:")
    assert shown["cwd"].startswith(env["TMPDIR"])


def test_a_failed_job_says_why(dataflow: Any, name: str) -> None:
    """A job that exits with an error is FAILED, and its last message carries its last log line."""
    job = launch(dataflow, name, "fail")
    assert finished(lambda: get(dataflow, job["id"]))["currentState"] == "JOB_STATE_FAILED"
    (error,) = messages(dataflow, job["id"], minimumImportance="JOB_MESSAGE_ERROR")
    assert "it broke at row 7" in error["messageText"]
    assert "status 3" in error["messageText"]
    assert messages(dataflow, job["id"])[-1] == error


def test_an_unknown_image_fails_the_job(dataflow: Any, name: str) -> None:
    """An image that cannot be pulled fails the job, naming the image, the table and what is known."""
    job = launch(dataflow, name, "eu.gcr.io/p/nowhere:7")
    assert finished(lambda: get(dataflow, job["id"]))["currentState"] == "JOB_STATE_FAILED"
    text = messages(dataflow, job["id"])[-1]["messageText"]
    assert "eu.gcr.io/p/nowhere:7" in text
    assert "images.toml" in text
    assert "noop" in text


def test_an_active_name_is_refused(dataflow: Any, name: str) -> None:
    """A second launch under the name of an active job gets Google's 409; after the end the name is free."""
    first = launch(dataflow, name, "sleep")
    error = refused(lambda: launch(dataflow, name))
    assert error["code"] == 409
    assert error["status"] == "ALREADY_EXISTS"
    assert error["errors"][0]["reason"] == "alreadyExists"
    assert f"There is already an active job named {name}. If you want to submit a second job" in error["message"]
    cancel(dataflow, first["id"])
    finished(lambda: get(dataflow, first["id"]))
    assert launch(dataflow, name)["id"] != first["id"]


def test_list_by_name_state_and_pages(dataflow: Any, name: str) -> None:
    """A list answers newest first, by exact name, by state class, in pages; an empty one has no jobs key."""
    ids = []
    for _ in range(3):
        job = launch(dataflow, name)
        finished(lambda job=job: get(dataflow, job["id"]))  # type: ignore[misc]
        ids.append(job["id"])
    listing = dataflow.jobs()
    where = {"projectId": PROJECT, "location": REGION, "name": name}
    answer = listing.list(**where, filter="ALL").execute()
    assert [job["id"] for job in answer["jobs"]] == ids[::-1]
    assert listing.list(**where, filter="ACTIVE").execute() == {}
    first = listing.list(**where, filter="TERMINATED", pageSize=2)
    page = first.execute()
    assert [job["id"] for job in page["jobs"]] == ids[:0:-1]
    rest = listing.list_next(first, page).execute()
    assert [job["id"] for job in rest["jobs"]] == ids[:1]
    assert "nextPageToken" not in rest


def test_cancel_ends_the_whole_group(dataflow: Any, name: str) -> None:
    """A cancelled job ends, with what it forked; a second cancel and a drain are refused."""
    job = launch(dataflow, name, "sleep")
    wait_until(lambda: get(dataflow, job["id"])["currentState"] == "JOB_STATE_RUNNING", what="running")
    error = refused(lambda: cancel(dataflow, job["id"], "JOB_STATE_DRAINED"))
    assert error["status"] == "FAILED_PRECONDITION"
    assert "streaming" in error["message"]
    assert cancel(dataflow, job["id"])["currentState"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    assert finished(lambda: get(dataflow, job["id"]))["currentState"] == "JOB_STATE_CANCELLED"
    error = refused(lambda: cancel(dataflow, job["id"]))
    assert error["code"] == 400
    assert "already terminated in state JOB_STATE_CANCELLED" in error["message"]


def test_validate_only_runs_nothing(dataflow: Any, name: str) -> None:
    """validateOnly checks and creates no job."""
    parameter = {"jobName": name, "containerSpec": {"image": "noop"}}
    with pytest.raises(HttpError):  # sdkInfo is required
        send(dataflow, parameter, validateOnly=True)
    parameter["containerSpec"] = {"image": "noop", "sdkInfo": {"language": "PYTHON"}}
    assert send(dataflow, parameter, validateOnly=True) == {}
    assert dataflow.jobs().list(projectId=PROJECT, location=REGION, name=name).execute() == {}


def test_a_template_file_in_cloud_storage(dataflow: Any, bucket: storage.Bucket, name: str) -> None:
    """containerSpecGcsPath is read from Cloud Storage, and the parameters are checked against its metadata."""
    parameters = [
        {"name": "output", "label": "o", "helpText": "h"},
        {"name": "limit", "label": "l", "helpText": "h", "isOptional": True, "regexes": ["[0-9]+"]},
    ]
    spec = {
        "image": "us-docker.pkg.dev/p/r/noop@sha256:12",
        "sdkInfo": {"language": "PYTHON"},
        "metadata": {"name": "babyweight", "parameters": parameters},
    }
    bucket.blob(f"{name}.json").upload_from_string(json.dumps(spec))
    path = f"gs://{bucket.name}/{name}.json"
    error = refused(lambda: send(dataflow, {"jobName": name, "containerSpecGcsPath": path, "parameters": {"x": "1"}}))
    assert error["details"][0]["@type"].endswith("InvalidTemplateParameters")
    violations = error["details"][0]["parameterViolations"]
    assert violations == [
        {"parameter": "output", "description": "Missing required parameter"},
        {"parameter": "x", "description": "Unrecognized parameter"},
    ]
    job = send(dataflow, {"jobName": name, "containerSpecGcsPath": path, "parameters": {"output": "o"}})["job"]
    assert finished(lambda: get(dataflow, job["id"]))["currentState"] == "JOB_STATE_DONE"
    missing = {"jobName": name, "containerSpecGcsPath": f"gs://{bucket.name}/none.json"}
    assert "none.json" in refused(lambda: send(dataflow, missing))["message"]


@pytest.mark.parametrize(
    ("parameter", "fragment"),
    [
        ({"jobName": "Has-Capitals"}, "Invalid job name 'Has-Capitals'"),
        ({"jobName": "a", "bogus": 1}, "Unknown name \"bogus\" at 'launch_parameter': Cannot find field."),
        ({"jobName": "a", "parameters": {"n": 5}}, "parameters"),
        ({"jobName": "a", "update": True}, "batch jobs only"),
        ({"jobName": "a", "parameters": {"n": "a\0b"}}, "NUL"),
        ({"jobName": "a", "environment": {"additionalUserLabels": {"Run": "x"}}}, "label key 'Run'"),
        ({"jobName": "a", "environment": {"ipConfiguration": "WORKER_IP_NOWHERE"}}, "WORKER_IP_NOWHERE"),
    ],
)
def test_refusals_name_the_value(dataflow: Any, parameter: dict[str, Any], fragment: str) -> None:
    """What Dataflow would refuse is refused, naming the value and the place."""
    parameter = {"containerSpec": {"image": "noop", "sdkInfo": {"language": "PYTHON"}}, **parameter}
    assert fragment in refused(lambda: send(dataflow, parameter))["message"]


def test_what_is_not_offered_says_so(dataflow: Any) -> None:
    """A method of the API that is not offered answers 501 with its name."""
    error = refused(
        lambda: dataflow.templates().launch(projectId=PROJECT, location=REGION, gcsPath="gs://b/t", body={}).execute()
    )
    assert error["code"] == 501
    assert "dataflow.projects.locations.templates.launch" in error["message"]


@pytest.mark.parametrize("job_id", ["..", "%2e%2e", "a/../b", "x" * 3000, "2026' OR 1=1 --", "\u00e9"])
def test_hostile_ids_are_not_found(dataflow: Any, job_id: str) -> None:
    """An id made up to escape a directory or a query is just an unknown job."""
    assert refused(lambda: get(dataflow, job_id))["code"] in (404, 400)


def test_fifty_launches_of_one_name_make_one_job(port: int, dataflow: Any, name: str) -> None:
    """However many launch the same name at once, one wins and the others get 409."""

    def one(_: int) -> int:
        with client("dataflow", "v1b3", port) as service:
            try:
                launch(service.projects().locations(), name, "sleep")
            except HttpError as error:
                return int(error.resp.status)
        return 200

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(50)))
    assert sorted(answers) == [200] + [409] * 49
    (job,) = dataflow.jobs().list(projectId=PROJECT, location=REGION, name=name).execute()["jobs"]
    cancel(dataflow, job["id"])
