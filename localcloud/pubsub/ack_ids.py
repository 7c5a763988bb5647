"""Ack ids: `<subscription number>.<sequence>.<start of the broker>-<delivery>`, so that each delivery has its own."""

import itertools
from collections import deque
from collections.abc import Iterable

from localcloud.pubsub.errors import InvalidArgument

_REMEMBERED = 10_000


class AckIds:
    """Makes and reads the ack ids of one subscription.

    Args:
        epoch: counts the starts of the broker, so that an id from before a restart is known as such.
    """

    def __init__(self, sub_no: int, epoch: int) -> None:
        self.epoch = epoch
        self._prefix = str(sub_no)
        self._tail = f".{epoch}-"
        self._next = itertools.count(1).__next__
        self._acked: set[str] = set()
        self._acked_order: deque[str] = deque()

    def remember(self, ack_id: str) -> None:
        """Exactly-once: the ack took effect, so that a client that lost the answer may ask again."""
        if ack_id not in self._acked:
            self._acked.add(ack_id)
            self._acked_order.append(ack_id)
            if len(self._acked_order) > _REMEMBERED:
                self._acked.discard(self._acked_order.popleft())

    def was_acked(self, ack_id: str) -> bool:
        """Whether the id is among the last which took effect."""
        return ack_id in self._acked

    def make(self, seq: int) -> str:
        """A new id for a delivery of the message."""
        return f"{self._prefix}.{seq}{self._tail}{self._next()}"

    def parse(self, ack_ids: Iterable[str], subscription: str) -> list[tuple[int, str]]:
        """(sequence, id) of each.

        Raises:
            InvalidArgument: one is malformed, or of another subscription.
        """
        prefix, parsed = self._prefix, []
        for ack_id in ack_ids:
            parts = ack_id.split(".")
            if len(parts) != 3 or parts[0] != prefix or not _is_whole(parts[1], parts[2]):
                raise InvalidArgument(
                    f"ack id {ack_id[:200]!r} was not given out by {subscription}; pass ack ids as they were received."
                )
            parsed.append((int(parts[1]), ack_id))
        return parsed

    def epoch_of(self, ack_id: str) -> int:
        """Which start of the broker gave out a parsed id."""
        return int(ack_id.rpartition(".")[2].partition("-")[0])


def _is_whole(seq: str, nonce: str) -> bool:
    epoch, dash, delivery = nonce.partition("-")
    digits = seq + epoch + delivery
    return (
        dash == "-"
        and bool(seq and epoch and delivery)
        and len(digits) < 60
        and digits.isdecimal()
        and digits.isascii()
    )


def seq_of(ack_id: str) -> int:
    """The sequence number in an id we made."""
    return int(ack_id.split(".")[1])
