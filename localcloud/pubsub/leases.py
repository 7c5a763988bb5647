"""Leases: who holds which message until when."""

import heapq
import itertools
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from localcloud.pubsub.clock import Clock, Timer

if TYPE_CHECKING:
    from localcloud.pubsub.consumer import Consumer
    from localcloud.pubsub.ordering import KeyQueue


class LeaseState(IntEnum):
    """What has become of a delivery."""

    LEASED = 0
    HELD = 1
    """Acked before an earlier message of its ordering key: it counts once that one is acked."""
    RETURNED = 2
    """Expired or nacked, and not delivered again yet."""
    ENDED = 3


class Lease:
    """One delivery of one message."""

    __slots__ = ("ack_id", "consumer", "deadline_s", "queue", "queued_s", "seq", "size_bytes", "state")

    def __init__(self, seq: int, ack_id: str, deadline_s: float, consumer: "Consumer | None", size_bytes: int) -> None:
        self.seq = seq
        self.ack_id = ack_id
        self.deadline_s = deadline_s
        self.queued_s = deadline_s
        self.consumer = consumer
        self.size_bytes = size_bytes
        self.queue: KeyQueue | None = None
        self.state = LeaseState.LEASED


class LeaseTable:
    """The newest lease of each message of one subscription, and a timer for the first deadline.

    Args:
        expired: called with each lease whose deadline has passed, in order of deadlines.
    """

    def __init__(self, clock: Clock, expired: Callable[[Lease], None]) -> None:
        self._clock = clock
        self._expired = expired
        self.by_seq: dict[int, Lease] = {}
        self._heap: list[tuple[float, int, Lease]] = []
        self._order = itertools.count().__next__  # breaks ties, so that leases are never compared
        self._timer: Timer | None = None
        self._timer_s = 0.0

    def add(self, lease: Lease) -> None:
        """Begin a lease; it takes the place of an earlier one on the same message."""
        self.by_seq[lease.seq] = lease
        heapq.heappush(self._heap, (lease.deadline_s, self._order(), lease))
        if self._timer is None or lease.deadline_s < self._timer_s:
            self._arm()

    def extend(self, lease: Lease, deadline_s: float) -> None:
        """Move the deadline, either way."""
        lease.deadline_s = deadline_s
        if deadline_s < lease.queued_s:
            lease.queued_s = deadline_s
            heapq.heappush(self._heap, (deadline_s, self._order(), lease))
            self._arm()

    def end(self, lease: Lease) -> None:
        """Forget the lease. Its place in the heap is cleared when half of the heap is such places."""
        lease.state = LeaseState.ENDED
        if self.by_seq.get(lease.seq) is lease:
            del self.by_seq[lease.seq]
        if len(self._heap) > 2 * len(self.by_seq) + 1024:
            self._heap = [item for item in self._heap if _is_due_here(item)]
            heapq.heapify(self._heap)

    def clear(self) -> list[Lease]:
        """End all leases and answer them."""
        ended = list(self.by_seq.values())
        for lease in ended:
            lease.state = LeaseState.ENDED
        self.by_seq.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return ended

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer_s = self._heap[0][0]
            self._timer = self._clock.call_later(self._timer_s - self._clock.monotonic(), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now_s:
            item = heapq.heappop(self._heap)
            if not _is_due_here(item):
                continue
            lease = item[2]
            if lease.deadline_s > now_s:
                lease.queued_s = lease.deadline_s
                heapq.heappush(self._heap, (lease.deadline_s, self._order(), lease))
            else:
                self._expired(lease)
        self._arm()


def _is_due_here(item: tuple[float, int, Lease]) -> bool:
    queued_s, _, lease = item
    return lease.state == LeaseState.LEASED and queued_s == lease.queued_s
