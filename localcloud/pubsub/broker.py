"""The broker: every topic and subscription, and what ties them to the one store.

Requests change memory and add statements to the batch in hand in one step, then wait for the commit. Messages reach
subscriptions after their commit, so nobody is ever handed what a crash could take back.
"""

import bisect
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from localcloud.pubsub import wire
from localcloud.pubsub.clock import Clock
from localcloud.pubsub.dead_letter import with_origin
from localcloud.pubsub.errors import NotFound, PubSubError
from localcloud.pubsub.log import BodyCache, Entry, TopicLog
from localcloud.pubsub.store import MAX_SEQUENCE, SEQUENCE_BITS, Store
from localcloud.pubsub.subscription import Subscription
from localcloud.pubsub.topic import Topic

_LOG = logging.getLogger(__name__)
_CACHE_BYTES = 8 << 20
_RESERVE = 100_000  # sequence numbers set aside by one write, so that a crash never brings one twice
_ACK_FLUSH_S = 0.005
_TRIM_CHUNK = 512
_FIRST_DAY_S = 1_700_000_000
SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class Broker:
    """All state of one Pub/Sub."""

    def __init__(self, store: Store, clock: Clock, parse_filter: Callable[[str], Callable[[bytes], bool]]) -> None:
        self.store = store
        self.clock = clock
        self.parse_filter = parse_filter
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self._topics_by_no: dict[int, Topic] = {}
        self._topic_names: list[str] = []
        self._subscription_names: list[str] = []
        self._cache = BodyCache(_CACHE_BYTES)
        self._dirty: dict[Subscription, None] = {}
        self._to_trim: dict[Topic, None] = {}
        self._last_us = 0
        store.add_collector(self._collect, self._commit_failed)

    # ---- start ----

    def load(self) -> None:
        """Read the tables. Leases do not outlive the broker: what was leased is free again."""
        self._next_no = self.store.meta("next_no", 1)
        # A fresh data folder must not bring old message ids again: downstream ledgers remember them.
        first = max(1, int((self.clock.time() - _FIRST_DAY_S) * 1000))
        self._next_seq = self._reserved_seq = self.store.meta("reserved_seq", first)
        self.epoch = self.store.meta("epoch", 0) + 1
        self.store.write(SET_META, [("epoch", self.epoch)])
        self._last_us = self.store.meta("last_us", 0)
        for no, config, is_deleted in self.store.read("SELECT no, config, is_deleted FROM topics"):
            self.add_topic(no, wire.Topic.FromString(config), is_deleted=bool(is_deleted))
        failures: dict[int, dict[int, int]] = {}
        for sub_no, seq, count in self.store.read("SELECT sub_no, seq, count FROM failures"):
            failures.setdefault(sub_no, {})[seq] = count
        rows = self.store.read("SELECT no, topic_no, config, start, cursor FROM subscriptions")
        for no, topic_no, config, start, cursor in rows:
            message = wire.Subscription.FromString(config)
            topic = self._topics_by_no[topic_no]
            self.add_subscription(no, message, topic, start=start, cursor=cursor, failures=failures.get(no, {}))
        for topic in self._topics_by_no.values():
            topic.log.last_position = topic.log.edges()[1]
            self._to_trim[topic] = None

    # ---- registry ----

    def take_number(self) -> int:
        """A number for a new topic, subscription or snapshot, never used again."""
        number = self._next_no
        self._next_no += 1
        self.store.write(SET_META, [("next_no", self._next_no)])
        return number

    def add_topic(self, no: int, config: Any, *, is_deleted: bool = False) -> Topic:
        """Put a topic into memory."""
        topic = Topic(no, config, TopicLog(no, self.store, self._cache), is_deleted=is_deleted)
        self._topics_by_no[no] = topic
        if not is_deleted:
            self.topics[topic.name] = topic
            bisect.insort(self._topic_names, topic.name)
        return topic

    def remove_topic(self, topic: Topic) -> None:
        """Take the name out of use; the topic itself goes with the last of its subscriptions."""
        del self.topics[topic.name]
        self._topic_names.remove(topic.name)
        topic.is_deleted = True
        topic.configure(topic.config)

    def drop_topic(self, topic: Topic) -> None:
        """A deleted topic has lost its last subscription: remove it from disk too, with the batch in hand."""
        self.store.write("DELETE FROM topics WHERE no = ?", [(topic.no,)])
        base = topic.no << SEQUENCE_BITS
        self.store.write("DELETE FROM messages WHERE id >= ? AND id <= ?", [(base, base | MAX_SEQUENCE)])
        self.forget_topic(topic)

    def save_subscription(self, subscription: Subscription) -> None:
        """Write a changed configuration with the batch in hand."""
        row = (subscription.config.SerializeToString(), subscription.no)
        self.store.write("UPDATE subscriptions SET config = ? WHERE no = ?", [row])

    def forget_topic(self, topic: Topic) -> None:
        """Drop a deleted topic's last traces from memory."""
        self._topics_by_no.pop(topic.no, None)
        self._to_trim.pop(topic, None)

    def topic_of(self, subscription: Subscription) -> Topic:
        """The topic a subscription reads, deleted or not."""
        return self._topics_by_no[subscription.log.no]

    def add_subscription(
        self, no: int, config: Any, topic: Topic, *, start: int, cursor: int, failures: dict[int, int] | None = None
    ) -> Subscription:
        """Put a subscription into memory."""
        subscription = Subscription(no, config, topic.log, self, start=start, cursor=cursor, failures=failures or {})
        self.subscriptions[subscription.name] = subscription
        bisect.insort(self._subscription_names, subscription.name)
        topic.subscriptions[subscription.name] = subscription
        return subscription

    def remove_subscription(self, subscription: Subscription, error: PubSubError) -> None:
        """Take a subscription out of memory; its readers end with the error."""
        del self.subscriptions[subscription.name]
        self._subscription_names.remove(subscription.name)
        topic = self.topic_of(subscription)
        topic.subscriptions.pop(subscription.name, None)
        self._dirty.pop(subscription, None)
        self._to_trim[topic] = None
        subscription.close(error)

    def topic(self, name: str, field: str = "topic") -> Topic:
        """The topic with this name.

        Raises:
            NotFound: there is none.
        """
        topic = self.topics.get(name)
        if topic is None:
            raise NotFound(f"{field} {name} does not exist; create it first (resource={name.rpartition('/')[2]}).")
        return topic

    def subscription(self, name: str) -> Subscription:
        """The subscription with this name.

        Raises:
            NotFound: there is none.
        """
        subscription = self.subscriptions.get(name)
        if subscription is None:
            raise NotFound(f"subscription {name} does not exist; create it first (resource={name.rpartition('/')[2]}).")
        return subscription

    def names_after(self, names: Sequence[str], prefix: str, after: str, count: int) -> tuple[list[str], bool]:
        """A page of sorted names with a prefix, and whether more follow."""
        start = bisect.bisect_right(names, after) if after else bisect.bisect_left(names, prefix)
        page: list[str] = []
        for name in itertools.islice(names, start, None):
            if not name.startswith(prefix):
                break
            if len(page) == count:
                return page, True
            page.append(name)
        return page, False

    @property
    def topic_names(self) -> Sequence[str]:
        """All topic names, sorted."""
        return self._topic_names

    @property
    def subscription_names(self) -> Sequence[str]:
        """All subscription names, sorted."""
        return self._subscription_names

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
        entries: list[Entry] = []
        for seq, message in enumerate(messages, first):
            key = message.ordering_key
            entries.append(Entry(seq, now_us, key, wire.stored_message(message, str(seq), now_us)))
        topic.published_messages += len(entries)
        topic.published_bytes += sum(len(entry.body) for entry in entries)
        if topic.keeps_messages:
            topic.log.append(entries)
            self.store.after_commit(lambda: topic.offer(entries))
        return [str(entry.seq) for entry in entries]

    def _allocate(self, count: int, now_us: int) -> int:
        first = self._next_seq
        self._next_seq += count
        if self._next_seq > self._reserved_seq:
            self._reserved_seq = self._next_seq + _RESERVE
            self.store.write(SET_META, [("reserved_seq", self._reserved_seq), ("last_us", now_us)])
        return first

    def dead_letter(self, subscription: Subscription, seq: int, attempts: int) -> bool:
        """Publish the message to the dead-letter topic and ack it here, both in one transaction."""
        target = self.topics.get(subscription.settings.dead_letter_topic)
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
        self.append(target, [with_origin(message, subscription.name, self.topic_of(subscription).name, attempts)])
        subscription.dead_lettered(seq)
        return True

    # ---- what the next batch must carry ----

    def mark_dirty(self, subscription: Subscription) -> None:
        """Have the subscription's acks written with the next batch, soon."""
        if subscription not in self._dirty:
            self._dirty[subscription] = None
            self.store.flush_within(_ACK_FLUSH_S)

    def _collect(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for subscription in dirty:
            self._write_acks(subscription)
            self._to_trim[self.topic_of(subscription)] = None
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
        if topic.log.trim(topic.trim_target(self.now_us()), _TRIM_CHUNK):
            self._to_trim[topic] = None
        if self._to_trim:
            self.store.flush_within(_ACK_FLUSH_S)

    def _commit_failed(self) -> None:
        """Memory is ahead of the disk: take every subscription back to what the disk holds, as a restart would."""
        for topic in self._topics_by_no.values():
            topic.log.floor = 0
        for subscription in self.subscriptions.values():
            rows = self.store.read("SELECT cursor FROM subscriptions WHERE no = ?", (subscription.no,))
            if rows:
                subscription.rewind(rows[0][0])
        self._dirty.clear()
