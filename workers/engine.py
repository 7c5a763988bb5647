"""Moves a stage of a run to its end: launch once, watch, try again, publish once.

`advance` and `observe` are idempotent and safe to call by anybody at any time: read the record, make one step, compare
and set. Every step has at most one effect outside the ledger, and stands between two ledger writes, so a process may die
between any two lines and another one carries on. The rules:

- before an effect, the intent is in the ledger (`launching`, by whom, since when);
- whoever makes the effect looks first whether it was made already (find, then create);
- an intent is left alone for `settle_s`; then anybody may take it over, and its late owner, when it wakes, sees by its
  own clock that its time is up, or loses the compare-and-set;
- the next event's id follows from run and stage: told twice, it is one event.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from messages import StageFailed
from messages.codec import decode_body, encode_body, parse_object
from messages.events import Job, Parameters
from workers.errors import Conflict, StageError, TransientError
from workers.ledger import Entry, Ledger
from workers.logs import logger
from workers.pipeline import PipelineSpec
from workers.publisher import Publisher, publish_event
from workers.record import Failure, JobRef, Outcome, StageRecord, State
from workers.stage import Context, JobState, JobStatus, Phase, Stage

Clock = Callable[[], datetime]
_STEPS_AT_ONCE = 64  # more steps without a wait than any stage has: a loop here is a defect


@dataclass(frozen=True, slots=True)
class Policy:
    """Times of the protocol, in seconds; see `workers.settings.TABLE`."""

    settle_s: float = 10.0
    backoff_first_s: float = 2.0
    backoff_max_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do here for this run; `record` is None where it was never claimed."""

    record: StageRecord | None


