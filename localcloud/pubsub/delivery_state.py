"""What a subscription remembers of its messages and readers.

Everything here and in the subclasses (`answers.py`, `subscription.py`) runs on the event loop without awaiting, so each
method is one atomic step. What must reach the disk is picked up by the broker when the next batch closes.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from localcloud.pubsub.ack_ids import AckIds
from localcloud.pubsub.backlog import WINDOW, Backlog
from localcloud.pubsub.clock import Clock
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.delays import DelayLine
from localcloud.pubsub.errors import PubSubError
from localcloud.pubsub.lease_book import LeaseBook
from localcloud.pubsub.leases import Lease, LeaseState, LeaseTable
from localcloud.pubsub.log import Entry, TopicLog
from localcloud.pubsub.ordering import KeyQueue, KeyQueues
from localcloud.pubsub.settings import SubscriptionSettings
from localcloud.pubsub.unkind import Unkind


class Hooks(Protocol):
    """What a subscription needs of its broker."""

    clock: Clock
    epoch: int
    unkind: Unkind | None

    def mark_dirty(self, subscription: Any) -> None:
        """Have the acks written with the next batch."""

    def dead_letter(self, subscription: Any, seq: int, attempts: int) -> bool:
        """Publish the message to the dead-letter topic; False if that topic is missing, so delivery goes on."""

    def parse_filter(self, expression: str) -> Callable[[bytes], bool]:
        """A test of stored messages."""


class DeliveryState:
    """One subscription's state in memory, and how it begins again from a position."""

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
        self._unkind = hooks.unkind
        self._ack_ids = AckIds(no, hooks.epoch)
        self.book: LeaseBook | None = None
        self.configure(config)
        self._matches = hooks.parse_filter(self.settings.filter) if self.settings.filter else None
        self._fresh: deque[int] = deque()
        self._keys = KeyQueues()
        self._returned: list[int] = []
        self._delayed: DelayLine[int | KeyQueue] = DelayLine(self._clock, self._delays_over)
        self._idle: dict[Consumer, None] = {}
        self._skips: set[int] = set()
        self._pauses = 0
        self._restored: dict[int, Lease] = {}
        self.export_state = 1  # ACTIVE; see exports.ExportState
        self.active_us = self.saved_active_us = 0
        self.new_failures: dict[int, int] = {}
        self.leases = LeaseTable(self._clock, self._lease_expired)
        self.backlog = Backlog(log, no, cursor, self._admit)

    @property
    def is_leasing(self) -> bool:
        """Whether any message is out with a reader."""
        return any(lease.state == LeaseState.LEASED for lease in self.leases.by_seq.values())

    @property
    def retention_s(self) -> float:
        """How long an unacked message stays: as long as the subscription or its topic keeps it."""
        return max(self.settings.retention_s, self.log.retention_s)

    @property
    def outstanding(self) -> int:
        """How many messages are out with readers, gone ones included, and not given back."""
        return sum(lease.state == LeaseState.LEASED for lease in self.leases.by_seq.values())

    def oldest_us(self) -> int:
        """When the oldest unacked message was published, in microseconds; 0 if there is none."""
        if self.backlog.oldest is not None:
            return self.log.first_after(self.backlog.oldest - 1)
        entries, _ = self.log.scan(self.backlog.cursor, 1, self.no, with_bodies=False)
        return entries[0].published_us if entries else 0

    def look_ahead(self) -> bool:
        """Ask the filter about more of what waits on disk, while there is room; False if there is nothing to ask about.

        Without a filter all that waits counts, and nothing need be read for it.
        """
        if self._matches is None or self._pauses or self.backlog.loaded >= WINDOW:
            return False
        return self.backlog.refill(with_bodies=True)

    def is_leased(self, seq: int) -> bool:
        """Whether the message is out with a reader."""
        lease = self.leases.by_seq.get(seq)
        return lease is not None and lease.state in (LeaseState.LEASED, LeaseState.HELD)

    def owes(self, entry: Entry) -> bool:
        """Whether a message of the log, read from disk, is one of this subscription's unacked messages."""
        return self.backlog.owes(entry.seq) and (self._matches is None or self._matches(entry.body))

    def configure(self, config: Any) -> None:
        """Take on a changed configuration."""
        self.config = config
        self.name: str = config.name
        self.settings = SubscriptionSettings.of(config)
        is_pulled = not (self.settings.is_push or self.settings.is_export)
        keeps_leases = self.settings.is_exactly_once and is_pulled
        if not keeps_leases:
            self.book = None
        elif self.book is None:
            self.book = LeaseBook(self.no, self._clock)

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
        restored = self._restored
        if not self.settings.is_ordered:
            self._fresh.extend([seq for seq in seqs if seq not in restored] if restored else seqs)
            return seqs
        for entry in entries:
            if entry.seq in restored:
                if entry.key:
                    self._keys.add_leased(entry.key, restored[entry.seq])
            elif entry.key:
                ring(self._keys.add(entry.key, entry.seq))
            else:
                self._fresh.append(entry.seq)
        return seqs

    # ---- beginning again ----

    def restore(self, leases: list[tuple[int, float, str]]) -> None:
        """Exactly-once, after a restart: go on with these leases (sequence, deadline on the monotonic clock, ack id)."""
        for seq, deadline_s, ack_id in leases:
            self._restored[seq] = Lease(seq, ack_id, deadline_s, None, 0)
        last = max(self._restored, default=0)
        while self.backlog.loaded_until < last and self.backlog.refill(with_bodies=self._matches is not None):
            pass
        for seq, lease in self._restored.items():
            if self.backlog.owes(seq):
                self.leases.add(lease)
        self._restored = {}

    def close(self, error: PubSubError) -> None:
        """End every reader with this error and forget the leases."""
        for consumer in list(self.consumers):
            consumer.close(error)
        self.rewind(self.backlog.cursor)

    def pause(self, cursor: int) -> None:
        """Begin again from a position, but hand out nothing before `resume`: the disk does not know it yet."""
        self.rewind(cursor)
        self._pauses += 1

    def resume(self) -> None:
        """The disk knows the new position."""
        self._pauses = max(0, self._pauses - 1)
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

    def _release(self, lease: Lease) -> None:
        """End the reader's hold: unary acks free the flow control of a stream as much as its own."""
        if lease.consumer is not None:
            lease.consumer.release(lease.size_bytes)
            lease.consumer = None
        if self.book is not None:
            self.book.strike(lease.seq)
            self._hooks.mark_dirty(self)

    def _wake(self) -> None:
        if self._idle:
            ready = len(self._fresh) + len(self._returned) + self._keys.ready
            if ready:
                self._wake_idle(ready)

    def _wake_idle(self, count: int) -> None:
        for consumer in list(self._idle)[:count]:
            consumer.ring()

    # ---- what the subclasses decide ----

    def _lease_expired(self, lease: Lease) -> None:
        raise NotImplementedError

    def _delays_over(self, items: list[int | KeyQueue]) -> None:
        raise NotImplementedError


def ring(consumer: Consumer | None) -> None:
    """Wake a reader, if there is one."""
    if consumer is not None:
        consumer.ring()
