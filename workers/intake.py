"""What happens to a message: it becomes a claim in the ledger, or it is put aside with a reason.

The order is the promise: marker, claim, only then the acknowledgement. A crash before the claim leaves the message with
Pub/Sub; a crash after it leaves the claim and its marker for the sweep. No message is held while a job runs.

A message that claims nothing leaves a note of its fate, so that every message can be accounted for (`baton audit`); one that
does is named in the record, which costs nothing.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from messages import DecodeError, Envelope, Event, Filtered, decode
from messages.codec import encode_body, parse_object
from messages.topics import SUBSCRIPTIONS
from workers.engine import Clock
from workers.errors import Conflict, PipelineError
from workers.ledger import Entry, Ledger
from workers.logs import logger
from workers.pipeline import Catalog
from workers.publisher import Publisher, publish_dead_letter
from workers.record import StageRecord, State, Trigger
from workers.stage import Stage


@dataclass(frozen=True, slots=True)
class Message:
    """A delivered Pub/Sub message; `delivery_attempt` is None without a dead-letter policy."""

    data: bytes
    attributes: Mapping[str, str]
    message_id: str
    delivery_attempt: int | None = None


class Fate(StrEnum):
    """What became of a message; every one of them is acknowledged."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FILTERED = "filtered"
    DEAD_LETTERED = "dead-lettered"


@dataclass(frozen=True, slots=True)
class Disposition:
    """A message's fate; `run_id` where it belongs to one, `reason` where it starts nothing.

    Args:
        is_told: the ledger tells of this very message already: a redelivery of the one that was accepted.
        claim: what was written for a message that was accepted.
    """

    fate: Fate
    run_id: str = ""
    reason: str = ""
    is_told: bool = False
    claim: Entry | None = None


Reader = Callable[[Message], Envelope]
Intend = Callable[[StageRecord], StageRecord]
Begin = Callable[[Entry], None]
_NOTE_LIMIT = 1000  # characters; a hostile message must not fill the bucket
_LOG_LEVELS = {
    Fate.ACCEPTED: logging.INFO,
    Fate.DUPLICATE: logging.INFO,
    Fate.FILTERED: logging.WARNING,
    Fate.DEAD_LETTERED: logging.ERROR,
}


def read_event(consumes: type[Event]) -> Reader:
    """Return a reader that takes just our own events of the type `consumes`."""

    def read(message: Message) -> Envelope:
        envelope = decode(message.data, message.attributes)
        if not isinstance(envelope.event, consumes):
            topic = envelope.event.TOPIC
            raise DecodeError("ce-type", envelope.type, f"this queue takes {consumes.TYPE}; publish it to {topic!r}")
        return envelope

    return read


class Intake:
    """Turns messages into claims.

    Args:
        read: message to event; raises DecodeError, Filtered, PipelineError, or TransientError where it must ask around.
    """

    def __init__(
        self,
        stage: Stage,
        ledger: Ledger,
        publisher: Publisher,
        catalog: Catalog,
        clock: Clock,
        worker: str,
        read: Reader,
    ) -> None:
        self._stage = stage
        self._ledger = ledger
        self._publisher = publisher
        self._catalog = catalog
        self._clock = clock
        self._worker = worker
        self._read = read

    def accept(self, message: Message, intend: Intend | None = None, begin: Begin | None = None) -> Disposition:
        """Decide a message's fate and make it durable; the caller acknowledges when this returns.

        Args:
            intend: adds the intent to launch to a new claim, where the caller launches at once: one write for two.
            begin: told of a new claim as soon as there is one.

        Raises:
            TransientError: a service did not answer; the caller gives the message back.
        """
        disposition = self._decide(message, intend, begin)
        fate = disposition.fate
        if not disposition.is_told:
            note = {"fate": fate.value, "run_id": disposition.run_id, "reason": disposition.reason[:_NOTE_LIMIT]}
            self._ledger.note_fate(self._stage.subscription, message.message_id, note, self._clock())
        logger(
            message_id=message.message_id,
            delivery_attempt=message.delivery_attempt,
            stage=self._stage.name,
            run_id=disposition.run_id,
        ).log(_LOG_LEVELS[fate], fate.value, reason=disposition.reason)
        return disposition

    def _decide(self, message: Message, intend: Intend | None, begin: Begin | None) -> Disposition:
        try:
            envelope = self._read(message)
            record = self._record(envelope, message)
        except Filtered as why:
            return Disposition(Fate.FILTERED, reason=str(why))
        except (DecodeError, PipelineError) as why:
            self._dead_letter(message, str(why))
            return Disposition(Fate.DEAD_LETTERED, reason=str(why))
        return self._claim(record, intend, begin)

    def _record(self, envelope: Envelope, message: Message) -> StageRecord:
        event = envelope.event
        spec = self._catalog.get(event.pipeline)
        self._stage.limits(spec)  # has the pipeline this stage at all?
        params = spec.resolve(event.params)
        trigger = Trigger(
            id=envelope.id,
            type=envelope.type,
            source=envelope.source,
            time=envelope.time,
            traceparent=envelope.traceparent,
            message_id=message.message_id,
            parent_run=envelope.parent_run,
            body=parse_object(encode_body(event), "event"),
        )
        return StageRecord(
            run_id=envelope.run_id,
            stage=self._stage.name,
            pipeline=spec.name,
            state=State.CLAIMED,
            trigger=trigger,
            config=spec.model_dump(mode="json", exclude_none=True),
            params=params.given(),
        ).moved(State.CLAIMED, now=self._clock(), by=self._worker)

    def _claim(self, record: StageRecord, intend: Intend | None, begin: Begin | None) -> Disposition:
        run_id, stage = record.run_id, record.stage
        if self._ledger.is_cancelled(run_id):
            if self._ledger.read(run_id, stage) is not None:
                return self._duplicate(record)
            # A marker that an earlier delivery left stays: the sweep closes the stage (`Engine.advance`).
            return Disposition(Fate.FILTERED, run_id, f"run {run_id} was cancelled before its {stage} began")
        self._ledger.mark(run_id, stage)
        try:
            claim = self._ledger.claim(record if intend is None else intend(record))
        except Conflict:
            return self._duplicate(record)
        if begin is not None:
            begin(claim)
        return Disposition(Fate.ACCEPTED, run_id, is_told=True, claim=claim)

    def _duplicate(self, record: StageRecord) -> Disposition:
        run_id, stage = record.run_id, record.stage
        entry = self._ledger.read(run_id, stage)
        if entry is not None and entry.record.state is State.PUBLISHED:
            self._ledger.unmark(run_id, stage)  # our marker came after the work had ended
        claimed = entry.record.trigger if entry is not None else None
        same = claimed is not None and claimed.id == record.trigger.id
        told = "told again" if same else f"asked again by event {record.trigger.id}"
        return Disposition(
            Fate.DUPLICATE,
            run_id,
            f"{stage} of run {run_id} is claimed already ({told})",
            is_told=claimed is not None and claimed.message_id == record.trigger.message_id,
        )

    def _dead_letter(self, message: Message, reason: str) -> None:
        publish_dead_letter(
            self._publisher,
            message.data,
            message.attributes,
            reason=reason,
            subscription=self._stage.subscription,
            topic=SUBSCRIPTIONS[self._stage.subscription],
            message_id=message.message_id,
            delivery_attempt=message.delivery_attempt,
        )
