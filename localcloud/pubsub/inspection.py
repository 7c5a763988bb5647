"""Looking into the broker without touching it: counts, ages, and messages that stay where they are.

Served over gRPC on the broker's own port as `localcloud.pubsub.Inspection`, each method from and to a
google.protobuf.Struct, so that a command line needs no further address:

    Stats {prefix = ""}                                   -> {topics: [...], subscriptions: [...], is_cut}
    Peek {subscription, max_messages = 10, after = ""}    -> {messages: [...]}; `after` is a message id

The answers stay under the 4 MiB that a stock channel takes: `is_cut` says that there is more than shown; narrow the prefix
of the names then. Data above 256 KiB is shown in part (`is_cut` of its message).

To tail, subscribe; to purge, seek to a time in the future: both are the standard interface.
"""

import base64
from typing import Any

from google.protobuf import json_format, struct_pb2

from localcloud.pubsub import names, wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.errors import InvalidArgument
from localcloud.pubsub.rpc import Methods
from localcloud.pubsub.subscription import Subscription
from localcloud.pubsub.topic import Topic

SERVICE = "localcloud.pubsub.Inspection"
_MAX_PEEK = 1000
_PEEK_BYTES = 2 << 20
_MAX_SHOWN = 3000
_MAX_SHOWN_BYTES = 256 << 10


class Inspector:
    """Answers questions about one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def methods(self) -> Methods:
        """The service, ready to be added to a server."""
        methods = Methods(SERVICE)
        methods.unary_as("Stats", struct_pb2.Struct, self._stats_rpc)
        methods.unary_as("Peek", struct_pb2.Struct, self._peek_rpc)
        return methods

    async def _stats_rpc(self, request: Any, context: Any) -> Any:
        prefix = str(json_format.MessageToDict(request).get("prefix", ""))
        stats: dict[str, Any] = await self.stats(prefix, _MAX_SHOWN)
        return _struct(stats | {"is_cut": any(len(items) >= _MAX_SHOWN for items in stats.values())})

    async def _peek_rpc(self, request: Any, context: Any) -> Any:
        wanted = json_format.MessageToDict(request)
        name = names.check(str(wanted.get("subscription", "")), "subscriptions", "subscription")
        count = wanted.get("max_messages", 10)
        after = str(wanted.get("after", "") or "0")
        if not isinstance(count, int | float) or not 1 <= count <= _MAX_PEEK or not after.isdecimal():
            raise InvalidArgument(
                f"Peek max_messages={count!r}, after={after[:50]!r}; ask for 1 to {_MAX_PEEK} after a message id."
            )
        return _struct({"messages": self.peek(self._broker.registry.subscription(name), int(count), int(after))})

    async def stats(self, prefix: str = "", limit: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """Counts of topics and subscriptions, as of now, in order of their names.

        Args:
            prefix: of the names wanted, such as `projects/p/`.
            limit: how many of each at most.
        """
        registry = self._broker.registry
        topics = [name for name in registry.topic_names if name.startswith(prefix)][:limit]
        names_ = [name for name in registry.subscription_names if name.startswith(prefix)][:limit]
        found = [registry.subscriptions[name] for name in names_]
        return {
            "topics": [self._topic(registry.topics[name]) for name in topics],
            "subscriptions": [await self._subscription(item) for item in found],
        }

    def _topic(self, topic: Topic) -> dict[str, Any]:
        return {
            "name": topic.name,
            "subscriptions": len(topic.subscriptions),
            "published_messages": topic.published_messages,
            "published_bytes": topic.published_bytes,
        }

    async def _subscription(self, subscription: Subscription) -> dict[str, Any]:
        now_us = self._broker.now_us()
        oldest_us = subscription.log.first_after(subscription.backlog.cursor)
        unread = 0
        if subscription.backlog.is_behind and subscription.backlog.loaded_until < subscription.log.last_position:
            unread = await subscription.log.count_after(subscription.backlog.loaded_until, subscription.no)
        return {
            "name": subscription.name,
            "topic": subscription.config.topic,
            "backlog_messages": subscription.backlog.loaded + unread,
            "outstanding_messages": sum(consumer.messages for consumer in subscription.consumers),
            "oldest_unacked_age_s": max(0.0, (now_us - oldest_us) / 1e6) if oldest_us else 0.0,
            "readers": len(subscription.consumers),
            **{f"{name}_messages": count for name, count in subscription.counts.items()},
        }

    def peek(self, subscription: Subscription, count: int, after: int) -> list[dict[str, Any]]:
        """Unacked messages in publish order, delivered or not, left as they are."""
        found: list[dict[str, Any]] = []
        position, size = max(after, subscription.backlog.cursor), 0
        while len(found) < count and size < _PEEK_BYTES:
            entries, is_end = subscription.log.scan(position, count, subscription.no, with_bodies=True)
            for entry in entries:
                position = entry.seq
                if len(found) < count and subscription.owes(entry):
                    found.append(_shown(subscription, entry.seq, wire.PubsubMessage.FromString(entry.body)))
                    size += min(len(entry.body), _MAX_SHOWN_BYTES)
            if is_end:
                break
        return found


def _shown(subscription: Subscription, seq: int, message: Any) -> dict[str, Any]:
    shown = {
        "message_id": message.message_id,
        "publish_time": message.publish_time.ToJsonString(),
        "attributes": dict(message.attributes),
        "ordering_key": message.ordering_key,
        "data_base64": base64.b64encode(message.data[:_MAX_SHOWN_BYTES]).decode("ascii"),
        "is_cut": len(message.data) > _MAX_SHOWN_BYTES,
        "size_bytes": message.ByteSize(),
        "is_leased": subscription.is_leased(seq),
        "failed_deliveries": subscription.failures.get(seq, 0),
    }
    return shown


def _struct(value: dict[str, Any]) -> Any:
    return json_format.ParseDict(value, struct_pb2.Struct())
