"""The pipeline as Dataflow gets it: submitted as a flex template's launcher does, then run by a stranger from the proto."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.integration.beam.conftest import ROOT, Job
from tests.support.part_process import PartProcess

SAMPLE = ROOT / "samples" / "natality_2022.csv"
DATAFLOW = [
    "--runner=DataflowRunner",
    "--project=baton-local",
    "--region=us-central1",
    "--job_name=preprocess-r1",
    "--temp_location=gs://births-bucket/tmp",
    "--staging_location=gs://births-bucket/staging",
    "--template_location=gs://births-bucket/job.json",
    "--sdk_container_image=us-central1-docker.pkg.dev/baton-local/baton/baton-beam-babyweight:latest",
    "--sdk_location=container",
]
# A worker of Dataflow has the package and the submitted pipeline, and nothing of the process that submitted it.
WORKER = """
import sys
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
pipeline = beam_runner_api_pb2.Pipeline.FromString(open(sys.argv[1], "rb").read())
for environment in pipeline.components.environments.values():
    environment.urn, environment.payload = "beam:env:embedded_python:v1", b""
    del environment.dependencies[:]
print([step.unique_name for step in pipeline.components.transforms.values()])
FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Storage and metadata servers; yields the variables that lead to them."""
    with (
        PartProcess("storage", tmp_path / "storage") as store,
        PartProcess("metadata", tmp_path / "metadata") as metadata,
    ):
        yield {**store.output(), **metadata.output()}


@pytest.mark.slow
def test_the_submitted_pipeline_runs_without_its_submitter(
    job: Callable[..., Job], cloud: dict[str, str], tmp_path: Path
) -> None:
    """The launcher ends well with a job description; the graph in it, run elsewhere, writes the dataset and manifest."""
    options = {"api_endpoint": cloud["STORAGE_EMULATOR_HOST"]}
    client = storage.Client("baton-local", AnonymousCredentials(), client_options=options)
    bucket = client.create_bucket("births-bucket")
    bucket.blob("in.csv").upload_from_filename(str(SAMPLE))
    launcher = job(**cloud)
    done = launcher.run("--source=gs://births-bucket/in.csv", "--output=gs://births-bucket/out", *DATAFLOW)
    assert done.exit_code == 0, done.lines
    assert done.last["action"] == "preprocess-submitted"
    assert json.loads(bucket.blob("job.json").download_as_bytes())["name"] == "preprocess-r1"
    (proto,) = [blob for blob in bucket.list_blobs(prefix="staging/") if blob.name.endswith("pipeline.pb")]
    proto.download_to_filename(tmp_path / "pipeline.pb")
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path / "pipeline.pb")],
        env=dict(launcher.environment),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert worker.returncode == 0, worker.stderr
    assert "Preprocess births/Process shard" in worker.stdout
    manifest = json.loads(bucket.blob("out/manifest.json").download_as_bytes())
    assert (manifest["train"]["rows"], manifest["rejects"]["total"]) == (22_800, 23)
    client.close()
