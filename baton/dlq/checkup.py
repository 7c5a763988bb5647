"""What a worker would say to a message now, without telling it: the worker's own code decodes it and checks the schema.

Nothing is written and nothing is published. What only the worker's machine knows (its folder of pipelines) is left open
where this machine has no such folder.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from baton.connections import Connections
from baton.dlq.letter import Content
from messages import DataReady, DecodeError, Envelope, Event, Filtered
from messages.codec import faults_of, parse_object
from messages.events import EVENTS
from messages.identity import ORIGINAL_ID
from messages.topics import DATA_READY, TOPICS, listeners, stage_of
from messages.triggers import is_notification
from messages.versions import to_current
from workers.data_ready import read_data_ready
from workers.errors import PipelineError
from workers.intake import Message, Reader, read_event
from workers.sources import Sources, StorageSources


class Verdict(StrEnum):
    """What would become of the message."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    FILTERED = "filtered"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: the field, what stands there, and the mend."""

    field: str
    value: str
    mend: str


@dataclass(frozen=True, slots=True)
class Checkup:
    """The answer.

    Args:
        reason: why it would not be accepted, or what to know if it would.
        faults: everything that the schema says against it.
        note: what could not be checked here.
    """

    verdict: Verdict
    run_id: str = ""
    reason: str = ""
    faults: list[Fault] = field(default_factory=list)
    note: str = ""

    @property
    def is_refused(self) -> bool:
        return self.verdict is Verdict.REFUSED


class Checker:
    """Answers for messages of one cloud."""

    def __init__(self, connections: Connections, sources: Sources | None = None) -> None:
        self._connections = connections
        self._sources: Sources = StorageSources(connections.small_objects) if sources is None else sources
        self._has_catalog = connections.profile.pipelines_dir.is_dir()

    def check(self, content: Content, topic: str, message_id: str) -> Checkup:
        """Tell what the worker that listens to `topic` would say.

        Args:
            message_id: the id under which the message was first published.
        """
        queues = listeners(topic)
        if not queues:
            return Checkup(Verdict.REFUSED, reason=_nobody_listens(topic))
        message = Message(content.data, {**content.attributes, ORIGINAL_ID: message_id}, message_id)
        if not self._has_catalog and topic == DATA_READY and is_notification(message.attributes):
            note = "a notification's pipeline is for the worker to say: this machine has no folder of pipelines"
            return Checkup(Verdict.ACCEPTED, note=note)
        try:
            envelope = self._reader(topic)(message)
            note = self._check_pipeline(envelope.event, stage_of(queues[0]))
        except Filtered as why:
            return Checkup(Verdict.FILTERED, reason=str(why))
        except (DecodeError, PipelineError) as why:
            return Checkup(Verdict.REFUSED, reason=str(why), faults=_faults(content, topic, why))
        return self._claimed(envelope, stage_of(queues[0]), note)

    def _reader(self, topic: str) -> Reader:
        if topic == DATA_READY:
            return read_data_ready(self._connections.catalog, self._sources)
        return read_event(_event_of(topic))

    def _check_pipeline(self, event: Event, stage: str) -> str:
        if not self._has_catalog:
            return "whether the pipeline and its parameters are known is for the worker to say: no folder of pipelines here"
        spec = self._connections.catalog.get(event.pipeline)
        if getattr(spec, stage, None) is None:
            raise PipelineError(f"pipeline {spec.name!r} has no [{stage}]; add it to {spec.name}.toml")
        spec.resolve(event.params)
        return ""

    def _claimed(self, envelope: Envelope, stage: str, note: str) -> Checkup:
        ledger, run_id = self._connections.ledger, envelope.run_id
        entry = ledger.read(run_id, stage)
        if entry is not None:
            reason = f"{stage} of run {run_id} is claimed already ({entry.record.state.value}): it would have no effect"
            return Checkup(Verdict.DUPLICATE, run_id, reason, note=note)
        if ledger.is_cancelled(run_id):
            return Checkup(Verdict.FILTERED, run_id, f"run {run_id} was cancelled", note=note)
        return Checkup(Verdict.ACCEPTED, run_id, f"{stage} of run {run_id} would begin", note=note)


def _nobody_listens(topic: str) -> str:
    where = f"no worker listens to topic {topic!r}" if topic else "it does not say which topic it was published to"
    return f"{where}; name one with `baton dlq redrive --to TOPIC` ({', '.join(t for t in TOPICS if listeners(t))})"


def _event_of(topic: str) -> type[Event]:
    return next(event for event in EVENTS if topic == event.TOPIC)


def _faults(content: Content, topic: str, why: Exception) -> list[Fault]:
    """Return all that the schema says, not the first fault alone; where it says nothing, the worker's own words."""
    found: list[DecodeError] = []
    try:
        body = parse_object(content.data, "data")
        event_class = _declared(content, topic, body)
        found = faults_of(event_class, body, "data") if event_class is not None else []
    except DecodeError as fault:
        found = [fault]
    if isinstance(why, DecodeError) and why.field not in {fault.field for fault in found}:
        found.insert(0, why)
    return [Fault(fault.field, _shown(fault.value), fault.mend) for fault in found]


def _declared(content: Content, topic: str, body: dict[str, Any]) -> type[Event] | None:
    if is_notification(content.attributes):
        return None  # its data is the object's resource, none of ours
    if "ce-type" in content.attributes:
        return to_current(content.attributes["ce-type"], body)[0]
    return DataReady if topic == DATA_READY else None


def _shown(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
