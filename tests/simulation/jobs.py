"""Simulated batch jobs, common to Dataflow and Vertex AI: their lives, their fates, and lists that lie behind.

A job that no record names does not end by itself unless it is `HASTY`: an orphan runs until somebody cancels it, so that
leaving one behind is always seen.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.simulation.faults import JOB, Faults, Hit, Kind
from tests.simulation.network import LAG_S
from tests.simulation.scheduler import Scheduler
from tests.simulation.storage import Bucket

ENDED = ("DONE", "SUCCEEDED", "FAILED", "CANCELLED")
_LOOK_AGAIN_S = 20.0
_CANCEL_TAKES_S = (0.2, 2.0, 15.0, 90.0)


@dataclass(slots=True)
class Job:
    """One job; `states` is its whole life, (since when, state without its prefix)."""

    id: str
    name: str
    labels: Mapping[str, str]
    location: str
    output: str
    created: float
    duration: float
    fate: Hit | None
    way: float  # seconds between the worker's decision to create it and its creation
    hidden_until: float
    states: list[tuple[float, str]] = field(default_factory=list)
    message: str = ""
    vanished_at: float | None = None

    @property
    def state(self) -> str:
        return self.states[-1][1]

    @property
    def is_active(self) -> bool:
        return self.vanished_at is None and self.state not in ENDED

    @property
    def ended_at(self) -> float:
        """When it ended, or infinity."""
        if self.vanished_at is not None:
            return self.vanished_at
        return self.states[-1][0] if self.state in ENDED else float("inf")

    def state_at(self, time: float) -> str:
        """Return the state as it was at `time`, or the first one."""
        return next((state for since, state in reversed(self.states) if since <= time), self.states[0][1])


class Jobs:
    """The jobs of one provider.

    Args:
        done: the provider's word for success.
        write_output: leaves at the job's output what it should leave; told whether it should be a bad one.
    """

    def __init__(
        self,
        kind: str,
        done: str,
        scheduler: Scheduler,
        faults: Faults,
        rng: random.Random,
        bucket: Bucket,
        write_output: Callable[[Job, bool], None],
    ) -> None:
        self.kind = kind
        self.done = done
        self.all: dict[str, Job] = {}
        self._scheduler = scheduler
        self._faults = faults
        self._random = rng
        self._bucket = bucket
        self._write_output = write_output

    def add(self, name: str, labels: Mapping[str, str], location: str, output: str, entered: float) -> Job:
        """Create a job and start its life."""
        now, rng = self._scheduler.now, self._random
        job = Job(
            id=f"{self.kind}-{len(self.all) + 1}",
            name=name,
            labels=labels,
            location=location,
            output=output,
            created=now,
            duration=rng.choice((3.0, 20.0, 60.0, 150.0, 300.0)),
            fate=self._faults.at(self.kind, f"job {name}", JOB, now, min(self._faults.rate * 15, 0.4)),
            way=now - entered,
            hidden_until=now + rng.choice((0.0, 0.5, 2.0, LAG_S)),
        )
        job.states.append((now, "PENDING"))
        self.all[job.id] = job
        self._scheduler.at(now + rng.choice((0.1, 2.0)), lambda: self._move(job, "RUNNING", ("PENDING",)))
        self._scheduler.at(now + job.duration, lambda: self._end(job))
        return job

    def cancel(self, job: Job) -> None:
        """Begin to cancel; what has ended stays as it ended."""
        if not job.is_active or job.state == "CANCELLING":
            return
        if job.fate is not None and job.fate.kind is Kind.OVERTAKES:
            self._scheduler.at(self._scheduler.now + 1.0, lambda: self._succeed(job))
            return
        self._move(job, "CANCELLING", ("PENDING", "RUNNING"))
        takes_s = self._random.choice(_CANCEL_TAKES_S)
        self._scheduler.at(self._scheduler.now + takes_s, lambda: self._move(job, "CANCELLED", ("CANCELLING",)))

    def find(self, job_id: str) -> Job | None:
        """Return the job as a get by its id sees it: for a moment after its creation it may not be there."""
        job = self.all.get(job_id)
        if job is None or job.vanished_at is not None or job.hidden_until > self._scheduler.now:
            return None
        return job

    def listed(self) -> list[tuple[Job, str]]:
        """Return the jobs and their states as a list sees them, which may lie behind."""
        now = self._scheduler.now
        then = now - self._random.choice((0.0, 0.0, 1.0, LAG_S))
        return [(j, j.state_at(then)) for j in self.all.values() if j.hidden_until <= now and j.vanished_at is None]

    def is_recorded(self, job: Job) -> bool:
        """Tell whether the ledger names the job."""
        there = self._bucket.contents.get(f"runs/{job.labels['baton-run']}/{job.labels['baton-stage']}.json")
        return there is not None and f'"{job.id}"'.encode() in there.content

    def _end(self, job: Job) -> None:
        if not job.is_active or job.state == "CANCELLING":
            return
        kind = None if job.fate is None else job.fate.kind
        if kind is not Kind.HASTY and not self.is_recorded(job):
            self._scheduler.at(self._scheduler.now + _LOOK_AGAIN_S, lambda: self._end(job))
            return
        match kind:
            case Kind.JOB_FAILS:
                job.message = "the replica exited with a non-zero status of 1"
                self._move(job, "FAILED", ("PENDING", "RUNNING"))
            case Kind.JOB_STOPS:
                job.message = "the machine was pre-empted"
                self._move(job, "FAILED", ("PENDING", "RUNNING"))
            case Kind.JOB_VANISHES:
                job.vanished_at = self._scheduler.now
            case Kind.JOB_HANGS:
                return
            case _:
                self._succeed(job)

    def _succeed(self, job: Job) -> None:
        if job.is_active:
            self._write_output(job, job.fate is not None and job.fate.kind is Kind.BAD_OUTPUT)
            self._move(job, self.done, ("PENDING", "RUNNING", "CANCELLING"))

    def _move(self, job: Job, state: str, allowed: tuple[str, ...]) -> None:
        if job.state in allowed and job.vanished_at is None:
            job.states.append((self._scheduler.now, state))
