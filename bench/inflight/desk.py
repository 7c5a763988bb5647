"""What a measurement stands on: the local cloud, the jobs service that stands in, one worker, and a ledger filled by hand.

Every time and every size is the product's default. The records are made by the worker's own code (`workers.record`), so
a worker that starts finds what another one has left.
"""

import http.client
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import grpc
import psutil
from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from bench import child
from bench.child import BUCKET, PROJECT
from messages import DataReady, Envelope, Event, PreprocessDone, encode
from messages.codec import encode_body, parse_object
from messages.events import Job
from messages.topics import PREPROCESS_DONE, TRAIN_DONE, topic_path
from workers.pipeline import Catalog
from workers.record import JobRef, StageRecord, State, Trigger

REGION = "us-central1"
PIPELINE = """name = "inflight"
[preprocess]
template = "templates/inflight.json"
[train]
image = "inflight-trainer"
deadline_s = 864000
[deploy]
image = "inflight-serving"
endpoint = "inflight"
"""
OUTPUT = {
    "train": ("train-a1/model/metrics.json", b'{"rmse_lb": 1.0}'),
    "preprocess": (
        "preprocess-a1/manifest.json",
        b'{"train": {"rows": 8}, "eval": {"rows": 2}, "rejects": {"total": 0}, "digest": "sha256:0"}',
    ),
}
TELLS = {"train": TRAIN_DONE, "preprocess": PREPROCESS_DONE}
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 30.0
_WRITERS = 6
_AGE = timedelta(hours=1)