@dataclass(frozen=True, slots=True)
class Later:
    """Call `advance` again after `wait_s`."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Watch:
    """A job is running: look at its state, and tell `observe`."""

    entry: Entry
    job: JobRef


Next = Done | Later | Watch


class Engine:
    """The protocol of one stage.

    Args:
        worker: this process's unique name.
        clock: the time, aware.
        jitter: a float in [0, 1), to spread retries.
    """

    def __init__(
        self,
        stage: Stage,
        ledger: Ledger,
        publisher: Publisher,
        clock: Clock,
        worker: str,
        policy: Policy | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.stage = stage
        self.ledger = ledger
        self._publisher = publisher
        self._clock = clock
        self._worker = worker
        self._policy = policy or Policy()
        self._jitter = jitter

    def advance(self, run_id: str) -> Next:
        """Make every step that can be made now.

        Raises:
            TransientError: a service did not answer; call again later.
        """
        entry = self.ledger.read(run_id, self.stage.name)
        for _ in range(_STEPS_AT_ONCE):
            if entry is None:
                return Done(None)
            step = self._guarded(self._step, entry)
            if not isinstance(step, Entry):
                return step
            entry = step
        raise AssertionError(f"{self.stage.name} of run {run_id} made {_STEPS_AT_ONCE} steps without a wait")

    def observe(self, entry: Entry, status: JobStatus) -> Next:
        """Take note of a running job's state, and go on if it has ended.

        Raises:
            TransientError: a service did not answer; observe again later.
        """
        step = self._guarded(lambda e: self._observed(e, status), entry)
        return self.advance(step.record.run_id) if isinstance(step, Entry) else step

    def _guarded(self, step: Callable[[Entry], Entry | Next], entry: Entry) -> Entry | Next:
        """Make a step; if somebody else made one first, read again."""
        try:
            return step(entry)
        except Conflict:
            record = entry.record
            logger(run_id=record.run_id, stage=record.stage).info("step-lost", state=record.state)
            return self.ledger.read(record.run_id, record.stage) or Done(None)

    def _step(self, entry: Entry) -> Entry | Next:
        match entry.record.state:
            case State.CLAIMED:
                return self._move(entry, State.LAUNCHING, attempt=1)
            case State.LAUNCHING:
                return self._launch(entry)
            case State.RUNNING:
                assert entry.record.job is not None  # set with this state, always
                return Watch(entry, entry.record.job)
            case State.FINISHED:
                return self._publish(entry)
            case State.PUBLISHED:
                self.ledger.unmark(entry.record.run_id, self.stage.name)
                return Done(entry.record)

    # -- launching ---------------------------------------------------------------------------------------------------

    def _launch(self, entry: Entry) -> Entry | Next:
        record, now = entry.record, self._clock()
        if record.not_before is not None and record.not_before > now:
            return Later((record.not_before - now).total_seconds())
        if record.mover != self._worker:
            settled = max(record.since, record.not_before or record.since) + timedelta(seconds=self._policy.settle_s)
            if settled > now:
                return Later((settled - now).total_seconds())
            return self._move(entry, State.LAUNCHING, note=f"taken over from {record.mover}")
        if self.ledger.is_cancelled(record.run_id):
            return self._finish_cancelled(entry)
        return self._start_job(entry)

    def _start_job(self, entry: Entry) -> Entry | Next:
        context, phase = self._context(entry.record), self._phase(entry.record)
        try:
            job = phase.find(context)
            adopted = job is not None
            if job is None:
                if self._is_late(entry.record):
                    return self._move(entry, State.LAUNCHING, note="late: look again before launching")
                job = phase.create(context)
        except StageError as fault:
            return self._attempt_failed(entry, _failure(fault), retry=fault.retry)
        except TransientError as fault:
            if fault.ambiguous:
                # The job may exist by now without being listed yet: look again only when lists have settled.
                raise TransientError(str(fault), ambiguous=True, retry_after_s=self._policy.settle_s) from fault
            raise
        return self._move(entry, State.RUNNING, job=job, note="adopted" if adopted else "")

    def _is_late(self, record: StageRecord) -> bool:
        """Tell whether this process slept between its intent and its deed: by now the intent may be somebody else's."""
        return self._clock() - record.since >= timedelta(seconds=self._policy.settle_s)

    # -- watching ----------------------------------------------------------------------------------------------------

    def _observed(self, entry: Entry, status: JobStatus) -> Entry | Next:
        record, phase = entry.record, self._phase(entry.record)
        assert record.job is not None  # only running records are watched
        match status.state:
            case JobState.ACTIVE:
                return self._still_active(entry, record.job, phase)
            case JobState.SUCCEEDED:
                return self._phase_done(entry, record.job, phase)
            case JobState.CANCELLED if self.ledger.is_cancelled(record.run_id):
                return self._finish_cancelled(entry)
            case _:
                failure = Failure(
                    reason=f"job-{status.state.value}",
                    message=status.message
                    or f"job {record.job.id} ended as {status.provider_state or status.state.value}",
                    mend=f"read `baton logs {record.run_id} {record.stage}`, mend the cause, and start a new run",
                    log_tail=phase.log_tail(record.job),
                )
                return self._attempt_failed(entry, failure, retry=True)

    def _still_active(self, entry: Entry, job: JobRef, phase: Phase) -> Entry | Next:
        record = entry.record
        _, deadline_s = self.stage.limits(self._context(record).spec)
        if self.ledger.is_cancelled(record.run_id):
            phase.cancel(job)
            return Watch(entry, job)
        if self._clock() - record.since > timedelta(seconds=deadline_s):
            phase.cancel(job)
            failure = Failure(
                reason="deadline",
                message=f"job {job.id} ran longer than the stage's deadline of {deadline_s:g} s and was cancelled",
                mend=f"raise deadline_s under [{record.stage}] in the pipeline's TOML, or make the job smaller",
                log_tail=phase.log_tail(job),
            )
            return self._attempt_failed(entry, failure, retry=True)
        return Watch(entry, job)

    def _phase_done(self, entry: Entry, job: JobRef, phase: Phase) -> Entry | Next:
        record = entry.record
        try:
            given = phase.collect(self._context(record), job)
        except StageError as fault:
            return self._attempt_failed(entry, _failure(fault, phase.log_tail(job)), retry=fault.retry)
        yields = {**record.yields, phase.name: given}
        if record.phase + 1 < len(self.stage.phases):
            return self._move(entry, State.LAUNCHING, phase=record.phase + 1, yields=yields, job=None)
        done = record.model_copy(update={"yields": yields})
        event = self.stage.result(self._context(done))
        return self._move(
            entry,
            State.FINISHED,
            yields=yields,
            outcome=Outcome.SUCCEEDED,
            result={"type": event.TYPE, "body": parse_object(encode_body(event), "result")},
        )

    # -- ending ------------------------------------------------------------------------------------------------------

    def _attempt_failed(self, entry: Entry, failure: Failure, *, retry: bool) -> Entry | Next:
        record = entry.record
        attempts, _ = self.stage.limits(self._context(record).spec)
        logger(run_id=record.run_id, stage=record.stage, attempt=record.attempt).warning(
            "attempt-failed", reason=failure.reason, message=failure.message, retry=retry and record.attempt < attempts
        )
        if not retry or record.attempt >= attempts:
            return self._finish(entry, Outcome.FAILED, failure)
        backoff_s = min(self._policy.backoff_first_s * 2 ** (record.attempt - 1), self._policy.backoff_max_s)
        wait = timedelta(seconds=backoff_s * (0.75 + self._jitter() / 2))
        return self._move(
            entry,
            State.LAUNCHING,
            attempt=record.attempt + 1,
            phase=0,
            yields={},
            job=None,
            failure=failure,
            not_before=self._clock() + wait,
            note=failure.reason,
        )

    def _finish_cancelled(self, entry: Entry) -> Entry | Next:
        run_id = entry.record.run_id
        failure = Failure(
            reason="cancelled", message=f"run {run_id} was cancelled", mend="start a new run with `baton publish`"
        )
        return self._finish(entry, Outcome.CANCELLED, failure)

    def _finish(self, entry: Entry, outcome: Outcome, failure: Failure) -> Entry | Next:
        record = entry.record
        job = Job(id=record.job.id, name=record.job.name, attempt=record.attempt) if record.job else None
        context = self._context(record)
        event = StageFailed(
            pipeline=record.pipeline,
            params=context.params,
            stage=record.stage,
            attempts=record.attempt,
            reason=failure.reason,
            message=failure.message,
            mend=failure.mend,
            log_tail=list(failure.log_tail),
            job=job,
        )
        return self._move(
            entry,
            State.FINISHED,
            outcome=outcome,
            failure=failure,
            result={"type": event.TYPE, "body": parse_object(encode_body(event), "result")},
            note=failure.reason,
        )

    def _publish(self, entry: Entry) -> Entry | Next:
        record = entry.record
        assert record.result is not None  # set with this state, always
        event = decode_body(record.result["type"], _dumps(record.result["body"]))
        publish_event(
            self._publisher,
            event,
            event_id=f"{record.run_id}.{record.stage}.{'done' if record.outcome is Outcome.SUCCEEDED else 'failed'}",
            run_id=record.run_id,
            source=f"//baton/workers/{record.stage}",
            time=record.since,
            traceparent=record.trigger.traceparent,
        )
        return self._move(entry, State.PUBLISHED)

    # -- common ------------------------------------------------------------------------------------------------------

    def _move(self, entry: Entry, state: State, **changes: Any) -> Entry:
        record = entry.record
        if state is State.LAUNCHING:
            changes.setdefault("not_before", None)
        note = changes.pop("note", "")
        phase = self.stage.phases[changes.get("phase", record.phase)].name
        moved = record.moved(state, now=self._clock(), by=self._worker, phase_name=phase, note=note, **changes)
        written = self.ledger.move(entry, moved)
        logger(run_id=record.run_id, stage=record.stage, attempt=moved.attempt).info(
            "state", state=state.value, phase=phase, note=note, job_id=moved.job.id if moved.job else None,
            outcome=moved.outcome.value if moved.outcome else None,
        )  # fmt: skip
        return written

    def _phase(self, record: StageRecord) -> Phase:
        return self.stage.phases[record.phase]

    def _context(self, record: StageRecord) -> Context:
        return Context(
            record=record,
            spec=PipelineSpec.model_validate(record.config),
            params=Parameters.model_validate(record.params),
            event=decode_body(record.trigger.type, _dumps(record.trigger.body)),
        )


def _failure(fault: StageError, log_tail: tuple[str, ...] = ()) -> Failure:
    return Failure(reason=fault.reason, message=fault.message, mend=fault.mend, log_tail=log_tail)


def _dumps(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
