"""A message that was looked at, and what it says: one of our events, a bucket's notification, JSON, text or bytes."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from messages.codec import Envelope, decode, encode_body, format_time
from messages.errors import DecodeError
from messages.identity import run_id_of
from messages.triggers import is_notification


@dataclass(frozen=True, slots=True)
class SeenMessage:
    """A Pub/Sub message as somebody saw it.

    Args:
        size_bytes: of the message whole.
        is_cut: whether `data` is only its beginning.
        is_leased: whether a reader has it now; None where that cannot be known.
        failed_deliveries: how often it was given back or its deadline passed, as far as the subscription counts it;
            None where that cannot be known.
    """

    message_id: str
    publish_time: datetime
    attributes: Mapping[str, str]
    ordering_key: str
    data: bytes
    size_bytes: int
    is_cut: bool = False
    is_leased: bool | None = None
    failed_deliveries: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a message says.

    Args:
        title: an event's type, `OBJECT_FINALIZE gs://bucket/object`, or what else it is: `JSON`, `text`, `bytes`, `no data`.
        run_id: the run that it belongs to; "" where it is neither an event nor a notification.
        event: the event, where it can be read as one.
        fault: why what says that it is an event cannot be read as one; "" otherwise.
    """

    title: str
    run_id: str = ""
    event: Envelope | None = None
    fault: str = ""


def seen_of(message: Any) -> SeenMessage:
    """Return a received PubsubMessage."""
    return SeenMessage(
        message_id=message.message_id,
        publish_time=message.publish_time.astimezone(UTC),
        attributes=dict(message.attributes),
        ordering_key=message.ordering_key,
        data=bytes(message.data),
        size_bytes=type(message).pb(message).ByteSize(),
    )


def read(message: SeenMessage) -> Reading:
    """Read a message as a worker would."""
    attributes = message.attributes
    if is_notification(attributes):
        uri = f"gs://{attributes.get('bucketId', '?')}/{attributes.get('objectId', '?')}"
        return Reading(
            f"{attributes.get('eventType', 'notification')} {uri}", run_id_of(attributes, message.message_id)
        )
    if "ce-type" in attributes:
        run_id = run_id_of(attributes, message.message_id)
        try:
            event = decode(message.data, attributes)
        except DecodeError as fault:
            return Reading(attributes["ce-type"], run_id, fault="" if message.is_cut else str(fault))
        return Reading(event.type, run_id, event)
    return Reading(_kind(message))


def to_json(message: SeenMessage) -> dict[str, Any]:
    """Return a message as `--json` prints it."""
    reading = read(message)
    return {
        "message_id": message.message_id,
        "publish_time": format_time(message.publish_time),
        "title": reading.title,
        "run_id": reading.run_id,
        "attributes": dict(message.attributes),
        "ordering_key": message.ordering_key,
        "data": text_of(message.data),
        "data_base64": base64.b64encode(message.data).decode("ascii"),
        "size_bytes": message.size_bytes,
        "is_cut": message.is_cut,
        "event": None if reading.event is None else _event_json(reading.event),
        "fault": reading.fault,
        "is_leased": message.is_leased,
        "failed_deliveries": message.failed_deliveries,
    }


def text_of(data: bytes) -> str | None:
    """Return data as text, None where it is none."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def parsed(data: bytes) -> Any:
    """Return data as a JSON object or list, None where it is none."""
    if data[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _kind(message: SeenMessage) -> str:
    if not message.data:
        return "no data"
    if parsed(message.data) is not None:
        return "JSON"
    return "text" if text_of(message.data) is not None else "bytes"


def _event_json(event: Envelope) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "run_id": event.run_id,
        "source": event.source,
        "time": format_time(event.time),
        "parent_run": event.parent_run,
        "body": json.loads(encode_body(event.event)),
    }
