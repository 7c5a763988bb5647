"""Baton as it stands for the measurement: the local cloud and four workers, each a process, over one folder.

Nothing is set but where things are: every time, every durability and every size of a pool is the product's default. The
pipelines' jobs are the no-op ones of `job.py`; one pipeline for each sleep, since a run sets no options of a job.
"""

import json
import py_compile
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from baton.setup import wanted_subscription
from bench import child
from bench.child import PROJECT
from bench.overhead import third
from messages import DataReady, Envelope, encode
from messages.topics import SUBSCRIPTIONS, TRAIN_DONE, topic_path

JOB = Path(__file__).with_name("job.py")
# The rollout worker stands by, as it would in every house; no event of this chain is for it.
WORKERS = ("workers.preprocess", "workers.train", "bench.overhead.third", "workers.deploy")
_STEPS = {"noop-beam": "A", "noop-trainer": "B", third.IMAGE: "C"}
_PIPELINE = """name = "{name}"
[preprocess]
template = "templates/noop.json"
[preprocess.options]
seconds = {seconds}
[train]
image = "noop-trainer"
[train.options]
seconds = {seconds}
[deploy]
image = "noop-serving"
endpoint = "noop"
"""
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 15.0
_POLL_S = 0.02


class StartError(RuntimeError):
    """A process of the system did not come up; with its last words."""


class System:
    """The standing system; ends with the `with` block.

    Args:
        folder: everything it keeps.
        sleeps_ms: what a step may sleep, a pipeline each.
    """

    def __init__(self, folder: Path, sleeps_ms: Iterable[int] = (0, 100)) -> None:
        self.folder = folder
        self.marks = folder / "marks"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._endpoints: dict[str, str] = {}
        self._seen: dict[str, dict[str, float]] = {}
        self._read_bytes = 0
        self._sleeps_ms = list(sleeps_ms)

    def __enter__(self) -> Self:
        try:
            self._write_files()
            self._start_cloud()
            self._set_up()
            for module in WORKERS:
                self._spawn(module, [module])
            for module in WORKERS:
                self._wait(lambda module=module: b'"ready"' in self._log(module).read_bytes(), module)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def trigger(self, run: str, sleep_ms: int = 0) -> None:
        """Publish `data-ready` of a run; returns when Pub/Sub has it."""
        event = DataReady(pipeline=f"noop-{sleep_ms}", source="gs://bench/data.csv")
        data, attributes = encode(Envelope(f"{run}.data-ready", run, "//bench", datetime.now(UTC), event))
        request = {
            "topic": topic_path(PROJECT, DataReady.TOPIC),
            "messages": [{"data": data, "attributes": dict(attributes)}],
        }
        self._publisher.publish(request=request, timeout=30)

    def seen(self) -> dict[str, dict[str, float]]:
        """Return the marks by run, each by step and edge (`Astart`), in seconds of CLOCK_MONOTONIC.

        Only what is new is read: to read thousands of lines fifty times a second would take a good part of a processor.
        """
        with self.marks.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        whole, _, _ = new.rpartition(b"\n")
        self._read_bytes += len(whole) + 1 if whole else 0
        for line in whole.decode().splitlines():
            run, step, edge, at_s = line.split()
            self._seen.setdefault(run, {})[step + edge] = float(at_s)
        return self._seen

    def close(self) -> None:
        """End the workers, then the local cloud."""
        for name in [*(n for n in self.processes if n != "localcloud"), "localcloud"]:
            process = self.processes.pop(name, None)
            if process is None:
                continue
            child.end(process, _STOP_LIMIT_S)

    def _write_files(self) -> None:
        self.marks.touch()
        pipelines = self.folder / "pipelines"
        pipelines.mkdir()
        for sleep_ms in self._sleeps_ms:
            name = f"noop-{sleep_ms}"
            (pipelines / f"{name}.toml").write_text(_PIPELINE.format(name=name, seconds=sleep_ms / 1000))
        job = self.folder / "job.pyc"
        py_compile.compile(str(JOB), cfile=str(job), doraise=True)  # as an installed image would have it
        images = [
            f'[images.{image}]\ncommand = ["{{python}}", "-S", "-I", "{job}", "{step}"]\n'
            f'env = {{ BATON_BENCH_MARKS = "{self.marks}" }}\n'
            for image, step in _STEPS.items()
        ]
        (self.folder / "images.toml").write_text("".join(images))
        templates = self.folder / "deploy" / "templates"
        templates.mkdir(parents=True)
        image = f"us-central1-docker.pkg.dev/{PROJECT}/baton/noop-beam:latest"
        (templates / "noop.json").write_text(json.dumps({"image": image, "sdkInfo": {"language": "PYTHON"}}))

    def _start_cloud(self) -> None:
        endpoints = self.folder / "cloud" / "endpoints.json"
        self._spawn(
            "localcloud",
            ["localcloud", "--data-dir", str(endpoints.parent), "--images", str(self.folder / "images.toml")],
        )
        self._wait(endpoints.exists, "localcloud")
        self._endpoints = json.loads(endpoints.read_text())

    def _set_up(self) -> None:
        argv = [sys.executable, "-m", "baton", "setup"]
        done = subprocess.run(argv, cwd=child.ROOT, env=self._environment(), capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise StartError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        channel = grpc.insecure_channel(self._endpoints["PUBSUB_EMULATOR_HOST"])
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        SUBSCRIPTIONS[third.SUBSCRIPTION] = TRAIN_DONE
        subscriber.create_subscription(request=wanted_subscription(PROJECT, third.SUBSCRIPTION))
        # The rollout worker would put every model of the chain aside as one of no use: its queue takes none of them.
        idle = wanted_subscription(PROJECT, "deploy-worker") | {"filter": 'attributes.for = "nobody"'}
        try:
            subscriber.delete_subscription(subscription=idle["name"])
        except google_errors.NotFound as fault:
            raise StartError(f"`baton setup` made no {idle['name']}") from fault
        subscriber.create_subscription(request=idle)

    def _environment(self) -> dict[str, str]:
        return child.house_environment(self.folder, self._endpoints)

    def _spawn(self, name: str, arguments: list[str]) -> None:
        self.processes[name] = child.spawn(arguments, self._environment(), self._log(name))

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _wait(self, condition: Any, name: str) -> None:
        deadline_s = time.monotonic() + _START_LIMIT_S
        while not condition():
            code = self.processes[name].poll()
            if code is not None or time.monotonic() > deadline_s:
                said = self._log(name).read_text(errors="replace")[-3000:]
                raise StartError(f"{name} is not ready (exit code {code}); its log:\n{said}")
            time.sleep(_POLL_S)
