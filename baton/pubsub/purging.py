"""`baton pubsub purge`: everything that waits in a subscription counts as done, by a seek to now."""

from datetime import UTC, datetime
from typing import Any

from baton.connections import Connections
from baton.errors import Refused
from baton.pubsub.directory import short
from baton.pubsub.inspection import SubscriptionCounts, counts

_TIMEOUT_S = 60.0


def waiting_in(connections: Connections, subscription: Any) -> SubscriptionCounts | None:
    """Return what waits; None where nobody counts.

    Raises:
        Refused: it is detached, so it has nothing to purge.
    """
    if subscription.detached:
        raise Refused(
            f"subscription {short(subscription.name)} is detached from its topic: it has no messages", "delete it"
        )
    counted = counts(connections, subscription.name)
    return counted.subscriptions.get(subscription.name) if counted else None


def purge(connections: Connections, subscription: Any) -> int | None:
    """Drop what was published until now; return how many messages that were, None where nobody counts.

    What is published meanwhile may be among the counted and not among the dropped.
    """
    before = waiting_in(connections, subscription)
    connections.subscriber.seek(
        request={"subscription": subscription.name, "time": datetime.now(UTC)}, timeout=_TIMEOUT_S
    )
    after = waiting_in(connections, subscription)
    return None if before is None or after is None else max(0, before.backlog_messages - after.backlog_messages)
