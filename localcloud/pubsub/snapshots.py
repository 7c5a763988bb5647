"""Snapshots and seek: moving a subscription's position about.

A snapshot is a copy of a subscription's position and of its exceptions. It holds the log back as a subscription does.
"""

import bisect
from dataclasses import dataclass
from typing import Any

from localcloud.pubsub import wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.errors import AlreadyExists, FailedPrecondition, NotFound
from localcloud.pubsub.names import DELETED_TOPIC
from localcloud.pubsub.subscription import Subscription
from localcloud.pubsub.topic import Topic

_LIFETIME_US = 7 * 86_400 * 1_000_000
_SHORTEST_LIFE_US = 3600 * 1_000_000
_INSERT = "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?)"
_COPY_ACKS = "INSERT INTO snapshot_acks SELECT ?, seq FROM acks WHERE sub_no = ?"
_RESTORE_ACKS = "INSERT INTO acks SELECT ?, seq FROM snapshot_acks WHERE snapshot_no = ?"


@dataclass(slots=True)
class Snapshot:
    """One snapshot in memory; its exceptions are on disk alone."""

    no: int
    config: Any
    topic: Topic
    cursor: int


class Snapshots:
    """All snapshots of a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._by_name: dict[str, Snapshot] = {}
        self.names: list[str] = []

    def load(self) -> None:
        """Read the table, at the start and after a refused commit; the broker has its topics by now."""
        self._by_name.clear()
        self.names.clear()
        for no, topic_no, config, cursor in self._broker.store.read(
            "SELECT no, topic_no, config, cursor FROM snapshots"
        ):
            topic = self._broker.registry.topics_by_no[topic_no]
            self._keep(Snapshot(no, wire.Snapshot.FromString(config), topic, cursor))

    def _keep(self, snapshot: Snapshot) -> None:
        name = snapshot.config.name
        self._by_name[name] = snapshot
        bisect.insort(self.names, name)
        snapshot.topic.snapshot_cursors[name] = snapshot.cursor

    def get(self, name: str) -> Snapshot:
        """The snapshot with this name.

        Raises:
            NotFound: there is none.
        """
        snapshot = self._by_name.get(name)
        if snapshot is None:
            raise NotFound(f"snapshot {name} does not exist; create it first (resource={name.rpartition('/')[2]}).")
        return snapshot

    def shown(self, snapshot: Snapshot) -> Any:
        """The snapshot's message as clients see it now."""
        config = wire.Snapshot()
        config.CopyFrom(snapshot.config)
        config.topic = snapshot.topic.name if not snapshot.topic.is_deleted else DELETED_TOPIC
        return config

    def names_of_topic(self, topic: Topic) -> list[str]:
        """Snapshots of one topic."""
        return list(topic.snapshot_cursors)

    async def create(self, name: str, subscription: Subscription, labels: Any) -> Snapshot:
        """Keep the subscription's state under a name.

        Raises:
            AlreadyExists: the name is taken.
            FailedPrecondition: the backlog is so old that the snapshot would live for less than an hour.
        """
        if name in self._by_name:
            raise AlreadyExists(
                f"snapshot {name} exists already; choose another name (resource={name.rpartition('/')[2]})."
            )
        topic = self._broker.registry.topic_of(subscription)
        now_us = self._broker.now_us()
        expire_us = (topic.log.first_after(subscription.backlog.cursor) or now_us) + _LIFETIME_US
        if expire_us - now_us < _SHORTEST_LIFE_US:
            raise FailedPrecondition(
                f"{subscription.name} has unacked messages so old that the snapshot {name} would expire within an hour; "
                "acknowledge them or seek first."
            )
        config = wire.Snapshot(name=name, topic=topic.name, labels=labels)
        wire.set_us(config.expire_time, expire_us)
        snapshot = Snapshot(self._broker.registry.take_number(), config, topic, subscription.backlog.cursor)
        self._broker.write_acks(subscription)
        write = self._broker.store.write
        write(_INSERT, [(snapshot.no, name, topic.no, config.SerializeToString(), snapshot.cursor)])
        write(_COPY_ACKS, [(snapshot.no, subscription.no)])
        self._keep(snapshot)
        await self._broker.store.settle()
        return snapshot

    async def update(self, snapshot: Snapshot, config: Any) -> None:
        """Write a changed configuration."""
        self._broker.store.write(
            "UPDATE snapshots SET config = ? WHERE no = ?", [(config.SerializeToString(), snapshot.no)]
        )
        snapshot.config = config
        await self._broker.store.settle()

    def delete(self, snapshot: Snapshot) -> None:
        """Remove a snapshot, with the batch in hand."""
        self._broker.store.write("DELETE FROM snapshots WHERE no = ?", [(snapshot.no,)])
        self._broker.store.write("DELETE FROM snapshot_acks WHERE snapshot_no = ?", [(snapshot.no,)])
        self._forget(snapshot)
        self._broker.mark_for_trim(snapshot.topic)

    def _forget(self, snapshot: Snapshot) -> None:
        name = snapshot.config.name
        self._by_name.pop(name, None)
        snapshot.topic.snapshot_cursors.pop(name, None)
        if name in self.names:
            self.names.remove(name)

    def delete_expired(self, now_us: int) -> None:
        """Remove the snapshots whose time is over."""
        for snapshot in list(self._by_name.values()):
            if wire.to_us(snapshot.config.expire_time) <= now_us:
                self.delete(snapshot)

    # ---- seek ----

    def seek_to_snapshot(self, subscription: Subscription, snapshot: Snapshot) -> None:
        """Unacked from now on: what was unacked at the snapshot, and all that came later. With the batch in hand.

        Raises:
            FailedPrecondition: the snapshot is of another topic.
        """
        if snapshot.topic.log is not subscription.log:
            raise FailedPrecondition(
                f"snapshot {snapshot.config.name} is of {self.shown(snapshot).topic}, {subscription.name} reads "
                f"{subscription.config.topic}; seek to a snapshot of the same topic."
            )
        self._forget_acks(subscription)
        self._broker.store.write(_RESTORE_ACKS, [(subscription.no, snapshot.no)])
        self._broker.reposition(subscription, snapshot.cursor)

    def seek_to_time(self, subscription: Subscription, time_us: int) -> None:
        """Messages before the time are acked, later ones unacked as far as they are retained. With the batch in hand."""
        target = subscription.log.last_before(time_us)
        replayable = self._replayable_from(subscription)
        if replayable is None:
            self._broker.write_acks(subscription)
            self._broker.reposition(subscription, max(target, subscription.backlog.cursor))
            return
        self._forget_acks(subscription)
        self._broker.reposition(subscription, max(target, min(replayable, subscription.backlog.cursor)))

    def _replayable_from(self, subscription: Subscription) -> int | None:
        """Position after which even acked messages are retained; None if acked messages are gone."""
        now_us = self._broker.now_us()
        topic = self._broker.registry.topic_of(subscription)
        positions: list[int] = []
        if subscription.settings.retains_acked:
            window_us = int(subscription.settings.retention_s * 1e6)
            positions.append(max(subscription.start, subscription.log.last_before(now_us - window_us)))
        if topic.retention_s:
            positions.append(subscription.log.last_before(now_us - int(topic.retention_s * 1e6)))
        return min(positions) if positions else None

    def _forget_acks(self, subscription: Subscription) -> None:
        self._broker.write_acks(subscription)
        self._broker.store.write("DELETE FROM acks WHERE sub_no = ?", [(subscription.no,)])
        self._broker.store.write("DELETE FROM failures WHERE sub_no = ?", [(subscription.no,)])
        subscription.failures.clear()
        subscription.new_failures.clear()
