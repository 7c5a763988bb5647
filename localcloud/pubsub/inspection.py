"""Looking into the broker without touching it: counts, ages, and messages that stay where they are.

Served over gRPC on the broker's own port as `localcloud.pubsub.Inspection`, each method from and to a
google.protobuf.Struct, so that a command line needs no further address:

    Stats {prefix = "", after = ""}                       -> {topics: [...], subscriptions: [...], next_after}
    Peek {subscription, max_messages = 10, after = ""}    -> {messages: [...], next_after}

The answers stay under the 4 MiB that a stock channel takes, and no call holds the broker up: where `next_after` is not
empty there is more, to be asked for with it as `after`. Data above 256 KiB is shown in part (`is_cut` of its message).

To tail, subscribe; to purge, seek to now: both are the standard interface.
"""

import asyncio
import base64
import heapq
import itertools
from typing import Any

from google.protobuf import json_format, struct_pb2

from localcloud.pubsub import names, wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.errors import FailedPrecondition, InvalidArgument
from localcloud.pubsub.rpc import Methods
from localcloud.pubsub.subscription import Subscription
from localcloud.pubsub.topic import Topic

SERVICE = "localcloud.pubsub.Inspection"
_MAX_PEEK = 1000
_PEEK_BYTES = 2 << 20
_MAX_SHOWN = 3000
_MAX_SHOWN_BYTES = 256 << 10
_PEEK_SCANS = 20  # reads of the log for one call: a filter may leave nothing of many
_PEEK_AT_ONCE = 1000
_LOOK_STEPS = 20  # reads of the log for one look at a filtered backlog


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
        wanted = json_format.MessageToDict(request)
        return _struct(await self.page(str(wanted.get("prefix", "")), str(wanted.get("after", ""))))

    async def _peek_rpc(self, request: Any, context: Any) -> Any:
        wanted = json_format.MessageToDict(request)
        name = names.check(str(wanted.get("subscription", "")), "subscriptions", "subscription")
        count = wanted.get("max_messages", 10)
        after = str(wanted.get("after", "") or "0")
        if not isinstance(count, int | float) or not 1 <= count <= _MAX_PEEK or not after.isdecimal():
            raise InvalidArgument(
                f"Peek max_messages={count!r}, after={after[:50]!r}; ask for 1 to {_MAX_PEEK} after a message id."
            )
        subscription = self._broker.registry.subscription(name)
        if subscription.config.detached:
            raise FailedPrecondition(f"{name} is detached from its topic; it has no messages to peek at.")
        messages, reached = await self.peek(subscription, int(count), int(after))
        return _struct({"messages": messages, "next_after": str(reached or "")})

    async def stats(self) -> dict[str, list[dict[str, Any]]]:
        """Counts of all topics and subscriptions, as of now, in order of their names."""
        registry = self._broker.registry
        return await self._stats_of([*registry.topic_names, *registry.subscription_names])

    async def page(self, prefix: str, after: str, limit: int = _MAX_SHOWN) -> dict[str, Any]:
        """Counts of what has names with this prefix, beginning after a name; `next_after` is empty at the end."""
        registry = self._broker.registry
        pages = [
            registry.names_after(all_names, prefix, after, limit)
            for all_names in (registry.topic_names, registry.subscription_names)
        ]
        shown = list(itertools.islice(heapq.merge(*(found for found, _ in pages)), limit))
        has_more = any(more for _, more in pages) or sum(len(found) for found, _ in pages) > len(shown)
        return {**await self._stats_of(shown), "next_after": shown[-1] if has_more else ""}

    async def _stats_of(self, wanted: list[str]) -> dict[str, list[dict[str, Any]]]:
        registry = self._broker.registry
        topics = [self._topic(registry.topics[name]) for name in wanted if name in registry.topics]
        found = [registry.subscriptions[name] for name in wanted if name in registry.subscriptions]
        return {"topics": topics, "subscriptions": [await self._subscription(item) for item in found]}

    def _topic(self, topic: Topic) -> dict[str, Any]:
        return {
            "name": topic.name,
            "subscriptions": len(topic.subscriptions),
            "published_messages": topic.published_messages,
            "published_bytes": topic.published_bytes,
        }

    async def _subscription(self, subscription: Subscription) -> dict[str, Any]:
        for _ in range(_LOOK_STEPS):
            if not subscription.look_ahead():
                break
            await asyncio.sleep(0)
        # A detached one still knows the log of its old topic, whose messages are not its own.
        unread = 0 if subscription.config.detached else await self._unread(subscription)
        oldest_us = 0 if subscription.config.detached else subscription.oldest_us()
        return {
            "name": subscription.name,
            "topic": subscription.config.topic,
            "backlog_messages": subscription.backlog.loaded + unread,
            "backlog_is_exact": not (unread and subscription.settings.filter),
            "outstanding_messages": subscription.outstanding,
            "oldest_unacked_age_s": max(0.0, (self._broker.now_us() - oldest_us) / 1e6) if oldest_us else 0.0,
            "readers": len(subscription.consumers),
            **{f"{name}_messages": count for name, count in subscription.counts.items()},
        }

    async def _unread(self, subscription: Subscription) -> int:
        """How many unacked messages are on disk alone."""
        backlog = subscription.backlog
        if not backlog.is_behind or backlog.loaded_until >= subscription.log.last_position:
            return 0
        return await subscription.log.count_after(backlog.loaded_until, subscription.no)

    async def peek(self, subscription: Subscription, count: int, after: int) -> tuple[list[dict[str, Any]], int]:
        """Unacked messages in publish order, delivered or not, left as they are; and where to go on, 0 at the end."""
        found: list[dict[str, Any]] = []
        position, size = max(after, subscription.backlog.cursor), 0
        for _ in range(_PEEK_SCANS):
            entries, is_end = subscription.log.scan(
                position, min(_PEEK_AT_ONCE, 2 * count), subscription.no, with_bodies=True
            )
            for entry in entries:
                position = entry.seq
                if subscription.owes(entry):
                    found.append(_shown(subscription, entry.seq, wire.PubsubMessage.FromString(entry.body)))
                    size += min(len(entry.body), _MAX_SHOWN_BYTES)
                if len(found) == count or size >= _PEEK_BYTES:
                    return found, position
            if is_end:
                return found, 0
            await asyncio.sleep(0)
        return found, position


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
