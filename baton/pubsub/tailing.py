"""`baton pubsub tail`: what is published to a topic, as it comes, seen by a subscription of our own.

It is deleted at the end. One that was killed leaves it behind, and it expires by itself.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core import exceptions as google_errors

from baton.connections import Connections, explained
from baton.errors import Refused
from baton.pubsub.directory import short
from baton.pubsub.message import SeenMessage, seen_of
from baton.pulling import pull
from messages.topics import subscription_path

PREFIX = "tail-"
EXPIRY = timedelta(days=1)  # the shortest that the service allows
_RETENTION = timedelta(hours=12)  # shorter than the expiry, as the service asks
_ACK_DEADLINE_S = 60
_TIMEOUT_S = 30.0
_REMEMBERED = 10_000
_PATIENCE_S = 60.0  # a broker that is started again is back by then
_AGAIN_S = 0.5


@contextmanager
def own_subscription(
    connections: Connections, topic: Any, since: datetime | None, say: Callable[[str], None]
) -> Iterator[str]:
    """Yield the path of a new subscription to the topic; it is deleted afterwards.

    Args:
        topic: as the official client describes it.
        since: begin with what was published then, as far as the topic keeps it.
        say: told if the subscription could not be deleted.

    Raises:
        Refused: `since` is asked of a topic that keeps nothing.
    """
    if since is not None and not topic.message_retention_duration:
        raise Refused(
            f"topic {short(topic.name)} keeps no messages, so there is nothing to show since {since:%Y-%m-%d %H:%M:%SZ}",
            "give the topic a message retention, from which on --since reaches back (gcloud pubsub topics update "
            f"{short(topic.name)} --message-retention-duration=7d); what waits in a subscription: `baton pubsub peek`",
        )
    path = subscription_path(connections.profile.project, f"{PREFIX}{int(time.time())}-{uuid.uuid4().hex[:8]}")
    request = {
        "name": path,
        "topic": topic.name,
        "enable_message_ordering": True,
        "ack_deadline_seconds": _ACK_DEADLINE_S,
        "message_retention_duration": _RETENTION,
        "expiration_policy": {"ttl": EXPIRY},
    }
    try:
        connections.subscriber.create_subscription(request=request, timeout=_TIMEOUT_S)
        if since is not None:
            connections.subscriber.seek(request={"subscription": path, "time": since}, timeout=_TIMEOUT_S)
        yield path
    finally:
        _delete(connections, path, say)


def published(
    connections: Connections, path: str, is_over: Callable[[], bool], say: Callable[[str], None]
) -> Iterator[SeenMessage]:
    """Yield messages as they come, each once, until `is_over` says so.

    Args:
        is_over: asked about twice a second while nothing comes.
        say: told when the broker does not answer, and when it does again.

    Raises:
        BatonError: it does not answer for a minute, or the subscription is gone.
    """
    known: OrderedDict[str, None] = OrderedDict()
    ack_ids: list[str] = []
    silent_since: float | None = None
    while not is_over():
        try:
            if ack_ids:
                request = {"subscription": path, "ack_ids": ack_ids}
                connections.subscriber.acknowledge(request=request, timeout=_TIMEOUT_S, retry=None)
            ack_ids = []
            received = pull(connections, path)
        except (google_errors.ServiceUnavailable, google_errors.InternalServerError) as fault:
            # What was shown and not acknowledged comes again, and is known then.
            now = time.monotonic()
            if silent_since is None:
                silent_since = now
                say("nothing answers; waiting for it to come back …")
            if now - silent_since > _PATIENCE_S:
                raise explained(fault, f"for {_PATIENCE_S:g} s") from fault
            time.sleep(_AGAIN_S)
            continue
        if silent_since is not None:
            silent_since = None
            say("it answers again")
        for item in received:
            if item.message.message_id not in known:
                known[item.message.message_id] = None
                yield seen_of(item.message)
        ack_ids = [item.ack_id for item in received]
        while len(known) > _REMEMBERED:
            known.popitem(last=False)


def since_of(text: str, now: datetime) -> datetime:
    """Read `90s`, `15m`, `2h`, `3d` before `now`, or RFC 3339.

    Raises:
        Refused: it is neither, or lies in the future.
    """
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}.get(text[-1:])
    try:
        if unit is not None and text[:-1].replace(".", "", 1).isdecimal():
            since = now - timedelta(**{unit: float(text[:-1])})
        else:
            since = datetime.fromisoformat(text)
            if since.tzinfo is None:
                since = since.astimezone()  # a person means the clock on the wall
    except (ValueError, OverflowError) as fault:
        raise Refused(f"--since {text!r} is no time", "give 90s, 15m, 2h, 3d or 2026-11-21T09:00:00Z") from fault
    if since > now:
        raise Refused(f"--since {text!r} lies in the future", "give a time that has passed, like 15m")
    return since.astimezone(UTC)


def _delete(connections: Connections, path: str, say: Callable[[str], None]) -> None:
    try:
        connections.subscriber.delete_subscription(subscription=path, timeout=5.0, retry=None)
    except google_errors.NotFound:
        return  # never made, or deleted by somebody else
    except google_errors.GoogleAPIError as fault:
        say(f"subscription {short(path)} could not be deleted ({type(fault).__name__}); unused, it expires in a day")
