"""A broker without sockets, on a clock that the test moves: what the unit tests drive."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from localcloud.pubsub import wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.clock import ManualClock
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.filters import compile_for_stored
from localcloud.pubsub.housekeeping import Housekeeping
from localcloud.pubsub.outbound import Outbound
from localcloud.pubsub.publisher_service import PublisherService
from localcloud.pubsub.schemas import Schemas
from localcloud.pubsub.snapshot_service import SnapshotService
from localcloud.pubsub.snapshots import Snapshots
from localcloud.pubsub.store import Store
from localcloud.pubsub.subscriber_service import SubscriberService
from localcloud.pubsub.subscription import Subscription

T = TypeVar("T")

TOPIC = "projects/p/topics/births"
DEAD = "projects/p/topics/dead"
SUBSCRIPTION = "projects/p/subscriptions/train"


class Received(NamedTuple):
    """One delivery."""

    data: str
    ack_id: str
    attempt: int
    message: Any


class Lab:
    """A broker in one data folder. Methods are plain calls; each returns when its effect is on disk."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.clock = ManualClock()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._unexpected)
        self.unexpected: list[dict[str, Any]] = []
        self._open()

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unexpected.append(context)

    def _open(self) -> None:
        self.store = Store(self.data_dir, "normal")
        self.broker = Broker(self.store, self.clock, compile_for_stored)
        self.snapshots = Snapshots(self.broker)
        self.schemas = Schemas(self.broker)
        self.publisher = PublisherService(self.broker, self.snapshots, self.schemas)
        self.outbound = Outbound(self.broker, {})
        self.subscriber = SubscriberService(self.broker, self.outbound, min_ack_deadline_s=1)
        self.seeker = SnapshotService(self.broker, self.snapshots)
        self.housekeeping = Housekeeping(self.broker, self.snapshots)
        self.store.open()
        self.broker.load()
        self.broker.on_reload = [self.snapshots.load, self.schemas.load]
        self.snapshots.load()
        self.schemas.load()
        self.reader = Consumer()

        async def first_round() -> None:
            self.housekeeping.start()
            await self.store.settle()

        self.run(first_round())

    def run(self, work: Awaitable[T]) -> T:
        """Run to the end on the lab's loop."""

        async def whole() -> T:
            return await work

        return self.loop.run_until_complete(whole())

    def crash(self, down_s: float = 0.0) -> None:
        """End the broker as a kill would, and start another over the same folder after a while."""
        self.housekeeping.stop()
        if self.store._later is not None:
            self.store._later.cancel()
        # The dead broker's timers must not ring any more: time goes on with another clock.
        self.clock = ManualClock(self.clock.time() + down_s)
        self.store._reader.close()
        self.store._writer.close()
        os.close(self.store._lock_fd)
        self._open()

    def close(self) -> None:
        self.housekeeping.stop()
        self.run(self.store.close())
        self.loop.close()
        assert not self.unexpected, self.unexpected

    def advance(self, seconds: float) -> None:
        """Let time pass on the broker's loop."""

        async def pass_time() -> None:
            self.clock.advance(seconds)
            await self.store.settle()

        self.run(pass_time())

    # ---- requests ----

    def call(self, method: Any, name: str, /, **fields: Any) -> Any:
        """Call a service's method with a request message."""
        return self.run(method(wire.message_class(name)(**fields), None))

    def create_topic(self, name: str = TOPIC, **fields: Any) -> Any:
        return self.call(self.publisher.create_topic, "Topic", name=name, **fields)

    def subscribe(self, name: str = SUBSCRIPTION, **fields: Any) -> Any:
        """Create a subscription, and its topic where that is missing."""
        topic = fields.setdefault("topic", TOPIC)
        if topic not in self.broker.registry.topics:
            self.create_topic(topic)
        return self.call(self.subscriber.create_subscription, "Subscription", name=name, **fields)

    def subscription(self, name: str = SUBSCRIPTION) -> Subscription:
        return self.broker.registry.subscription(name)

    def publish(self, *data: str, topic: str = TOPIC, key: str = "", **attributes: str) -> list[str]:
        messages = [wire.PubsubMessage(data=item.encode(), ordering_key=key, attributes=attributes) for item in data]
        return list(self.call(self.publisher.publish, "PublishRequest", topic=topic, messages=messages).message_ids)

    def take(self, count: int = 1000, name: str = SUBSCRIPTION, reader: Consumer | None = None) -> list[Received]:
        """What a reader gets now; the same reader all along unless one is given."""

        async def take() -> list[Received]:
            taken = self.subscription(name).take(reader or self.reader, count)
            await self.store.settle()
            found = []
            for delivery in taken:
                message = wire.PubsubMessage.FromString(delivery.body)
                found.append(Received(message.data.decode(), delivery.ack_id, delivery.attempt, message))
            return found

        return self.run(take())

    def data(self, name: str = SUBSCRIPTION) -> list[str]:
        """The data of what a reader gets now."""
        return [item.data for item in self.take(name=name)]

    def ack(self, *received: Received, name: str = SUBSCRIPTION) -> dict[str, str]:
        async def ack() -> dict[str, str]:
            failures = self.subscription(name).ack([item.ack_id for item in received])
            await self.store.settle()
            return failures

        return self.run(ack())

    def extend(self, seconds: int, *received: Received, name: str = SUBSCRIPTION) -> dict[str, str]:
        async def modify() -> dict[str, str]:
            failures = self.subscription(name).modify([item.ack_id for item in received], [seconds] * len(received))
            await self.store.settle()
            return failures

        return self.run(modify())

    def nack(self, *received: Received, name: str = SUBSCRIPTION) -> dict[str, str]:
        return self.extend(0, *received, name=name)

    def seek(self, name: str = SUBSCRIPTION, *, time_s: float = 0, snapshot: str = "") -> None:
        request = wire.message_class("SeekRequest")(subscription=name)
        if snapshot:
            request.snapshot = snapshot
        else:
            wire.set_us(request.time, int(time_s * 1e6))
        self.run(self.seeker.seek(request, None))

    def stored(self) -> int:
        """How many messages are on disk."""
        return int(self.store.read("SELECT count(*) FROM messages")[0][0])
