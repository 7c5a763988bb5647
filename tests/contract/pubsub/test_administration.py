"""Subscriptions, snapshots, seek, update masks: administration over the wire."""

import datetime

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import ReceivedMessage
from google.pubsub_v1 import PublisherClient as RawPublisher

from tests.contract.pubsub.conftest import Broker


def pull(subscriber: SubscriberClient, path: str, count: int = 100) -> list[ReceivedMessage]:
    return list(subscriber.pull(subscription=path, max_messages=count, timeout=10).received_messages)


def texts(received: list[ReceivedMessage]) -> list[str]:
    return [item.message.data.decode() for item in received]


@pytest.fixture
def path(broker: Broker) -> str:
    return broker.subscription_path("train")


def test_defaults_are_filled_in(subscriber: SubscriberClient, topic: str, path: str) -> None:
    """A subscription made with nothing but names has the documented defaults."""
    made = subscriber.create_subscription(name=path, topic=topic)
    assert made.ack_deadline_seconds == 10
    assert made.message_retention_duration == datetime.timedelta(days=7)
    assert made.topic == topic
    assert not made.detached
    assert not made.filter


@pytest.mark.differs("expiration is not defaulted")
def test_expiration_is_defaulted(subscriber: SubscriberClient, topic: str, path: str) -> None:
    """A subscription expires after 31 days without use unless told otherwise."""
    made = subscriber.create_subscription(name=path, topic=topic)
    assert made.expiration_policy.ttl == datetime.timedelta(days=31)


def test_second_subscription_of_a_name_is_refused(subscriber: SubscriberClient, topic: str, path: str) -> None:
    """A name is given once."""
    subscriber.create_subscription(name=path, topic=topic)
    with pytest.raises(exceptions.AlreadyExists):
        subscriber.create_subscription(name=path, topic=topic)


def test_missing_things_are_not_found(broker: Broker, subscriber: SubscriberClient, topic: str, path: str) -> None:
    """A missing topic or subscription is NOT_FOUND in every method."""
    with pytest.raises(exceptions.NotFound):
        subscriber.create_subscription(name=path, topic=broker.topic_path("missing"))
    for call in (
        lambda: subscriber.get_subscription(subscription=path),
        lambda: subscriber.delete_subscription(subscription=path),
        lambda: subscriber.pull(subscription=path, max_messages=1, timeout=10),
        lambda: subscriber.acknowledge(subscription=path, ack_ids=["1.2.3-4"]),
    ):
        with pytest.raises(exceptions.NotFound):
            call()


@pytest.mark.parametrize(
    "fields",
    [
        {"ack_deadline_seconds": 601},
        {"ack_deadline_seconds": -1},
        {"message_retention_duration": {"seconds": 60}},
        {"retry_policy": {"minimum_backoff": {"seconds": 601}}},
        {"retry_policy": {"minimum_backoff": {"seconds": 20}, "maximum_backoff": {"seconds": 10}}},
        {"push_config": {"push_endpoint": "ftp://x"}},
    ],
)
def test_limits_are_enforced(subscriber: SubscriberClient, topic: str, path: str, fields: dict[str, object]) -> None:
    """Values outside the documented limits are INVALID_ARGUMENT."""
    with pytest.raises(exceptions.InvalidArgument):
        subscriber.create_subscription(request={"name": path, "topic": topic, **fields})


def test_update_changes_what_the_mask_names(subscriber: SubscriberClient, topic: str, path: str) -> None:
    """Only masked fields change."""
    subscriber.create_subscription(name=path, topic=topic)
    update = {"name": path, "ack_deadline_seconds": 42, "enable_message_ordering": True}
    changed = subscriber.update_subscription(subscription=update, update_mask={"paths": ["ack_deadline_seconds"]})
    assert changed.ack_deadline_seconds == 42
    assert not changed.enable_message_ordering
    assert subscriber.get_subscription(subscription=path).ack_deadline_seconds == 42


@pytest.mark.parametrize("mask", [[], ["nonsense"], ["topic"], ["name"], ["enable_message_ordering"], ["filter"]])
def test_mask_of_what_cannot_change_is_refused(
    subscriber: SubscriberClient, topic: str, path: str, mask: list[str]
) -> None:
    """An empty mask, an unknown field, or one that is fixed at creation is INVALID_ARGUMENT."""
    subscriber.create_subscription(name=path, topic=topic)
    with pytest.raises(exceptions.InvalidArgument):
        subscriber.update_subscription(subscription={"name": path}, update_mask={"paths": mask})


