"""What a dead letter carries besides the message that it is: why, from where, and under which id.

A worker that cannot use a message publishes it to the dead-letter topic with our attributes; Pub/Sub itself forwards what
was delivered too often, with attributes of its own. Either way the message's own data and attributes stay as they were.

Source: Pub/Sub "Handle message failures" for the attributes `CloudPubSubDeadLetterSource…`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from messages.topics import SUBSCRIPTIONS

PREFIX = "baton-dead-letter-"
REASON = f"{PREFIX}reason"
TOPIC = f"{PREFIX}topic"
SUBSCRIPTION = f"{PREFIX}subscription"
MESSAGE_ID = f"{PREFIX}message-id"
ATTEMPTS = f"{PREFIX}attempts"

_PUBSUB_PREFIX = "CloudPubSubDeadLetter"
_PUBSUB_SUBSCRIPTION = "CloudPubSubDeadLetterSourceSubscription"
_PUBSUB_ATTEMPTS = "CloudPubSubDeadLetterSourceDeliveryCount"
_PUBSUB_PUBLISHED = "CloudPubSubDeadLetterSourceTopicPublishTime"
# Pub/Sub refuses a publish with attributes of the first kind; the others are the story of an earlier trip.
_OURS_AND_THEIRS = ("goog", _PUBSUB_PREFIX, PREFIX, "baton-redriven-")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dead letter comes from.

    Args:
        by: who put it aside: "worker", "pubsub" (delivered too often), or "" where neither says so.
        topic: the topic that it was published to; "" where that is not to be told.
        message_id: its id there; Pub/Sub's own dead letters do not say it.
        published: when it was published there, as Pub/Sub writes it (RFC 3339, to a millisecond); "" from a worker.
        attempts: how often it was delivered.
    """

    by: str
    topic: str
    subscription: str
    reason: str
    message_id: str
    published: str
    attempts: int


def origin_of(attributes: Mapping[str, str]) -> Origin:
    """Read where a dead letter comes from; a worker's own words come before Pub/Sub's."""
    if attributes.get(SUBSCRIPTION) in SUBSCRIPTIONS and MESSAGE_ID in attributes:
        subscription = attributes[SUBSCRIPTION]
        return Origin(
            by="worker",
            topic=SUBSCRIPTIONS[subscription],
            subscription=subscription,
            reason=attributes.get(REASON, ""),
            message_id=attributes[MESSAGE_ID],
            published="",
            attempts=_number(attributes.get(ATTEMPTS, "")),
        )
    if _PUBSUB_SUBSCRIPTION in attributes:
        subscription = attributes[_PUBSUB_SUBSCRIPTION]
        attempts = _number(attributes.get(_PUBSUB_ATTEMPTS, ""))
        return Origin(
            by="pubsub",
            topic=SUBSCRIPTIONS.get(subscription, ""),
            subscription=subscription,
            reason=f"delivered {attempts} times to {subscription} and never acknowledged: the worker was failing",
            message_id="",
            published=attributes.get(_PUBSUB_PUBLISHED, ""),
            attempts=attempts,
        )
    return Origin("", "", "", "published to the dead letters by hand: no attribute says where it comes from", "", "", 0)


def restored(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the message's own attributes, without what was added on its way to the dead letters."""
    return {key: value for key, value in attributes.items() if not key.startswith(_OURS_AND_THEIRS)}


def digest_of(data: bytes, attributes: Mapping[str, str]) -> str:
    """Return a digest of what the publisher sent: the same before and after a trip to the dead letters."""
    own = json.dumps(restored(attributes), sort_keys=True).encode()
    return hashlib.sha256(len(own).to_bytes(8, "big") + own + data).hexdigest()[:32]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
