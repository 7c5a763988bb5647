"""CloudEvents 1.0 in Pub/Sub's binary mode: attributes carry the context, the data is the event's JSON.

Source: CloudEvents "Google Cloud Pub/Sub Protocol Binding", where every context attribute is prefixed with `ce-` and
`datacontenttype` becomes `content-type`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from messages.errors import DecodeError
from messages.events import IN_WORDS, Event, is_run_id
from messages.versions import to_current

CONTENT_TYPE = "application/json"
SPEC_VERSION = "1.0"
MAX_DATA_BYTES = 1_000_000  # far above any event of ours, far below Pub/Sub's 10 MB
E = TypeVar("E", bound=Event)
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event with its context.

    Args:
        id: unique for this fact; a second publish of the same fact carries the same id.
        run_id: the run it belongs to (CloudEvents subject).
        source: who says so, a URI reference such as `//baton/workers/preprocess`.
        time: when it happened, aware, UTC.
        event: the fact.
        traceparent: W3C trace context, or None.
        parent_run: the run that this one tries again or plays again (CloudEvents extension `parentrun`), or None.
    """

    id: str
    run_id: str
    source: str
    time: datetime
    event: Event
    traceparent: str | None = None
    parent_run: str | None = None

    @property
    def type(self) -> str:
        return self.event.TYPE


def encode(envelope: Envelope) -> tuple[bytes, dict[str, str]]:
    """Return the data and the attributes of the Pub/Sub message that states `envelope`."""
    attributes = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": envelope.id,
        "ce-type": envelope.event.TYPE,
        "ce-source": envelope.source,
        "ce-subject": envelope.run_id,
        "ce-time": format_time(envelope.time),
        "content-type": CONTENT_TYPE,
    }
    if envelope.traceparent:
        attributes["traceparent"] = envelope.traceparent
    if envelope.parent_run:
        attributes["ce-parentrun"] = envelope.parent_run
    return encode_body(envelope.event), attributes


def encode_body(event: Event) -> bytes:
    """Return the event as JSON; what was never set stays unsaid."""
    body = event.model_dump(mode="json", exclude_none=True)
    body["params"] = event.params.given()
    if not body["params"]:
        del body["params"]
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes, attributes: Mapping[str, str]) -> Envelope:
    """Read a Pub/Sub message as an event.

    Raises:
        DecodeError: names the field, its value and the mend.
    """
    event_type = _required(attributes, "ce-type")
    version = attributes.get("ce-specversion", SPEC_VERSION)
    if version != SPEC_VERSION:
        raise DecodeError("ce-specversion", version, f"publish CloudEvents {SPEC_VERSION}")
    run_id = _required(attributes, "ce-subject")
    if not is_run_id(run_id):
        raise DecodeError("ce-subject", run_id, "a run id has 1 to 63 lower-case letters, digits and inner hyphens")
    traceparent, parent_run = attributes.get("traceparent"), attributes.get("ce-parentrun")
    return Envelope(
        id=_required(attributes, "ce-id"),
        run_id=run_id,
        source=attributes.get("ce-source", ""),
        time=parse_time(attributes.get("ce-time", ""), "ce-time"),
        event=decode_body(event_type, data),
        # A broken trace context must not stop a run: the trace is cut, the event goes on (W3C Trace Context, 3.2).
        traceparent=traceparent if traceparent and _TRACEPARENT.match(traceparent) else None,
        parent_run=parent_run if parent_run and is_run_id(parent_run) else None,
    )


def decode_body(event_type: str, data: bytes) -> Event:
    """Read the JSON body of an event of `event_type`.

    Raises:
        DecodeError: it is not JSON, not an object, of an unknown type, or a field is wrong.
    """
    event_class, body = to_current(event_type, parse_object(data, "data"))
    return validate(event_class, body, "data")


def validate(event_class: type[E], body: dict[str, Any], place: str) -> E:
    """Build `event_class` from `body`, turning the first fault into a DecodeError at `place`."""
    try:
        return event_class.model_validate(body)
    except ValidationError as fault:
        raise _decode_errors(fault, place)[0] from fault


def faults_of(event_class: type[Event], body: dict[str, Any], place: str) -> list[DecodeError]:
    """Return everything that is wrong with `body`, where `validate` tells the first alone."""
    try:
        event_class.model_validate(body)
    except ValidationError as fault:
        return _decode_errors(fault, place)
    return []


def parse_object(data: bytes, place: str) -> dict[str, Any]:
    """Read `data` as a JSON object.

    Raises:
        DecodeError: too large, not UTF-8, not JSON, nested too deep, or not an object.
    """
    if len(data) > MAX_DATA_BYTES:
        raise DecodeError(
            place,
            f"{len(data)} bytes",
            f"send at most {MAX_DATA_BYTES} bytes; put large things into a bucket",
        )
    try:
        body = json.loads(data, parse_constant=_refuse_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as fault:
        raise DecodeError(place, data[:80], f"send a JSON object in UTF-8 ({fault})") from fault
    if not isinstance(body, dict):
        raise DecodeError(place, body, 'send a JSON object, like {"pipeline": "babyweight", …}')
    return body


def format_time(time: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds, for example 2026-11-21T09:00:00.000000Z."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str, place: str) -> datetime:
    """Read RFC 3339.

    Raises:
        DecodeError: not a time, or one without a zone.
    """
    mend = "give RFC 3339 with a zone, like 2026-11-21T09:00:00Z"
    try:
        time = datetime.fromisoformat(text)
    except ValueError as fault:
        raise DecodeError(place, text, mend) from fault
    if time.tzinfo is None:
        raise DecodeError(place, text, mend)
    return time.astimezone(UTC)


def _required(attributes: Mapping[str, str], name: str) -> str:
    value = attributes.get(name)
    if not value:
        raise DecodeError(name, value, f"set the attribute {name}; see docs/events.md for a message one can paste")
    return value


def _decode_errors(fault: ValidationError, place: str) -> list[DecodeError]:
    return [
        DecodeError(".".join([place, *(str(part) for part in found["loc"])]), found["input"], _mend(found))
        for found in fault.errors(include_url=False)
    ]


def _mend(fault: Any) -> str:
    kind = fault["type"]
    if kind == "missing":
        return "add this field"
    if kind == "string_pattern_mismatch":
        pattern = fault["ctx"]["pattern"]
        return IN_WORDS.get(pattern, f"match {pattern}")
    return str(fault["msg"])


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
