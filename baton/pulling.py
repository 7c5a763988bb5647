"""Empties a subscription in batches: what was taken care of is acknowledged, what was not comes again."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.api_core import exceptions as google_errors

from baton.connections import Connections
from messages.topics import subscription_path

AT_ONCE = 500  # messages; each batch must be taken care of within the ack deadline
_PATIENCE_LOCAL_S = 0.5
_PATIENCE_CLOUD_S = 5.0  # a pull that finds nothing at once may still find something a moment later


TakeCare = Callable[[Sequence[Any]], tuple[Sequence[Any], Exception | None]]


def drain(connections: Connections, subscription: str, take_care: TakeCare) -> Iterator[int]:
    """Pull until nothing comes any more; yield how many messages were taken care of, batch by batch.

    Args:
        take_care: makes the received messages durable elsewhere; returns those of which it is done, and the fault that
            kept it from the others, which is raised after the acknowledgement.
    """
    path = subscription_path(connections.profile.project, subscription)
    while received := pull(connections, path):
        done, fault = take_care(received)
        if done:
            request = {"subscription": path, "ack_ids": [item.ack_id for item in done]}
            connections.subscriber.acknowledge(request=request, timeout=30)
        yield len(done)
        if fault is not None:
            raise fault


def pull(connections: Connections, path: str, at_most: int = AT_ONCE) -> list[Any]:
    """Return received messages, or an empty list where there are none now."""
    is_local = bool(connections.profile.get("PUBSUB_EMULATOR_HOST"))
    try:
        answer = connections.subscriber.pull(
            request={"subscription": path, "max_messages": at_most},
            timeout=_PATIENCE_LOCAL_S if is_local else _PATIENCE_CLOUD_S,
            retry=None,
        )
    except google_errors.DeadlineExceeded:
        return []  # how an empty subscription answers
    return list(answer.received_messages)
