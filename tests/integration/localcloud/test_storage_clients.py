"""Other people's file systems on our storage server: Beam's gs:// and pyarrow's GcsFileSystem, each in its own process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import endpoints
from tests.support.part_process import ROOT, PartProcess

ARROW = """
import json, os
from datetime import timedelta
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
address = os.environ["STORAGE_EMULATOR_HOST"].removeprefix("http://")
gcs = fs.GcsFileSystem(
    anonymous=True, endpoint_override=address, scheme="http", project_id="baton-local", retry_time_limit=timedelta(seconds=5)
)
gcs.create_dir("arrow-bucket")
for size in (0, 1, 70_000, 3_000_000):
    with gcs.open_output_stream("arrow-bucket/dir/odd name.bin") as out:
        out.write(b"x" * size)
    with gcs.open_input_stream("arrow-bucket/dir/odd name.bin") as found:
        assert len(found.read()) == size
table = pa.table({"weight_pounds": [float(number) for number in range(50_000)]})
pq.write_table(table, "arrow-bucket/data/t.parquet", filesystem=gcs)
assert pq.read_table("arrow-bucket/data/t.parquet", filesystem=gcs).equals(table)
with gcs.open_input_file("arrow-bucket/data/t.parquet") as found:
    assert found.read_at(4, 0) == b"PAR1"
gcs.copy_file("arrow-bucket/data/t.parquet", "arrow-bucket/data/u.parquet")
gcs.move("arrow-bucket/data/u.parquet", "arrow-bucket/data/v.parquet")
gcs.delete_file("arrow-bucket/dir/odd name.bin")
print(json.dumps([info.path for info in gcs.get_file_info(fs.FileSelector("arrow-bucket", recursive=True))]))
"""

BEAM = """
import json
from tests.support import loopback_only
loopback_only.enforce()
import apache_beam as beam
from apache_beam.io import ReadFromText, WriteToText
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
with FileSystems.create("gs://beam-bucket/in/a.txt") as out:
    out.write(b"a\\nb\\n")
with FileSystems.create("gs://beam-bucket/in/b.txt") as out:
    out.write(b"c\\n")
with beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner"])) as pipeline:
    read = pipeline | ReadFromText("gs://beam-bucket/in/*.txt")
    read | beam.Map(str.upper) | WriteToText("gs://beam-bucket/out/part", num_shards=2)
(match,) = FileSystems.match(["gs://beam-bucket/out/*"])
lines = []
for metadata in match.metadata_list:
    with FileSystems.open(metadata.path) as found:
        lines += found.read().decode().split()
FileSystems.rename([match.metadata_list[0].path], ["gs://beam-bucket/out/renamed"])
FileSystems.delete(["gs://beam-bucket/in/a.txt", "gs://beam-bucket/in/b.txt"])
left = [found.path for found in FileSystems.match(["gs://beam-bucket/**"])[0].metadata_list]
print(json.dumps({"lines": sorted(lines), "left": left, "hosts": loopback_only.seen}))
"""

EVENT = """
import json
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1, storage
publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
topic = publisher.topic_path("baton-local", "data-ready")
subscription = subscriber.subscription_path("baton-local", "preprocess")
publisher.create_topic(name=topic)
subscriber.create_subscription(name=subscription, topic=topic)
bucket = storage.Client("baton-local", AnonymousCredentials()).create_bucket("event-bucket")
bucket.notification(topic_name="data-ready", topic_project="baton-local", payload_format="JSON_API_V1").create()
bucket.blob("births.csv").upload_from_string("data")
(received,) = subscriber.pull(subscription=subscription, max_messages=1, timeout=20).received_messages
print(json.dumps(json.loads(received.message.data)["name"]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with (
        PartProcess("storage", tmp_path / "storage") as storage,
        PartProcess("metadata", tmp_path / "metadata") as metadata,
    ):
        common = endpoints.common("baton-local", tmp_path, {})
        vm = metadata.output()
        vm["GCE_METADATA_IP"] = vm[
            "GCE_METADATA_HOST"
        ]  # as `endpoints.json` has it: where google-auth looks for a machine
        yield {**storage.output(), **vm, **common, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


def run(program: str, environment: dict[str, str]) -> object:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_pyarrow_reads_and_writes(environment: dict[str, str]) -> None:
    """GcsFileSystem makes a bucket, writes, reads, seeks, copies, moves, deletes and lists."""
    assert run(ARROW, environment) == ["arrow-bucket/data/t.parquet", "arrow-bucket/data/v.parquet"]


@pytest.mark.slow
def test_beam_reads_and_writes(environment: dict[str, str]) -> None:
    """A Beam pipeline reads and writes gs:// here, and its process touches nothing but loopback."""
    made = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from google.cloud import storage; from google.auth.credentials import AnonymousCredentials as A; "
            "storage.Client('baton-local', A()).create_bucket('beam-bucket')",
        ],
        env=environment,
        check=True,
    )
    assert made.returncode == 0
    answer = run(BEAM, environment)
    assert isinstance(answer, dict)
    assert answer["lines"] == ["A", "B", "C"]
    assert sorted(answer["left"]) == ["gs://beam-bucket/out/part-00001-of-00002", "gs://beam-bucket/out/renamed"]
    assert set(answer["hosts"]) <= {"127.0.0.1", "::1", "localhost"}


def test_storage_and_broker_alone_work_together(tmp_path: Path) -> None:
    """Started as processes of their own, the storage server publishes to PUBSUB_EMULATOR_HOST."""
    with (
        PartProcess("pubsub", tmp_path / "pubsub") as broker,
        PartProcess("storage", tmp_path / "storage", environment=broker.output()) as storage,
    ):
        common = endpoints.common("baton-local", tmp_path, {})
        environment = {**broker.output(), **storage.output(), **common, "HOME": str(tmp_path)}
        assert run(EVENT, environment) == "births.csv"
