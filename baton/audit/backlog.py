"""Which messages wait in a stage's queue, told exactly and without touching it.

A snapshot of the queue holds what is unacknowledged in it at that moment. A subscription of our own is set to the snapshot
and pulled; the queue itself gives out no lease and counts no delivery attempt. Considered and refused: pulling the queue
(takes messages from the workers, and brings them nearer to the dead letters) and Cloud Monitoring's count of undelivered
messages (minutes late, and a number names no message).

Sources: Pub/Sub "Replay and purge messages with seek": a snapshot guarantees to hold what was unacknowledged when it was
made, and any subscription of the topic may seek to it. It may also hold what was acknowledged just then: such a message
counts as waiting, until the next look.
"""

import contextlib
import time
import uuid
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any

from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.publisher import PublisherClient as PlainPublisher

from baton.connections import Connections
from baton.errors import Refused
from baton.pulling import pull
from messages.topics import subscription_path, topic_path

PREFIX = "audit-look-"
_LEFTOVER_S = 3600  # an audit that was killed leaves its subscription; nobody's look takes an hour
_EMPTY_PULLS_LOCAL = 1
_EMPTY_PULLS_CLOUD = 3  # a pull may find nothing although there is something
_RETENTION = timedelta(days=7)  # as long as the queues keep messages: older ones are not there either
_TIMEOUT_S = 30.0
_EXPIRY = timedelta(days=1)  # the shortest that the service allows


def waiting(connections: Connections, queue: str, topic: str, wanted: Collection[str]) -> set[str]:
    """Return which of the `wanted` message ids are unacknowledged in `queue`.

    Raises:
        Refused: the queue is not there.
    """
    missing = set(wanted)
    with _look_alike(connections, queue, topic) as path:
        empty = 0
        most_empty = _EMPTY_PULLS_LOCAL if connections.profile.get("PUBSUB_EMULATOR_HOST") else _EMPTY_PULLS_CLOUD
        while missing and empty < most_empty:
            received = pull(connections, path)
            missing -= {item.message.message_id for item in received}
            empty = 0 if received else empty + 1
    return set(wanted) - missing


def can_tell(connections: Connections) -> bool:
    """Tell whether this Pub/Sub sets a subscription to another's snapshot: the service does, one emulator does not.

    Asked of the service itself, with a topic of our own, since an emulator that can't would show every queue as empty.
    """
    if not connections.profile.get("PUBSUB_EMULATOR_HOST"):
        return True
    project, subscriber = connections.profile.project, connections.subscriber
    name = f"{PREFIX}{int(time.time())}-{uuid.uuid4().hex[:8]}-probe"
    topic, path = topic_path(project, name), subscription_path(project, name)
    try:
        connections.topics.create_topic(name=topic)
        subscriber.create_subscription(name=path, topic=topic)
        message = {"data": b"probe", "attributes": {}}
        PlainPublisher.publish(connections.topics, request={"topic": topic, "messages": [message]}, timeout=_TIMEOUT_S)
        with _look_alike(connections, name, name) as look:
            return bool(pull(connections, look))
    except (google_errors.MethodNotImplemented, google_errors.Unknown):
        return False  # another emulator knows no snapshots at all
    finally:
        _delete(subscriber, path)
        with contextlib.suppress(google_errors.NotFound):
            connections.topics.delete_topic(topic=topic)


@contextlib.contextmanager
def _look_alike(connections: Connections, queue: str, topic: str) -> Iterator[str]:
    """Yield the path of a subscription that holds what `queue` holds now; it is deleted afterwards."""
    project, subscriber = connections.profile.project, connections.subscriber
    _delete_leftovers(connections)
    name = f"{PREFIX}{int(time.time())}-{uuid.uuid4().hex[:8]}"
    path, snapshot = subscription_path(project, name), f"projects/{project}/snapshots/{name}"
    try:
        subscriber.create_snapshot(request={"name": snapshot, "subscription": subscription_path(project, queue)})
        subscriber.create_subscription(
            request={
                "name": path,
                "topic": topic_path(project, topic),
                "ack_deadline_seconds": 600,  # what was seen once need not be seen again
                "message_retention_duration": _RETENTION,
                "expiration_policy": {"ttl": _EXPIRY},
            }
        )
        subscriber.seek(request={"subscription": path, "snapshot": snapshot})
        yield path
    except google_errors.NotFound as fault:
        raise Refused(f"queue {queue} of topic {topic} is not there", "create it with `baton setup`") from fault
    finally:
        _delete(subscriber, path)


def _delete_leftovers(connections: Connections) -> None:
    """Delete what an audit left that was killed in the middle of a look."""
    project, subscriber = connections.profile.project, connections.subscriber
    for path in subscriber.list_subscriptions(project=f"projects/{project}"):
        name = path.name.rpartition("/")[2]
        began = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and began.isdigit() and time.time() - int(began) > _LEFTOVER_S:
            _delete(subscriber, path.name)


def _delete(subscriber: Any, path: str) -> None:
    """Delete a subscription of ours and the snapshot of the same name, as far as they are there."""
    with contextlib.suppress(google_errors.NotFound, google_errors.MethodNotImplemented):
        subscriber.delete_snapshot(snapshot=path.replace("/subscriptions/", "/snapshots/"))
    with contextlib.suppress(google_errors.NotFound):
        subscriber.delete_subscription(subscription=path)
