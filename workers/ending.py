"""How an attempt fails, how a stage ends, and how its outcome is told once.

An attempt that fails is first cleaned up after, where the stage has phases for that (a rollout takes back its traffic and
its deployment); then comes the next attempt, or the end.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from messages import Event, StageFailed
from messages.codec import decode_body, encode_body, parse_object
from messages.errors import DecodeError
from messages.events import Job
from workers.errors import BadOutput
from workers.ledger import Entry
from workers.logs import logger
from workers.moves import Moves
from workers.publisher import Publisher, publish_event
from workers.record import Ending, Failure, Outcome, StageRecord, State
from workers.steps import Done, Next

_TEXT_LIMIT, _LINE_LIMIT, _TAIL_LINES = 4000, 2000, 100  # characters, characters, lines


class Ends:
    """The steps from a failure or a success to the published outcome.

    Args:
        jitter: a float in [0, 1), to spread retries.
    """

    def __init__(self, moves: Moves, publisher: Publisher, jitter: Callable[[], float]) -> None:
        self._moves = moves
        self._publisher = publisher
        self._jitter = jitter

    def attempt_failed(self, entry: Entry, failure: Failure, *, retry: bool) -> Entry | Next:
        """Clean up, then try again or give up."""
        record, failure = entry.record, bounded(failure)
        again = retry and record.attempt < self._moves.attempts(record)
        logger(run_id=record.run_id, stage=record.stage, attempt=record.attempt).warning(
            "attempt-failed", reason=failure.reason, message=failure.message, retry=again
        )
        return self._end_attempt(entry, Ending.AGAIN if again else Ending.FAILED, failure)

    def cancelled(self, entry: Entry) -> Entry | Next:
        """Clean up, then end as cancelled."""
        run_id = entry.record.run_id
        mend = f"try it again with `baton retry {run_id}`"
        failure = Failure(reason="cancelled", message=f"run {run_id} was cancelled", mend=mend)
        return self._end_attempt(entry, Ending.CANCELLED, failure)

    def cleaned_up(self, entry: Entry) -> Entry | Next:
        """Go on after the last phase of the cleaning up."""
        record = entry.record
        assert record.failure is not None  # set with the ending
        assert record.ending is not None
        return self._conclude(entry, record.ending, record.failure)

    def succeeded(self, entry: Entry, yields: dict[str, dict[str, Any]], note: str = "") -> Entry | Next:
        """Keep the stage's result, to be published; one that no event can hold is a failure."""
        record = entry.record.model_copy(update={"yields": yields})
        context = self._moves.context(record)
        try:
            result = _result(self._moves.stage.result(context))
        except (DecodeError, ValueError) as fault:  # a job's own words: too large, not finite, of another type
            mend = f"let the job write what its event can hold (docs/events.md), then `baton retry {record.run_id}`"
            failure = Failure(reason=BadOutput.reason, message=f"the result cannot be told: {fault}", mend=mend)
            return self.attempt_failed(entry, failure, retry=False)
        return self._moves.move(
            entry,
            State.FINISHED,
            yields=yields,
            failure=None,  # an earlier attempt's, of which the history tells
            outcome=Outcome.SUCCEEDED,
            result=result,
            note=note,
        )

    def publish(self, entry: Entry) -> Entry:
        """Tell the outcome; told twice, its id makes it one event."""
        record = entry.record
        assert record.result is not None  # set with this state, always
        event = decode_body(record.result["type"], json.dumps(record.result["body"]).encode())
        publish_event(
            self._publisher,
            event,
            event_id=f"{record.run_id}.{record.stage}.{'done' if record.outcome is Outcome.SUCCEEDED else 'failed'}",
            run_id=record.run_id,
            source=f"//baton/workers/{record.stage}",
            time=record.since,
            traceparent=record.trigger.traceparent,
        )
        return self._moves.move(entry, State.PUBLISHED)

    def close(self, entry: Entry) -> Done:
        """Take the marker away: the last step of all."""
        self._moves.ledger.unmark(entry.record.run_id, entry.record.stage)
        return Done(entry.record)

    def _end_attempt(self, entry: Entry, ending: Ending, failure: Failure) -> Entry | Next:
        first = self._moves.first_cleanup()
        if first is None or (not entry.record.yields and not entry.record.phase):
            return self._conclude(entry, ending, failure)
        return self._moves.move(
            entry, State.LAUNCHING, phase=first, ending=ending, failure=failure, job=None, note=failure.reason
        )

    def _conclude(self, entry: Entry, ending: Ending, failure: Failure) -> Entry | Next:
        match ending:
            case Ending.AGAIN:
                return self._next_attempt(entry, failure)
            case Ending.CANCELLED:
                return self._finish(entry, Outcome.CANCELLED, failure)
            case Ending.FAILED:
                return self._finish(entry, Outcome.FAILED, failure)

    def _next_attempt(self, entry: Entry, failure: Failure) -> Entry:
        record, policy = entry.record, self._moves.policy
        backoff_s = min(policy.backoff_first_s * 2 ** (record.attempt - 1), policy.backoff_max_s)
        wait = timedelta(seconds=backoff_s * (0.75 + self._jitter() / 2))
        return self._moves.move(
            entry,
            State.LAUNCHING,
            attempt=record.attempt + 1,
            phase=0,
            yields={},
            job=None,
            ending=None,
            failure=failure,
            not_before=self._moves.clock() + wait,
            note=failure.reason,
        )

    def _finish(self, entry: Entry, outcome: Outcome, failure: Failure) -> Entry:
        record = entry.record
        event = StageFailed(
            pipeline=record.pipeline,
            params=self._moves.context(record).params,
            stage=record.stage,
            attempts=record.attempt,
            reason=failure.reason,
            message=failure.message,
            mend=failure.mend,
            log_tail=list(failure.log_tail),
            job=_job(record),
        )
        return self._moves.move(
            entry, State.FINISHED, outcome=outcome, failure=failure, result=_result(event), note=failure.reason
        )


def bounded(failure: Failure) -> Failure:
    """Return the failure with no more text than an event can hold, and none that UTF-8 cannot say.

    It quotes what providers, jobs and models answered: a megabyte of it would make a failure that cannot be told.
    """
    lines = failure.log_tail[-_TAIL_LINES:]
    return failure.model_copy(
        update={
            "message": _shortened(failure.message, _TEXT_LIMIT),
            "mend": _shortened(failure.mend, _TEXT_LIMIT),
            "log_tail": tuple(_shortened(line, _LINE_LIMIT) for line in lines),
        }
    )


def _shortened(text: str, limit: int) -> str:
    said = text.encode(errors="replace").decode()
    return said if len(said) <= limit else f"{said[: limit - 1]}…"


def _job(record: StageRecord) -> Job | None:
    return Job(id=record.job.id, name=record.job.name, attempt=record.attempt) if record.job else None


def _result(event: Event) -> dict[str, Any]:
    return {"type": event.TYPE, "body": parse_object(encode_body(event), "result")}
