"""How a job is launched once: the intent is in the ledger, then look, then launch, then write down what was launched.

An intent is left alone until it has settled; then anybody may take it over by compare-and-set, and looks first. Its late
owner, when it wakes, sees by its own clock that its time is up. Between that glance at the clock and the request's arrival
nothing can be checked by anybody; what is made twice there is resolved afterwards: by the provider module's second look,
by the loser of the compare-and-set (`_disown`), and, where both died, by `workers.strays`.

The first intent of an attempt is different as long as it is young and its owner has not tried: nobody can have launched
at it, so there is nothing to look for (`launch_new`). If it is young still when the launch is answered, nobody can have
launched beside it either, and the second look is left out too: whoever takes the intent over finds a job that is older.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from workers.ending import Ends, bounded
from workers.errors import Conflict, StageError, TransientError
from workers.ledger import Entry
from workers.logs import logger
from workers.moves import Moves
from workers.record import Failure, JobRef, StageRecord, State
from workers.stage import Context, Phase
from workers.steps import Later, Next

_NOTE_LIMIT = 200
_LATE = "late: looks again"
_BY_HAND = "look at the provider for what is left of it, and take that back by hand"
_CLAIM = (State.CLAIMED, State.LAUNCHING)
_BREATH_S = 0.1  # between looks that came too late, one after the other
_LONGEST_TRY = timedelta(seconds=60)  # hours that the worker itself was away do not count against a launch


@dataclass(frozen=True, slots=True)
class _Tries:
    """How long this worker has tried in vain to launch one phase of one attempt."""

    attempt: int
    phase: int
    last: datetime
    spent: timedelta = timedelta()

    def is_of(self, record: StageRecord) -> bool:
        return (self.attempt, self.phase) == (record.attempt, record.phase)


class Launches:
    """The steps from an intent to a running job."""

    def __init__(self, moves: Moves, ends: Ends) -> None:
        self._moves = moves
        self._ends = ends
        self._unclear: dict[str, datetime] = {}  # run id -> until when a job of ours may still turn up in the lists
        self._tries: dict[str, _Tries] = {}  # run id -> launches without an answer or with a "not now"

    def launch(self, entry: Entry, *, is_mine: bool = False) -> Entry | Next:
        """Make the next step of a record in `launching`.

        Args:
            is_mine: the caller wrote this very intent.
        """
        record, moves, now = entry.record, self._moves, self._moves.clock()
        if record.not_before is not None and record.not_before > now:
            wait_s = (record.not_before - now).total_seconds()
            # Long before its time nobody acts on an intent; close to it, its owner may be at it already.
            is_untouched = record.mover == moves.worker or wait_s > moves.policy.settle_s
            if record.run_id in moves.cancelled and is_untouched:
                return self._ends.cancelled(entry)
            return Later(wait_s)
        is_mine = is_mine or not _came_with_the_claim(record) or record.run_id in self._tries
        if record.mover != moves.worker or not is_mine:
            settled = moves.settled(record)
            if settled > now:
                return Later((settled - now).total_seconds())
            return moves.move(entry, State.LAUNCHING, note=f"taken over from {record.mover}")
        unclear_until = self._unclear.get(record.run_id, now)
        if unclear_until > now:  # whatever woke us, the lists have not settled
            return Later((unclear_until - now).total_seconds())
        self._unclear.pop(record.run_id, None)
        if not moves.is_optional(record) and moves.ledger.is_cancelled(record.run_id):
            return self._cancelled(entry)
        return self._start_job(entry)

    def launch_new(self, entry: Entry, *, is_claim: bool) -> Entry | Next:
        """Launch at the first intent of an attempt, which this process has just written and not acted on yet.

        Args:
            is_claim: it was written with the claim, before which somebody looked for the tombstone.
        """
        record, moves = entry.record, self._moves
        if record.run_id in moves.cancelled or not getattr(moves.phase(record), "is_made_by_launches", False):
            return self.launch(entry, is_mine=True)
        has_looked = is_claim and not moves.is_long_ago(record.history[0].time)
        if not has_looked and moves.ledger.is_cancelled(record.run_id):
            return self._ends.cancelled(entry)
        if moves.is_late(record):  # by now it may be somebody else's
            return self.launch(entry, is_mine=True)
        return self._start_job(entry, is_new=True)

    def _cancelled(self, entry: Entry) -> Entry | Next:
        """End the stage of a cancelled run; a job whose launch was answered to nobody is adopted first, and so stopped."""
        record, moves = entry.record, self._moves
        phase = moves.phase(record)
        if moves.first_cleanup() is not None:  # which takes away whatever is there
            return self._ends.cancelled(entry)
        try:
            job = phase.find(moves.context(record))
        except StageError as fault:
            log = logger(run_id=record.run_id, stage=record.stage, attempt=record.attempt)
            log.warning("search-refused", reason=str(fault))
            job = None
        if job is None:
            return self._ends.cancelled(entry)
        moves.cancelled.add(record.run_id)  # the first look at it stops it
        return self._write_down(entry, phase, job, is_ours=False)

    def _start_job(self, entry: Entry, *, is_new: bool = False) -> Entry | Next:
        record, moves = entry.record, self._moves
        context, phase = moves.context(record), moves.phase(record)
        if is_new:
            context = replace(context, is_alone=lambda: not moves.is_late(record))
        created = None
        try:
            job = None if is_new else phase.find(context)
            if job is None and (moves.is_late(record) or self._is_hopeless(record)):
                return self._look_again(entry, context)
            if job is None:
                job = created = self._create(phase, context)
        except StageError as fault:
            return self._refused(entry, fault)
        self._tries.pop(record.run_id, None)
        return self._write_down(entry, phase, job, is_ours=created is not None)

    def _count(self, record: StageRecord) -> None:
        tries, now = self._tries.get(record.run_id), self._moves.clock()
        if tries is None or not tries.is_of(record):
            tries = _Tries(record.attempt, record.phase, now)
        self._tries[record.run_id] = replace(tries, last=now, spent=tries.spent + min(now - tries.last, _LONGEST_TRY))

    def _limit_s(self, record: StageRecord) -> float:
        return min(self._moves.deadline_s(record), getattr(self._moves.phase(record), "patience_s", float("inf")))

    def _is_hopeless(self, record: StageRecord) -> bool:
        """Tell whether this worker has tried for long enough; who took the intent over meanwhile counts for nothing.

        Only launches count. A provider that cannot even be looked at is away for everybody: that is waited for.
        """
        tries = self._tries.get(record.run_id)
        return tries is not None and tries.is_of(record) and tries.spent > timedelta(seconds=self._limit_s(record))

    def _create(self, phase: Phase, context: Context) -> JobRef:
        try:
            return phase.create(context)
        except TransientError as fault:
            self._count(context.record)
            if not fault.ambiguous:
                raise
            raise self._unclear_launch(context.run_id, fault) from fault

    def _unclear_launch(self, run_id: str, fault: TransientError) -> TransientError:
        """Note that a job may exist without being listed yet: look again only when lists have settled."""
        settle_s = self._moves.policy.settle_s
        self._unclear[run_id] = self._moves.clock() + timedelta(seconds=settle_s)
        return TransientError(str(fault), ambiguous=True, retry_after_s=settle_s)

    def _write_down(self, entry: Entry, phase: Phase, job: JobRef, *, is_ours: bool) -> Entry:
        try:
            return self._moves.move(entry, State.RUNNING, job=job, note="" if is_ours else "adopted")
        except Conflict:
            if is_ours:
                self._disown(entry.record, phase, job)
            raise
        except TransientError as fault:
            if not is_ours:
                raise
            raise self._unclear_launch(entry.record.run_id, fault) from fault

    def _disown(self, before: StageRecord, phase: Phase, job: JobRef) -> None:
        """Stop a job that we launched too late: by now the record is somebody else's."""
        now = self._moves.ledger.read(before.run_id, before.stage)
        if now is None or _may_still_count(now.record, before, job):
            return
        log = logger(run_id=before.run_id, stage=before.stage, job_id=job.id)
        log.warning("late-job-cancelled")
        try:
            phase.cancel(job)
        except (StageError, TransientError) as fault:
            log.warning("cancel-refused", reason=str(fault))  # `workers.strays` will see it

    def _look_again(self, entry: Entry, context: Context) -> Entry | Next:
        """Write a new intent, since this one is too old to act on, or give up.

        A look that takes longer than an intent stays young comes too late every time: it counts as a try.
        """
        record, moves = entry.record, self._moves
        self._count(record)
        if not self._is_hopeless(record):
            again = moves.move(entry, State.LAUNCHING, note=_LATE)
            return again if record.history[-1].note != _LATE else Later(_BREATH_S)
        message = (
            f"{context.job_name} could not be launched ({moves.phase(record).name}) within {self._limit_s(record):g} s"
        )
        mend = (
            "read the worker's log for what the provider answered, mend that, and start a new run; where its answers only "
            f"take longer than {moves.policy.late_s:.1f} s, raise BATON_SETTLE_S, of which this is a third"
        )
        return self._failed(entry, Failure(reason="launch-deadline", message=message, mend=mend), retry=False)

    def _refused(self, entry: Entry, fault: StageError) -> Entry | Next:
        return self._failed(entry, failure_of(fault), retry=fault.retry)

    def _failed(self, entry: Entry, failure: Failure, *, retry: bool) -> Entry | Next:
        if not self._moves.is_optional(entry.record):
            return self._ends.attempt_failed(entry, failure, retry=retry)
        return skip(self._moves, self._ends, entry, failure.message)


