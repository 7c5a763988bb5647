"""The events of a past run, as the ledger recorded them: what a retry and a replay publish again."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from messages import Event
from messages.codec import decode_body
from messages.topics import listeners, stage_of
from messages.versions import to_current
from workers.record import StageRecord


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """The event that began a stage, or would have begun it.

    Args:
        stage: the stage that it is for.
        body: the event's JSON.
        time: when it was published, aware.
    """

    stage: str
    type: str
    id: str
    source: str
    time: datetime
    body: dict[str, Any]

    @property
    def event(self) -> Event:
        """The event itself.

        Raises:
            DecodeError: of a version that this Baton does not know any more.
        """
        return decode_body(self.type, json.dumps(self.body).encode())

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "time": self.time.isoformat()}


def events_of(records: Iterable[StageRecord]) -> dict[str, RecordedEvent]:
    """Return the event of each stage that was begun, and of one that was told and never begun, by stage."""
    found: dict[str, RecordedEvent] = {}
    told: list[RecordedEvent] = []
    for record in records:
        trigger = record.trigger
        if trigger.type:  # a stage that was closed without ever being claimed has none
            found[record.stage] = RecordedEvent(
                record.stage, trigger.type, trigger.id, trigger.source, trigger.time, trigger.body
            )
        if record.result:
            told += _told(record, str(record.result["type"]), dict(record.result["body"]))
    for event in told:
        found.setdefault(event.stage, event)
    return found


def _told(record: StageRecord, event_type: str, body: dict[str, Any]) -> list[RecordedEvent]:
    """Return the stage's own event as that of the next one; none for an outcome."""
    event_class, _ = to_current(event_type, body)
    source, event_id = f"//baton/workers/{record.stage}", f"{record.run_id}.{record.stage}.done"
    return [
        RecordedEvent(stage_of(queue), event_type, event_id, source, record.since, body)
        for queue in listeners(event_class.TOPIC)
    ]