class Desk:
    """All processes of one measurement; ends with the `with` block.

    Args:
        folder: everything it keeps.
        stage: whose worker is measured.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder = folder
        self.stage = stage
        self.kind = "vertex" if stage == "train" else "dataflow"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._addresses: dict[str, str] = {}
        self._endpoints: dict[str, str] = {}
        self._local = threading.local()
        self._channel: grpc.Channel | None = None
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            pipelines = self.folder / "pipelines"
            pipelines.mkdir()
            (pipelines / "inflight.toml").write_text(PIPELINE)
            self._start_cloud()
            self._start_jobs()
            self._connect()
        except BaseException:
            self.close()
            raise
        self._spec = Catalog(pipelines).get("inflight")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, then what it stands on."""
        if self._channel is not None:
            self._channel.close()
        if self._listener is not None:
            self._listener.join()
        for name in reversed(list(self._processes)):
            self.stop(name)

    # -- the worker --------------------------------------------------------------------------------------------------

    def start_worker(self) -> psutil.Process:
        """Start the worker; it has not done anything yet when this returns."""
        self._spawn("worker", [f"workers.{self.stage}", "--log-level", "warning"])
        return psutil.Process(self._processes["worker"].pid)

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        child.end(self._processes.pop(name), _STOP_LIMIT_S)

    def check(self) -> None:
        """Raise with the worker's last words if any process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                text = self._log(name).read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{text}")

    def wait(self, condition: Callable[[], bool], limit_s: float, what: str, every_s: float = 0.1) -> float:
        """Wait until it holds; return how long that took, in seconds."""
        began = time.monotonic()
        while not condition():
            self.check()
            if time.monotonic() - began > limit_s:
                raise RuntimeError(f"{what}: not within {limit_s:g} s")
            time.sleep(every_s)
        return time.monotonic() - began

    def complaints(self) -> list[str]:
        """Return what the worker has warned of."""
        return self._log("worker").read_text(errors="replace").splitlines()

    # -- jobs and the ledger -----------------------------------------------------------------------------------------

    def counts(self) -> dict[str, Any]:
        """Return how often the worker has called what so far."""
        return self._jobs("GET", "/-/counts")

    def seed(self, numbers: Iterable[int]) -> None:
        """Have runs in the ledger whose jobs have been running for an hour."""
        made = [self._record(number) for number in numbers]
        jobs = [{"id": r.job.id, "name": r.job.name, "labels": self._labels(r)} for r in made if r.job is not None]
        for begin in range(0, len(jobs), 1000):
            self._jobs("POST", "/-/seed", {"kind": self.kind, "jobs": jobs[begin : begin + 1000]})
        with ThreadPoolExecutor(_WRITERS) as pool:
            list(pool.map(self._put, made))

    def job_id(self, number: int) -> str:
        """Return the id of a seeded run's job."""
        if self.kind == "vertex":
            return f"projects/{PROJECT}/locations/{REGION}/customJobs/{10**18 + number}"
        return f"2026-01-01_00_00_00-{10**18 + number}"

    def end(self, number: int) -> None:
        """Have a seeded run's job end well."""
        self._jobs("POST", "/-/end", {"ids": [self.job_id(number)]})

    def write_output(self, number: int) -> None:
        """Write what the job of a seeded run leaves behind."""
        name, body = OUTPUT[self.stage]
        self._upload(f"artifacts/{run_id(number)}/{name}", body)

    def _record(self, number: int) -> StageRecord:
        run, began = run_id(number), datetime.now(UTC) - _AGE
        event = self._event(run)
        trigger = Trigger(
            id=f"{run}.before.done",
            type=event.TYPE,
            source="//baton/bench",
            time=began,
            traceparent=f"00-{number:032x}-{number:016x}-01",
            message_id=str(10**15 + number),
            body=parse_object(encode_body(event), "event"),
        )
        config = self._spec.model_dump(mode="json", exclude_none=True)
        record = StageRecord(
            run_id=run, stage=self.stage, pipeline="inflight", state=State.CLAIMED, trigger=trigger, config=config
        )
        phase = "custom-job" if self.kind == "vertex" else "dataflow"
        name = f"inflight-{self.stage}-{run}-a1"
        kind = "custom-job" if self.kind == "vertex" else "dataflow"
        job = JobRef(id=self.job_id(number), name=name, kind=kind, location=REGION, state="JOB_STATE_PENDING")
        by = "bench-1-00000000"
        claimed = record.moved(State.CLAIMED, now=began, by=by)
        launching = claimed.moved(
            State.LAUNCHING, now=began, by=by, phase_name=phase, attempt=1, settles_at=began, not_before=None
        )
        running = launching.moved(State.RUNNING, now=began, by=by, phase_name=phase, job=job)
        return running.model_copy(update={"writer": f"{number:032x}"})

    def _labels(self, record: StageRecord) -> dict[str, str]:
        of_ledger = {"baton-ledger": BUCKET, "baton-pipeline": "inflight", "baton-attempt": "1"}
        return of_ledger | {"baton-run": record.run_id, "baton-stage": self.stage}

    def _put(self, record: StageRecord) -> None:
        self._upload(f"runs/{record.run_id}/{self.stage}.json", record.to_json())
        self._upload(f"inflight/{self.stage}/{record.run_id}", b"")

    def _upload(self, name: str, body: bytes) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            address = urlsplit(self._endpoints["STORAGE_EMULATOR_HOST"])
            connection = self._local.connection = http.client.HTTPConnection(
                str(address.hostname), address.port, timeout=60
            )
        path = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(name, safe='')}"
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{name} was not written: {answer.status} {text[:300]!r}")

    def _jobs(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        address = urlsplit(self._addresses["jobs"])
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {text[:300]!r}")
        return dict(json.loads(text))

    # -- events ------------------------------------------------------------------------------------------------------

    def publish(self, numbers: Iterable[int]) -> None:
        """Publish the event that starts the stage, for each run."""
        messages = []
        for number in numbers:
            event = self._event(run_id(number))
            envelope = Envelope(f"{run_id(number)}.before.done", run_id(number), "//bench", datetime.now(UTC), event)
            data, attributes = encode(envelope)
            messages.append({"data": data, "attributes": dict(attributes)})
        topic = topic_path(PROJECT, self._event("r").TOPIC)
        for begin in range(0, len(messages), 500):
            self._publisher.publish(request={"topic": topic, "messages": messages[begin : begin + 500]}, timeout=60)

    def _event(self, run: str) -> Event:
        if self.stage == "preprocess":
            return DataReady(pipeline="inflight", source="gs://bench/data.csv")
        return PreprocessDone(
            pipeline="inflight",
            dataset_uri=f"gs://{BUCKET}/artifacts/{run}/preprocess-a1",
            train_examples=8,
            eval_examples=2,
            rejected_rows=0,
            digest="sha256:0",
            job=Job(id="2026-01-01_00_00_00-1", name=f"inflight-preprocess-{run}-a1", attempt=1),
        )

    def listen(self) -> "queue.SimpleQueue[tuple[str, float]]":
        """Return a queue of (run id, CLOCK_MONOTONIC) of the stage's next events, from now on."""
        name = f"projects/{PROJECT}/subscriptions/bench-inflight"
        self._subscriber.create_subscription(name=name, topic=topic_path(PROJECT, TELLS[self.stage]), timeout=30)
        told: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()

        def pull() -> None:
            while True:
                try:
                    answer = self._subscriber.pull(subscription=name, max_messages=1000, timeout=30)
                    now = time.monotonic()
                    for received in answer.received_messages:
                        told.put((received.message.attributes["ce-subject"], now))
                    if answer.received_messages:
                        ids = [received.ack_id for received in answer.received_messages]
                        self._subscriber.acknowledge(subscription=name, ack_ids=ids, timeout=30)
                except google_errors.DeadlineExceeded:
                    continue  # nothing came; look again
                except (google_errors.GoogleAPIError, ValueError):
                    return  # our channel has been closed: the measurement is over; whoever waits for events finds none

        self._listener = threading.Thread(target=pull, daemon=True, name="bench-listen")
        self._listener.start()
        return told

    # -- processes ---------------------------------------------------------------------------------------------------

    def _start_cloud(self) -> None:
        endpoints = self.folder / "cloud" / "endpoints.json"
        parts = "metadata,pubsub,storage"
        self._spawn("localcloud", ["localcloud", "--data-dir", str(endpoints.parent), "--parts", parts])
        self.wait(endpoints.exists, _START_LIMIT_S, "the local cloud's start")
        self._endpoints = json.loads(endpoints.read_text())

    def _start_jobs(self) -> None:
        file = self.folder / "jobs.json"
        self._spawn("jobs", ["bench.inflight.jobs", str(file)])
        self.wait(file.exists, _START_LIMIT_S, "the jobs service's start")
        self._addresses = json.loads(file.read_text())

    def _connect(self) -> None:
        argv = [sys.executable, "-m", "baton", "setup"]
        done = subprocess.run(
            argv, cwd=child.ROOT, env=self._environment(), capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        channel = self._channel = grpc.insecure_channel(self._endpoints["PUBSUB_EMULATOR_HOST"])
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))

    def _environment(self) -> dict[str, str]:
        served = {}
        if self._addresses:
            jobs = self._addresses["jobs"]
            served = {"BATON_DATAFLOW_ENDPOINT": jobs, "BATON_AIPLATFORM_ENDPOINT": jobs}
            served["STORAGE_EMULATOR_HOST"] = self._addresses["storage"]
        return child.house_environment(self.folder, self._endpoints | served)

    def _spawn(self, name: str, arguments: list[str]) -> None:
        self._processes[name] = child.spawn(arguments, self._environment(), self._log(name))

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def run_id(number: int) -> str:
    """Return a run's id, as long as those that a bucket's notification gives."""
    return f"inflight-{number:016d}"


def pss_bytes(process: psutil.Process) -> int:
    """Return the process's proportional memory."""
    return int(process.memory_full_info().pss)


def cpu_s(process: psutil.Process) -> float:
    """Return the processor time that the process has had."""
    times = process.cpu_times()
    return float(times.user + times.system)
