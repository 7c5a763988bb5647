"""google-cloud-pubsub for Python, unchanged: its streaming subscriber with everything that users lean on."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.exceptions import AcknowledgeStatus
from google.cloud.pubsub_v1.subscriber.message import Message

from tests.integration.pubsub_clients.conftest import Broker
from tests.support.waiting import wait_until

Publisher = pubsub_v1.PublisherClient
Subscriber = pubsub_v1.SubscriberClient
FlowControl = pubsub_v1.types.FlowControl


@pytest.fixture
def topic(broker: Broker, publisher: Publisher) -> str:
    path = broker.topic("births")
    publisher.create_topic(name=path)
    return path


@pytest.fixture
def subscription(broker: Broker, subscriber: Subscriber, topic: str) -> str:
    path = broker.subscription("train")
    subscriber.create_subscription(name=path, topic=topic)
    return path


def publish(publisher: Publisher, topic: str, count: int) -> set[bytes]:
    bodies = [b"%d" % number for number in range(count)]
    for future in [publisher.publish(topic, body) for body in bodies]:
        future.result(10)
    return set(bodies)


class Collector:
    """A callback that keeps what it gets and acks it."""

    def __init__(self, before_ack: Callable[[Message], None] = lambda message: None) -> None:
        self.bodies: list[bytes] = []
        self._before_ack = before_ack

    def __call__(self, message: Message) -> None:
        self.bodies.append(message.data)
        self._before_ack(message)
        message.ack()


def end(future: Any) -> None:
    """Cancel a streaming pull and wait until its threads are gone."""
    future.cancel()
    future.result(20)


def is_drained(broker: Broker, subscription: str) -> bool:
    """Whether the broker holds nothing for the subscription."""
    return broker.server.broker.registry.subscription(subscription).backlog.oldest is None


def test_callback_gets_every_message_once(
    broker: Broker, publisher: Publisher, subscriber: Subscriber, topic: str, subscription: str
) -> None:
    """500 messages published while the subscriber listens reach its callback, and their acks empty the backlog."""
    collector = Collector()
    future = subscriber.subscribe(subscription, collector, await_callbacks_on_shutdown=True)
    bodies = publish(publisher, topic, 500)
    wait_until(lambda: len(collector.bodies) >= 500, 20, "all messages")
    wait_until(lambda: is_drained(broker, subscription), 10, "an empty backlog")
    end(future)
    assert sorted(collector.bodies) == sorted(bodies)


def test_flow_control_leaves_the_rest_to_another_subscriber(
    publisher: Publisher, subscriber: Subscriber, topic: str, subscription: str
) -> None:
    """A subscriber that takes 5 messages and sits on them hoards no others: a second one gets them at once."""
    publish(publisher, topic, 20)
    let_go = threading.Event()
    slow, quick = Collector(lambda message: bool(let_go.wait(20)) or None), Collector()
    first = subscriber.subscribe(subscription, slow, FlowControl(max_messages=5), await_callbacks_on_shutdown=True)
    wait_until(lambda: len(slow.bodies) == 5, 10, "the slow subscriber's five")
    second = subscriber.subscribe(subscription, quick, await_callbacks_on_shutdown=True)
    wait_until(lambda: len(quick.bodies) == 15, 5, "the other fifteen")
    let_go.set()
    end(first)
    end(second)
    assert len(slow.bodies) == 5
    assert len(set(slow.bodies) | set(quick.bodies)) == 20


def test_messages_of_a_key_come_in_order_even_after_a_nack(
    broker: Broker, publisher: Publisher, subscriber: Subscriber, topic: str
) -> None:
    """Each key's messages reach the callback in publish order; after a nack they go on from the nacked one."""
    path = broker.subscription("ordered")
    subscriber.create_subscription(request={"name": path, "topic": topic, "enable_message_ordering": True})
    futures = [publisher.publish(topic, b"%d" % number, ordering_key=f"k{number % 3}") for number in range(60)]
    for future in futures:
        future.result(10)
    got: dict[str, list[int]] = {"k0": [], "k1": [], "k2": []}
    refused: list[int] = []

    def handle(message: Message) -> None:
        number = int(message.data)
        if number == 31 and not refused:
            refused.append(number)
            message.nack()
            return
        got[message.ordering_key].append(number)
        message.ack()

    streaming = subscriber.subscribe(path, handle, await_callbacks_on_shutdown=True)
    # What the client had buffered behind the nacked message may reach the callback first; it comes again, in order.
    again = list(range(31, 60, 3))
    wait_until(lambda: got["k1"][-len(again) :] == again, 20, "the nacked message and all later ones of its key")
    wait_until(lambda: got["k0"] == list(range(0, 60, 3)) and got["k2"] == list(range(2, 60, 3)), 20, "the other keys")
    end(streaming)
    assert refused == [31]
    assert got["k1"][:10] == list(range(1, 31, 3))


def test_exactly_once_ack_is_confirmed(
    broker: Broker, publisher: Publisher, subscriber: Subscriber, topic: str
) -> None:
    """ack_with_response succeeds for each message, and no message comes again to the next subscriber."""
    path = broker.subscription("once")
    subscriber.create_subscription(request={"name": path, "topic": topic, "enable_exactly_once_delivery": True})
    bodies = publish(publisher, topic, 50)
    outcomes: list[Any] = []
    collected: list[bytes] = []

    def handle(message: Message) -> None:
        collected.append(message.data)
        outcomes.append(message.ack_with_response().result(20))

    future = subscriber.subscribe(path, handle, await_callbacks_on_shutdown=True)
    wait_until(lambda: len(outcomes) == 50, 20, "fifty confirmed acks")
    end(future)
    assert set(outcomes) == {AcknowledgeStatus.SUCCESS}
    assert sorted(collected) == sorted(bodies)
    assert is_drained(broker, path)


def test_cancelled_subscriber_leaves_nothing_behind(
    broker: Broker, publisher: Publisher, topic: str, subscription: str
) -> None:
    """After cancel and close, messages go to the next subscriber at once: no zombie stream takes them."""
    first = pubsub_v1.SubscriberClient()
    end(first.subscribe(subscription, Collector()))
    first.close()
    bodies = publish(publisher, topic, 20)
    collector = Collector()
    with pubsub_v1.SubscriberClient() as second:
        future = second.subscribe(subscription, collector, await_callbacks_on_shutdown=True)
        wait_until(lambda: set(collector.bodies) == bodies, 5, "all twenty at the second subscriber")
        end(future)


def test_thirty_cancelled_streams_leak_nothing(
    broker: Broker, subscriber: Subscriber, subscription: str, topic: str, publisher: Publisher
) -> None:
    """Streams opened and cancelled leave no reader, task or thread in the broker."""
    found = broker.server.broker.registry.subscription(subscription)

    def tasks() -> int:
        async def count() -> int:
            return len(asyncio.all_tasks())

        return broker.thread.run(count())

    before = tasks()
    for _ in range(30):
        future = subscriber.subscribe(subscription, Collector())
        wait_until(lambda: found.consumers, 10, "the stream to open")
        end(future)
        wait_until(lambda: not found.consumers, 10, "the stream to be gone")
    wait_until(lambda: tasks() <= before + 1, 10, "the tasks of the streams to end")
