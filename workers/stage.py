"""What a stage is: an event comes in, one or more phases run, the next event goes out.

A phase is one job of one provider: find it, create it, watch it, collect what it left. Preprocessing and training have
one phase each; a rollout has several. `workers.engine` drives all of them by the same protocol, so that launching once,
adopting after a crash and trying again are written once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from messages import Event, Parameters
from workers.pipeline import PipelineSpec
from workers.record import JobRef, StageRecord


class JobState(Enum):
    """What we need to know of a provider's state."""

    WAITING = "waiting"  # for another run, not for a provider: no deadline counts
    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job's state now.

    Args:
        provider_state: the provider's own word.
        message: its explanation of a failure.
        retry: whether another attempt could end otherwise (`workers.failures`).
        ended_at: when the provider says that it ended, where it says so.
    """

    state: JobState
    provider_state: str = ""
    message: str = ""
    retry: bool = True
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a phase may know: the record, and what it was claimed with.

    Args:
        fence: raises TransientError if this process is late, that is, if its intent may be somebody else's by now. A
            phase that reads before it writes calls it in between.
        is_alone: tells whether up to now nobody else can have launched for this attempt: then there is no twin to look for.
    """

    record: StageRecord
    spec: PipelineSpec
    params: Parameters
    event: Event
    fence: Callable[[], None] = lambda: None
    is_alone: Callable[[], bool] = lambda: False

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def attempt(self) -> int:
        return self.record.attempt

    @property
    def job_name(self) -> str:
        """Follows from pipeline, stage, run and attempt: whoever launches computes the same name."""
        return f"{self.spec.name}-{self.record.stage}-{self.run_id}-a{self.attempt}"

    @property
    def labels(self) -> dict[str, str]:
        """What a job is found by again; label values take lower case, digits, hyphen and 63 characters."""
        return {
            "baton-pipeline": self.spec.name,
            "baton-run": self.run_id,
            "baton-stage": self.record.stage,
            "baton-attempt": str(self.attempt),
        }

    def yielded(self, phase: str, key: str) -> Any:
        """Return what an earlier phase of this attempt gave."""
        return self.record.yields[phase][key]


class Phase(Protocol):
    """One job of a stage. Any method may raise TransientError; find and create also StageError.

    A phase may also have `patience_s`, how long it may take to launch where that is less than the stage's deadline;
    `is_optional`: its failure is only said, and a cancellation comes too late for it; and `is_made_by_launches`: what it
    finds was launched for this very attempt, so where nobody can have launched yet there is nothing to find.
    """

    name: str

    def find(self, context: Context) -> JobRef | None:
        """Return this attempt's job if the provider has it, of several the one that counts; None otherwise."""

    def create(self, context: Context) -> JobRef:
        """Start the job and return it; where two were started, only the one that counts is left running."""

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        """Return each job's status by its id; a job missing from the answer was not to be learned this time."""

    def cancel(self, job: JobRef) -> None:
        """Ask the provider to stop the job; that it has ended already is as good."""

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        """Return what the succeeded job gave, checked.

        Raises:
            BadOutput: it is not what the next step needs.
        """

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        """Return the job's last words, for people; empty where the provider has none."""


class Stage(Protocol):
    """One room of the pipeline.

    A stage may also have `cleanup: tuple[Phase, ...]`: phases that take back what a failed or cancelled attempt made.
    """

    name: str
    subscription: str
    consumes: type[Event]
    phases: tuple[Phase, ...]

    def limits(self, spec: PipelineSpec) -> tuple[int, float]:
        """Return (attempts, deadline in seconds) of this stage in `spec`; PipelineError where it has no such stage."""

    def result(self, context: Context) -> Event:
        """Return the next event, out of what all phases gave."""
