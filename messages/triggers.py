"""A bucket notification read as data-ready.

Cloud Storage says that an object is there (attributes `eventType`, `bucketId`, `objectId`, `objectGeneration`); the same
fact may be told many times, with different message ids. So the run id follows from bucket, object and generation: told
ten times, it is one run; an overwritten object is a new generation and a new run.

An object named `*.trigger.json` is not data but the request itself: its content names the source and the parameters, for
exports of many files, where only the last thing written may start the run.

Source: "Pub/Sub notifications for Cloud Storage".
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from messages.codec import parse_object, validate
from messages.errors import DecodeError, Filtered
from messages.events import DataReady

TRIGGER_SUFFIX = ".trigger.json"
FINALIZE = "OBJECT_FINALIZE"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One generation of one object, as a notification named it.

    Args:
        pipeline: the notification configuration's custom attribute `pipeline`, or None.
    """

    bucket: str
    name: str
    generation: int
    pipeline: str | None = None

    @property
    def uri(self) -> str:
        return f"gs://{self.bucket}/{self.name}"

    @property
    def is_trigger(self) -> bool:
        return self.name.endswith(TRIGGER_SUFFIX)

    @property
    def run_id(self) -> str:
        """A run id that follows from bucket, name and generation, readable at its start."""
        stem = re.sub(r"[^a-z0-9]+", "-", self.name.rsplit("/", 1)[-1].lower()).strip("-")[:40].strip("-") or "object"
        digest = hashlib.sha256(f"{self.bucket}/{self.name}#{self.generation}".encode()).hexdigest()
        return f"{stem}-{digest[:12]}"


def is_notification(attributes: Mapping[str, str]) -> bool:
    """Tell whether a message came from Cloud Storage rather than from a publisher of ours."""
    return "notificationConfig" in attributes or ("eventType" in attributes and "bucketId" in attributes)


def parse_notification(attributes: Mapping[str, str]) -> StoredObject:
    """Read the attributes of a Cloud Storage notification.

    Raises:
        Filtered: it does not tell of new data: another event type, or a folder's placeholder.
        DecodeError: an attribute is missing or is no generation.
    """
    event_type = attributes.get("eventType", "")
    if event_type != FINALIZE:
        raise Filtered(f"eventType {event_type!r} is not {FINALIZE}: no new data")
    bucket, name = attributes.get("bucketId", ""), attributes.get("objectId", "")
    generation = attributes.get("objectGeneration", "")
    for field, value in (("bucketId", bucket), ("objectId", name)):
        if not value:
            raise DecodeError(field, value, "a Cloud Storage notification carries it; is this one written by hand?")
    if not re.fullmatch(r"[0-9]{1,19}", generation):
        raise DecodeError(
            "objectGeneration", generation, "a Cloud Storage notification carries the object's generation"
        )
    if name.endswith("/"):
        raise Filtered(f"object {name!r} is a folder's placeholder: no data")
    return StoredObject(bucket, name, int(generation), attributes.get("pipeline"))


def read_trigger(content: bytes, stored: StoredObject) -> DataReady:
    """Read the content of a trigger file as data-ready.

    Raises:
        DecodeError: the place in the message is the object's URI.
    """
    body = parse_object(content, stored.uri)
    if stored.pipeline is not None:
        body.setdefault("pipeline", stored.pipeline)
    return validate(DataReady, body, stored.uri)


def data_ready_of(stored: StoredObject, pipeline: str) -> DataReady:
    """Return the data-ready that says: this object is the new data of `pipeline`."""
    return validate(DataReady, {"pipeline": pipeline, "source": stored.uri}, "notification")
