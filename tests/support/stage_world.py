"""One stage on the in-memory world, with as many worker processes as a test wants, and a runtime that a test drives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from messages import DataReady, Envelope, encode
from tests.support.world import MemoryJobs, MemoryObjects, MemoryPublisher, MemoryStage, VirtualClock
from workers.engine import Done, Engine, Later, Next, Policy, Watch
from workers.intake import Intake, Message, read_event
from workers.ledger import Ledger
from workers.pipeline import Catalog
from workers.record import StageRecord
from workers.stage import JobState

SETTLE_S = 10.0


class StageWorld:
    """One stage, any number of worker processes over the same stores."""

    def __init__(self, tmp_path: Path, phases: int = 1) -> None:
        (tmp_path / "p.toml").write_text('name = "p"\n[preprocess]\ntemplate = "t.json"\n')
        self.clock = VirtualClock()
        self.objects = MemoryObjects()
        self.publisher = MemoryPublisher()
        self.jobs = [MemoryJobs(name=f"phase-{i}") for i in range(phases)]
        self.stage = MemoryStage(tuple(self.jobs))
        self.ledger = Ledger(self.objects)
        self.catalog = Catalog(tmp_path)

    def engine(self, worker: str = "w1") -> Engine:
        policy = Policy(settle_s=SETTLE_S, backoff_first_s=1)
        return Engine(self.stage, self.ledger, self.publisher, self.clock, worker, policy, jitter=lambda: 0.5)

    def intake(self, worker: str = "w1") -> Intake:
        args = (self.stage, self.ledger, self.publisher, self.catalog, self.clock, worker, read_event(DataReady))
        return Intake(*args)

    def message(self, run_id: str = "r1", event_id: str = "e1", **body: Any) -> Message:
        event = DataReady.model_validate({"pipeline": "p", "source": "gs://b/x.csv", **body})
        data, attributes = encode(Envelope(event_id, run_id, "//test", self.clock.now, event))
        return Message(data, attributes, "m1", 1)

    def watched(self) -> tuple[Engine, Watch]:
        """Begin `r1`; return a worker and what it watches, the run's first job."""
        self.intake().accept(self.message())
        engine = self.engine()
        watch = engine.advance("r1")
        assert isinstance(watch, Watch)
        return engine, watch

    def hook(self, hook: Callable[[str, str], None]) -> None:
        self.objects.on_effect = self.publisher.on_effect = hook
        for jobs in self.jobs:
            jobs.on_effect = hook

    def record(self, run_id: str = "r1") -> StageRecord:
        entry = self.ledger.read(run_id, "preprocess")
        assert entry is not None
        return entry.record

    def drive(self, worker: str = "w1", end: JobState = JobState.SUCCEEDED, steps: int = 50) -> Next:
        """Act as a worker's runtime until the run is done: time passes, jobs end as `end`."""
        engine = self.engine(worker)
        after = engine.advance("r1")
        for _ in range(steps):
            match after:
                case Done():
                    return after
                case Later(wait_s):
                    self.clock.move(wait_s)
                    after = engine.advance("r1")
                case Watch(entry, job):
                    for jobs in self.jobs:
                        if job.id in jobs.jobs and jobs.jobs[job.id]["state"] is JobState.ACTIVE:
                            jobs.end(job.id, end)
                    status = self.jobs[entry.record.phase].statuses([job])[job.id]
                    after = engine.observe(entry, status)
        raise AssertionError(f"not done after {steps} steps: {after}")