@pytest.mark.differs("labels cannot be updated")
def test_labels_can_be_updated(publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str) -> None:
    """Labels of topics and subscriptions change by mask."""
    mask = {"paths": ["labels"]}
    assert publisher.update_topic(topic={"name": topic, "labels": {"a": "b"}}, update_mask=mask).labels == {"a": "b"}
    subscriber.create_subscription(name=path, topic=topic)
    update = {"name": path, "labels": {"c": "d"}}
    assert subscriber.update_subscription(subscription=update, update_mask=mask).labels == {"c": "d"}


@pytest.mark.differs("any label is taken")
@pytest.mark.parametrize("label", [{"Capital": "x"}, {"blank key": "x"}, {"1st": "x"}, {"k": "v" * 64}])
def test_labels_of_other_characters_are_refused(publisher: PublisherClient, topic: str, label: dict[str, str]) -> None:
    """Lower-case letters, digits, hyphens and underscores; a key begins with a letter; 63 characters at most."""
    with pytest.raises(exceptions.InvalidArgument):
        publisher.create_topic(request={"name": f"{topic}-2", "labels": label})


def test_update_of_a_malformed_name_is_invalid(publisher: PublisherClient, subscriber: SubscriberClient) -> None:
    """It is refused as malformed, not as missing."""
    with pytest.raises(exceptions.InvalidArgument):
        publisher.update_topic(
            topic={"name": "nonsense", "message_retention_duration": {"seconds": 600}},
            update_mask={"paths": ["message_retention_duration"]},
        )
    with pytest.raises(exceptions.InvalidArgument):
        subscriber.update_subscription(
            subscription={"name": "nonsense", "ack_deadline_seconds": 20},
            update_mask={"paths": ["ack_deadline_seconds"]},
        )


