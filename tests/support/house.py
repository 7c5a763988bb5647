"""The whole house as real processes: local cloud and workers, to start, kill -9 and start again in tests.

Jobs are the quick ones of `tests/support/jobs/quick.py`, so that a run takes about a second and the tests can be about
the chain itself.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from messages import DataReady, Envelope, encode
from tests.support.waiting import wait_until

READY_S = 90  # a process that starts on a machine with other work to do
ROOT = Path(__file__).parents[2]
QUICK = ROOT / "tests" / "support" / "jobs" / "quick.py"
PROJECT = "baton-local"
BUCKET = f"{PROJECT}-pipeline"
DATA_BUCKET = f"{PROJECT}-data"
WORKERS = ("preprocess", "train", "deploy")
LOCAL_CLOUD = "localcloud"
PARTS = ("metadata", "pubsub", "storage", "jobs")  # in the order in which each needs those before it
CLOUD = (LOCAL_CLOUD, *PARTS)
PIPELINE = """name = "quick"
[trigger]
prefix = "incoming/quick/"
[preprocess]
template = "templates/quick.json"
attempts = {attempts}
[train]
image = "quick-trainer"
attempts = {attempts}
[deploy]
image = "quick-serving"
endpoint = "quick"
attempts = {attempts}
"""
# The real preprocessing job before quick ones: for tests about data.
BIRTHS = """name = "births"
[trigger]
prefix = "incoming/births/"
[preprocess]
template = "templates/real-beam.json"
attempts = 1
[train]
image = "quick-trainer"
[deploy]
image = "quick-serving"
endpoint = "births"
"""
# Short times: the protocol is the same, a test just does not wait for a cloud's patience.
FAST = {
    "BATON_POLL_FIRST_S": "0.02",
    "BATON_POLL_MAX_S": "0.3",
    "BATON_SWEEP_S": "0.3",
    "BATON_SETTLE_S": "2",  # shorter, and a worker on a busy machine would always find itself late
    "BATON_BACKOFF_FIRST_S": "0.1",
}


class House:
    """Processes by name over one folder; a killed one can be started again on the same state."""

    def __init__(self, folder: Path, attempts: int = 2, job_s: float = 0.3) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment: dict[str, str] = {}
        (folder / "pipelines").mkdir()
        (folder / "pipelines" / "births.toml").write_text(BIRTHS)
        (folder / "pipelines" / "quick.toml").write_text(PIPELINE.format(attempts=attempts))
        commands = {"quick-beam": "prepare", "quick-trainer": "train", "quick-serving": "serve"}
        (folder / "images.toml").write_text(
            "".join(
                f'[images.{k}]\ncommand = ["{{python}}", "-S", "{QUICK}", "{v}"]\nenv = {{ QUICK_JOB_S = "{job_s}" }}\n'
                for k, v in commands.items()
            )
            + '[images.real-beam]\ncommand = ["{python}", "-m", "beam.babyweight", "--runner=FnApiRunner"]\n'
            + f'directory = "{ROOT}"\n'
        )

    def start_cloud(self) -> None:
        """Start the local cloud, or start it again where it was."""
        endpoints = self.folder / "cloud" / "endpoints.json"
        before = endpoints.stat().st_mtime_ns if endpoints.exists() else 0
        arguments = ["localcloud", "--data-dir", str(endpoints.parent), "--images", str(self.folder / "images.toml")]
        self.spawn(LOCAL_CLOUD, [*arguments, "--parts", "metadata,pubsub,storage,jobs"])  # no quick job reads BigQuery
        wait_until(
            lambda: self._alive(LOCAL_CLOUD) and endpoints.exists() and endpoints.stat().st_mtime_ns != before,
            READY_S,
            f"local cloud ready; its log:\n{self.log(LOCAL_CLOUD)}",
        )
        self.environment = json.loads(endpoints.read_text())

    def start_worker(self, stage: str, name: str = "") -> None:
        """Start a worker, under a guard that refuses it every socket which is not loopback."""
        self.spawn(name or stage, ["tests.support.guarded", f"workers.{stage}"])

    def start(self) -> None:
        """Start everything, with topics, subscriptions and buckets made."""
        self.start_cloud()
        self.set_up()
        for stage in WORKERS:
            self.start_worker(stage)

    def set_up(self) -> None:
        """Make buckets, topics and subscriptions through the product's own set-up."""
        done = subprocess.run(
            [sys.executable, "-m", "baton", "setup"],
            cwd=ROOT,
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for image, template in (("quick-beam", "quick"), ("real-beam", "real-beam")):
            uri = f"us-central1-docker.pkg.dev/{PROJECT}/baton/{image}:latest"
            spec = {"image": uri, "sdkInfo": {"language": "PYTHON"}}
            self.storage().bucket(BUCKET).blob(f"templates/{template}.json").upload_from_string(json.dumps(spec))

    def env(self) -> dict[str, str]:
        """Return the environment of a process of this house."""
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("BATON_", "GOOGLE_", "PYTEST"))}
        return {
            **plain,
            **self.environment,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "BATON_BUCKET": BUCKET,
            "BATON_DATA_BUCKET": DATA_BUCKET,
            "BATON_PIPELINES_DIR": str(self.folder / "pipelines"),
            **FAST,
        }

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def stop(self, name: str, timeout_s: float = 20) -> int:
        """SIGTERM; return the exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout_s)

    def close(self) -> None:
        """End everything: politely, so that the local cloud ends its jobs too, and the workers before it."""
        workers = [name for name in self.processes if name not in CLOUD]
        for names in (workers, [name for name in self.processes if name in CLOUD]):
            ending = [self.processes.pop(name) for name in names]
            for process in ending:
                process.terminate()
            for process in ending:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def storage(self) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        address = self.environment["STORAGE_EMULATOR_HOST"]
        return storage.Client(PROJECT, credentials=AnonymousCredentials(), client_options={"api_endpoint": address})

    def record(self, run_id: str, stage: str) -> dict[str, Any] | None:
        """Return a stage's record as the ledger has it, or None."""
        from google.api_core.exceptions import NotFound

        try:
            content = self.storage().bucket(BUCKET).blob(f"runs/{run_id}/{stage}.json").download_as_bytes()
        except NotFound:
            return None
        return dict(json.loads(content))

    def state(self, run_id: str, stage: str) -> str:
        record = self.record(run_id, stage)
        return "" if record is None else str(record["state"])

    def start_run(self, run_id: str, source: str = "gs://data/births.csv", pipeline: str = "quick") -> None:
        """Publish a `data-ready` of this run; published twice, it is the same event."""
        event = DataReady(pipeline=pipeline, source=source)
        envelope = Envelope(f"{run_id}.data-ready", run_id, "//tests", datetime.now(UTC), event)
        self.publish(DataReady.TOPIC, *encode(envelope))

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        import grpc
        from google.pubsub_v1.services.publisher import PublisherClient
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

        with grpc.insecure_channel(self.environment["PUBSUB_EMULATOR_HOST"]) as channel:
            client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
            request = {
                "topic": f"projects/{PROJECT}/topics/{topic}",
                "messages": [{"data": data, "attributes": dict(attributes)}],
            }
            return str(client.publish(request=request, timeout=20).message_ids[0])

    def rest(self, path: str, key: str = "BATON_AIPLATFORM_ENDPOINT") -> dict[str, Any]:
        """GET a REST path of the jobs service."""
        import urllib.request

        with urllib.request.urlopen(f"{self.environment[key]}{path}", timeout=20) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def _alive(self, name: str) -> bool:
        process = self.processes[name]
        assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.log(name)}"
        return True

    def spawn(self, name: str, arguments: list[str]) -> None:
        """Start `python -m …` under a name of this house; its output is added to the log of that name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=self.env(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def house(folder: Path, attempts: int = 2, job_s: float = 0.3) -> Iterator[House]:
    """A house that is closed at the end, whatever happens; its quick jobs take `job_s`."""
    built = House(folder, attempts, job_s)
    try:
        yield built
    finally:
        built.close()
