"""Ordering keys: messages of one key are handed out in publish order, to one reader at a time.

A redelivered message brings every later message of its key again, even acked ones: an ack counts only once all earlier
messages of the key are acked. Source: cloud.google.com/pubsub/docs/ordering.
"""

from collections import deque

from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.leases import Lease, LeaseState
from localcloud.pubsub.line import Line


class KeyQueue:
    """The unacked messages of one key."""

    __slots__ = ("in_flight", "is_listed", "is_parked", "key", "owner", "waiting")

    def __init__(self, key: str) -> None:
        self.key = key
        self.waiting: Line[int] = Line()
        self.in_flight: Line[Lease] = Line()
        self.owner: Consumer | None = None
        self.is_listed = False
        self.is_parked = False
        """Waits for a retry backoff, so nothing of the key is handed out."""


class KeyQueues:
    """All keys of one subscription which have unacked messages."""

    def __init__(self) -> None:
        self._queues: dict[str, KeyQueue] = {}
        self._ready: deque[KeyQueue] = deque()
        self.waiting = 0

    @property
    def ready(self) -> int:
        """How many keys any reader may take from."""
        return len(self._ready)

    def clear(self) -> None:
        """Forget everything; leases on keyed messages are ended by the caller."""
        for queue in self._queues.values():
            if queue.owner is not None:
                queue.owner.own_keys.clear()
        self._queues.clear()
        self._ready.clear()
        self.waiting = 0

    def add(self, key: str, seq: int) -> Consumer | None:
        """A new message; answers the reader that must be woken because it owns the key."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = KeyQueue(key)
        queue.waiting.append(seq)
        self.waiting += 1
        return self.list_ready(queue)

    def add_leased(self, key: str, lease: Lease) -> None:
        """A message whose lease has outlived a restart; its key waits for it."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = KeyQueue(key)
        lease.queue = queue
        queue.in_flight.append(lease)

    def list_ready(self, queue: KeyQueue) -> Consumer | None:
        """Put the key where its next reader finds it; answers the owner that must be woken, if any."""
        if queue.is_listed or queue.is_parked or not queue.waiting:
            return None
        if not queue.in_flight:
            queue.owner = None
            queue.is_listed = True
            self._ready.append(queue)
            return None
        if queue.owner is not None and queue.owner.error is None:
            queue.is_listed = True
            queue.owner.own_keys.append(queue)
            return queue.owner
        return None

    def pick(self, consumer: Consumer, limit: int) -> list[tuple[KeyQueue, int]]:
        """Up to `limit` next messages for this reader, which becomes the owner of their keys."""
        picked: list[tuple[KeyQueue, int]] = []
        for lists in (consumer.own_keys, self._ready):
            while lists and len(picked) < limit:
                queue = lists[0]
                if queue.is_parked or not queue.waiting:
                    lists.popleft()
                    queue.is_listed = False
                    continue
                queue.owner = consumer
                while queue.waiting and len(picked) < limit:
                    picked.append((queue, queue.waiting.take_first()))
                    self.waiting -= 1
                if not queue.waiting:
                    lists.popleft()
                    queue.is_listed = False
                elif lists is self._ready:
                    lists.popleft()
                    consumer.own_keys.append(queue)
        return picked

    def put_back(self, picked: list[tuple[KeyQueue, int]]) -> None:
        """Undo `pick` for messages that did not fit; those leased before stay."""
        for queue, seq in reversed(picked):
            queue.waiting.append_first(seq)
            self.waiting += 1
        for queue, _ in picked:
            self.list_ready(queue)

    def acked(self, lease: Lease) -> list[Lease]:
        """Mark the lease acked; answers the leases whose acks count from now on, in order."""
        queue = lease.queue
        if queue is None:
            return [lease]
        lease.state = LeaseState.HELD
        effective: list[Lease] = []
        while queue.in_flight and queue.in_flight.first.state == LeaseState.HELD:
            effective.append(queue.in_flight.take_first())
        self.settle(queue)
        return effective

    def remove(self, lease: Lease) -> Consumer | None:
        """Take one lease out of its key's order: the message is done with, whatever came before it."""
        queue = lease.queue
        assert queue is not None
        queue.in_flight.remove(lease)
        return self.settle(queue)

    def settle(self, queue: KeyQueue) -> Consumer | None:
        """After something left flight: free the key for any reader, or forget it when it is done."""
        if queue.in_flight:
            return None
        if queue.is_listed and queue.owner is not None and queue in queue.owner.own_keys:
            queue.owner.own_keys.remove(queue)
            queue.is_listed = False
        queue.owner = None
        if queue.waiting:
            return self.list_ready(queue)
        if not queue.is_listed and not queue.is_parked:
            self._queues.pop(queue.key, None)
        return None

    def rewind(self, lease: Lease) -> list[Lease]:
        """Take the lease and every later one of its key back to wait again, in order; answers them."""
        queue = lease.queue
        assert queue is not None
        back: list[Lease] = []
        while queue.in_flight:
            last = queue.in_flight.take_last()
            queue.waiting.append_first(last.seq)
            self.waiting += 1
            back.append(last)
            if last is lease:
                break
        return back