@pytest.mark.differs("DetachSubscription is not offered")
def test_snapshot_of_a_detached_subscription_is_refused(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """It has no messages to keep."""
    subscriber.create_subscription(name=path, topic=topic)
    publisher.detach_subscription(request={"subscription": path})
    with pytest.raises(exceptions.FailedPrecondition):
        subscriber.create_snapshot(name=f"projects/{broker.project}/snapshots/late", subscription=path)


def test_subscriptions_are_listed_in_pages(broker: Broker, subscriber: SubscriberClient, topic: str) -> None:
    """Following page tokens meets every subscription exactly once."""
    names = {broker.subscription_path(f"sub-{index}") for index in range(5)}
    for name in names:
        subscriber.create_subscription(name=name, topic=topic)
    request = {"project": f"projects/{broker.project}", "page_size": 2}
    pages = list(subscriber.list_subscriptions(request=request).pages)
    assert [len(page.subscriptions) for page in pages] == [2, 2, 1]
    assert {item.name for page in pages for item in page.subscriptions} == names


@pytest.mark.differs("any page token is taken")
def test_foreign_page_token_is_refused(broker: Broker, publisher: PublisherClient) -> None:
    """A page token that the broker did not give is INVALID_ARGUMENT."""
    request = {"project": f"projects/{broker.project}", "page_token": "nonsense"}
    with pytest.raises(exceptions.InvalidArgument):
        list(publisher.list_topics(request=request))


@pytest.mark.differs("a topic that is missing has an empty list")
def test_subscriptions_of_a_missing_topic_are_not_found(broker: Broker, publisher: PublisherClient) -> None:
    """ListTopicSubscriptions of a missing topic is NOT_FOUND."""
    with pytest.raises(exceptions.NotFound):
        list(publisher.list_topic_subscriptions(topic=broker.topic_path("missing")))


def test_seek_into_the_past_replays_what_is_retained(
    publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """With retain_acked_messages, acked messages come again after a seek to a time before them."""
    subscriber.create_subscription(request={"name": path, "topic": topic, "retain_acked_messages": True})
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)
    publisher.publish(topic, b"again").result(10)
    [received] = pull(subscriber, path)
    subscriber.acknowledge(subscription=path, ack_ids=[received.ack_id])
    subscriber.seek(request={"subscription": path, "time": before})
    assert texts(pull(subscriber, path)) == ["again"]


def test_seek_into_the_future_purges(
    publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """A seek to a time after all messages acks them."""
    subscriber.create_subscription(name=path, topic=topic)
    publisher.publish(topic, b"gone").result(10)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
    subscriber.seek(request={"subscription": path, "time": later})
    publisher.publish(topic, b"kept").result(10)
    assert "gone" not in texts(pull(subscriber, path))


def test_snapshot_brings_back_what_was_unacked(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """A seek to a snapshot of the same subscription restores its unacked messages."""
    subscriber.create_subscription(name=path, topic=topic)
    snapshot = f"projects/{broker.project}/snapshots/before"
    publisher.publish(topic, b"once").result(10)
    assert subscriber.create_snapshot(name=snapshot, subscription=path).topic == topic
    [received] = pull(subscriber, path)
    subscriber.acknowledge(subscription=path, ack_ids=[received.ack_id])
    subscriber.seek(request={"subscription": path, "snapshot": snapshot})
    assert texts(pull(subscriber, path)) == ["once"]
    assert [item.name for item in subscriber.list_snapshots(project=f"projects/{broker.project}")] == [snapshot]
    subscriber.delete_snapshot(snapshot=snapshot)
    with pytest.raises(exceptions.NotFound):
        subscriber.get_snapshot(snapshot=snapshot)


def test_snapshot_of_another_topic_is_refused(
    broker: Broker, publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """A subscription seeks only to snapshots of its own topic."""
    subscriber.create_subscription(name=path, topic=topic)
    snapshot = f"projects/{broker.project}/snapshots/before"
    subscriber.create_snapshot(name=snapshot, subscription=path)
    other, other_path = broker.topic_path("other"), broker.subscription_path("other")
    publisher.create_topic(name=other)
    subscriber.create_subscription(name=other_path, topic=other)
    with pytest.raises(exceptions.FailedPrecondition):
        subscriber.seek(request={"subscription": other_path, "snapshot": snapshot})


@pytest.mark.differs("DetachSubscription is not offered")
def test_detached_subscription_can_only_be_deleted(
    publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """After a detach, pulling is FAILED_PRECONDITION and the topic forgets the subscription."""
    subscriber.create_subscription(name=path, topic=topic)
    publisher.detach_subscription(request={"subscription": path})
    assert subscriber.get_subscription(subscription=path).detached
    assert list(publisher.list_topic_subscriptions(topic=topic)) == []
    with pytest.raises(exceptions.FailedPrecondition):
        pull(subscriber, path)
    subscriber.delete_subscription(subscription=path)


@pytest.mark.differs("attribute limits are not checked")
@pytest.mark.parametrize(
    "attributes",
    [{str(index): "x" for index in range(101)}, {"k" * 257: "x"}, {"k": "x" * 1025}, {"": "x"}, {"goog-x": "x"}],
)
def test_attribute_limits(raw_publisher: RawPublisher, topic: str, attributes: dict[str, str]) -> None:
    """Attributes have limits in number and size, and a reserved prefix."""
    with pytest.raises(exceptions.InvalidArgument):
        raw_publisher.publish(topic=topic, messages=[{"data": b"x", "attributes": attributes}])


@pytest.mark.differs("a request above 10.5 MB hangs until its deadline")
def test_request_above_ten_megabytes_is_refused(raw_publisher: RawPublisher, topic: str) -> None:
    """A publish of more than 10 MB is INVALID_ARGUMENT at once, for clients repeat RESOURCE_EXHAUSTED for ever."""
    for size in (10_000_001, 20_000_000):
        with pytest.raises(exceptions.InvalidArgument, match="request_size"):
            raw_publisher.publish(topic=topic, messages=[{"data": bytes(size)}], timeout=20)
    raw_publisher.publish(topic=topic, messages=[{"data": bytes(9_900_000)}], timeout=20)


def _extend(publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str, seconds: int) -> None:
    subscriber.create_subscription(name=path, topic=topic)
    publisher.publish(topic, b"x").result(10)
    [received] = pull(subscriber, path)
    subscriber.modify_ack_deadline(subscription=path, ack_ids=[received.ack_id], ack_deadline_seconds=seconds)


def test_negative_deadline_is_refused(
    publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """A new deadline is at least 0 s."""
    with pytest.raises(exceptions.InvalidArgument):
        _extend(publisher, subscriber, topic, path, -1)


@pytest.mark.differs("a new deadline of 601 s is taken")
def test_too_long_deadline_is_refused(
    publisher: PublisherClient, subscriber: SubscriberClient, topic: str, path: str
) -> None:
    """A new deadline is at most 600 s."""
    with pytest.raises(exceptions.InvalidArgument):
        _extend(publisher, subscriber, topic, path, 601)
