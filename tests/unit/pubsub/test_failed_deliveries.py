"""Retry policy, dead letters and exactly-once."""

import pytest

from localcloud.pubsub import wire
from localcloud.pubsub.errors import AckFailure
from tests.unit.pubsub.lab import DEAD, SUBSCRIPTION, TOPIC, Lab

DEAD_SUBSCRIPTION = "projects/p/subscriptions/dead"


def test_backoff_grows_from_minimum_to_maximum(lab: Lab) -> None:
    """Each failure doubles the wait, within the policy's bounds; other messages are not held."""
    lab.subscribe(retry_policy={"minimum_backoff": {"seconds": 10}, "maximum_backoff": {"seconds": 25}})
    lab.publish("a")
    for wait_s in (10, 20, 25, 25):
        lab.nack(*lab.take())
        lab.advance(wait_s - 0.1)
        lab.publish("other")
        [other] = lab.take()
        assert other.data == "other"
        lab.ack(other)
        lab.advance(0.1)
    assert lab.data() == ["a"]


def test_late_ack_ends_the_backoff(lab: Lab) -> None:
    """A message acked after its deadline, during its backoff, does not come again."""
    lab.subscribe(retry_policy={})
    lab.publish("a")
    [received] = lab.take()
    lab.advance(10.5)
    lab.ack(received)
    lab.advance(1000)
    assert lab.data() == []


