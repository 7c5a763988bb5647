"""Takes what was published out of each topic's second subscription and into the books."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.api_core import exceptions as google_errors

from baton.audit.books import Books
from baton.audit.published import published_of
from baton.connections import Connections
from baton.errors import Refused
from baton.pulling import drain
from messages.topics import AUDIT_SUBSCRIPTIONS


def drain_taps(connections: Connections, books: Books) -> int:
    """Write down every message that was published since the last time; return how many there were.

    Raises:
        Refused: a topic has no such subscription: what is published to it cannot be audited.
    """
    with ThreadPoolExecutor(len(AUDIT_SUBSCRIPTIONS)) as pool:
        return sum(pool.map(lambda pair: _drain(connections, books, *pair), AUDIT_SUBSCRIPTIONS.items()))


def _drain(connections: Connections, books: Books, subscription: str, topic: str) -> int:
    def write_down(received: Sequence[Any]) -> tuple[Sequence[Any], None]:
        books.write([published_of(topic, item.message) for item in received])
        return received, None

    try:
        return sum(drain(connections, subscription, write_down))
    except google_errors.NotFound as fault:
        raise Refused(
            f"topic {topic} has no subscription {subscription}: what was published to it was not seen",
            "create it with `baton setup`; the audit sees what is published from then on",
        ) from fault
