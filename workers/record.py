"""One stage of one run, as the ledger keeps it: its state, what it runs, what came of it, and how it got there.

States: claimed → launching → running → finished → published. A stage with several phases (the rollout) goes from running
back to launching with the next phase. The history is also the timeline: it is appended to, and only where steps repeat
themselves the last takes the place of those between.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

FORMAT = 1
STEPS_TOLD = 5  # of a row of steps alike in state, attempt, phase and job: the first ones and the last
RESOURCE = "resource"


class State(StrEnum):
    CLAIMED = "claimed"
    LAUNCHING = "launching"
    RUNNING = "running"
    FINISHED = "finished"
    PUBLISHED = "published"


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Ending(StrEnum):
    """What comes after the cleaning up of an attempt that failed."""

    AGAIN = "again"
    FAILED = "failed"
    CANCELLED = "cancelled"


class _Frozen(BaseModel):
    # Fields of a newer version are kept: workers of two versions may move the same record in turn.
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class JobRef(_Frozen):
    """A job as its provider knows it.

    Args:
        id: the provider's id or full resource name.
        name: the name we gave it.
        kind: which API it belongs to: dataflow, custom-job, operation …; or `RESOURCE`: it is there, nothing runs.
        location: region.
        state: the provider's own name of its state when last looked at.
        data: what the phase must remember of it.
    """

    id: str
    name: str
    kind: str
    location: str = ""
    state: str = ""
    data: dict[str, Any] = {}


class Failure(_Frozen):
    """Why a stage has no result; `reason` is a short code, the rest is for people."""

    reason: str
    message: str
    mend: str
    log_tail: tuple[str, ...] = ()


class Trigger(_Frozen):
    """The event that started the stage, whole, so that a run can be replayed from the ledger alone.

    Args:
        message_id: the Pub/Sub message whose claim this is; any other that asks for the same is a duplicate.
        parent_run: the run that this one tries again, where it does.
    """

    id: str
    type: str
    source: str
    time: datetime
    traceparent: str | None = None
    message_id: str = ""
    parent_run: str | None = None
    body: dict[str, Any]


class Transition(_Frozen):
    """One line of the timeline: who moved the stage to which state, when, and a word why.

    Args:
        left_out: how many steps like this one came before it and are not told; None where all are.
    """

    state: State
    time: datetime
    by: str
    attempt: int = 0
    phase: str = ""
    job_id: str = ""
    note: str = ""
    left_out: int | None = None

    def is_like(self, other: "Transition") -> bool:
        """Tell whether the two differ only in who made them, when and why."""
        alike = (self.state, self.attempt, self.phase, self.job_id)
        return alike == (other.state, other.attempt, other.phase, other.job_id)


class StageRecord(_Frozen):
    """See the module's text.

    Args:
        not_before: an intent that waits (backoff) is not acted on earlier.
        settles_at: from then on the intent may be taken over by anybody.
        ending: set while a failed attempt is cleaned up after: what comes then.
        writer: unique per write; it tells our own lost answer from somebody else's step.
    """

    format: int = FORMAT
    run_id: str
    stage: str
    pipeline: str
    state: State
    attempt: int = 0
    phase: int = 0
    trigger: Trigger
    config: dict[str, Any]
    params: dict[str, Any] = {}
    job: JobRef | None = None
    yields: dict[str, dict[str, Any]] = {}
    not_before: datetime | None = None
    settles_at: datetime | None = None
    ending: Ending | None = None
    outcome: Outcome | None = None
    result: dict[str, Any] | None = None
    failure: Failure | None = None
    history: tuple[Transition, ...] = ()
    writer: str = ""

    @property
    def since(self) -> datetime:
        """When the record was last moved."""
        return self.history[-1].time

    @property
    def mover(self) -> str:
        """Who moved it last."""
        return self.history[-1].by

    def moved(
        self, state: State, *, now: datetime, by: str, phase_name: str = "", note: str = "", **changes: Any
    ) -> "StageRecord":
        """Return the record after a step, with the step in its history."""
        attempt = changes.get("attempt", self.attempt)
        job = changes.get("job", self.job)
        step = Transition(
            state=state,
            time=now,
            by=by,
            attempt=attempt,
            phase=phase_name,
            job_id=job.id if job is not None else "",
            note=note,
        )
        return self.model_copy(update={**changes, "state": state, "history": _appended(self.history, step)})

    def to_json(self) -> bytes:
        """Return the object's content."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "StageRecord":
        """Read the object's content; a ledger object that cannot be read is a defect and raises ValidationError."""
        return cls.model_validate_json(content)


def _appended(history: tuple[Transition, ...], step: Transition) -> tuple[Transition, ...]:
    """Return the history with one step more, short however long an outage lasts.

    The same again takes the place of the one before it: its newest time is enough. Workers that take an intent over from
    each other make steps that differ in their authors: of many alike the first are told, and the last.
    """
    if len(history) > 1 and step.model_copy(update={"time": history[-1].time}) == history[-1]:
        return (*history[:-1], step)
    if len(history) > STEPS_TOLD and all(told.is_like(step) for told in history[-STEPS_TOLD:]):
        left_out = (history[-1].left_out or 0) + 1
        return (*history[:-1], step.model_copy(update={"left_out": left_out}))
    return (*history, step)
