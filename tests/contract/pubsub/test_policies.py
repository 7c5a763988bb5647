"""Ordering, retry, dead letters, exactly-once, filters, over the wire."""

import time

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.subscriber.message import Message
from google.cloud.pubsub_v1.types import FlowControl, ReceivedMessage
from google.pubsub_v1 import PublisherClient as RawPublisher
from google.rpc import error_details_pb2, status_pb2

from tests.contract.pubsub.conftest import Broker
from tests.support.waiting import wait_until


def pull(subscriber: SubscriberClient, path: str, count: int = 100, timeout_s: float = 10) -> list[ReceivedMessage]:
    return list(subscriber.pull(subscription=path, max_messages=count, timeout=timeout_s).received_messages)


def texts(received: list[ReceivedMessage]) -> list[str]:
    return [item.message.data.decode() for item in received]


def subscribe(broker: Broker, subscriber: SubscriberClient, topic: str, **fields: object) -> str:
    path = broker.subscription_path("train")
    subscriber.create_subscription(request={"name": path, "topic": topic, **fields})
    return path


def nack(subscriber: SubscriberClient, path: str, *received: ReceivedMessage) -> None:
    ids = [item.ack_id for item in received]
    subscriber.modify_ack_deadline(subscription=path, ack_ids=ids, ack_deadline_seconds=0)


# ---- ordering ----


def test_keys_arrive_in_publish_order(
    broker: Broker, raw_publisher: RawPublisher, subscriber: SubscriberClient, topic: str
) -> None:
    """Messages of a key arrive in order, over a stream."""
    path = subscribe(broker, subscriber, topic, enable_message_ordering=True)
    for index in range(50):
        message = {"data": str(index).encode(), "ordering_key": f"k{index % 5}"}
        raw_publisher.publish(topic=topic, messages=[message])
    got: dict[str, list[int]] = {}

    def callback(message: Message) -> None:
        got.setdefault(message.ordering_key, []).append(int(message.data))
        message.ack()

    stream = subscriber.subscribe(path, callback)
    wait_until(lambda: sum(map(len, got.values())) >= 50, timeout_s=20, what="all keyed messages")
    stream.cancel()
    stream.result(10)
    assert got == {f"k{key}": list(range(key, 50, 5)) for key in range(5)}


@pytest.mark.differs("a nack brings only that message again")
def test_nack_brings_the_rest_of_its_key(
    broker: Broker, raw_publisher: RawPublisher, subscriber: SubscriberClient, topic: str
) -> None:
    """Redelivery of a message brings every later one of its key."""
    path = subscribe(broker, subscriber, topic, enable_message_ordering=True)
    raw_publisher.publish(topic=topic, messages=[{"data": str(i).encode(), "ordering_key": "k"} for i in range(4)])
    received = pull(subscriber, path)
    assert texts(received) == ["0", "1", "2", "3"]
    subscriber.acknowledge(subscription=path, ack_ids=[received[0].ack_id, received[3].ack_id])
    nack(subscriber, path, received[1])
    assert texts(pull(subscriber, path)) == ["1", "2", "3"]


@pytest.mark.differs("several ordering keys in one request are taken")
def test_one_request_has_one_key(raw_publisher: RawPublisher, topic: str) -> None:
    """All messages of a request have the same ordering key."""
    messages = [{"data": b"x", "ordering_key": "a"}, {"data": b"x", "ordering_key": "b"}]
    with pytest.raises(exceptions.InvalidArgument):
        raw_publisher.publish(topic=topic, messages=messages)


# ---- failed deliveries ----


@pytest.mark.differs("the first redelivery ignores the retry policy")
def test_retry_policy_holds_a_nacked_message_back(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """A nacked message waits at least the minimum backoff."""
    policy = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 2}}
    path = subscribe(broker, subscriber, topic, retry_policy=policy)
    publisher.publish(topic, b"x").result(10)
    nack(subscriber, path, *pull(subscriber, path))
    nacked_s = time.monotonic()
    assert texts(pull(subscriber, path)) == ["x"]
    assert 0.9 < time.monotonic() - nacked_s < 3


@pytest.mark.differs("dead letters move only when the source is pulled again")
def test_dead_letter_moves_by_itself(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """After the last attempt the message is on the dead-letter topic, though nobody pulls the source."""
    dead, dead_path = broker.topic_path("dead"), broker.subscription_path("dead")
    publisher.create_topic(name=dead)
    subscriber.create_subscription(name=dead_path, topic=dead)
    path = subscribe(
        broker, subscriber, topic, dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5}
    )
    publisher.publish(topic, b"poison", colour="red").result(10)
    for attempt in range(1, 6):
        [received] = pull(subscriber, path)
        assert received.delivery_attempt == attempt
        nack(subscriber, path, received)
    [moved] = pull(subscriber, dead_path)
    assert moved.message.attributes["colour"] == "red"
    assert moved.message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    assert moved.message.attributes["CloudPubSubDeadLetterSourceSubscription"] == "train"


