"""Notification configs, and the events they ask for.

An event is a row of the outbox, written in the transaction that changes the object, so that no crash loses it.
An overwrite makes two events: OBJECT_FINALIZE of the new generation, and OBJECT_DELETE (or OBJECT_ARCHIVE in a
versioned bucket) of the old one. Source: "Pub/Sub notifications for Cloud Storage", attributes and payload.
"""

import json
import re
import sqlite3
from datetime import UTC, datetime
from typing import Any

from localcloud.storage import errors, rows
from localcloud.storage.database import Transaction

FINALIZE = "OBJECT_FINALIZE"
METADATA_UPDATE = "OBJECT_METADATA_UPDATE"
DELETE = "OBJECT_DELETE"
ARCHIVE = "OBJECT_ARCHIVE"
EVENT_TYPES = (FINALIZE, METADATA_UPDATE, DELETE, ARCHIVE)

_TOPIC = re.compile(r"//pubsub\.googleapis\.com/(projects/[^/]+/topics/[^/]+)")
_MAX_CONFIGS = 100  # per bucket
_MAX_CONFIGS_PER_TYPE = 10  # per bucket and event type
_MAX_ATTRIBUTES = 10


def insert(transaction: Transaction, bucket: str, config: dict[str, Any]) -> dict[str, Any]:
    """Add a config to a bucket; return its resource.

    Raises:
        ApiError: 404 for the bucket, 400 for a config that the cloud would refuse.
    """
    rows.find_bucket(transaction.db, bucket)
    config = _checked(config)
    existing = list_all(transaction.db, bucket)
    if len(existing) >= _MAX_CONFIGS:
        raise errors.invalid(f"Bucket {bucket} already has {_MAX_CONFIGS} notification configs; delete one first.")
    for event_type in config.get("event_types", EVENT_TYPES):
        if sum(event_type in other.get("event_types", EVENT_TYPES) for other in existing) >= _MAX_CONFIGS_PER_TYPE:
            raise errors.invalid(
                f"Bucket {bucket} already has {_MAX_CONFIGS_PER_TYPE} notification configs for {event_type}; "
                "delete one first."
            )
    (number,) = transaction.db.execute(
        "UPDATE buckets SET next_notification = next_notification + 1 WHERE name = ? RETURNING next_notification - 1",
        (bucket,),
    ).fetchone()
    transaction.db.execute("INSERT INTO notifications VALUES (?, ?, ?)", (bucket, number, json.dumps(config)))
    return _resource(bucket, number, config)


def get(db: sqlite3.Connection, bucket: str, notification: str) -> dict[str, Any]:
    """One config.

    Raises:
        ApiError: 404.
    """
    rows.find_bucket(db, bucket)
    for resource in list_all(db, bucket):
        if resource["id"] == notification:
            return resource
    raise errors.not_found(f"Bucket {bucket} has no notification config {notification}.")


def list_all(db: sqlite3.Connection, bucket: str) -> list[dict[str, Any]]:
    """All of a bucket's configs."""
    found = db.execute("SELECT id, config FROM notifications WHERE bucket = ? ORDER BY id", (bucket,))
    return [_resource(bucket, number, json.loads(config)) for number, config in found]


def delete(transaction: Transaction, bucket: str, notification: str) -> None:
    """Remove a config; events it caused already are still delivered.

    Raises:
        ApiError: 404.
    """
    get(transaction.db, bucket, notification)
    transaction.db.execute("DELETE FROM notifications WHERE bucket = ? AND id = ?", (bucket, int(notification)))


def announce(transaction: Transaction, event_type: str, row: rows.Object, base_url: str, **attributes: str) -> None:
    """Put the event into the outbox, once for each config that asks for it.

    Args:
        row: the object after the change; before it, with its deletion time, for a deletion.
        attributes: `overwroteGeneration` or `overwrittenByGeneration`.
    """
    for config in list_all(transaction.db, row.bucket):
        if event_type not in config.get("event_types", EVENT_TYPES):
            continue
        if not row.name.startswith(config.get("object_name_prefix", "")):
            continue
        payload_format = config["payload_format"]
        data = json.dumps(rows.object_resource(row, base_url)).encode() if payload_format == "JSON_API_V1" else b""
        described = {
            **config.get("custom_attributes", {}),
            "notificationConfig": f"projects/_/buckets/{row.bucket}/notificationConfigs/{config['id']}",
            "eventType": event_type,
            "payloadFormat": payload_format,
            "bucketId": row.bucket,
            "objectId": row.name,
            "objectGeneration": str(row.generation),
            "eventTime": datetime.fromtimestamp(transaction.now_us / 1e6, UTC).isoformat().replace("+00:00", "Z"),
            **attributes,
        }
        transaction.db.execute(
            "INSERT INTO outbox (topic, data, attributes, created_us) VALUES (?, ?, ?, ?)",
            (_topic(config["topic"]), data, json.dumps(described), transaction.now_us),
        )
        transaction.has_events = True


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    topic = config.get("topic", "")
    if not _TOPIC.fullmatch(topic):
        raise errors.invalid(
            f"Invalid Google Cloud Pub/Sub topic {topic!r}; "
            "write it as //pubsub.googleapis.com/projects/PROJECT/topics/TOPIC."
        )
    if config.get("payload_format") not in ("JSON_API_V1", "NONE"):
        raise errors.invalid(f"Invalid payload_format {config.get('payload_format')!r}; choose JSON_API_V1 or NONE.")
    for event_type in config.get("event_types", []):
        if event_type not in EVENT_TYPES:
            raise errors.invalid(f"Invalid event type {event_type!r}; choose of {', '.join(EVENT_TYPES)}.")
    attributes = config.get("custom_attributes", {})
    if len(attributes) > _MAX_ATTRIBUTES:
        raise errors.invalid(f"{len(attributes)} custom_attributes given; at most {_MAX_ATTRIBUTES} are allowed.")
    names = ("topic", "payload_format", "event_types", "custom_attributes", "object_name_prefix")
    return {name: config[name] for name in names if config.get(name)}


def _resource(bucket: str, number: int, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "storage#notification",
        "id": str(number),
        "etag": str(number),
        "selfLink": f"/storage/v1/b/{bucket}/notificationConfigs/{number}",
        **config,
    }


def _topic(full_name: str) -> str:
    match = _TOPIC.fullmatch(full_name)
    assert match is not None, full_name  # checked when the config was made
    return match[1]
