"""What a running job's state means for its record: go on watching, collect, try again, or end.

The next attempt begins only when the job of this one has ended: a job that is over its deadline or whose run was cancelled
is asked to stop, and watched until it has.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from workers.ending import Ends
from workers.errors import BadOutput, StageError, TransientError
from workers.held import Held
from workers.launching import failure_of, go_on, skip
from workers.ledger import Entry
from workers.logs import logger
from workers.moves import Moves
from workers.record import Failure, JobRef, StageRecord, State
from workers.stage import JobState, JobStatus, Phase
from workers.steps import Next, Watch


class Watches:
    """The steps from a job's state to the record's next."""

    def __init__(self, moves: Moves, ends: Ends) -> None:
        self._moves = moves
        self._ends = ends
        self._missing: dict[str, datetime] = {}  # job id -> since when its provider does not know it
        self._stopping: dict[str, datetime] = {}  # job id -> when this worker first asked for its end

    def hold(self, watch: Watch) -> Held:
        """Return what is kept of a watched job until its next look."""
        return Held.of(watch, self._moves.deadline_s(watch.entry.record))

    def goes_on(self, held: Held, status: JobStatus) -> bool:
        """Tell whether `observed` would only go on watching, without reading the record."""
        if status.state not in (JobState.ACTIVE, JobState.WAITING) or held.run_id in self._moves.cancelled:
            return False
        self._missing.pop(held.job.id, None)
        return status.state is JobState.WAITING or held.age_s(self._moves.clock()) <= held.deadline_s

    def observed(self, entry: Entry, status: JobStatus, asked_at: datetime) -> Entry | Next:
        """Make the step that a job's state at `asked_at` asks for."""
        record = entry.record
        assert record.job is not None  # only running records are watched
        if status.state is not JobState.VANISHED:
            self._missing.pop(record.job.id, None)
        if status.state not in (JobState.ACTIVE, JobState.WAITING):
            self._stopping.pop(record.job.id, None)
        match status.state:
            case JobState.ACTIVE | JobState.WAITING:
                return self._active(entry, record.job, status, asked_at)
            case JobState.SUCCEEDED:
                return self._succeeded(entry, record.job)
            case JobState.VANISHED if self._may_be_late(record.job, asked_at):
                return Watch(entry, record.job)
            case _:
                return self._ended_without_result(entry, record.job, status)

    def _active(self, entry: Entry, job: JobRef, status: JobStatus, asked_at: datetime) -> Entry | Next:
        record, moves = entry.record, self._moves
        said = f" ({status.message})" if status.message else ""
        phase, is_optional = moves.phase(record), moves.is_optional(record)
        if record.run_id in moves.cancelled and not is_optional:
            if status.state is JobState.WAITING:
                return self._ends.cancelled(entry)  # nothing runs yet
            self._stop(phase, job, record)
            return self._watch_it_stop(entry, job, f"cancelled{said}", asked_at)
        if status.state is JobState.ACTIVE and self._overdue_s(record) > 0:
            if is_optional:
                return skip(moves, self._ends, entry, f"{job.id} ran longer than {moves.deadline_s(record):g} s{said}")
            self._stop(phase, job, record)
            return self._watch_it_stop(entry, job, f"over its deadline{said}", asked_at)
        return Watch(entry, job)

    def _stop(self, phase: Phase, job: JobRef, record: StageRecord) -> None:
        """Ask for the job's end, at every look again; a refusal is only said: the next look shows what came of it."""
        try:
            phase.cancel(job)
        except StageError as fault:
            logger(run_id=record.run_id, stage=record.stage, job_id=job.id).warning("cancel-refused", reason=str(fault))

    def _watch_it_stop(self, entry: Entry, job: JobRef, why: str, seen_at: datetime) -> Entry | Next:
        record, moves = entry.record, self._moves
        # Counted from the first time that it was asked to stop: after a weekend without workers it has had no chance yet.
        # And until it was last seen: what a worker saw before it was held up says nothing of the time since.
        since = self._stopping.setdefault(job.id, moves.clock())
        if seen_at - since <= timedelta(seconds=moves.policy.stop_s):
            return Watch(entry, job)
        failure = Failure(
            reason="job-does-not-stop",
            message=f"job {job.id} is {why}, but has not ended {moves.policy.stop_s:g} s after it was asked to stop",
            mend=f"stop it at its provider by hand, then `baton retry {record.run_id}`",
            log_tail=moves.phase(record).log_tail(job),
        )
        del self._stopping[job.id]  # the last lines may have to be asked for again
        return self._ends.attempt_failed(entry, failure, retry=False)

    def _overdue_s(self, record: StageRecord) -> float:
        return (self._moves.clock() - record.since).total_seconds() - self._moves.deadline_s(record)

    def _may_be_late(self, job: JobRef, asked_at: datetime) -> bool:
        """Tell whether a job that its provider does not know may still turn up: answers can lie behind.

        It is missing only when two answers say so that were asked for with the settle time in between; how late an
        answer is looked at says nothing.
        """
        first = self._missing.setdefault(job.id, asked_at)
        if asked_at - first < timedelta(seconds=self._moves.policy.settle_s):
            return True
        del self._missing[job.id]
        return False

    def _succeeded(self, entry: Entry, job: JobRef) -> Entry | Next:
        record, moves = entry.record, self._moves
        phase = moves.phase(record)
        try:
            given = _sayable(phase.collect(moves.context(record), job), job)
        except StageError as fault:
            if moves.is_optional(record):
                return skip(moves, self._ends, entry, fault.message)
            return self._ends.attempt_failed(entry, failure_of(fault, phase.log_tail(job)), retry=fault.retry)
        except TransientError:
            if record.run_id in moves.cancelled and not moves.is_optional(record):
                return self._ends.cancelled(entry)  # nobody needs what the job left
            raise
        if self._comes_in_time(record) and moves.ledger.is_cancelled(record.run_id):
            return self._ends.cancelled(entry)
        return go_on(moves, self._ends, entry, given)

    def _comes_in_time(self, record: StageRecord) -> bool:
        """Tell whether a cancellation counts now, and would not if the run went on: what was made can be taken back."""
        moves = self._moves
        if moves.is_optional(record) or moves.first_cleanup() is None:
            return False
        return moves.is_last(record) or getattr(moves.phases[record.phase + 1], "is_optional", False)

    def _ended_without_result(self, entry: Entry, job: JobRef, status: JobStatus) -> Entry | Next:
        record, moves = entry.record, self._moves
        phase = moves.phase(record)
        said = status.message or f"job {job.id} ended as {status.provider_state or status.state.value}"
        if moves.is_optional(record):
            return skip(moves, self._ends, entry, said)
        if moves.ledger.is_cancelled(record.run_id):
            return self._ends.cancelled(entry)
        overdue = status.state is JobState.CANCELLED and self._overdue_s(record) > 0
        if status.state is JobState.CANCELLED and not overdue:
            twin = self._twin(entry, phase)
            if twin is not None:
                return moves.move(entry, State.RUNNING, job=twin, note="adopted: its twin was cancelled")
        failure = Failure(
            reason="deadline" if overdue else f"job-{status.state.value}",
            message=_overdue(job, moves.deadline_s(record)) if overdue else said,
            mend=_mend(record, status.state, overdue),
            log_tail=phase.log_tail(job),
        )
        # A job that somebody stopped at its provider is not started again behind their back.
        retry = status.retry and (overdue or status.state is not JobState.CANCELLED)
        return self._ends.attempt_failed(entry, failure, retry=retry)

    def _twin(self, entry: Entry, phase: Phase) -> JobRef | None:
        """Return another job of this attempt: ours may have been the younger of two, whose maker has seen the older.

        One that was this record's before is none: two that were both cancelled would be adopted in turns for ever.
        """
        record = entry.record
        try:
            found = phase.find(self._moves.context(record))
        except StageError:
            return None
        return None if found is None or any(step.job_id == found.id for step in record.history) else found


def _sayable(given: dict[str, Any], job: JobRef) -> dict[str, Any]:
    """Return what the phase gave; the ledger is JSON, and a number that is not finite or half a character is none."""
    try:
        json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as fault:
        raise BadOutput(f"what {job.id} left cannot be kept: {fault}", "let it write plain JSON in UTF-8") from fault
    return given


def _overdue(job: JobRef, deadline_s: float) -> str:
    return f"job {job.id} ran longer than the stage's deadline of {deadline_s:g} s and was cancelled"


def _mend(record: StageRecord, state: JobState, overdue: bool) -> str:
    if overdue:
        return f"raise deadline_s under [{record.stage}] in the pipeline's TOML, or make the job smaller"
    if state is JobState.CANCELLED:
        return f"it was cancelled at its provider, not by Baton; when it may run again: `baton retry {record.run_id}`"
    return f"read `baton logs {record.run_id} {record.stage}`, mend the cause, then `baton retry {record.run_id}`"
