"""One topic in memory."""

from typing import TYPE_CHECKING, Any

from localcloud.pubsub import wire
from localcloud.pubsub.log import Entry, TopicLog
from localcloud.pubsub.names import DELETED_TOPIC

if TYPE_CHECKING:
    from localcloud.pubsub.subscription import Subscription


class Topic:
    """A topic, its log, and the subscriptions that read it.

    A deleted topic lives on without a name until the last of its subscriptions is gone: their backlog stays.
    """

    def __init__(self, no: int, config: Any, log: TopicLog, *, is_deleted: bool) -> None:
        self.no = no
        self.log = log
        self.is_deleted = is_deleted
        self.subscriptions: dict[str, Subscription] = {}
        self.snapshot_cursors: dict[str, int] = {}
        self.published_messages = 0
        self.published_bytes = 0
        self.configure(config)

    def configure(self, config: Any) -> None:
        """Take on a changed configuration."""
        self.config = config
        self.name: str = DELETED_TOPIC if self.is_deleted else config.name
        self.has_schema = config.HasField("schema_settings")
        self.retention_s = wire.to_s(config.message_retention_duration)

    @property
    def keeps_messages(self) -> bool:
        """Whether anybody may ever ask for what is published now."""
        return bool(self.subscriptions or self.retention_s or self.snapshot_cursors)

    @property
    def has_readers(self) -> bool:
        """Whether anybody waits for messages right now."""
        return any(subscription.consumers for subscription in self.subscriptions.values())

    def offer(self, entries: list[Entry]) -> None:
        """Hand newly committed messages to every subscription."""
        self.log.last_position = entries[-1].seq
        for subscription in self.subscriptions.values():
            subscription.offer(entries)

    def trim_target(self, now_us: int) -> int:
        """Position up to which nobody needs the log any more."""
        target = self.log.last_position
        for subscription in self.subscriptions.values():
            needed = subscription.backlog.cursor
            if subscription.settings.retains_acked:
                needed = min(needed, self.log.last_before(now_us - int(subscription.settings.retention_s * 1e6)))
            target = min(target, needed)
        for cursor in self.snapshot_cursors.values():
            target = min(target, cursor)
        if self.retention_s:
            target = min(target, self.log.last_before(now_us - int(self.retention_s * 1e6)))
        return target
