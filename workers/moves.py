"""What every step of the protocol needs: the record's context, its phase, and the move from one state to the next."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from messages import Event
from messages.codec import decode_body
from messages.events import Parameters
from workers.errors import TransientError
from workers.ledger import Entry, Ledger
from workers.logs import logger
from workers.pipeline import PipelineSpec
from workers.record import Outcome, StageRecord, State, Trigger
from workers.stage import Context, Phase, Stage
from workers.steps import Clock, Policy

_ClaimedWith = tuple[PipelineSpec, Parameters, Event]
_CLAIMS_KEPT = 1000


class Moves:
    """The ledger as one worker of one stage moves it.

    Args:
        worker: this process's unique name.
        clock: the time, aware.

    `cancelled` holds the runs of which it is known that they are being cancelled: to read the tombstone of each run at
    every look at its job would cost a call per job.
    """

    def __init__(self, stage: Stage, ledger: Ledger, clock: Clock, worker: str, policy: Policy) -> None:
        self.stage = stage
        self.ledger = ledger
        self.clock = clock
        self.worker = worker
        self.policy = policy
        self.cancelled: set[str] = set()
        # Several threads keep and drop: each call on it is one step, where to look for the oldest and then drop it is two.
        self._claims: OrderedDict[tuple[str, datetime], _ClaimedWith] = OrderedDict()
        self.phases: tuple[Phase, ...] = (*stage.phases, *getattr(stage, "cleanup", ()))

    def intend(self, record: StageRecord) -> StageRecord:
        """Return a new claim with the intent of its first launch in it."""
        now = self.clock()
        settles_at = now + timedelta(seconds=self.policy.settle_s)
        return record.moved(
            State.LAUNCHING, now=now, by=self.worker, phase_name=self.phases[0].name, attempt=1, settles_at=settles_at
        )

    def move(self, entry: Entry, state: State, **changes: Any) -> Entry:
        """Write the next state; raises Conflict where somebody else wrote first."""
        record, now = entry.record, self.clock()
        if state is State.LAUNCHING:
            not_before = changes.setdefault("not_before", None)
            changes["settles_at"] = max(now, not_before or now) + timedelta(seconds=self.policy.settle_s)
        note = changes.pop("note", "")
        phase = self.phases[changes.get("phase", record.phase)].name
        moved = record.moved(state, now=now, by=self.worker, phase_name=phase, note=note, **changes)
        written = self.ledger.move(entry, moved)
        logger(run_id=record.run_id, stage=record.stage, attempt=moved.attempt).info(
            "state", state=state.value, phase=phase, note=note, job_id=moved.job.id if moved.job else None,
            outcome=moved.outcome.value if moved.outcome else None,
        )  # fmt: skip
        return written

    def void(self, run_id: str) -> StageRecord:
        """Return the record of a stage that was never claimed and never will be: its run was cancelled."""
        now = self.clock()
        nothing = Trigger(id="", type="", source="", time=now, body={})
        return StageRecord(
            run_id=run_id,
            stage=self.stage.name,
            pipeline="",
            state=State.CLAIMED,
            trigger=nothing,
            config={},
            outcome=Outcome.CANCELLED,
        ).moved(State.PUBLISHED, now=now, by=self.worker, note="cancelled before it was claimed")

    def phase(self, record: StageRecord) -> Phase:
        """Return the phase that the record is in: one of the stage's, or one of those that clean up."""
        return self.phases[record.phase]

    def is_last(self, record: StageRecord) -> bool:
        """Tell whether the stage has its result after this phase."""
        return record.phase == len(self.stage.phases) - 1

    def is_cleaning(self, record: StageRecord) -> bool:
        """Tell whether the attempt has failed already, and what it made is being taken away."""
        return record.phase >= len(self.stage.phases)

    def is_optional(self, record: StageRecord) -> bool:
        """Tell whether the outcome is certain already: no failure and no cancellation changes it in this phase."""
        return self.is_cleaning(record) or getattr(self.phase(record), "is_optional", False)

    def next_phase(self, record: StageRecord) -> int | None:
        """Return the number of the phase after this one, or None after the last of all."""
        return record.phase + 1 if record.phase + 1 < len(self.phases) else None

    def first_cleanup(self) -> int | None:
        """Return the number of the first phase that cleans up, or None where there is none."""
        return len(self.stage.phases) if len(self.phases) > len(self.stage.phases) else None

    def deadline_s(self, record: StageRecord) -> float:
        """Return how long one phase may take."""
        return self.stage.limits(self.context(record).spec)[1]

    def attempts(self, record: StageRecord) -> int:
        """Return how many attempts the pipeline allows."""
        return self.stage.limits(self.context(record).spec)[0]

    def is_late(self, record: StageRecord) -> bool:
        """Tell whether this process slept between its intent and its deed: by now the intent may be somebody else's."""
        return self.is_long_ago(self._intended(record))

    def is_long_ago(self, time: datetime) -> bool:
        """Tell whether what was seen at `time` may be true no more."""
        return self.clock() - time >= timedelta(seconds=self.policy.late_s)

    def settled(self, record: StageRecord) -> datetime:
        """Return when anybody may take the intent over; its owner's own setting counts, not ours."""
        if record.settles_at is not None:
            return record.settles_at
        return max(record.since, record.not_before or record.since) + timedelta(seconds=self.policy.settle_s)

    def _intended(self, record: StageRecord) -> datetime:
        return max(record.since, record.not_before or record.since)

    def context(self, record: StageRecord) -> Context:
        """Return what a phase may know."""
        spec, params, event = self._claimed_with(record)
        return Context(record=record, spec=spec, params=params, event=event, fence=self._fence(record))

    def _claimed_with(self, record: StageRecord) -> _ClaimedWith:
        """Return what the claim set and no step changes; it is parsed once, not at every step."""
        key = (record.run_id, record.history[0].time)
        found = self._claims.get(key)
        if found is None:
            found = self._claims[key] = (
                PipelineSpec.model_validate(_known(PipelineSpec, record.config)),
                Parameters.model_validate(record.params),
                decode_body(record.trigger.type, json.dumps(record.trigger.body).encode()),
            )
            if len(self._claims) > _CLAIMS_KEPT:
                self._claims.popitem(last=False)
        return found

    def _fence(self, record: StageRecord) -> Callable[[], None]:
        def fence() -> None:
            if self.is_late(record):
                raise TransientError("late: look again before doing anything", retry_after_s=0.0)

        return fence


def _known(model: type[BaseModel], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `model` knows of `body`, at every level.

    A run may have been claimed by a newer version whose pipelines have more keys; this one carries it on without them. (In a
    TOML an unknown key is a slip of the pen, and an error.)
    """
    known = {}
    for name, field in model.model_fields.items():
        if name in body:
            section = _section_of(field.annotation)
            value = body[name]
            known[name] = _known(section, value) if section and isinstance(value, Mapping) else value
    return known


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, by itself or as one of several choices; None where it holds none."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), None)
