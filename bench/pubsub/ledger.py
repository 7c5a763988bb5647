"""What a soak run knows of each message: enough to tell a lost one, and one that came again after its ack counted.

A publish or an ack whose answer was lost with the broker may or may not have taken effect; both are allowed, and both are
remembered as unknown rather than guessed.
"""

from collections.abc import Iterable
from enum import IntEnum

PAYLOAD_BYTES = 1024


class Fate(IntEnum):
    """The most that is known of one message id."""

    DELIVERED = 1
    """Handed out, not acked yet."""
    UNKNOWN = 2
    """Its ack was under way when the broker died."""
    ACKED = 3
    """Its ack was answered with success: with exactly-once it must never come again."""


class Ledger:
    """The account of one run.

    Args:
        count: messages to publish, numbered from 0; the number is the payload, repeated.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.fates: dict[str, Fate] = {}
        self.answered: list[str] = []
        self.accounted = 0
        """How many answered publishes have been acked, for certain or perhaps."""
        self.deliveries = 0
        self.refused_acks = 0
        self.violations: list[str] = []
        self._is_seen = bytearray(count)
        self._waiting: set[str] = set()

    @staticmethod
    def payload(number: int) -> bytes:
        """The data of one message."""
        return number.to_bytes(8, "big") * (PAYLOAD_BYTES // 8)

    def published(self, ids: Iterable[str]) -> None:
        """A publish was answered with these ids: from now on each of them must be delivered."""
        for message_id in ids:
            self.answered.append(message_id)
            if self.fates.get(message_id, 0) >= Fate.UNKNOWN:
                self.accounted += 1
            else:
                self._waiting.add(message_id)

    def delivered(self, message_id: str, data: bytes) -> None:
        """A message has arrived; one that was acked before is a violation, and so is one that was never published."""
        self.deliveries += 1
        number = int.from_bytes(data[:8], "big")
        if number >= self.count or data != self.payload(number):
            self.violations.append(f"message {message_id} arrived with data that nobody published: {data[:16]!r}…")
            return
        self._is_seen[number] = 1
        if self.fates.get(message_id) == Fate.ACKED:
            self.violations.append(
                f"message {message_id} (number {number}) was delivered again after its ack was answered"
            )
        self.fates.setdefault(message_id, Fate.DELIVERED)

    def acked(self, message_ids: Iterable[str], fate: Fate) -> None:
        """The ack of these messages was answered (ACKED), or its answer was lost (UNKNOWN)."""
        for message_id in message_ids:
            self.fates[message_id] = max(self.fates[message_id], fate)
            if message_id in self._waiting:
                self._waiting.remove(message_id)
                self.accounted += 1

    @property
    def missing(self) -> list[str]:
        """Answered publishes that nobody has acked."""
        return sorted(self._waiting)

    @property
    def unseen(self) -> int:
        """Numbers that never arrived under any id."""
        return self.count - sum(self._is_seen)
