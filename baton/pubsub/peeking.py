"""`baton pubsub peek`: a subscription's messages, left where they are.

Three ways, the best that this Pub/Sub offers: the local broker shows them itself; the cloud lets a subscription of our own
have what another's snapshot holds; Google's emulator can do neither, and there a person may choose to borrow them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from baton.connections import Connections
from baton.errors import Refused
from baton.lookalike import can_look, look_alike
from baton.pubsub import inspection
from baton.pubsub.directory import short
from baton.pubsub.message import SeenMessage, seen_of
from baton.pulling import AT_ONCE, pull

PREFIX = "peek-look-"
_EMPTY_PULLS = 3  # in the cloud a pull may find nothing although there is something


class Way(StrEnum):
    """How the messages were looked at."""

    SHOWN = "shown"
    """By the broker: in publish order, with what it knows of their deliveries."""

    SNAPSHOT = "snapshot"
    """In a subscription of our own: in any order."""

    BORROWED = "borrowed"
    """Pulled and given back: each counts as a failed delivery, and what a reader holds is not among them."""


@contextmanager
def peeked(
    connections: Connections, subscription: Any, at_most: int, borrow: bool
) -> Iterator[tuple[Way, Iterator[SeenMessage]]]:
    """Yield how, and the messages, `at_most` of them (0: all).

    Args:
        subscription: as the official client describes it.
        borrow: take them and give them back, where there is no better way.

    Raises:
        Refused: there is no better way, and `borrow` is not set.
    """
    name = short(subscription.name)
    if subscription.detached:
        raise Refused(f"subscription {name} is detached from its topic: it has no messages", "delete it")
    shown = inspection.peek(connections, subscription.name)
    if shown is not None:
        yield Way.SHOWN, _first(shown, at_most)
    elif can_look(connections, PREFIX):
        with look_alike(connections, subscription.name, PREFIX) as path:
            yield Way.SNAPSHOT, _first(_pulled(connections, path), at_most)
    elif borrow:
        with _borrowed(connections, subscription.name, at_most) as messages:
            yield Way.BORROWED, iter(messages)
    else:
        raise Refused(
            f"this Pub/Sub emulator shows no message of {name} without taking it",
            "add --borrow: take them and give them back at once, which counts as one failed delivery of each; or use the "
            "local cloud of `baton up`, whose broker shows them",
        )


def _first(messages: Iterator[SeenMessage], at_most: int) -> Iterator[SeenMessage]:
    for number, message in enumerate(messages, 1):
        yield message
        if number == at_most:
            return


def _pulled(connections: Connections, path: str) -> Iterator[SeenMessage]:
    """Everything in a subscription of our own; what comes twice is shown once."""
    seen: set[str] = set()
    empty = 0
    while empty < (1 if connections.profile.is_emulated else _EMPTY_PULLS):
        received = pull(connections, path)
        fresh = [item.message for item in received if item.message.message_id not in seen]
        seen.update(message.message_id for message in fresh)
        yield from map(seen_of, fresh)
        empty = 0 if fresh else empty + 1


@contextmanager
def _borrowed(connections: Connections, path: str, at_most: int) -> Iterator[list[SeenMessage]]:
    received: list[Any] = []
    try:
        while not at_most or len(received) < at_most:
            more = pull(connections, path, min(AT_ONCE, at_most - len(received)) if at_most else AT_ONCE)
            if not more:
                break
            received += more
        yield [seen_of(item.message) for item in received]
    finally:
        for begin in range(0, len(received), AT_ONCE):
            ids = [item.ack_id for item in received[begin : begin + AT_ONCE]]
            request = {"subscription": path, "ack_ids": ids, "ack_deadline_seconds": 0}
            connections.subscriber.modify_ack_deadline(request=request, timeout=30)
