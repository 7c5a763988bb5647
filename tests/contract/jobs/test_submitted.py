"""Jobs that Beam submits itself (jobs.create), up to a run of the real DataflowRunner."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from googleapiclient.errors import HttpError

from localcloud.jobs import JobsServer
from localcloud.jobs.images import Image, Images
from localcloud.metadata import MetadataServer
from tests.contract.jobs.conftest import PROJECT, REGION, client, finished
from tests.support.loop_thread import LoopThread


def job(name: str, image: str = "r/sleep", **fields: Any) -> dict[str, Any]:
    harness = [{"containerImage": image}]
    options = {"options": {"pipelineUrl": "gs://b/staging/pipeline.pb"}}
    pool = {"sdkHarnessContainerImages": harness, "workerHarnessContainerImage": "unused"}
    environment = {"sdkPipelineOptions": options, "workerPools": [pool]}
    return {"name": name, "environment": environment, **fields}


def create(dataflow: Any, body: dict[str, Any]) -> dict[str, Any]:
    created: dict[str, Any] = dataflow.jobs().create(projectId=PROJECT, location=REGION, body=body).execute()
    return created


def cancel(dataflow: Any, job_id: str) -> None:
    body = {"requestedState": "JOB_STATE_CANCELLED"}
    dataflow.jobs().update(projectId=PROJECT, location=REGION, jobId=job_id, body=body).execute()


def refused(action: Any) -> dict[str, Any]:
    with pytest.raises(HttpError) as caught:
        action()
    error: dict[str, Any] = json.loads(caught.value.content)["error"]
    return error


def test_a_client_request_id_makes_create_idempotent(dataflow: Any, name: str) -> None:
    """The same clientRequestId answers the same job; another one, under an active name, answers the existing job."""
    first = create(dataflow, job(name, clientRequestId="r1"))
    assert create(dataflow, job(name, clientRequestId="r1"))["id"] == first["id"]
    other = create(dataflow, job(name, clientRequestId="r2"))
    assert (other["id"], other["clientRequestId"]) == (first["id"], "r1")
    assert refused(lambda: create(dataflow, job(name)))["code"] == 409
    cancel(dataflow, first["id"])


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        ({"name": "a"}, "pipelineUrl is None"),
        (job("a") | {"type": "JOB_TYPE_STREAMING"}, "batch jobs only"),
        (job("Capital"), "Invalid job name"),
        (job("a") | {"labels": {"A": "b"}}, "label key 'A'"),
        (job("a", image=""), "sdk_harness_container_images"),
    ],
)
def test_refusals(dataflow: Any, body: dict[str, Any], fragment: str) -> None:
    """What cannot be run is refused, naming the field."""
    assert fragment in refused(lambda: create(dataflow, body))["message"]


@pytest.mark.slow
def test_the_real_dataflow_runner(tmp_path: Path, storage_address: str, bucket: storage.Bucket) -> None:
    """Beam's own DataflowRunner stages a pipeline, submits it, polls it to DONE, and its output is there."""
    bucket.blob("words.txt").upload_from_string("a b a\nb a c\n")
    runner = Path(__file__).with_name("run_pipeline.py")
    images = Images({f"beam_python3.{sys.version_info[1]}_sdk": Image((sys.executable, str(runner)))}, "images.toml")
    with LoopThread() as loop:
        metadata = loop.start(MetadataServer(data_dir=tmp_path / "metadata"))
        endpoints = {
            "STORAGE_EMULATOR_HOST": storage_address,
            "GCE_METADATA_HOST": f"127.0.0.1:{metadata}",
            "GCE_METADATA_IP": f"127.0.0.1:{metadata}",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "CLOUDSDK_CONFIG": str(tmp_path / "no-gcloud"),
        }
        port = loop.start(JobsServer(data_dir=tmp_path, images=images, endpoints=endpoints))
        flags = {
            "input": "gs://job-tests/words.txt",
            "output": "gs://job-tests/counts",
            "runner": "DataflowRunner",
            "dataflow_endpoint": f"http://localhost:{port}",
            "project": PROJECT,
            "region": REGION,
            "temp_location": "gs://job-tests/tmp",
            "staging_location": "gs://job-tests/staging",
            "sdk_location": "container",
            "job_name": "wordcount",
        }
        ran = subprocess.run(
            [sys.executable, "-m", "apache_beam.examples.wordcount_minimal", *(f"--{k}={v}" for k, v in flags.items())],
            env={**os.environ, **endpoints},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        assert "JOB_STATE_DONE" in ran.stderr
        with client("dataflow", "v1b3", port) as service:
            jobs = service.projects().locations().jobs()
            (found,) = jobs.list(projectId=PROJECT, location=REGION, name="wordcount").execute()["jobs"]
            get = jobs.get(projectId=PROJECT, location=REGION, jobId=found["id"])
            assert finished(get.execute)["currentState"] == "JOB_STATE_DONE"
    stock = storage.Client(PROJECT, AnonymousCredentials(), client_options={"api_endpoint": storage_address})
    (output,) = stock.list_blobs("job-tests", prefix="counts")
    assert sorted(output.download_as_text().splitlines()) == ["a: 3", "b: 2", "c: 1"]
