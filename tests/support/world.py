"""An in-memory world for the workers' real code: an object store, a publisher, a provider of jobs, and a clock to move.

Each implements the real interface (`workers.objects.Objects`, `workers.publisher.Publisher`, `workers.stage.Phase`).
Faults come in through `on_effect`: a hook that is called before and after every effect, and may raise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from messages import DataReady, Event, PreprocessDone
from workers.errors import Conflict
from workers.objects import Versioned
from workers.pipeline import PipelineSpec
from workers.record import JobRef
from workers.stage import Context, JobState, JobStatus

Hook = Callable[[str, str], None]


class Crash(BaseException):
    """The process dies here; not an Exception, so that nothing in the product can survive it."""


@dataclass
class VirtualClock:
    """A clock that only moves when told."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def _nothing(_moment: str, _effect: str) -> None:
    return


@dataclass
class MemoryObjects:
    """`Objects` in a dict, with real generations."""

    on_effect: Hook = _nothing
    contents: dict[str, Versioned] = field(default_factory=dict)
    generation: int = 0

    def read(self, name: str) -> Versioned | None:
        self.on_effect("before", f"read {name}")
        return self.contents.get(name)

    def write(self, name: str, content: bytes, *, if_generation: int) -> int:
        self.on_effect("before", f"write {name}")
        there = self.contents[name].generation if name in self.contents else 0
        if there != if_generation:
            raise Conflict(name, if_generation)
        self.generation += 1
        self.contents[name] = Versioned(content, self.generation)
        self.on_effect("after", f"write {name}")
        return self.generation

    def delete(self, name: str) -> None:
        self.on_effect("before", f"delete {name}")
        self.contents.pop(name, None)
        self.on_effect("after", f"delete {name}")

    def list(self, prefix: str) -> Iterator[str]:
        return iter(sorted(name for name in self.contents if name.startswith(prefix)))


@dataclass
class MemoryPublisher:
    """`Publisher` that keeps what was published."""

    on_effect: Hook = _nothing
    published: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        self.on_effect("before", f"publish {topic}")
        self.published.append((topic, data, dict(attributes)))
        self.on_effect("after", f"publish {topic}")

    def ids(self, topic: str) -> list[str]:
        return [attributes.get("ce-id", "") for name, _, attributes in self.published if name == topic]


@dataclass
class MemoryJobs:
    """One phase on an in-memory provider, which starts a job for each `create`, as Vertex AI does."""

    name: str = "job"
    on_effect: Hook = _nothing
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    collected: dict[str, Any] = field(default_factory=lambda: {"dataset_uri": "gs://bucket/dataset"})
    refuse: Exception | None = None
    is_made_by_launches: bool = True

    def find(self, context: Context) -> JobRef | None:
        self.on_effect("before", "find")
        ids = [
            i
            for i, job in self.jobs.items()
            if job["name"] == context.job_name and job["state"] is not JobState.CANCELLED
        ]
        return self._ref(ids[0]) if ids else None

    def create(self, context: Context) -> JobRef:
        self.on_effect("before", "create")
        if self.refuse is not None:
            raise self.refuse
        job_id = f"job-{len(self.jobs) + 1}"
        self.jobs[job_id] = {"name": context.job_name, "state": JobState.ACTIVE}
        self.on_effect("after", "create")
        twins = [
            i for i, job in self.jobs.items() if job["name"] == context.job_name and job["state"] is JobState.ACTIVE
        ]
        for twin in twins[1:]:
            self.jobs[twin]["state"] = JobState.CANCELLED
        return self._ref(twins[0])

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        return {job.id: JobStatus(self.jobs[job.id]["state"]) for job in jobs}

    def cancel(self, job: JobRef) -> None:
        self.on_effect("before", "cancel")
        if self.jobs[job.id]["state"] is JobState.ACTIVE:
            self.jobs[job.id]["state"] = JobState.CANCELLED

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return dict(self.collected)

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return ("the last line",)

    def end(self, job_id: str, state: JobState) -> None:
        self.jobs[job_id]["state"] = state

    def states(self) -> list[JobState]:
        return [job["state"] for job in self.jobs.values()]

    def _ref(self, job_id: str) -> JobRef:
        return JobRef(id=job_id, name=self.jobs[job_id]["name"], kind="memory")


@dataclass
class MemoryStage:
    """A stage over `MemoryJobs`: data-ready in, preprocess-done out."""

    phases: tuple[MemoryJobs, ...]
    attempts: int = 2
    deadline_s: float = 3600.0
    name: str = "preprocess"
    subscription: str = "preprocess-worker"
    consumes: type[Event] = DataReady

    def limits(self, spec: PipelineSpec) -> tuple[int, float]:
        return self.attempts, self.deadline_s

    def result(self, context: Context) -> Event:
        given = {key: value for phase in self.phases for key, value in context.record.yields[phase.name].items()}
        return PreprocessDone(pipeline=context.spec.name, params=context.params, **given)
