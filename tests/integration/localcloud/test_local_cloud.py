"""`python -m localcloud`: one command, every door, the same ports after a crash, nothing but loopback."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from localcloud import endpoints
from localcloud.parts import PARTS
from tests.support.loopback_only import non_loopback_sockets
from tests.support.part_process import ROOT, PartProcess
from tests.support.waiting import wait_until

IDLE_LIMIT_BYTES = 150 * 1024 * 1024

# A client process that may touch loopback only, and uses every door once with the stock clients.
TOUR = """
import json, os
from tests.support import loopback_only
loopback_only.enforce()
import google.auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1, storage
credentials, project = google.auth.default()
publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
topic, subscription = publisher.topic_path(project, "data-ready"), subscriber.subscription_path(project, "preprocess")
publisher.create_topic(name=topic)
subscriber.create_subscription(name=subscription, topic=topic)
client = storage.Client(project, AnonymousCredentials())
bucket = client.create_bucket("tour-bucket")
bucket.notification(topic_name="data-ready", topic_project=project, payload_format="JSON_API_V1").create()
blob = bucket.blob("births.csv")
blob.upload_from_string("data")
(received,) = subscriber.pull(subscription=subscription, max_messages=1, timeout=20).received_messages
subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id])
answer = {"project": project, "attributes": dict(received.message.attributes), "generation": str(blob.generation)}
import urllib.request
for name in ("BATON_DATAFLOW_ENDPOINT", "BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
    if name in os.environ:
        answer[name] = urllib.request.urlopen(os.environ[name] + "/-/healthz").status
metrics = urllib.request.urlopen(os.environ["BATON_PUBSUB_METRICS"]).read().decode()
answer["metrics"] = [line for line in metrics.splitlines() if line.startswith("pubsub_subscription_acked")]
answer["hosts"] = loopback_only.seen
print(json.dumps(answer))
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


@pytest.fixture
def cloud(data_dir: Path) -> Iterator[PartProcess]:
    with PartProcess("", data_dir) as process:
        yield process


def read_endpoints(data_dir: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((data_dir / endpoints.FILE).read_text())
    return found


def pid(cloud: PartProcess) -> int:
    assert cloud.process is not None
    return cloud.process.pid


def test_one_command_opens_every_door(cloud: PartProcess, data_dir: Path) -> None:
    """endpoints.json names every part; a bucket's event reaches a subscriber; nobody leaves loopback."""
    environment = read_endpoints(data_dir)
    assert set(environment) >= {name for door in endpoints.PORT_NAMES for name in endpoints.variables(door, "h", 1)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TOUR],
        env={**environment, "PYTHONPATH": str(ROOT), "HOME": str(data_dir), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr + cloud.log()
    answer = json.loads(done.stdout)
    assert answer["project"] == "baton-local"
    assert answer["attributes"]["eventType"] == "OBJECT_FINALIZE"
    assert answer["attributes"]["objectGeneration"] == answer["generation"]
    assert (
        answer["BATON_DATAFLOW_ENDPOINT"] == answer["BIGQUERY_EMULATOR_HOST"] == answer["STORAGE_EMULATOR_HOST"] == 200
    )
    labels = '{subscription="projects/baton-local/subscriptions/preprocess"}'
    assert answer["metrics"] == [f"pubsub_subscription_acked_messages_total{labels} 1"]
    assert set(answer["hosts"]) <= {"127.0.0.1", "::1", "localhost"}
    assert non_loopback_sockets(pid(cloud)) == []
    listening = [found for found in psutil.Process(pid(cloud)).net_connections("inet") if found.status == "LISTEN"]
    assert len(listening) == len(endpoints.PORT_NAMES)


def test_local_mode_asks_for_no_address_but_loopback(data_dir: Path) -> None:
    """The whole start runs under a hook that refuses any other name or address."""
    program = (
        "import sys; from tests.support import loopback_only; loopback_only.enforce(); "
        "from localcloud.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "--data-dir", str(data_dir)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(data_dir)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("local cloud ready")
        finally:
            process.terminate()
        assert process.wait(15) == 0


def test_it_comes_back_where_it_was_after_kill(cloud: PartProcess, data_dir: Path) -> None:
    """kill -9, with clients connected: the next start has the same endpoints."""
    before = read_endpoints(data_dir)
    host, port = before["GCE_METADATA_HOST"].split(":")
    with socket.create_connection((host, int(port))):
        cloud.kill()
        cloud.start()
    assert read_endpoints(data_dir) == before


def test_it_stops_in_two_seconds(cloud: PartProcess, data_dir: Path) -> None:
    """SIGTERM ends it with 0, also with an idle client connected, and the data directory is free again."""
    host, port = read_endpoints(data_dir)["GCE_METADATA_HOST"].split(":")
    with socket.create_connection((host, int(port))):
        begun = time.monotonic()
        assert cloud.stop() == 0
        assert time.monotonic() - begun < 2
    cloud.start()
    assert cloud.stop() == 0


def test_a_signal_while_it_starts_ends_it(data_dir: Path) -> None:
    """SIGTERM before the ready line ends it too."""
    process = PartProcess("", data_dir)
    process.start(is_ready_awaited=False)
    wait_until(lambda: (data_dir / "lock").exists(), what="the start begun")
    assert process.stop() == 0


def test_a_second_one_on_the_same_directory_is_refused(cloud: PartProcess, data_dir: Path) -> None:
    """It says who holds the directory and what to do; the first goes on undisturbed."""
    before = read_endpoints(data_dir)
    second = subprocess.run(
        [sys.executable, "-m", "localcloud", "--data-dir", str(data_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 2
    assert f"in use by process {pid(cloud)}" in second.stderr
    assert "another --data-dir" in second.stderr
    assert read_endpoints(data_dir) == before


def test_a_port_held_by_somebody_else_is_named(data_dir: Path) -> None:
    """The start fails with part, port and mend, and leaves no part running."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "localcloud", "--data-dir", str(data_dir), "--ports", f"jobs={port}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 2
    assert f"jobs can't listen on 127.0.0.1:{port}" in done.stderr
    assert "--ports jobs=PORT" in done.stderr
    assert not (data_dir / endpoints.FILE).exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--ports", "nothing=1"], "no part is called 'nothing'"),
        (["--parts", "nothing"], "no part is called 'nothing'"),
    ],
)
def test_bad_options_are_named(data_dir: Path, options: list[str], problem: str) -> None:
    """A wrong option ends the start with the value and the choices."""
    argv = [sys.executable, "-m", "localcloud", "--data-dir", str(data_dir), *options]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert problem in done.stderr
    assert all(name in done.stderr for name in PARTS)


def test_it_is_small_when_idle(cloud: PartProcess) -> None:
    """Nothing heavy is loaded before it is needed."""
    assert psutil.Process(pid(cloud)).memory_info().rss < IDLE_LIMIT_BYTES
