"""One subscription: which message goes to whom. Acks and nacks are in `answers.py`, memory in `delivery_state.py`."""

import asyncio
import heapq
from typing import NamedTuple

from localcloud.pubsub.ack_ids import seq_of
from localcloud.pubsub.answers import Answers
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.delivery_state import ring
from localcloud.pubsub.errors import PubSubError
from localcloud.pubsub.leases import Lease, LeaseState
from localcloud.pubsub.ordering import KeyQueue
from localcloud.pubsub.unkind import Unkind

MAX_BATCH = 1000
BATCH_BYTES = 1 << 20  # far under the 4 MiB that a stock client takes in emulator mode
_LOW_WATER = 1000
_MAX_STEPS = 8  # of looking for something to hand out, before others have their turn


class Delivery(NamedTuple):
    """One message as handed to a reader."""

    ack_id: str
    body: bytes
    attempt: int
    """From 1 where the subscription has a dead-letter policy, else 0."""


class Subscription(Answers):
    """Hands messages out to readers."""

    def take(self, consumer: Consumer, max_messages: int = MAX_BATCH, max_bytes: int = BATCH_BYTES) -> list[Delivery]:
        """Messages for this reader now, leased to it; empty if there are none or its flow control is full.

        An idle reader is remembered and rung when there is something.
        """
        limit = min(max_messages, consumer.room_messages, MAX_BATCH)
        if limit <= 0:
            return []
        for _ in range(0 if self._pauses else _MAX_STEPS):
            deliveries = self._take_some(consumer, limit, max_bytes)
            if deliveries:
                self._handed_out(consumer, deliveries)
                return deliveries
            if deliveries is None and not self.backlog.refill(with_bodies=self._matches is not None):
                break
        self._idle[consumer] = None
        if not self._pauses and (self.backlog.can_refill or self._fresh):
            # Much was read that this reader cannot have (filtered, expired, keys of others): go on after others' turn.
            asyncio.get_running_loop().call_soon(consumer.ring)
        return []

    def _take_some(self, consumer: Consumer, limit: int, max_bytes: int) -> list[Delivery] | None:
        """None if there was nothing to look at; empty if retention had taken what there was."""
        if self.backlog.is_behind and self._ready_for(consumer) < _LOW_WATER:
            self.backlog.refill(with_bodies=self._matches is not None)
        if len(self._idle) > 1:
            limit = min(limit, max(1, self._ready_for(consumer) // len(self._idle)))
        seqs = self._pick_plain(limit)
        if self._unkind is not None:
            seqs = self._unkind.shuffled(seqs)
        keyed = self._keys.pick(consumer, limit - len(seqs)) if self.settings.is_ordered else []
        return self._lease(consumer, seqs, keyed, min(max_bytes, consumer.room_bytes)) if seqs or keyed else None

    def _handed_out(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self._idle.pop(consumer, None)
        if self.book is not None:
            self._hooks.mark_dirty(self)
        if self._unkind is not None:
            self._deliver_twice(self._unkind, deliveries)
        self.counts["delivered"] += len(deliveries)
        if self._idle and (self._fresh or self._returned or self._keys.ready):
            self._wake_idle(1)

    def _ready_for(self, consumer: Consumer) -> int:
        plain = len(self._fresh) + len(self._returned)
        return plain + self._keys.waiting if self._keys.ready or consumer.own_keys else plain

    def _pick_plain(self, limit: int) -> list[int]:
        seqs: list[int] = []
        leases = self.leases.by_seq
        while self._returned and len(seqs) < limit:
            seq = heapq.heappop(self._returned)
            lease = leases.get(seq)
            if lease is not None and lease.state == LeaseState.RETURNED:
                seqs.append(seq)
        fresh = self._fresh
        for _ in range(min(limit - len(seqs), len(fresh))):
            seqs.append(fresh.popleft())
        if self._skips:
            skipped = self._skips.intersection(seqs)
            self._skips -= skipped
            seqs = [seq for seq in seqs if seq not in skipped]
            return seqs or (self._pick_plain(limit) if skipped else seqs)
        return seqs

    def _lease(
        self, consumer: Consumer, plain: list[int], keyed: list[tuple[KeyQueue, int]], max_bytes: int
    ) -> list[Delivery]:
        seqs = plain + [seq for _, seq in keyed]
        rows = self.log.read(seqs, max_bytes)
        now_s = self._clock.monotonic()
        deadline_s = now_s + (consumer.ack_deadline_s or self.settings.ack_deadline_s)
        oldest_us = int((self._clock.time() - self.retention_s) * 1e6)
        counts_attempts = bool(self.settings.dead_letter_topic)
        deliveries: list[Delivery] = []
        for index, row in enumerate(rows):
            seq = seqs[index]
            if row is None or row[0] < oldest_us:
                self._drop(seq)
                continue
            ack_id = self._ack_ids.make(seq)
            lease = Lease(seq, ack_id, deadline_s, consumer, len(row[1]))
            if index >= len(plain):
                lease.queue = keyed[index - len(plain)][0]
                lease.queue.in_flight.append(lease)
            self.leases.add(lease)
            if self.book is not None:
                self.book.note(lease)
            consumer.charge(lease.size_bytes)
            attempt = self.failures.get(seq, 0) + 1 if counts_attempts else 0
            deliveries.append(Delivery(ack_id, row[1], attempt))
        if len(rows) < len(seqs):
            self._put_back(seqs[len(rows) : len(plain)], keyed[max(0, len(rows) - len(plain)) :])
        if keyed:
            for queue in {queue for queue, _ in keyed}:
                _ring_other(self._keys.settle(queue), consumer)
        return deliveries

    def _deliver_twice(self, unkind: Unkind, deliveries: list[Delivery]) -> None:
        """Let some messages come again while their reader still has them. Exactly-once rules it out."""
        if self.settings.is_exactly_once:
            return
        for delivery in deliveries:
            if unkind.duplicates():
                lease = self.leases.by_seq.get(seq_of(delivery.ack_id))
                if lease is not None and lease.state == LeaseState.LEASED:
                    self._release(lease)
                    self._give_back(lease, 0.0)
            if self.settings.is_ordered:
                return  # one repeats the rest of its key: one chance for each batch is plenty

    def _put_back(self, plain: list[int], keyed: list[tuple[KeyQueue, int]]) -> None:
        fresh = [seq for seq in plain if seq not in self.leases.by_seq]
        self._fresh.extendleft(reversed(fresh))
        for seq in plain:
            if seq in self.leases.by_seq:
                heapq.heappush(self._returned, seq)
        if keyed:
            self._keys.put_back(keyed)

    def join(self, consumer: Consumer) -> None:
        """A reader begins."""
        self.consumers.add(consumer)

    def leave(self, consumer: Consumer, unsent: list[Delivery]) -> None:
        """A reader is gone. Its leases run on to their deadlines; what was never sent is free at once."""
        self.consumers.discard(consumer)
        self._idle.pop(consumer, None)
        consumer.error = consumer.error or PubSubError("the reader has left")
        for delivery in reversed(unsent):
            lease = self.leases.by_seq.get(seq_of(delivery.ack_id))
            if lease is not None and lease.ack_id == delivery.ack_id and lease.state == LeaseState.LEASED:
                lease.ack_id = ""
                self._release(lease)
                self._give_back(lease, 0.0)
        self._wake()


def _ring_other(consumer: Consumer | None, current: Consumer) -> None:
    if consumer is not current:
        ring(consumer)
