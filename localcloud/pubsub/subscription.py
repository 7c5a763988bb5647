"""The delivery machine of one subscription: which message goes to whom, and what its ack, nack or silence brings.

Everything here runs on the event loop without awaiting, so each method is one atomic step. What must reach the disk is
picked up by the broker when the next batch closes.

The newest ack id of a message also counts after its deadline as long as the message has not been handed out again, except
in exactly-once mode.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from localcloud.pubsub.ack_ids import AckIds, seq_of
from localcloud.pubsub.backlog import Backlog
from localcloud.pubsub.clock import Clock
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.delays import DelayLine
from localcloud.pubsub.errors import PubSubError
from localcloud.pubsub.leases import Lease, LeaseState, LeaseTable
from localcloud.pubsub.log import Entry, TopicLog
from localcloud.pubsub.ordering import KeyQueue, KeyQueues
from localcloud.pubsub.settings import SubscriptionSettings

INVALID_ACK_ID = "PERMANENT_FAILURE_INVALID_ACK_ID"
UNORDERED_ACK_ID = "TRANSIENT_FAILURE_UNORDERED_ACK_ID"

MAX_BATCH = 1000
BATCH_BYTES = 1 << 20  # far under the 4 MiB that a stock client takes in emulator mode
_LOW_WATER = 1000


class Delivery(NamedTuple):
    """One message as handed to a reader."""

    ack_id: str
    body: bytes
    attempt: int
    """From 1 where the subscription has a dead-letter policy, else 0."""


class Hooks(Protocol):
    """What a subscription needs of its broker."""

    clock: Clock
    epoch: int

    def mark_dirty(self, subscription: "Subscription") -> None:
        """Have the acks written with the next batch."""

    def dead_letter(self, subscription: "Subscription", seq: int, attempts: int) -> bool:
        """Publish the message to the dead-letter topic; False if that topic is missing, so delivery goes on."""

    def parse_filter(self, expression: str) -> Callable[[bytes], bool]:
        """A test of stored messages."""


class Subscription:
    """One subscription's state in memory."""

    def __init__(
        self, no: int, config: Any, log: TopicLog, hooks: Hooks, *, start: int, cursor: int, failures: dict[int, int]
    ) -> None:
        self.no = no
        self.log = log
        self.start = start
        self.failures = failures
        self.consumers: set[Consumer] = set()
        self.counts = {"delivered": 0, "acked": 0, "expired": 0, "nacked": 0, "dead_lettered": 0}
        self._hooks = hooks
        self._clock = hooks.clock
        self._ack_ids = AckIds(no, hooks.epoch)
        self.configure(config)
        self._matches = hooks.parse_filter(self.settings.filter) if self.settings.filter else None
        self._fresh: deque[int] = deque()
        self._keys = KeyQueues()
        self._returned: list[int] = []
        self._delayed: DelayLine[int | KeyQueue] = DelayLine(self._clock, self._delays_over)
        self._idle: dict[Consumer, None] = {}
        self._skips: set[int] = set()
        self._is_paused = False
        self.active_us = self.saved_active_us = 0
        self.new_failures: dict[int, int] = {}
        self.leases = LeaseTable(self._clock, self._lease_expired)
        self.backlog = Backlog(log, no, cursor, self._admit)

    @property
    def is_leasing(self) -> bool:
        """Whether any message is out with a reader."""
        return any(lease.state == LeaseState.LEASED for lease in self.leases.by_seq.values())

    def configure(self, config: Any) -> None:
        """Take on a changed configuration."""
        self.config = config
        self.name: str = config.name
        self.settings = SubscriptionSettings.of(config)

    # ---- messages coming in ----

    def offer(self, entries: list[Entry]) -> None:
        """Newly committed messages of the topic."""
        if self.backlog.offer(entries):
            self._wake()
        elif self.backlog.is_behind and self._idle:
            self._wake_idle(1)

    def _admit(self, entries: list[Entry]) -> list[int]:
        if self._matches is not None:
            matches = self._matches
            entries = [entry for entry in entries if matches(entry.body)]
            self._hooks.mark_dirty(self)  # what does not match is acked
        seqs = [entry.seq for entry in entries]
        if not self.settings.is_ordered:
            self._fresh.extend(seqs)
            return seqs
        for entry in entries:
            if entry.key:
                _ring(self._keys.add(entry.key, entry.seq))
            else:
                self._fresh.append(entry.seq)
        return seqs

    # ---- handing out ----

    def take(self, consumer: Consumer, max_messages: int = MAX_BATCH, max_bytes: int = BATCH_BYTES) -> list[Delivery]:
        """Messages for this reader now, leased to it; empty if there are none or its flow control is full.

        An idle reader is remembered and rung when there is something.
        """
        limit = min(max_messages, consumer.room_messages, MAX_BATCH)
        if limit <= 0:
            return []
        if self._is_paused:
            self._idle[consumer] = None
            return []
        if self.backlog.is_behind and self._ready_for(consumer) < _LOW_WATER:
            self.backlog.refill(with_bodies=self._matches is not None)
        if len(self._idle) > 1:
            limit = min(limit, max(1, self._ready_for(consumer) // len(self._idle)))
        deliveries: list[Delivery] = []
        while not deliveries:
            seqs = self._pick_plain(limit)
            keyed = self._keys.pick(consumer, limit - len(seqs)) if self.settings.is_ordered else []
            if not seqs and not keyed:
                if self.backlog.refill(with_bodies=self._matches is not None):
                    continue
                self._idle[consumer] = None
                return []
            deliveries = self._lease(consumer, seqs, keyed, min(max_bytes, consumer.room_bytes))
        self._idle.pop(consumer, None)
        self.counts["delivered"] += len(deliveries)
        if self._idle and (self._fresh or self._returned or self._keys.ready):
            self._wake_idle(1)
        return deliveries

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
        oldest_us = int((self._clock.time() - self.settings.retention_s) * 1e6)
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
            consumer.charge(lease.size_bytes)
            attempt = self.failures.get(seq, 0) + 1 if counts_attempts else 0
            deliveries.append(Delivery(ack_id, row[1], attempt))
        if len(rows) < len(seqs):
            self._put_back(seqs[len(rows) : len(plain)], keyed[max(0, len(rows) - len(plain)) :])
        if keyed:
            for queue in {queue for queue, _ in keyed}:
                _ring_other(self._keys.settle(queue), consumer)
        return deliveries

    def _put_back(self, plain: list[int], keyed: list[tuple[KeyQueue, int]]) -> None:
        fresh = [seq for seq in plain if seq not in self.leases.by_seq]
        self._fresh.extendleft(reversed(fresh))
        for seq in plain:
            if seq in self.leases.by_seq:
                heapq.heappush(self._returned, seq)
        if keyed:
            self._keys.put_back(keyed)

    # ---- what readers answer ----

    def ack(self, ack_ids: Iterable[str]) -> dict[str, str]:
        """Acknowledge; answers the failures by ack id, always empty without exactly-once.

        Raises:
            InvalidArgument: an id is malformed or of another subscription; nothing was acked.
        """
        failures: dict[str, str] = {}
        by_seq = self.leases.by_seq
        for seq, ack_id in self._ack_ids.parse(dict.fromkeys(ack_ids), self.name):
            lease = by_seq.get(seq)
            if lease is not None and lease.ack_id == ack_id and lease.state != LeaseState.HELD:
                reason = self._ack_lease(lease)
            else:
                reason = self._ack_late(seq, ack_id, lease)
            if self.settings.is_exactly_once and not self._ack_ids.was_acked(ack_id):
                if reason:
                    failures[ack_id] = reason
                else:
                    self._ack_ids.remember(ack_id)
        if self.backlog.is_behind and self._idle:
            self._wake_idle(1)
        return failures

    def _ack_lease(self, lease: Lease) -> str:
        if self.settings.is_exactly_once:
            if lease.state != LeaseState.LEASED:
                return INVALID_ACK_ID
            if lease.queue is not None and lease.queue.in_flight[0] is not lease:
                return UNORDERED_ACK_ID
        if lease.queue is None:
            self._release(lease)
            self._acked(lease)
            return ""
        if lease.state == LeaseState.LEASED:
            self._release(lease)
            for effective in self._keys.acked(lease):
                self._acked(effective)
            self._wake()
        return ""

    def _acked(self, lease: Lease) -> None:
        self.leases.end(lease)
        self.counts["acked"] += 1
        self._forget(lease.seq)

    def _forget(self, seq: int) -> None:
        """Done with the message, by ack, retention or dead letter."""
        self.backlog.ack(seq)
        if self.failures and self.failures.pop(seq, 0):
            self.new_failures[seq] = 0
        self._hooks.mark_dirty(self)

    def _drop(self, seq: int) -> None:
        """Retention has taken the message before its turn came."""
        lease = self.leases.by_seq.get(seq)
        if lease is not None:
            self.leases.end(lease)
        self._forget(seq)

    def _ack_late(self, seq: int, ack_id: str, lease: Lease | None) -> str:
        """An id which is not the newest of its message. One from before a restart still counts, without exactly-once."""
        epoch = self._ack_ids.epoch_of(ack_id)
        if lease is not None or epoch >= self._hooks.epoch or self.settings.is_exactly_once or self.settings.is_ordered:
            return INVALID_ACK_ID
        if self._is_paused:
            return INVALID_ACK_ID
        if seq > self.backlog.loaded_until:
            self.backlog.ack_unread(seq)
        elif seq > self.backlog.cursor and seq not in self._skips:
            self._skips.add(seq)
            self.backlog.ack(seq)
        self._hooks.mark_dirty(self)
        return INVALID_ACK_ID

    def modify(self, ack_ids: Iterable[str], deadlines_s: Iterable[int]) -> dict[str, str]:
        """Set new deadlines, counted from now; 0 gives the message back. Answers failures as `ack` does.

        Raises:
            InvalidArgument: an id is malformed or of another subscription; nothing was changed.
        """
        failures: dict[str, str] = {}
        now_s = self._clock.monotonic()
        by_seq = self.leases.by_seq
        is_nacked = False
        for (seq, ack_id), deadline_s in zip(self._ack_ids.parse(ack_ids, self.name), deadlines_s, strict=True):
            lease = by_seq.get(seq)
            if lease is None or lease.ack_id != ack_id or lease.state != LeaseState.LEASED:
                if self.settings.is_exactly_once:
                    failures[ack_id] = INVALID_ACK_ID
            elif deadline_s:
                self.leases.extend(lease, now_s + deadline_s)
            else:
                self.counts["nacked"] += 1
                # A nacked id is dead: no late ack or receipt-modack may undo the nack (google-cloud-go#10707).
                lease.ack_id = ""
                self._failed(lease)
                is_nacked = True
        if is_nacked:
            self._wake()
        return failures

    # ---- deliveries that failed ----

    def _lease_expired(self, lease: Lease) -> None:
        self.counts["expired"] += 1
        self._failed(lease)
        self._wake()

    def _failed(self, lease: Lease) -> None:
        """Nacked or expired: dead-letter it, or hand it out again now or after its backoff."""
        seq = lease.seq
        self._release(lease)
        failures = self.failures.get(seq, 0) + 1
        if self.settings.dead_letter_topic or self.settings.retry is not None:
            self.failures[seq] = failures
        if self.settings.dead_letter_topic:
            if failures >= self.settings.max_delivery_attempts and self._hooks.dead_letter(self, seq, failures):
                return
            self.new_failures[seq] = failures
            self._hooks.mark_dirty(self)
        delay_s = self.settings.retry.delay_s(failures) if self.settings.retry is not None else 0.0
        self._give_back(lease, delay_s)

    def dead_lettered(self, seq: int) -> None:
        """The message is on its way to the dead-letter topic, in the same batch as this ack."""
        self.counts["dead_lettered"] += 1
        lease = self.leases.by_seq.get(seq)
        if lease is not None:
            self.leases.end(lease)
            if lease.queue is not None:
                self._keys.remove(lease)
        self._forget(seq)

    def _give_back(self, lease: Lease, delay_s: float) -> None:
        queue = lease.queue
        if queue is None:
            lease.state = LeaseState.RETURNED
            if delay_s > 0:
                self._delayed.add(delay_s, lease.seq)
            else:
                heapq.heappush(self._returned, lease.seq)
            return
        for back in self._keys.rewind(lease):
            self._release(back)
            self.leases.end(back)
        if delay_s > 0:
            queue.is_parked = True
            self._delayed.add(delay_s, queue)
        self._keys.settle(queue)
        _ring(self._keys.list_ready(queue))

    def _delays_over(self, items: list[int | KeyQueue]) -> None:
        for item in items:
            if isinstance(item, KeyQueue):
                item.is_parked = False
                self._keys.settle(item)
                _ring(self._keys.list_ready(item))
            else:
                heapq.heappush(self._returned, item)
        self._wake()

    def _release(self, lease: Lease) -> None:
        """End the reader's hold: unary acks free the flow control of a stream as much as its own."""
        if lease.consumer is not None:
            lease.consumer.release(lease.size_bytes)
            lease.consumer = None

    # ---- readers ----

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

    def close(self, error: PubSubError) -> None:
        """End every reader with this error and forget the leases."""
        for consumer in list(self.consumers):
            consumer.close(error)
        self.rewind(self.backlog.cursor)

    def pause(self, cursor: int) -> None:
        """Begin again from a position, but hand out nothing before `resume`: the disk does not know it yet."""
        self.rewind(cursor)
        self._is_paused = True

    def resume(self) -> None:
        """The disk knows the new position."""
        self._is_paused = False
        self._wake_idle(len(self._idle))

    def rewind(self, cursor: int) -> None:
        """Begin again from a position, with the exceptions that are on disk: a restart, or a seek. All leases end."""
        for lease in self.leases.clear():
            self._release(lease)
        self._fresh.clear()
        self._keys.clear()
        self._returned.clear()
        self._delayed.clear()
        self._skips.clear()
        self.backlog.reset(cursor)
        self.resume()

    def _wake(self) -> None:
        if self._idle:
            ready = len(self._fresh) + len(self._returned) + self._keys.ready
            if ready:
                self._wake_idle(ready)

    def _wake_idle(self, count: int) -> None:
        for consumer in list(self._idle)[:count]:
            consumer.ring()


def _ring(consumer: Consumer | None) -> None:
    if consumer is not None:
        consumer.ring()


def _ring_other(consumer: Consumer | None, current: Consumer) -> None:
    if consumer is not current:
        _ring(consumer)