def _dead_letters(lab: Lab, attempts: int = 5) -> None:
    lab.create_topic(DEAD)
    lab.subscribe(DEAD_SUBSCRIPTION, topic=DEAD)
    lab.subscribe(dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": attempts})


def test_message_is_dead_lettered_after_its_last_attempt(lab: Lab) -> None:
    """After max_delivery_attempts it moves at once, whole, with the service's attributes; attempts count from 1."""
    _dead_letters(lab)
    [source_id] = lab.publish("poison", colour="red")
    for attempt in range(1, 6):
        [received] = lab.take()
        assert received.attempt == attempt
        if attempt % 2:
            lab.nack(received)
        else:
            lab.advance(11)
    assert lab.data() == []
    [dead] = lab.take(name=DEAD_SUBSCRIPTION)
    assert dead.data == "poison"
    assert dead.attempt == 0
    assert dead.message.message_id != source_id
    attributes = dict(dead.message.attributes)
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime").startswith("2025-06-15T")
    assert attributes == {
        "colour": "red",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "train",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
    }


def test_attempts_survive_a_crash(lab: Lab) -> None:
    """The count of failed deliveries is durable."""
    _dead_letters(lab)
    lab.publish("poison")
    for _ in range(3):
        lab.nack(*lab.take())
    lab.crash()
    assert lab.take()[0].attempt == 4


def test_dead_letter_and_ack_are_one(lab: Lab) -> None:
    """A crash right after the last attempt leaves the message in one place, never in both or none."""
    _dead_letters(lab)
    lab.publish("poison")
    for _ in range(5):
        lab.nack(*lab.take())
    lab.crash()
    assert lab.data() == []
    assert lab.data(DEAD_SUBSCRIPTION) == ["poison"]


def test_missing_dead_letter_topic_does_not_lose_the_message(lab: Lab) -> None:
    """When the dead-letter topic was deleted, delivery goes on."""
    _dead_letters(lab)
    lab.call(lab.publisher.delete_topic, "DeleteTopicRequest", topic=DEAD)
    lab.publish("poison")
    for _ in range(7):
        lab.nack(*lab.take())
    assert lab.data() == ["poison"]


def test_exactly_once_ack_after_the_deadline_fails_for_good(lab: Lab) -> None:
    """An expired ack id is answered with its reason, and the message comes again."""
    lab.subscribe(enable_exactly_once_delivery=True)
    lab.publish("a", "b")
    a, b = lab.take()
    lab.extend(60, b)
    lab.advance(11)
    request = wire.message_class("AcknowledgeRequest")(subscription=SUBSCRIPTION, ack_ids=[a.ack_id, b.ack_id])
    with pytest.raises(AckFailure) as failure:
        lab.run(lab.subscriber.acknowledge(request, None))
    assert failure.value.failures == {a.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}
    lab.crash()
    assert lab.data() == ["a"]


def test_exactly_once_extension_of_an_expired_lease_fails(lab: Lab) -> None:
    """ModifyAckDeadline tells too."""
    lab.subscribe(enable_exactly_once_delivery=True)
    lab.publish("a")
    [received] = lab.take()
    lab.advance(11)
    assert lab.extend(30, received) == {received.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}


def test_exactly_once_does_not_redeliver_before_the_deadline(lab: Lab) -> None:
    """While a lease runs nobody else gets the message."""
    lab.subscribe(enable_exactly_once_delivery=True)
    lab.publish("a")
    lab.take()
    lab.advance(9.9)
    assert lab.data() == []


def test_repeated_exactly_once_ack_is_answered_ok(lab: Lab) -> None:
    """A client that lost the answer and acks again learns that the message is acked."""
    lab.subscribe(enable_exactly_once_delivery=True)
    lab.publish("a")
    [received] = lab.take()
    assert lab.ack(received) == {}
    assert lab.ack(received) == {}


def test_filtered_messages_count_as_acked(lab: Lab) -> None:
    """A subscription with a filter gets what matches, also after a crash, and the rest is not kept for it."""
    lab.subscribe(filter='attributes.stage = "train"')
    lab.publish("no", stage="serve")
    lab.publish("yes", stage="train")
    lab.publish("no")
    lab.crash()
    [received] = lab.take()
    assert received.data == "yes"
    lab.ack(received)
    lab.publish("no", stage="x")
    assert lab.data() == []
    for _ in range(3):
        lab.advance(1)
    assert lab.stored() == 0
    assert TOPIC in lab.broker.registry.topics


def test_exactly_once_lease_outlives_a_crash(lab: Lab) -> None:
    """What was out with a reader is not sent again before its deadline, and its ack id still counts."""
    lab.subscribe(enable_exactly_once_delivery=True, ack_deadline_seconds=20)
    lab.publish("a", "b", "c")
    a, b, c = lab.take()
    lab.extend(100, b)
    lab.ack(c)
    lab.advance(5)
    lab.crash()
    assert lab.data() == []
    assert lab.ack(a) == {}
    lab.advance(94)
    assert lab.data() == []
    lab.crash()
    lab.advance(2)
    assert lab.data() == ["b"]
    assert lab.ack(b) == {b.ack_id: "PERMANENT_FAILURE_INVALID_ACK_ID"}


def test_exactly_once_lease_that_ran_out_while_the_broker_was_down(lab: Lab) -> None:
    """A deadline that passes between a crash and the next start ends its lease."""
    lab.subscribe(enable_exactly_once_delivery=True)
    lab.publish("a")
    [received] = lab.take()
    lab.extend(30, received)
    lab.crash(down_s=31)
    lab.advance(0)
    assert lab.data() == ["a"]


def test_exactly_once_nack_outlives_a_crash(lab: Lab) -> None:
    """A nacked message is free after a crash, and its old id is dead."""
    lab.subscribe(enable_exactly_once_delivery=True)
    lab.publish("a", "b")
    a, b = lab.take()
    lab.nack(a)
    lab.crash()
    assert lab.data() == ["a"]
    assert lab.nack(b) == {}
    assert lab.data() == ["b"]


def test_ordered_exactly_once_leases_outlive_a_crash(lab: Lab) -> None:
    """A key with a running lease waits for it after a crash too; acks count in order."""
    lab.subscribe(enable_exactly_once_delivery=True, enable_message_ordering=True)
    lab.publish("a1", "a2", "a3", key="a")
    a1, a2 = lab.take(2)
    lab.publish("b1", key="b")
    lab.crash()
    assert lab.data() == ["b1"]
    assert lab.ack(a2)[a2.ack_id].startswith("TRANSIENT_FAILURE")
    assert lab.ack(a1, a2) == {}
    assert lab.data() == ["a3"]


def test_seek_ends_exactly_once_leases_for_good(lab: Lab) -> None:
    """After a seek and a crash no old lease holds a message back."""
    lab.subscribe(enable_exactly_once_delivery=True, retain_acked_messages=True)
    lab.publish("a")
    lab.take()
    lab.seek(time_s=0)
    lab.crash()
    assert lab.data() == ["a"]
