"""A subscription's messages, to be looked at and not touched: a subscription of our own that is set to its snapshot.

A snapshot holds what is unacknowledged at that moment, and our own subscription is pulled: the one looked at gives out no
lease and counts no delivery attempt.

Sources: Pub/Sub "Replay and purge messages with seek": a snapshot guarantees to hold what was unacknowledged when it was
made, and any subscription of the topic may seek to it. It may also hold what was acknowledged just then. "Subscription
properties": a subscription lives longer than it retains messages.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.publisher import PublisherClient as PlainPublisher

from baton.connections import Connections
from baton.errors import Refused
from baton.pulling import pull
from messages.topics import subscription_path, topic_path

DELETED_TOPIC = "_deleted-topic_"
_LEFTOVER_S = 3600  # a look that was killed leaves its subscription; nobody's look takes an hour
_ACK_DEADLINE_S = 600  # what was seen once need not be seen again
_TIMEOUT_S = 30.0
_DAY = timedelta(days=1)


@contextlib.contextmanager
def look_alike(connections: Connections, subscription: str, prefix: str) -> Iterator[str]:
    """Yield the path of a subscription that holds what `subscription` (a path) holds now; it is deleted afterwards.

    Args:
        prefix: of our subscription's name; what was left under it by somebody who was killed is deleted too.

    Raises:
        google_errors.NotFound: the subscription is not there.
        Refused: its topic has been deleted, so it can have no look-alike.
    """
    subscriber, project = connections.subscriber, subscription.split("/")[1]
    found = subscriber.get_subscription(subscription=subscription, timeout=_TIMEOUT_S)
    if found.topic == DELETED_TOPIC:
        raise Refused(
            f"the topic of {subscription} has been deleted, so its messages can only be pulled",
            "pull them with `gcloud pubsub subscriptions pull`, which takes them",
        )
    _delete_leftovers(connections, project, prefix)
    name = f"{prefix}{int(time.time())}-{uuid.uuid4().hex[:8]}"
    path, snapshot = subscription_path(project, name), f"projects/{project}/snapshots/{name}"
    try:
        subscriber.create_snapshot(request={"name": snapshot, "subscription": subscription}, timeout=_TIMEOUT_S)
        subscriber.create_subscription(
            request={
                "name": path,
                "topic": found.topic,
                # A snapshot also holds what is published later: of that the filter would have to take its part.
                "filter": found.filter,
                "enable_message_ordering": found.enable_message_ordering,
                "ack_deadline_seconds": _ACK_DEADLINE_S,
                "message_retention_duration": found.message_retention_duration,
                "expiration_policy": {"ttl": found.message_retention_duration + _DAY},
            },
            timeout=_TIMEOUT_S,
        )
        subscriber.seek(request={"subscription": path, "snapshot": snapshot}, timeout=_TIMEOUT_S)
        yield path
    finally:
        _delete(subscriber, path)


def can_look(connections: Connections, prefix: str) -> bool:
    """Tell whether this Pub/Sub sets a subscription to another's snapshot: the service does, one emulator does not.

    Asked of the service itself, with a topic of our own, since an emulator that can't would show every queue as empty.
    """
    if not connections.profile.is_emulated:
        return True
    project, subscriber = connections.profile.project, connections.subscriber
    name = f"{prefix}{int(time.time())}-{uuid.uuid4().hex[:8]}-probe"
    topic, path = topic_path(project, name), subscription_path(project, name)
    try:
        connections.topics.create_topic(name=topic)
        subscriber.create_subscription(name=path, topic=topic)
        message = {"data": b"probe", "attributes": {}}
        PlainPublisher.publish(connections.topics, request={"topic": topic, "messages": [message]}, timeout=_TIMEOUT_S)
        with look_alike(connections, path, prefix) as look:
            return bool(pull(connections, look))
    except (google_errors.MethodNotImplemented, google_errors.Unknown):
        return False  # another emulator knows no snapshots at all
    finally:
        _delete(subscriber, path)
        with contextlib.suppress(google_errors.NotFound):
            connections.topics.delete_topic(topic=topic)


def _delete_leftovers(connections: Connections, project: str, prefix: str) -> None:
    """Delete what was left by somebody who was killed in the middle of a look."""
    subscriber = connections.subscriber
    for found in subscriber.list_subscriptions(project=f"projects/{project}"):
        name = found.name.rpartition("/")[2]
        began = name.removeprefix(prefix).partition("-")[0]
        if name.startswith(prefix) and began.isdigit() and time.time() - int(began) > _LEFTOVER_S:
            _delete(subscriber, found.name)


def _delete(subscriber: Any, path: str) -> None:
    """Delete a subscription of ours and the snapshot of the same name, as far as they are there."""
    with contextlib.suppress(google_errors.NotFound, google_errors.MethodNotImplemented):
        subscriber.delete_snapshot(snapshot=path.replace("/subscriptions/", "/snapshots/"))
    with contextlib.suppress(google_errors.NotFound):
        subscriber.delete_subscription(subscription=path)
