"""Asks the local broker what it knows and the standard interface does not tell: counts, ages, messages that stay put.

The service is `localcloud.pubsub.Inspection` on the broker's own port (docs/pubsub.md, "Looking in"). Google's emulator and
the cloud have no such service.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core import grpc_helpers
from google.protobuf import json_format, struct_pb2

from baton.connections import Connections
from baton.pubsub.message import SeenMessage

_SERVICE = "/localcloud.pubsub.Inspection/"
_TIMEOUT_S = 30.0
_PEEK_FIRST, _PEEK_AT_ONCE = 10, 1000


@dataclass(frozen=True, slots=True)
class TopicCounts:
    """What was published to a topic since the broker's start."""

    published_messages: int
    published_bytes: int


@dataclass(frozen=True, slots=True)
class SubscriptionCounts:
    """What waits in a subscription now, and what became of deliveries since the broker's start.

    Args:
        backlog_is_exact: False where a filter was not yet asked about all that waits: the backlog is at most this.
        outstanding_messages: delivered, and neither acknowledged nor given back.
        oldest_unacked_age_s: 0 where nothing waits.
    """

    backlog_messages: int
    backlog_is_exact: bool
    outstanding_messages: int
    oldest_unacked_age_s: float
    readers: int
    delivered_messages: int
    acked_messages: int
    nacked_messages: int
    expired_messages: int
    dead_lettered_messages: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts by full name."""

    topics: Mapping[str, TopicCounts]
    subscriptions: Mapping[str, SubscriptionCounts]


def counts(connections: Connections, prefix: str = "") -> Counts | None:
    """Return the counts of every topic and subscription whose full name begins with `prefix`; None where nobody counts."""
    topics: dict[str, TopicCounts] = {}
    subscriptions: dict[str, SubscriptionCounts] = {}
    after = ""
    while True:
        answer = _ask(connections, "Stats", {"prefix": prefix, "after": after})
        if answer is None:
            return None
        for item in answer.get("topics", []):
            topics[item["name"]] = TopicCounts(int(item["published_messages"]), int(item["published_bytes"]))
        for item in answer.get("subscriptions", []):
            subscriptions[item["name"]] = _subscription_counts(item)
        after = str(answer.get("next_after", ""))
        if not after:
            return Counts(topics, subscriptions)


def peek(connections: Connections, subscription: str) -> Iterator[SeenMessage] | None:
    """Return the unacknowledged messages of a subscription, in publish order; None where nobody shows them."""
    first = _ask(connections, "Peek", {"subscription": subscription, "max_messages": _PEEK_FIRST})
    return None if first is None else _pages(connections, subscription, first)


def _pages(connections: Connections, subscription: str, page: dict[str, Any]) -> Iterator[SeenMessage]:
    while True:
        yield from map(_seen, page.get("messages", []))
        after = str(page.get("next_after", ""))
        if not after:
            return
        wanted = {"subscription": subscription, "max_messages": _PEEK_AT_ONCE, "after": after}
        page = _ask(connections, "Peek", wanted) or {}


def _subscription_counts(item: Mapping[str, Any]) -> SubscriptionCounts:
    numbers = (
        "outstanding_messages",
        "readers",
        "delivered_messages",
        "acked_messages",
        "nacked_messages",
        "expired_messages",
        "dead_lettered_messages",
    )
    return SubscriptionCounts(
        backlog_messages=int(item["backlog_messages"]),
        backlog_is_exact=bool(item.get("backlog_is_exact", True)),
        oldest_unacked_age_s=float(item["oldest_unacked_age_s"]),
        **{name: int(item[name]) for name in numbers},
    )


def _seen(item: Mapping[str, Any]) -> SeenMessage:
    return SeenMessage(
        message_id=str(item["message_id"]),
        publish_time=datetime.fromisoformat(item["publish_time"]),
        attributes=dict(item.get("attributes", {})),
        ordering_key=str(item.get("ordering_key", "")),
        data=base64.b64decode(item.get("data_base64", "")),
        size_bytes=int(item["size_bytes"]),
        is_cut=bool(item.get("is_cut")),
        is_leased=bool(item.get("is_leased")),
        failed_deliveries=int(item.get("failed_deliveries", 0)),
    )


def _ask(connections: Connections, method: str, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answer, or None where there is no such service."""
    if not connections.profile.is_emulated:
        return None
    stub = connections.subscriber.transport.grpc_channel.unary_unary(
        _SERVICE + method,
        request_serializer=struct_pb2.Struct.SerializeToString,
        response_deserializer=struct_pb2.Struct.FromString,
    )
    ask = grpc_helpers.wrap_errors(stub)  # type: ignore[no-untyped-call]
    try:
        answer = ask(json_format.ParseDict(dict(wanted), struct_pb2.Struct()), timeout=_TIMEOUT_S)
    except google_errors.MethodNotImplemented:
        return None
    return dict(json_format.MessageToDict(answer))
