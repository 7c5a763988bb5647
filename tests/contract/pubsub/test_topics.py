"""Topics: create, get, list, delete, and what is refused."""

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1

from tests.contract.pubsub.conftest import Broker


def test_created_topic_is_found(publisher: pubsub_v1.PublisherClient, topic: str) -> None:
    """A topic that was created can be got by its name."""
    assert publisher.get_topic(topic=topic).name == topic


def test_second_creation_is_refused(publisher: pubsub_v1.PublisherClient, topic: str) -> None:
    """A name is given once."""
    with pytest.raises(exceptions.AlreadyExists):
        publisher.create_topic(name=topic)


def test_missing_topic_is_not_found(broker: Broker, publisher: pubsub_v1.PublisherClient) -> None:
    """Get, delete and publish answer NOT_FOUND for a topic that is not there."""
    missing = broker.topic_path("missing")
    with pytest.raises(exceptions.NotFound):
        publisher.get_topic(topic=missing)
    with pytest.raises(exceptions.NotFound):
        publisher.delete_topic(topic=missing)
    with pytest.raises(exceptions.NotFound):
        publisher.publish(missing, b"x").result(10)


@pytest.mark.parametrize("name", ["ab", "goog-topic", "1abc", "a" * 256, "has space", "umlaut-ä"])
def test_malformed_names_are_refused(broker: Broker, publisher: pubsub_v1.PublisherClient, name: str) -> None:
    """Names outside the documented form are INVALID_ARGUMENT."""
    with pytest.raises(exceptions.InvalidArgument):
        publisher.create_topic(name=broker.topic_path(name))


def test_list_pages_cover_all_topics_once(broker: Broker, publisher: pubsub_v1.PublisherClient) -> None:
    """Following page tokens meets every topic of the project exactly once."""
    names = {broker.topic_path(f"topic-{index}") for index in range(7)}
    for name in names:
        publisher.create_topic(name=name)
    project = f"projects/{broker.project}"
    pages = list(publisher.list_topics(request={"project": project, "page_size": 3}).pages)
    assert [len(page.topics) for page in pages] == [3, 3, 1]
    assert sorted(item.name for page in pages for item in page.topics) == sorted(names)


def test_project_is_not_a_prefix(broker: Broker, publisher: pubsub_v1.PublisherClient) -> None:
    """Listing project `p` does not show the topics of project `px`."""
    publisher.create_topic(name=f"projects/{broker.project}x/topics/other")
    assert list(publisher.list_topics(project=f"projects/{broker.project}")) == []


def test_subscriptions_of_a_topic_are_listed(
    broker: Broker, publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient, topic: str
) -> None:
    """ListTopicSubscriptions names what is attached to the topic."""
    path = broker.subscription_path("train")
    subscriber.create_subscription(name=path, topic=topic)
    assert list(publisher.list_topic_subscriptions(topic=topic)) == [path]


def test_deleted_topic_leaves_its_subscriptions_the_backlog(
    broker: Broker, publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient, topic: str
) -> None:
    """After a topic's deletion its subscription reads `_deleted-topic_` and keeps the messages; the name is free."""
    path = broker.subscription_path("train")
    subscriber.create_subscription(name=path, topic=topic)
    publisher.publish(topic, b"kept").result(10)
    publisher.delete_topic(topic=topic)
    assert subscriber.get_subscription(subscription=path).topic == "_deleted-topic_"
    publisher.create_topic(name=topic)
    publisher.publish(topic, b"for nobody").result(10)
    received = subscriber.pull(subscription=path, max_messages=10, timeout=10).received_messages
    assert [item.message.data for item in received] == [b"kept"]
