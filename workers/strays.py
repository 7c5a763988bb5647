"""Finds jobs that run although nobody counts on them, and stops them.

A job becomes a stray where a worker slept between its last look and its launch, launched late, and died before it could
look again: no ledger can prevent that, since the providers take no fencing token. What is decided here can never turn
wrong afterwards: an attempt that is over never comes back, and the job that a running record names stays the one.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from workers.errors import StageError, TransientError
from workers.ledger import Ledger
from workers.logs import logger
from workers.record import JobRef, Outcome, StageRecord, State

_UNANSWERED = 3  # so many jobs of which nothing was to be learned, and a search gives up until the next


@dataclass(frozen=True, slots=True)
class Labelled:
    """An active job, and which attempt of which run it says it is for."""

    job: JobRef
    run_id: str
    attempt: int


@runtime_checkable
class Searchable(Protocol):
    """A phase whose provider can list its active jobs."""

    name: str

    def active(self, known: Collection[str]) -> Iterator[Labelled]:
        """Yield the active jobs of this ledger, without those whose ids are `known`."""

    def is_active(self, job: JobRef) -> bool:
        """Tell whether the job runs now; a list may lie behind."""

    def cancel(self, job: JobRef) -> None: ...


class Strays:
    """The search, for one stage."""

    def __init__(self, stage: str, phases: Collection[object], ledger: Ledger) -> None:
        self._stage = stage
        self._phases = [phase for phase in phases if isinstance(phase, Searchable)]
        self._ledger = ledger

    def stop(self, known: Collection[str]) -> list[str]:
        """Stop every stray and return their ids; `known` jobs are watched here and need no look into the ledger.

        Raises:
            TransientError: a service did not answer; search again later.
        """
        stopped, unanswered = list[str](), list[TransientError]()
        for phase in self._phases:
            for found in phase.active(known):  # one by one: what is found before a region that is away is stopped
                try:
                    if self._stop_if_stray(phase, found):
                        stopped.append(found.job.id)
                except TransientError as fault:  # of this one job, or of all: the next search tells
                    logger(run_id=found.run_id, job_id=found.job.id).warning("stray-unanswered", reason=str(fault))
                    unanswered.append(fault)
                    if len(unanswered) == _UNANSWERED:
                        raise
        if unanswered:
            raise unanswered[0]
        return stopped

    def _stop_if_stray(self, phase: Searchable, found: Labelled) -> bool:
        try:
            entry = self._ledger.read(found.run_id, self._stage)
        except ValueError as fault:
            # Whether its job counts nobody can say; the others are searched all the same.
            logger(run_id=found.run_id, stage=self._stage).error("record-unreadable", reason=str(fault))
            return False
        if entry is None or not is_stray(entry.record, phase.name, found) or not phase.is_active(found.job):
            return False
        log = logger(run_id=found.run_id, stage=self._stage, job_id=found.job.id)
        log.warning("stray-stopped", attempt=found.attempt)
        try:
            phase.cancel(found.job)
        except StageError as fault:
            log.warning("cancel-refused", reason=str(fault))
        return True


def is_stray(record: StageRecord, phase: str, found: Labelled) -> bool:
    """Tell whether nobody counts on the job, now or ever again; a run without a record is somebody else's."""
    if found.attempt != record.attempt:
        return found.attempt < record.attempt
    if record.state in (State.FINISHED, State.PUBLISHED):
        return found.job.kind != "deployed-model" or record.outcome is not Outcome.SUCCEEDED
    if record.state is State.RUNNING and record.job is not None and record.history[-1].phase == phase:
        return record.job.id != found.job.id and record.job.kind == found.job.kind
    return False
