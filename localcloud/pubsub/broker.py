"""The broker: what ties topics and subscriptions to the one store.

Requests change memory and add statements to the batch in hand in one step, then wait for the commit. Messages reach
subscriptions after their commit, so nobody is ever handed what a crash could take back.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from localcloud.pubsub import lease_book, wire
from localcloud.pubsub.clock import Clock
from localcloud.pubsub.dead_letter import with_origin
from localcloud.pubsub.errors import PubSubError, Unavailable
from localcloud.pubsub.log import Entry
from localcloud.pubsub.registry import SET_META, Registry
from localcloud.pubsub.store import Store
from localcloud.pubsub.subscription import Subscription
from localcloud.pubsub.topic import Topic
from localcloud.pubsub.unkind import Unkind

_LOG = logging.getLogger(__name__)
_RESERVE = 100_000  # sequence numbers set aside by one write, so that a crash never brings one twice
_ACK_FLUSH_S = 0.005
_TRIM_CHUNK = 512
_FIRST_DAY_S = 1_700_000_000
_DELETE_SUBSCRIPTION = (
    "DELETE FROM subscriptions WHERE no = ?",
    "DELETE FROM acks WHERE sub_no = ?",
    "DELETE FROM failures WHERE sub_no = ?",
    lease_book.DELETE_ALL,
)


class Broker:
    """All state of one Pub/Sub."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        parse_filter: Callable[[str], Callable[[bytes], bool]],
        unkind: Unkind | None = None,
    ) -> None:
        self.store = store
        self.unkind = unkind
        self.clock = clock
        self.parse_filter = parse_filter
        self.registry = Registry(store, self)
        self._dirty: dict[Subscription, None] = {}
        self._to_trim: dict[Topic, None] = {}
        self._last_us = 0
        self.on_reload: list[Callable[[], None]] = []
        self.epoch = 0
        store.add_collector(self._collect, self._commit_failed)

    # ---- start ----

    def load(self) -> None:
        """Read the tables. Leases do not outlive the broker, but for those of exactly-once subscriptions."""
        self.registry.next_no = self.store.meta("next_no", 1)
        # A fresh data folder must not bring old message ids again: downstream ledgers remember them.
        first = max(1, int((self.clock.time() - _FIRST_DAY_S) * 1000))
        self._next_seq = self._reserved_seq = self.store.meta("reserved_seq", first)
        self.epoch = self.store.meta("epoch", 0) + 1
        self.store.write(SET_META, [("epoch", self.epoch)])
        self._last_us = self.store.meta("last_us", 0)
        for no, config, is_deleted in self.store.read("SELECT no, config, is_deleted FROM topics"):
            self.registry.add_topic(no, wire.Topic.FromString(config), is_deleted=bool(is_deleted))
        failures: dict[int, dict[int, int]] = {}
        for sub_no, seq, count in self.store.read("SELECT sub_no, seq, count FROM failures"):
            failures.setdefault(sub_no, {})[seq] = count
        rows = self.store.read("SELECT no, topic_no, config, start, cursor, active_us FROM subscriptions")
        for no, topic_no, config, start, cursor, active_us in rows:
            message = wire.Subscription.FromString(config)
            topic = self.registry.topics_by_no[topic_no]
            subscription = self.registry.add_subscription(
                no, message, topic, start=start, cursor=cursor, failures=failures.get(no, {})
            )
            subscription.active_us = subscription.saved_active_us = active_us
        for topic in self.registry.topics_by_no.values():
            topic.log.load()
            self._to_trim[topic] = None
        self._load_leases()

    def _load_leases(self) -> None:
        offset_s = self.clock.monotonic() - self.clock.time()
        leases: dict[int, list[tuple[int, float, str]]] = {}
        for sub_no, seq, deadline_us, ack_id in self.store.read("SELECT sub_no, seq, deadline_us, ack_id FROM leases"):
            leases.setdefault(sub_no, []).append((seq, deadline_us / 1e6 + offset_s, ack_id))
        for subscription in self.registry.subscriptions.values():
            if subscription.book is not None and subscription.no in leases:
                subscription.restore(leases[subscription.no])

    # ---- publishing ----

    def now_us(self) -> int:
        """The time in microseconds, never earlier than the last answer: publish times rise along each log."""
        self._last_us = max(self._last_us, int(self.clock.time() * 1e6))
        return self._last_us

    @property
    def position(self) -> int:
        """The newest position given to any message."""
        return self._next_seq - 1

    def append(self, topic: Topic, messages: Sequence[Any]) -> list[str]:
        """Add PubsubMessages to a topic with the batch in hand; answers their ids.

        Subscriptions see them after the commit.
        """
        now_us = self.now_us()
        first = self._allocate(len(messages), now_us)
        time_field = wire.publish_time_field(now_us)
        entries: list[Entry] = []
        size = 0
        for seq, message in enumerate(messages, first):
            body = wire.stored_message(message, seq, time_field)
            size += len(body)
            entries.append(Entry(seq, now_us, message.ordering_key, body))
        topic.published_messages += len(entries)
        topic.published_bytes += size
        if topic.keeps_messages:
            topic.log.append(entries, is_awaited=topic.has_readers)
            self.store.after_commit(lambda: topic.offer(entries))
        return [str(seq) for seq in range(first, first + len(entries))]

    def _allocate(self, count: int, now_us: int) -> int:
        first = self._next_seq
        self._next_seq += count
        if self._next_seq > self._reserved_seq:
            self._reserved_seq = self._next_seq + _RESERVE
            self.store.write(SET_META, [("reserved_seq", self._reserved_seq), ("last_us", now_us)])
        return first

    def dead_letter(self, subscription: Subscription, seq: int, attempts: int) -> bool:
        """Publish the message to the dead-letter topic and ack it here, both in one transaction."""
        target = self.registry.topics.get(subscription.settings.dead_letter_topic)
        row = subscription.log.read([seq], 1)[0]
        if target is None or row is None:
            _LOG.warning(
                "dead letter refused: the topic is missing",
                extra={
                    "action": "dead_letter_refused",
                    "subscription": subscription.name,
                    "topic": subscription.settings.dead_letter_topic,
                    "message_id": str(seq),
                },
            )
            return False
        message = wire.PubsubMessage.FromString(row[1])
        self.append(
            target, [with_origin(message, subscription.name, self.registry.topic_of(subscription).name, attempts)]
        )
        subscription.dead_lettered(seq)
        return True

    # ---- what the next batch must carry ----

    def mark_for_trim(self, topic: Topic) -> None:
        """Somebody needs less of the log now: delete what nobody needs, bit by bit."""
        self._to_trim[topic] = None
        self.store.flush_within(_ACK_FLUSH_S)

    def reposition(self, subscription: Subscription, cursor: int) -> None:
        """Move a subscription's position with the batch in hand; its leases end now and it goes on after the commit.

        The exceptions after the position are what the acks table holds by then.
        """
        subscription.pause(cursor)
        self.mark_dirty(subscription)
        self.store.after_commit(subscription.resume)

    def delete_subscription(self, subscription: Subscription, error: PubSubError) -> None:
        """Delete a subscription with the batch in hand; its readers end with the error."""
        topic = self.registry.topic_of(subscription)
        self.registry.remove_subscription(subscription, error)
        self._dirty.pop(subscription, None)
        for statement in _DELETE_SUBSCRIPTION:
            self.store.write(statement, [(subscription.no,)])
        self.mark_for_trim(topic)

    def write_acks(self, subscription: Subscription) -> None:
        """Write what the subscription has acked until now, with the batch in hand."""
        self._write_acks(subscription)

    def mark_dirty(self, subscription: Subscription) -> None:
        """Have the subscription's acks written with the next batch, soon."""
        if subscription not in self._dirty:
            self._dirty[subscription] = None
            self.store.flush_within(_ACK_FLUSH_S)

    def _collect(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for subscription in dirty:
            if self.registry.subscriptions.get(subscription.name) is not subscription:
                continue  # deleted, or from before a restart in place
            self._write_acks(subscription)
            self._to_trim[self.registry.topic_of(subscription)] = None
        if self._to_trim:
            self._trim()

    def _write_acks(self, subscription: Subscription) -> None:
        write, no = self.store.write, subscription.no
        cursor = subscription.backlog.cursor
        exceptions = subscription.backlog.take_new_acks()
        write("UPDATE subscriptions SET cursor = ? WHERE no = ?", [(cursor, no)])
        write("DELETE FROM acks WHERE sub_no = ? AND seq <= ?", [(no, cursor)])
        if exceptions:
            write("INSERT OR IGNORE INTO acks VALUES (?, ?)", [(no, seq) for seq in exceptions])
        if subscription.book is not None:
            leases, ended = subscription.book.take_changes()
            write(lease_book.INSERT, leases)
            write(lease_book.DELETE, ended)
        if subscription.new_failures:
            failures, subscription.new_failures = subscription.new_failures, {}
            write(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", [(no, seq, n) for seq, n in failures.items() if n]
            )
            write(
                "DELETE FROM failures WHERE sub_no = ? AND seq = ?", [(no, seq) for seq, n in failures.items() if not n]
            )

    def _trim(self) -> None:
        """Delete a chunk of what nobody needs from one topic's log; the next batch goes on, so no request waits long."""
        topic = next(iter(self._to_trim))
        del self._to_trim[topic]
        is_grave = topic.is_deleted and not topic.snapshot_cursors and not self.registry.is_referenced(topic)
        target = topic.log.last_position if is_grave else topic.trim_target(self.now_us())
        if topic.log.trim(target, _TRIM_CHUNK):
            self._to_trim[topic] = None
        elif is_grave:
            self.store.write("DELETE FROM topics WHERE no = ?", [(topic.no,)])
            self.registry.forget_topic(topic)
        if self._to_trim:
            self.store.flush_within(_ACK_FLUSH_S)

    def _commit_failed(self) -> None:
        """Memory is ahead of the disk: start again in place, as after a crash. Clients whose streams end here come back."""
        error = Unavailable("the disk refused a write, so the broker has started again; connect again.")
        for subscription in self.registry.subscriptions.values():
            subscription.close(error)
        self.registry.clear()
        self._dirty.clear()
        self._to_trim.clear()
        self.load()
        for reload in self.on_reload:
            reload()