def skip(moves: Moves, ends: Ends, entry: Entry, why: str) -> Entry | Next:
    """Leave out a phase that is not needed for the outcome: if it cannot be done, it must not hold the run for ever."""
    record, phase = entry.record, moves.phase(entry.record).name
    logger(run_id=record.run_id, stage=record.stage, attempt=record.attempt).error(
        "phase-skipped", phase=phase, reason=why
    )
    if moves.is_cleaning(record) and record.failure is not None:  # who reads of the failure has to know what is left
        failure = record.failure
        told = {"message": f"{failure.message}; and {phase} was given up: {why}", "mend": f"{_BY_HAND}; {failure.mend}"}
        entry = replace(entry, record=record.model_copy(update={"failure": bounded(failure.model_copy(update=told))}))
    return go_on(moves, ends, entry, {"skipped": why[:_NOTE_LIMIT]}, note=f"skipped: {why}"[:_NOTE_LIMIT])


def go_on(moves: Moves, ends: Ends, entry: Entry, given: dict[str, Any], note: str = "") -> Entry | Next:
    """Begin the phase after this one, or what comes after the last."""
    record = entry.record
    yields = {**record.yields, moves.phase(record).name: given}
    if moves.is_last(record):
        return ends.succeeded(entry, yields, note)
    following = moves.next_phase(record)
    if following is None:
        return ends.cleaned_up(entry)
    changes: dict[str, Any] = {} if moves.is_cleaning(record) else {"yields": yields}
    return moves.move(entry, State.LAUNCHING, phase=following, job=None, note=note, **changes)


def failure_of(fault: StageError, log_tail: tuple[str, ...] = ()) -> Failure:
    """Return an error as the ledger keeps it."""
    return Failure(reason=fault.reason, message=fault.message, mend=fault.mend, log_tail=log_tail)


def _came_with_the_claim(record: StageRecord) -> bool:
    """Tell whether the intent was written with the claim: while it is young, only the thread that wrote it may act on it.

    That thread takes a message, and the schedule, which keeps two threads from one run, does not know of it yet: a sweep or
    a second delivery may find the record before its writer has the answer.
    """
    return len(record.history) == len(_CLAIM) and tuple(step.state for step in record.history) == _CLAIM


def _may_still_count(now: StageRecord, before: StageRecord, job: JobRef) -> bool:
    if (now.attempt, now.phase) != (before.attempt, before.phase):
        return False
    return now.state is State.LAUNCHING or (now.job is not None and now.job.id == job.id)
