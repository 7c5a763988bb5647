"""Finds a message again that Pub/Sub put aside without naming it: by topic, time and content, in the audit's books."""

import contextlib
import threading
from functools import cached_property

from baton.audit.books import Books
from baton.audit.published import to_milliseconds
from baton.audit.tap import drain_taps
from baton.connections import Connections
from baton.dlq.letter import DeadLetter
from baton.errors import Refused

Trace = tuple[str, str, str]


class FirstIds:
    """The ids of published messages; the books are read once, when the first is asked for."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._lock = threading.Lock()

    def of(self, letter: DeadLetter) -> str:
        """Return the id of the message that the letter is, or "" where the books do not have it."""
        for arrival in letter.arrivals:
            trace = (letter.topic, to_milliseconds(arrival.published), arrival.digest)
            if arrival.published and trace in self._known():
                return self._known()[trace]
        return ""

    def _known(self) -> dict[Trace, str]:
        with self._lock:  # many letters are sent back at once
            return self._read

    @cached_property
    def _read(self) -> dict[Trace, str]:
        books = Books(self._connections.objects)
        with contextlib.suppress(
            Refused
        ):  # a topic is not tapped: what the books have of the others counts all the same
            drain_taps(self._connections, books)
        messages = (message for batch in books.read() for message in batch.messages)
        return {(m.topic, m.milliseconds, m.digest): m.message_id for m in messages}
