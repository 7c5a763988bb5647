"""Publishes events, and dead letters with their reason.

The id of an event follows from the run and the fact, so telling it twice is recognised downstream as the same event.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from google.api_core import exceptions as google_errors
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher import PublisherClient as PlainPublisher

from messages import Envelope, Event, dead_letters, encode
from messages.topics import DEAD_LETTER, topic_path
from workers.errors import TransientError

_PUBLISH_TIMEOUT_S = 30.0
_REASON_LIMIT = 1000  # Pub/Sub takes attribute values of up to 1024 bytes


class Publisher(Protocol):
    """Where events go; the simulator has one of its own."""

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None: ...


class PubSubPublisher:
    """`Publisher` on Google's client. Each publish returns when the service has the message."""

    def __init__(self, project: str) -> None:
        self._client = pubsub_v1.PublisherClient()
        self._project = project

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Publish one message.

        Raises:
            TransientError: no answer; the message may have been taken.
        """
        # The plain call, not the batching one: somebody waits for this event; and the batching one takes attributes as
        # keyword arguments, where a hostile attribute named `timeout` would be an argument.
        request = {
            "topic": topic_path(self._project, topic),
            "messages": [{"data": data, "attributes": dict(attributes)}],
        }
        try:
            PlainPublisher.publish(self._client, request=request, timeout=_PUBLISH_TIMEOUT_S)
        except (google_errors.GoogleAPICallError, google_errors.RetryError) as fault:
            raise TransientError(f"cannot publish to {topic}: {fault}", ambiguous=True) from fault

    def close(self) -> None:
        """Close the channel."""
        self._client.stop()


def publish_event(
    publisher: Publisher,
    event: Event,
    *,
    event_id: str,
    run_id: str,
    source: str,
    time: datetime,
    traceparent: str | None,
    parent_run: str | None = None,
) -> None:
    """Publish `event` to its own topic."""
    data, attributes = encode(Envelope(event_id, run_id, source, time, event, traceparent, parent_run))
    publisher.publish(event.TOPIC, data, attributes)


def publish_dead_letter(
    publisher: Publisher,
    data: bytes,
    attributes: Mapping[str, str],
    *,
    reason: str,
    subscription: str,
    topic: str,
    message_id: str,
    delivery_attempt: int | None,
) -> None:
    """Put a message aside with the reason; its own data and attributes stay as they were, so that it can be redriven."""
    explained = {
        **attributes,
        dead_letters.REASON: _cut(reason),
        dead_letters.TOPIC: topic,
        dead_letters.SUBSCRIPTION: subscription,
        dead_letters.MESSAGE_ID: message_id,
        dead_letters.ATTEMPTS: str(delivery_attempt or 1),
    }
    publisher.publish(DEAD_LETTER, data, explained)


def _cut(text: str) -> str:
    return text.encode()[:_REASON_LIMIT].decode(errors="ignore")