def test_attempts_outside_the_range_are_refused(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """max_delivery_attempts is 5 to 100."""
    dead = broker.topic_path("dead")
    publisher.create_topic(name=dead)
    for attempts in (4, 101):
        policy = {"dead_letter_topic": dead, "max_delivery_attempts": attempts}
        with pytest.raises(exceptions.OutOfRange):
            subscribe(broker, subscriber, topic, dead_letter_policy=policy)


# ---- exactly-once ----


def _details(error: exceptions.GoogleAPICallError) -> dict[str, str]:
    for key, value in error.response.trailing_metadata():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    assert info.reason == "EXACTLY_ONCE_ACKID_FAILURE"
                    return dict(info.metadata)
    return {}


def test_exactly_once_names_the_acks_that_failed(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """A stale ack id is answered with its reason; the other ids of the request are acked."""
    path = subscribe(broker, subscriber, topic, enable_exactly_once_delivery=True)
    for data in (b"a", b"b"):
        publisher.publish(topic, data).result(10)
    received: dict[bytes, ReceivedMessage] = {}
    while len(received) < 2:
        received |= {item.message.data: item for item in pull(subscriber, path)}
    nack(subscriber, path, received[b"a"])
    [again] = pull(subscriber, path)
    with pytest.raises(exceptions.InvalidArgument) as failure:
        subscriber.acknowledge(subscription=path, ack_ids=[received[b"a"].ack_id, received[b"b"].ack_id])
    assert _details(failure.value) == {received[b"a"].ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}
    nack(subscriber, path, again)
    assert texts(pull(subscriber, path)) == ["a"]


def test_stock_client_learns_that_its_ack_counted(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """`ack_with_response` of the stock client succeeds over a stream."""
    path = subscribe(broker, subscriber, topic, enable_exactly_once_delivery=True)
    outcomes: list[object] = []

    def callback(message: Message) -> None:
        outcomes.append(message.ack_with_response())

    stream = subscriber.subscribe(path, callback)
    for _ in range(10):
        publisher.publish(topic, b"x").result(10)
    wait_until(lambda: len(outcomes) >= 10, what="ten callbacks")
    assert {str(outcome.result(10)) for outcome in outcomes} == {"AcknowledgeStatus.SUCCESS"}  # type: ignore[attr-defined]
    stream.cancel()
    stream.result(10)


# ---- filters ----


@pytest.mark.differs("filters are stored and never applied")
def test_filter_is_applied(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """Only matching messages arrive."""
    path = subscribe(broker, subscriber, topic, filter='attributes.stage = "train" AND NOT attributes:skip')
    publisher.publish(topic, b"no", stage="serve").result(10)
    publisher.publish(topic, b"yes", stage="train").result(10)
    publisher.publish(topic, b"no", stage="train", skip="").result(10)
    publisher.publish(topic, b"last", stage="train").result(10)
    got: list[str] = []
    while len(got) < 2:
        got += texts(pull(subscriber, path))
    assert got == ["yes", "last"]


@pytest.mark.differs("filters are not parsed")
@pytest.mark.parametrize("expression", ["nonsense", 'attributes.a = "x" AND attributes:b OR attributes:c', "x" * 257])
def test_malformed_filter_is_refused(broker: Broker, subscriber: SubscriberClient, topic: str, expression: str) -> None:
    """A filter that cannot be parsed, or is too long, is refused when the subscription is made."""
    with pytest.raises(exceptions.InvalidArgument):
        subscribe(broker, subscriber, topic, filter=expression)


# ---- flow control ----


@pytest.mark.differs("server-side flow control is ignored")
def test_stream_is_sent_no_more_than_it_asked_for(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """A stream with max_outstanding_messages=5 holds five; a second reader gets the others at once."""
    path = subscribe(broker, subscriber, topic)
    for future in [publisher.publish(topic, str(index).encode()) for index in range(20)]:
        future.result(10)
    held: list[Message] = []
    stream = subscriber.subscribe(path, held.append, flow_control=FlowControl(max_messages=5))
    wait_until(lambda: len(held) >= 5, what="five messages on the stream")
    others: set[str] = set()
    while len(others) < 15:
        received = pull(subscriber, path)
        others |= set(texts(received))
        subscriber.acknowledge(subscription=path, ack_ids=[item.ack_id for item in received])
    assert len(held) == 5
    for message in held:
        message.ack()
    stream.cancel()
    stream.result(10)


@pytest.mark.differs("responses above 4 MiB are sent, which stock clients refuse")
def test_large_backlog_reaches_a_stock_client(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str
) -> None:
    """20 messages of 900 kB arrive at a client whose channel takes 4 MiB at a time."""
    path = subscribe(broker, subscriber, topic)
    for future in [publisher.publish(topic, bytes(900_000)) for _ in range(20)]:
        future.result(20)
    got: list[int] = []

    def callback(message: Message) -> None:
        got.append(len(message.data))
        message.ack()

    stream = subscriber.subscribe(path, callback)
    wait_until(lambda: len(got) >= 20, timeout_s=20, what="20 large messages")
    stream.cancel()
    stream.result(10)


def test_stream_opens_with_checks(broker: Broker, subscriber: SubscriberClient, topic: str) -> None:
    """The first request of a stream names a subscription that exists, and a deadline of 10 to 600 s."""
    path = subscribe(broker, subscriber, topic)
    for request in (
        {"subscription": path, "stream_ack_deadline_seconds": 0},
        {"subscription": path, "stream_ack_deadline_seconds": 601},
        {"stream_ack_deadline_seconds": 10},
    ):
        with pytest.raises(exceptions.InvalidArgument):
            next(iter(subscriber.streaming_pull(iter([request]), timeout=10)))


def test_stream_of_a_missing_subscription_ends(broker: Broker, subscriber: SubscriberClient) -> None:
    """The stock subscriber learns that its subscription is missing."""
    stream = subscriber.subscribe(broker.subscription_path("missing"), lambda message: message.ack())
    with pytest.raises(exceptions.NotFound):
        stream.result(20)
