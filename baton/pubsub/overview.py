"""`baton pubsub ls`: topics, their subscriptions, and the counts where somebody counts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from baton.connections import Connections
from baton.lookalike import DELETED_TOPIC
from baton.pubsub.directory import directory, matches
from baton.pubsub.inspection import Counts, SubscriptionCounts, TopicCounts, counts


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """One subscription.

    Args:
        topic: the full name of its topic, or `_deleted-topic_`.
        delivery: `pull`, `push`, `bigquery` or `storage`.
        traits: what is special about it, for people: `ordered`, `exactly once`, `filtered`, `detached`.
        counts: None where nobody counts.
    """

    name: str
    topic: str
    delivery: str
    traits: tuple[str, ...]
    counts: SubscriptionCounts | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "topic": self.topic,
            "delivery": self.delivery,
            "traits": list(self.traits),
            **(dict.fromkeys(SubscriptionCounts.__slots__) if self.counts is None else asdict(self.counts)),
        }


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic and its subscriptions; a topic of another project, or one that was deleted, is there for these alone."""

    name: str
    counts: TopicCounts | None
    subscriptions: tuple[SubscriptionRow, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **(dict.fromkeys(TopicCounts.__slots__) if self.counts is None else asdict(self.counts)),
            "subscriptions": [row.to_json() for row in self.subscriptions],
        }


@dataclass(frozen=True, slots=True)
class Overview:
    """What `ls` shows.

    Args:
        has_counts: whether this Pub/Sub tells counts.
        names: the ids of everything there is, for a pattern that meets nothing.
    """

    topics: tuple[TopicRow, ...]
    has_counts: bool
    names: tuple[str, ...]


def overview(connections: Connections, pattern: str = "") -> Overview:
    """Look at everything, or at what `pattern` means: a topic with all its subscriptions, or single subscriptions."""
    found = directory(connections)
    counted = counts(connections, f"projects/{connections.profile.project}/")
    by_topic: dict[str, list[SubscriptionRow]] = {topic.name: [] for topic in found.topics}
    for subscription in found.subscriptions:
        by_topic.setdefault(subscription.topic, []).append(_row(subscription, counted))
    topics = [
        TopicRow(name, counted.topics.get(name) if counted else None, tuple(rows))
        for name, rows in sorted(by_topic.items(), key=lambda item: (item[0] == DELETED_TOPIC, item[0]))
    ]
    shown = [_meant(topic, pattern) for topic in topics] if pattern else topics
    names = tuple(item.name.rpartition("/")[2] for item in (*found.topics, *found.subscriptions))
    return Overview(tuple(topic for topic in shown if topic is not None), counted is not None, names)


def _meant(topic: TopicRow, pattern: str) -> TopicRow | None:
    if matches(pattern, topic.name):
        return topic
    own = tuple(row for row in topic.subscriptions if matches(pattern, row.name))
    return TopicRow(topic.name, topic.counts, own) if own else None


def _row(found: Any, counted: Counts | None) -> SubscriptionRow:
    kinds: Mapping[str, Any] = {
        "push": found.push_config.push_endpoint,
        "bigquery": found.bigquery_config.table,
        "storage": found.cloud_storage_config.bucket,
    }
    traits = {
        "ordered": found.enable_message_ordering,
        "exactly once": found.enable_exactly_once_delivery,
        "filtered": found.filter,
        "detached": found.detached,
    }
    return SubscriptionRow(
        name=found.name,
        topic=found.topic,
        delivery=next((kind for kind, is_set in kinds.items() if is_set), "pull"),
        traits=tuple(trait for trait, is_set in traits.items() if is_set),
        counts=counted.subscriptions.get(found.name) if counted else None,
    )
