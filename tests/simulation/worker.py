"""A worker process of the simulation: the real stage, engine, intake and loop, over one process's view of the services.

A slot is a place where such a process runs: when it dies, a new one with a new name comes up there after a while, as a
supervisor would do it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.simulation.faults import Faults
from tests.simulation.network import FAST, Network, Trace
from tests.simulation.pubsub import Broker, WorkerPublisher
from tests.simulation.rest import Resource, TaskRest
from tests.simulation.scheduler import Process, Scheduler, TaskHost
from tests.simulation.storage import Bucket, WorkerObjects, WorkerSources
from workers.data_ready import read_data_ready
from workers.dataflow import Dataflow
from workers.deploy import Deploy
from workers.engine import Engine, Policy
from workers.errors import PipelineError
from workers.intake import Intake, Reader, read_event
from workers.ledger import Entry, Ledger
from workers.loop import Loop
from workers.pipeline import PipelineSpec
from workers.preprocess import DataflowPhase, Preprocess
from workers.record import StageRecord
from workers.settings import Settings
from workers.stage import Stage
from workers.train import CustomJobPhase, Train
from workers.vertex import CustomJobs, Vertex

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
NEWER_FIELD = "of_a_newer_version"
_RESTART_S = (1.0, 5.0, 20.0, 60.0)


class MemoryCatalog:
    """`workers.pipeline.Catalog` without files."""

    def __init__(self, specs: dict[str, PipelineSpec]) -> None:
        self._specs = specs

    def get(self, name: str) -> PipelineSpec:
        if name not in self._specs:
            raise PipelineError(f"pipeline {name!r} is unknown; known are {', '.join(self._specs)}")
        return self._specs[name]

    def triggered_by(self, object_name: str) -> PipelineSpec | None:
        return next((s for s in self._specs.values() if s.trigger and object_name.startswith(s.trigger.prefix)), None)


class TaskVertex(Vertex):
    """`workers.vertex.Vertex` over the simulated service."""

    def __init__(self, rest: TaskRest) -> None:
        super().__init__("project")
        self._rest = rest

    def rest(self, location: str) -> TaskRest:
        return self._rest


class NewerLedger(Ledger):
    """The ledger as a later version will write it: with a field that this version does not know."""

    def claim(self, record: StageRecord) -> Entry:
        return super().claim(record.model_copy(update={NEWER_FIELD: record.run_id}))


@dataclass(slots=True)
class Parts:
    """The services and what else all workers of a history share."""

    scheduler: Scheduler
    faults: Faults
    random: random.Random
    bucket: Bucket
    broker: Broker
    dataflow: Resource
    vertex: Resource
    catalog: MemoryCatalog
    ways: tuple[float, ...] = FAST
    trace: Trace | None = None
    errors: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Make:
    """What makes the protocol's objects of a worker; planted bugs put their own in."""

    engine: Callable[..., Engine] = Engine
    intake: Callable[..., Intake] = Intake
    ledger: Callable[..., Ledger] = Ledger
    loop: Callable[..., Loop] = Loop
    dataflow: Callable[..., Dataflow] = Dataflow
    custom_jobs: Callable[..., CustomJobs] = CustomJobs
    deploy: Callable[..., Deploy] = Deploy
    objects: Callable[..., WorkerObjects] = WorkerObjects


@dataclass(slots=True)
class Slot:
    """A place for one worker process of a stage.

    Args:
        skew_s: how far its machine's clock is off.
        settings: its own, for versions side by side may be set differently.
    """

    name: str
    stage: str
    parts: Parts
    make: Make
    settings: Settings
    policy: Policy
    skew_s: float = 0.0
    lives: int = 0
    process: Process = field(default_factory=lambda: Process("nobody"))

    def start(self) -> None:
        """Bring up a new process."""
        parts, self.lives = self.parts, self.lives + 1
        name = f"{self.name}.{self.lives}"
        self.process = process = Process(name, self._restart)
        network = Network(parts.scheduler, process, self.name, parts.faults, parts.random, parts.ways, parts.trace)
        ledger = self.make.ledger(self.make.objects(parts.bucket, network))
        stage, read = self._stage(network, ledger)
        publisher = WorkerPublisher(parts.broker, network)
        engine = self.make.engine(
            stage, ledger, publisher, self._clock, name, self.policy, lambda: parts.random.random()
        )
        intake = self.make.intake(stage, ledger, publisher, parts.catalog, self._clock, name, read)
        loop = self.make.loop(stage, engine, intake, self.settings, TaskHost(parts.scheduler, process))
        parts.broker.consumers.setdefault(stage.subscription, {})[self.name] = (process, loop.on_message)
        parts.scheduler.spawn(process, loop.run)

    def is_awake(self) -> bool:
        """Tell whether the process is up and no fault holds it."""
        process = self.process
        return process.is_alive and not process.paused and process.frozen_until <= self.parts.scheduler.now

    def _restart(self) -> None:
        scheduler = self.parts.scheduler
        scheduler.at(scheduler.now + self.parts.random.choice(_RESTART_S), self.start)

    def _clock(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.parts.scheduler.now + self.skew_s)

    def _stage(self, network: Network, ledger: Ledger) -> tuple[Stage, Reader]:
        parts, settings = self.parts, self.settings
        sources = WorkerSources(parts.bucket, network)
        if self.stage == "preprocess":
            rest = TaskRest("dataflow", parts.dataflow, network, parts.scheduler, parts.random)
            phase = DataflowPhase(self.make.dataflow(rest, "project"), sources, settings)
            preprocess: Stage = Preprocess(phase)
            return preprocess, read_data_ready(parts.catalog, sources)  # type: ignore[arg-type]
        vertex = TaskVertex(TaskRest("vertex", parts.vertex, network, parts.scheduler, parts.random))
        if self.stage == "train":
            train: Stage = Train(CustomJobPhase(self.make.custom_jobs(vertex), sources, settings))
            return train, read_event(train.consumes)
        objects = self.make.objects(parts.bucket, network)
        deploy: Stage = self.make.deploy(vertex, settings, sources, objects, ledger)
        return deploy, read_event(deploy.consumes)


def settings(**given: Any) -> Settings:
    """Return a worker's settings, for virtual time."""
    values: dict[str, Any] = {
        "project": "project", "bucket": "ledger", "region": "us-central1", "pipelines_dir": Path(), "image_prefix": "i",
        "image_tag": "t", "service_account": "", "dataflow_endpoint": "", "aiplatform_endpoint": "",
        "poll_first_s": 1.0, "poll_max_s": 30.0, "sweep_s": 20.0, "cancel_s": 20.0, "strays_s": 40.0, "settle_s": 10.0,
        "backoff_first_s": 2.0, "threads": 4,
    }  # fmt: skip
    return Settings(**{**values, **given})
