"""Which messages wait in a stage's queue, told exactly and without touching it.

A look-alike of the queue is pulled (`baton.lookalike`). Considered and refused: pulling the queue (takes messages from the
workers, and brings them nearer to the dead letters) and Cloud Monitoring's count of undelivered messages (minutes late, and
a number names no message). What was acknowledged just before the look may count as waiting, until the next look.
"""

from collections.abc import Collection

from google.api_core import exceptions as google_errors

from baton.connections import Connections
from baton.errors import Refused
from baton.lookalike import can_look, look_alike
from baton.pulling import pull
from messages.topics import subscription_path

PREFIX = "audit-look-"
_EMPTY_PULLS_LOCAL = 1
_EMPTY_PULLS_CLOUD = 3  # a pull may find nothing although there is something


def waiting(connections: Connections, queue: str, topic: str, wanted: Collection[str]) -> set[str]:
    """Return which of the `wanted` message ids are unacknowledged in `queue`.

    Raises:
        Refused: the queue is not there.
    """
    missing = set(wanted)
    try:
        with look_alike(connections, subscription_path(connections.profile.project, queue), PREFIX) as path:
            empty = 0
            most_empty = _EMPTY_PULLS_LOCAL if connections.profile.is_emulated else _EMPTY_PULLS_CLOUD
            while missing and empty < most_empty:
                received = pull(connections, path)
                missing -= {item.message.message_id for item in received}
                empty = 0 if received else empty + 1
    except google_errors.NotFound as fault:
        raise Refused(f"queue {queue} of topic {topic} is not there", "create it with `baton setup`") from fault
    return set(wanted) - missing


def can_tell(connections: Connections) -> bool:
    """Tell whether this Pub/Sub can show what waits in a queue."""
    return can_look(connections, PREFIX)
