"""What a dead letter says about where it comes from, and what is left when that is taken off again."""

from messages.dead_letters import origin_of, restored
from messages.identity import LETTER

WORKER = {
    "baton-dead-letter-reason": "data = b'x' cannot be read; send a JSON object",
    "baton-dead-letter-topic": "data-ready",
    "baton-dead-letter-subscription": "preprocess-worker",
    "baton-dead-letter-message-id": "77",
    "baton-dead-letter-attempts": "3",
}
PUBSUB = {
    "CloudPubSubDeadLetterSourceDeliveryCount": "10",
    "CloudPubSubDeadLetterSourceSubscription": "train-worker",
    "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
    "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-11-21T09:00:00.123+00:00",
}


def test_a_workers_dead_letter_tells_everything() -> None:
    """Reason, topic, queue, message id, attempts."""
    origin = origin_of(WORKER)
    assert (origin.by, origin.topic, origin.subscription) == ("worker", "data-ready", "preprocess-worker")
    assert (origin.message_id, origin.attempts) == ("77", 3)
    assert "cannot be read" in origin.reason


def test_pubsubs_own_dead_letter_names_queue_and_time() -> None:
    """The topic follows from the queue; the message's id is not told."""
    origin = origin_of(PUBSUB)
    assert (origin.by, origin.topic, origin.message_id, origin.attempts) == ("pubsub", "preprocess-done", "", 10)
    assert origin.published == "2026-11-21T09:00:00.123+00:00"
    assert "delivered 10 times to train-worker" in origin.reason


def test_a_topic_is_never_taken_from_an_attribute() -> None:
    """A forged one could have an operator's redrive publish anywhere: it follows from a queue that we know."""
    forged = {**WORKER, "baton-dead-letter-topic": "projects/other/topics/billing"}
    assert origin_of(forged).topic == "data-ready"
    assert origin_of({**WORKER, "baton-dead-letter-subscription": "elsewhere"}).topic == ""
    assert origin_of({**PUBSUB, "CloudPubSubDeadLetterSourceSubscription": "elsewhere"}).topic == ""
    assert origin_of({"baton-dead-letter-attempts": "9" * 5000, **PUBSUB}).by == "pubsub"


def test_what_was_added_on_the_way_is_taken_off() -> None:
    """So that a redriven message is the one that was first published."""
    own = {"ce-id": "e1", "traceparent": "00-…", "colour": "red"}
    earlier_trip = {"baton-redriven-message-id": "1", LETTER: "1"}
    assert restored({**own, **WORKER, **PUBSUB, **earlier_trip, "googclient_schemaencoding": "JSON"}) == own
