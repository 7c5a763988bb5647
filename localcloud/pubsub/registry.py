"""Which topics and subscriptions exist, by name and by number."""

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

from localcloud.pubsub.delivery_state import Hooks
from localcloud.pubsub.errors import NotFound, PubSubError
from localcloud.pubsub.log import BodyCache, TopicLog
from localcloud.pubsub.store import Store
from localcloud.pubsub.subscription import Subscription
from localcloud.pubsub.topic import Topic

SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
SAVE_TOPIC = "INSERT OR REPLACE INTO topics VALUES (?, ?, ?, ?)"
_CACHE_BYTES = 8 << 20


class Registry:
    """The names in use.

    Args:
        hooks: what the subscriptions need of their broker.
    """

    def __init__(self, store: Store, hooks: Hooks) -> None:
        self._store = store
        self._hooks = hooks
        self._cache = BodyCache(_CACHE_BYTES)
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.topics_by_no: dict[int, Topic] = {}
        self._topic_names: list[str] = []
        self._subscription_names: list[str] = []
        self.next_no = 1

    def take_number(self) -> int:
        """A number for a new topic, subscription or snapshot, never used again."""
        number = self.next_no
        self.next_no += 1
        self._store.write(SET_META, [("next_no", self.next_no)])
        return number

    def add_topic(self, no: int, config: Any, *, is_deleted: bool = False) -> Topic:
        """Put a topic into memory."""
        topic = Topic(no, config, TopicLog(no, self._store, self._cache), is_deleted=is_deleted)
        self.topics_by_no[no] = topic
        if not is_deleted:
            self.topics[topic.name] = topic
            bisect.insort(self._topic_names, topic.name)
        return topic

    def clear(self) -> None:
        """Forget everything, to be read from disk again."""
        self._cache.clear()
        self.topics.clear()
        self.subscriptions.clear()
        self.topics_by_no.clear()
        self._topic_names.clear()
        self._subscription_names.clear()

    def remove_topic(self, topic: Topic) -> None:
        """Take the name out of use; the topic itself goes with the last of its subscriptions."""
        del self.topics[topic.name]
        self._topic_names.remove(topic.name)
        topic.is_deleted = True
        topic.configure(topic.config)

    def is_referenced(self, topic: Topic) -> bool:
        """Whether any subscription, detached or not, still reads or names the topic."""
        return any(subscription.log is topic.log for subscription in self.subscriptions.values())

    def save_topic(self, topic: Topic) -> None:
        """Write a topic with the batch in hand."""
        row = (topic.no, topic.config.name, topic.config.SerializeToString(), int(topic.is_deleted))
        self._store.write(SAVE_TOPIC, [row])

    def save_subscription(self, subscription: Subscription) -> None:
        """Write a changed configuration with the batch in hand."""
        row = (subscription.config.SerializeToString(), subscription.no)
        self._store.write("UPDATE subscriptions SET config = ? WHERE no = ?", [row])

    def forget_topic(self, topic: Topic) -> None:
        """Drop a deleted topic's last traces from memory."""
        self.topics_by_no.pop(topic.no, None)

    def topic_of(self, subscription: Subscription) -> Topic:
        """The topic a subscription reads, deleted or not."""
        return self.topics_by_no[subscription.log.no]

    def add_subscription(
        self, no: int, config: Any, topic: Topic, *, start: int, cursor: int, failures: dict[int, int] | None = None
    ) -> Subscription:
        """Put a subscription into memory."""
        subscription = Subscription(
            no, config, topic.log, self._hooks, start=start, cursor=cursor, failures=failures or {}
        )
        self.subscriptions[subscription.name] = subscription
        bisect.insort(self._subscription_names, subscription.name)
        if not config.detached:
            topic.subscriptions[subscription.name] = subscription
        return subscription

    def remove_subscription(self, subscription: Subscription, error: PubSubError) -> None:
        """Take a subscription out of memory; its readers end with the error."""
        del self.subscriptions[subscription.name]
        self._subscription_names.remove(subscription.name)
        self.topic_of(subscription).subscriptions.pop(subscription.name, None)
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
