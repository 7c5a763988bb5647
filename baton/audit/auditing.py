"""One audit, from the taps to the sum.

The order makes it exact: first what was published is taken in, then fates are read, then the queues are looked into for what
has none, then fates are read again for what is not waiting there. A fate is durable before its message is acknowledged, so
what was no longer waiting when we looked has a fate by now; if it has none, it is lost.
"""

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from baton.audit.accountant import Accountant, Seen, deliveries, outcomes
from baton.audit.backlog import can_tell, waiting
from baton.audit.books import Batch, Books
from baton.audit.fate import Accounted, Verdict
from baton.audit.published import Published
from baton.audit.report import Report, report_of
from baton.audit.tap import drain_taps
from baton.connections import Connections
from baton.dlq.desk import DeadLetters
from baton.errors import NotKnown, Refused
from messages.topics import listeners

_PATIENCE_LOCAL = timedelta(seconds=90)  # above the ack deadline of what an audit took that died
_PATIENCE_CLOUD = timedelta(minutes=10)
_LOOKS = 2  # lost is said only of what two looks into the queue did not find
_BETWEEN_LOCAL_S = 0.2
_BETWEEN_CLOUD_S = 20.0  # a seek takes effect in time, not at once
_AGAIN_S = 0.5
Say = Callable[[str], None]


class Audit:
    """Audits one cloud.

    Args:
        clock: the time, aware.
        say: told what is being done.
        patience: how long what was told may take until it is seen; by default the cloud's.
    """

    def __init__(
        self,
        connections: Connections,
        clock: Callable[[], datetime] | None = None,
        say: Say | None = None,
        patience: timedelta | None = None,
    ) -> None:
        is_local = bool(connections.profile.get("PUBSUB_EMULATOR_HOST"))
        self._connections = connections
        self._say = say or (lambda _: None)
        self._between_s = _BETWEEN_LOCAL_S if is_local else _BETWEEN_CLOUD_S
        self._letters = DeadLetters(connections)
        self._books = Books(connections.objects)
        self._accountant = Accountant(
            connections.ledger,
            self._letters.archive,
            clock or (lambda: datetime.now(UTC)),
            patience if patience is not None else _PATIENCE_LOCAL if is_local else _PATIENCE_CLOUD,
        )

    def until_settled(self, timeout_s: float) -> Report:
        """Look again and again until nothing is in flight, at most for `timeout_s`; return the last report.

        Raises:
            Refused: `timeout_s` is no number.
        """
        if math.isnan(timeout_s):  # it would never be over
            raise Refused(f"{timeout_s} is no time to wait", "give seconds, like 60")
        deadline = time.monotonic() + timeout_s
        while True:
            report = self.look()
            if report.is_settled or time.monotonic() >= deadline:
                return report
            self._say(f"{len([one for one in report.accounted if not one.is_final])} in flight …")
            time.sleep(_AGAIN_S)

    def look(self) -> Report:
        """Take in what was published, and account for it.

        Raises:
            Refused: a subscription that the audit needs is not there.
        """
        self._say("taking in what was published …")
        drain_taps(self._connections, self._books)
        # Without an inbox what was put aside is not in the archive, and counts as lost: that is what is to be told.
        with contextlib.suppress(NotKnown):
            self._letters.collect()
        batches = self._books.read()
        seen = frozenset((m.topic, m.event_id) for batch in batches for m in batch.messages if m.event_id)
        fresh = deliveries(m for batch in batches if batch.accounted is None for m in batch.messages)
        self._say(f"accounting for {len(fresh)} messages …")
        accounted, left = self._accountant.account(fresh, seen)
        found, is_exact = self._look_for(left, seen)
        ended = outcomes([m for batch in batches for m in batch.messages if not listeners(m.topic)])
        closed = [one for batch in batches if batch.accounted for one in batch.accounted if one.queue]
        self._close(batches, [*accounted, *found])
        return report_of([*closed, *accounted, *found, *ended], is_exact)

    def _look_for(self, left: Sequence[Accounted], seen: Seen) -> tuple[list[Accounted], bool]:
        """Find the messages without a fate in their queues; what is in none, and has no fate still, stays lost."""
        if not left:
            return [], True
        if not can_tell(self._connections):
            note = "no fate, and this Pub/Sub cannot tell whether it waits in its queue"
            return [replace(one, note=note, is_final=False) for one in left], False
        done: list[Accounted] = []
        for look in range(_LOOKS):
            self._say(f"looking for {len(left)} messages in the queues …")
            if look:
                time.sleep(self._between_s)
            found, left = self._waiting(left)
            done += found
            accounted, left = self._accountant.account([(one.message, one.queue) for one in left], seen)
            done += accounted
            if not left:
                break
        return [*done, *(replace(one, note="no fate, and in no queue", is_final=False) for one in left)], True

    def _waiting(self, left: Sequence[Accounted]) -> tuple[list[Accounted], list[Accounted]]:
        by_queue: dict[tuple[str, str], list[Accounted]] = defaultdict(list)
        for one in left:
            by_queue[one.queue, one.message.topic].append(one)
        found, still_left = [], []
        for (queue, topic), those in by_queue.items():
            ids = waiting(self._connections, queue, topic, {one.message.message_id for one in those})
            for one in those:
                if one.message.message_id in ids:
                    found.append(replace(one, verdict=Verdict.IN_FLIGHT, note=f"waits in {queue}", is_final=False))
                else:
                    still_left.append(one)
        return found, still_left

    def _close(self, batches: Sequence[Batch], accounted: Sequence[Accounted]) -> None:
        """Close the batches in which nothing can change any more."""
        by_message: dict[tuple[str, str], list[Accounted]] = defaultdict(list)
        for one in accounted:
            by_message[_key(one.message)].append(one)
        for batch in batches:
            if batch.accounted is not None or not batch.messages or not listeners(batch.topic):
                continue
            fates = [one for message in batch.messages for one in by_message[_key(message)]]
            if all(one.is_final for one in fates):
                self._books.close(batch, fates)


def _key(message: Published) -> tuple[str, str]:
    return message.topic, message.message_id
