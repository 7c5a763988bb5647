"""Pub/Sub over bare gRPC: methods called by path with plain message classes, so that no client library is measured too."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

PublishRequest = types.PublishRequest.pb()
PublishResponse = types.PublishResponse.pb()
PubsubMessage = types.PubsubMessage.pb()
PullRequest = types.PullRequest.pb()
PullResponse = types.PullResponse.pb()
StreamingPullRequest = types.StreamingPullRequest.pb()
StreamingPullResponse = types.StreamingPullResponse.pb()
AcknowledgeRequest = types.AcknowledgeRequest.pb()
Topic = types.Topic.pb()
Subscription = types.Subscription.pb()
ListTopicsRequest = types.ListTopicsRequest.pb()
ListTopicsResponse = types.ListTopicsResponse.pb()

PROJECT = "projects/bench"
MAX_ACK_IDS = 1000  # in one request, as the stock clients do
STREAM_ACK_DEADLINE_S = 60

# Responses of Google's emulator pass the 4 MiB that gRPC takes by default.
# A subchannel pool of its own gives each channel its own connection.
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))

_METHODS: dict[str, tuple[str, Any]] = {
    "CreateTopic": ("Publisher", Topic),
    "ListTopics": ("Publisher", ListTopicsResponse),
    "Publish": ("Publisher", PublishResponse),
    "CreateSubscription": ("Subscriber", Subscription),
    "Pull": ("Subscriber", PullResponse),
    "Acknowledge": ("Subscriber", empty_pb2.Empty),
}


def _serialised(request: Any) -> bytes:
    return request if isinstance(request, bytes) else bytes(request.SerializeToString())


def unary(channel: Any, method: str) -> Callable[..., Any]:
    """A unary method of a channel, synchronous or asyncio; requests may be given as bytes, serialised once."""
    service, response = _METHODS[method]
    return channel.unary_unary(  # type: ignore[no-any-return]
        f"/google.pubsub.v1.{service}/{method}",
        request_serializer=_serialised,
        response_deserializer=response.FromString,
    )


def streaming_pull(channel: Any) -> Callable[..., Any]:
    """StreamingPull of a channel."""
    return channel.stream_stream(  # type: ignore[no-any-return]
        "/google.pubsub.v1.Subscriber/StreamingPull",
        request_serializer=_serialised,
        response_deserializer=StreamingPullResponse.FromString,
    )


def topic_path(name: str) -> str:
    """Full name of a topic of the benchmark's project."""
    return f"{PROJECT}/topics/{name}"


def subscription_path(name: str) -> str:
    """Full name of a subscription of the benchmark's project."""
    return f"{PROJECT}/subscriptions/{name}"


def create(address: str, name: str, **subscription: Any) -> None:
    """Create a topic and a subscription of that name."""
    with grpc.insecure_channel(address, OPTIONS) as channel:
        unary(channel, "CreateTopic")(Topic(name=topic_path(name)), timeout=30)
        request = Subscription(
            name=subscription_path(name),
            topic=topic_path(name),
            ack_deadline_seconds=STREAM_ACK_DEADLINE_S,
            **subscription,
        )
        unary(channel, "CreateSubscription")(request, timeout=30)
