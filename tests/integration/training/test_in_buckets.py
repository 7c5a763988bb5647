"""From bucket to bucket: dataset, checkpoints, logs, model and server, all through gs:// addresses."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from localcloud.storage import StorageServer
from tests.support import datasets
from tests.support.http_process import serving_process, start_serving
from tests.support.loop_thread import LoopThread
from tests.support.training import run_trainer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FLAGS = ["--num-train-examples", "5120", "--num-evals", "2"]


async def _drop(topic: str, data: bytes, attributes: dict[str, str]) -> str:
    return "dropped"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with LoopThread() as loop:
        port = loop.start(StorageServer(data_dir=tmp_path / "storage", publish=_drop))
        yield {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "baton-local"}


def bucket_with_dataset(environment: dict[str, str], tmp_path: Path) -> storage.Bucket:
    client = storage.Client(
        project="baton-local",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": environment["STORAGE_EMULATOR_HOST"]},
    )
    bucket = client.create_bucket("births")
    dataset = datasets.write_dataset(tmp_path / "dataset", datasets.births(limit=500))
    for path in dataset.iterdir():
        bucket.blob(f"data/{path.name}").upload_from_filename(str(path))
    return bucket


def test_a_job_reads_writes_and_restarts_in_buckets_and_is_served_from_there(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """No file passes through TensorFlow: the same addresses work in the cloud and against a local bucket."""
    bucket = bucket_with_dataset(environment, tmp_path)
    code, log = run_trainer("gs://births/data/", "gs://births/run-1", FLAGS, environment)
    assert code == 0, log[-1]
    names = {blob.name.removeprefix("run-1/") for blob in bucket.list_blobs(prefix="run-1/")}
    assert names >= {"model/saved_model.pb", "model/model.tflite", "model/metrics.json", "logs/progress.json"}
    assert len([name for name in names if name.startswith("checkpoints/")]) == 2
    assert any(name.startswith("logs/events.out.tfevents.") for name in names)
    metrics = json.loads(bucket.blob("run-1/model/metrics.json").download_as_bytes())

    # Started again, as after a pre-emption during the export: nothing is trained twice.
    code, log = run_trainer("gs://births/data", "gs://births/run-1", FLAGS, environment)
    assert code == 0, log[-1]
    assert [line["step"] for line in log if line["action"] == "training.resumed"] == [metrics["steps"]]
    assert not [line for line in log if line["action"] == "evaluation.done"]

    with serving_process("gs://births/run-1/model", environment) as server:
        instance = json.loads(bucket.blob("run-1/model/instance_schema.json").download_as_bytes())["example"]
        (prediction,) = server.predict([instance]).json()["predictions"]
        assert 3 < prediction < 10


def test_a_missing_object_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    """The trainer names the manifest's directory or the bucket, the server the file that it lacks."""
    bucket_with_dataset(environment, tmp_path)
    code, log = run_trainer("gs://births/elsewhere", "gs://births/run-1", FLAGS, environment)
    assert (code, log[-1]["place"]) == (2, "gs://births/elsewhere")
    code, log = run_trainer("gs://births/data", "gs://no-such-bucket/run-1", FLAGS, environment)
    assert code == 2
    assert log[-1]["place"].startswith("gs://no-such-bucket/run-1/model")
    assert "bucket exists" in log[-1]["mend"]
    server = start_serving("gs://births/nothing", environment)
    assert server.process.wait(60) == 2
    refusal = wait_until(lambda: server.lines("serving.refused"), 5, "the refusal")[0]
    assert refusal["place"] == "gs://births/nothing/instance_schema.json"
