"""Our broker on a thread of its own, and raw calls to it."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from localcloud.pubsub import PubSubServer, wire

TOPIC = "projects/p/topics/births"
SUBSCRIPTION = "projects/p/subscriptions/train"


class Running:
    """A started server, its loop, and a channel to it."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="pubsub-under-test")
        self._thread.start()
        self.server = self.run(self._make(data_dir, options))
        self.port = self.run(self.server.start())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")

    async def _make(self, data_dir: Path, options: dict[str, Any]) -> PubSubServer:
        return PubSubServer(data_dir=data_dir, **options)

    def run(self, work: Any) -> Any:
        """The result of a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def call(self, method: str, request: Any) -> Any:
        """Call `Publisher/CreateTopic` and the like."""
        answers = {
            "CreateTopic": wire.Topic,
            "CreateSubscription": wire.Subscription,
            "UpdateSubscription": wire.Subscription,
            "Publish": wire.message_class("PublishResponse"),
            "Pull": wire.PullResponse,
        }
        stub = self.channel.unary_unary(
            f"/google.pubsub.v1.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answers.get(method.partition("/")[2], wire.Empty).FromString,
        )
        return stub(request, timeout=20)

    def create(self, **fields: Any) -> None:
        """The topic and a subscription."""
        self.call("Publisher/CreateTopic", wire.Topic(name=TOPIC))
        self.call("Subscriber/CreateSubscription", wire.Subscription(name=SUBSCRIPTION, topic=TOPIC, **fields))

    def publish(self, *data: bytes, **fields: Any) -> list[str]:
        messages = [wire.PubsubMessage(data=item, **fields) for item in data]
        request = wire.message_class("PublishRequest")(topic=TOPIC, messages=messages)
        return list(self.call("Publisher/Publish", request).message_ids)

    def pull(self, count: int = 1000) -> list[Any]:
        request = wire.message_class("PullRequest")(subscription=SUBSCRIPTION, max_messages=count)
        return list(self.call("Subscriber/Pull", request).received_messages)

    def ack(self, *ack_ids: str) -> None:
        self.call(
            "Subscriber/Acknowledge",
            wire.message_class("AcknowledgeRequest")(subscription=SUBSCRIPTION, ack_ids=ack_ids),
        )

    def stop(self) -> None:
        self.channel.close()
        self.run(self.server.stop(0.1))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    started = Running(tmp_path)
    yield started
    started.stop()
