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
        self.log.retention_s = 0.0 if self.is_deleted else self.retention_s

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
        subscriptions = self.subscriptions.values()
        target = min((item.backlog.cursor for item in subscriptions), default=self.log.last_position)
        target = min(target, self.log.last_position, *self.snapshot_cursors.values())
        retained_s = max(
            (item.settings.retention_s for item in subscriptions if item.settings.retains_acked), default=0.0
        )
        retained_s = max(retained_s, self.retention_s)
        if retained_s and target > self.log.floor:
            target = min(target, self.log.last_before(now_us - int(retained_s * 1e6)))
        return target
