"""The job on our Cloud Storage server: births from a bucket, the dataset into a bucket."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from beam.babyweight import EXIT_FAILED, EXIT_REFUSED
from tests.integration.beam.conftest import ROOT, Job, manifest_of
from tests.support.part_process import PartProcess

SAMPLE = ROOT / "samples" / "natality_2022.csv"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A storage server; yields the variables that lead to it."""
    with PartProcess("storage", tmp_path / "storage") as part:
        yield part.output()


@pytest.fixture
def bucket(server: dict[str, str]) -> Iterator[storage.Bucket]:
    """An empty bucket, through the stock client."""
    options = {"api_endpoint": server["STORAGE_EMULATOR_HOST"]}
    client = storage.Client("baton-local", AnonymousCredentials(), client_options=options)
    yield client.create_bucket("births-bucket")
    client.close()


@pytest.mark.slow
def test_from_bucket_to_bucket(
    job: Callable[..., Job], server: dict[str, str], bucket: storage.Bucket, tmp_path: Path
) -> None:
    """The dataset in a bucket is that of a local run, byte for byte, and nothing temporary is left beside it."""
    bucket.blob("in/natality_2022.csv").upload_from_filename(str(SAMPLE))
    in_cloud = job(**server)
    done = in_cloud.run("--source=gs://births-bucket/in/*.csv", "--output=gs://births-bucket/run/dataset")
    assert done.exit_code == 0, done.lines
    assert job().run(f"--source={SAMPLE}", f"--output={tmp_path}/local").exit_code == 0
    manifest = json.loads(bucket.blob("run/dataset/manifest.json").download_as_bytes())
    assert manifest["digest"] == manifest_of(tmp_path / "local")["digest"]
    names = [blob.name.removeprefix("run/dataset/") for blob in bucket.list_blobs(prefix="run/")]
    listed = manifest["train"]["files"] + manifest["eval"]["files"] + manifest["rejects"]["files"]
    assert sorted(names) == sorted([*listed, "manifest.json"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "output", "kind", "message"),
    [
        (
            "gs://births-bucket/none.csv",
            "gs://births-bucket/x",
            "SourceNotFound",
            "'gs://births-bucket/none.csv' does not exist",
        ),
        (
            "gs://no-such-bucket/a.csv",
            "gs://births-bucket/x",
            "SourceNotFound",
            "'gs://no-such-bucket/a.csv' does not exist",
        ),
        (
            "gs://births-bucket/in.csv",
            "gs://no-such-bucket/x",
            "OutputError",
            "'gs://no-such-bucket/x' cannot be written",
        ),
    ],
    ids=["object", "bucket", "output"],
)
def test_what_is_not_there_is_named(
    job: Callable[..., Job],
    server: dict[str, str],
    bucket: storage.Bucket,
    source: str,
    output: str,
    kind: str,
    message: str,
) -> None:
    """A missing object, a missing bucket, a missing output bucket: told at once, with the address."""
    bucket.blob("in.csv").upload_from_filename(str(SAMPLE))
    done = job(**server).run(f"--source={source}", f"--output={output}")
    assert done.exit_code == (EXIT_FAILED if kind == "OutputError" else EXIT_REFUSED)
    assert done.last["error"] == kind
    assert message in done.last["message"]
