"""What is refused is refused with its name and the mend."""

from typing import Any

import pytest

from localcloud.pubsub.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PubSubError
from tests.unit.pubsub.lab import DEAD, SUBSCRIPTION, TOPIC, Lab

OTHER = "projects/p/subscriptions/other"
SNAPSHOT = "projects/p/snapshots/before"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"ack_deadline_seconds": 601}, "ack_deadline_seconds=601 s"),
        ({"message_retention_duration": {"seconds": 5}}, "message_retention_duration=5 s"),
        ({"expiration_policy": {"ttl": {"seconds": 60}}}, "expiration_policy.ttl=60 s"),
        ({"retry_policy": {"minimum_backoff": {"seconds": 700}}}, "minimum_backoff=700 s"),
        (
            {"retry_policy": {"minimum_backoff": {"seconds": 9}, "maximum_backoff": {"seconds": 8}}},
            "maximum_backoff=8 s",
        ),
        ({"filter": "attributes:"}, "filter"),
        ({"labels": {"Big": "x"}}, "'Big'='x'"),
        ({"push_config": {"push_endpoint": "ftp://x"}}, "push_endpoint='ftp://x'"),
        ({"bigquery_config": {"table": "x"}}, "bigquery_config.table='x'"),
        ({"cloud_storage_config": {"bucket": "b", "max_duration": {"seconds": 1}}}, "max_duration=1 s"),
        ({"cloud_storage_config": {"bucket": "b", "max_messages": 7}}, "max_messages=7"),
        ({"dead_letter_policy": {"dead_letter_topic": DEAD}}, DEAD),
        ({"dead_letter_policy": {"dead_letter_topic": TOPIC, "max_delivery_attempts": 3}}, "max_delivery_attempts=3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_that_cannot_be_is_named_with_its_subscription(lab: Lab, fields: dict[str, Any], field: str) -> None:
    """And with what it may be."""
    lab.create_topic()
    with pytest.raises(PubSubError) as refused:
        lab.subscribe(**fields)
    message = str(refused.value)
    assert field in message
    assert SUBSCRIPTION in message or field == DEAD
    assert ";" in message or "expected" in message, "the mend"


@pytest.mark.parametrize(
    "label", [{"Key": "v"}, {"1key": "v"}, {"": "v"}, {"k": "V"}, {"k": "a b"}, {"k" * 64: "v"}, {"k": "v" * 64}]
)
def test_labels_are_lower_case_letters_digits_hyphens_and_underscores(lab: Lab, label: dict[str, str]) -> None:
    """Letters of any language; a key begins with one."""
    with pytest.raises(InvalidArgument, match=f"of {TOPIC} cannot be kept"):
        lab.create_topic(labels=label)
    lab.create_topic(labels={"schlüssel_1": "wert-2", "k": ""})


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        ([], "update_mask for projects/p/subscriptions/train is empty; name the fields"),
        (["nonsense"], "'nonsense' of projects/p/subscriptions/train is not a field of Subscription; name one"),
        (["topic"], "'topic' of projects/p/subscriptions/train cannot be changed; leave it out"),
        (["filter"], "cannot be changed"),
        (["enable_message_ordering"], "cannot be changed"),
        (["dead_letter_policy.nonsense"], "projects/p/subscriptions/train: update_mask path"),
        (["labels.key"], "goes into 'labels', which has no fields; end it there"),
        (["labels", "topic"], "cannot be changed"),
    ],
)
def test_a_mask_that_cannot_be_is_refused_whole(lab: Lab, paths: list[str], complaint: str) -> None:
    """Nothing of the update is kept."""
    lab.subscribe(labels={"before": "1"})
    with pytest.raises(InvalidArgument) as refused:
        lab.call(
            lab.subscriber.update_subscription,
            "UpdateSubscriptionRequest",
            subscription={"name": SUBSCRIPTION, "labels": {"after": "1"}},
            update_mask={"paths": paths},
        )
    assert complaint in str(refused.value)
    shown = lab.call(lab.subscriber.get_subscription, "GetSubscriptionRequest", subscription=SUBSCRIPTION)
    assert dict(shown.labels) == {"before": "1"}


def test_a_mask_sets_what_it_names_and_clears_what_is_unset(lab: Lab) -> None:
    """A field of a message, a whole message, a map; everything else stays."""
    lab.create_topic(DEAD)
    lab.subscribe(
        ack_deadline_seconds=20,
        labels={"k": "v"},
        dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 7},
        retry_policy={"minimum_backoff": {"seconds": 3}},
    )

    def update(paths: list[str], **fields: Any) -> Any:
        return lab.call(
            lab.subscriber.update_subscription,
            "UpdateSubscriptionRequest",
            subscription={"name": SUBSCRIPTION, **fields},
            update_mask={"paths": paths},
        )

    shown = update(["dead_letter_policy.max_delivery_attempts"], dead_letter_policy={"max_delivery_attempts": 9})
    assert (shown.dead_letter_policy.max_delivery_attempts, shown.dead_letter_policy.dead_letter_topic) == (9, DEAD)
    assert (shown.ack_deadline_seconds, dict(shown.labels)) == (20, {"k": "v"})
    shown = update(["labels", "retry_policy"], ack_deadline_seconds=99)
    assert (shown.ack_deadline_seconds, dict(shown.labels), shown.HasField("retry_policy")) == (20, {}, False)
    assert update(["ack_deadline_seconds"]).ack_deadline_seconds == 10, "unset is the default"


def test_a_deleted_dead_letter_topic_does_not_hinder_other_updates(lab: Lab) -> None:
    """Only who sets the policy must name a topic that is there."""
    lab.create_topic(DEAD)
    lab.subscribe(dead_letter_policy={"dead_letter_topic": DEAD})
    lab.call(lab.publisher.delete_topic, "DeleteTopicRequest", topic=DEAD)

    def update(path: str, **fields: Any) -> Any:
        return lab.call(
            lab.subscriber.update_subscription,
            "UpdateSubscriptionRequest",
            subscription={"name": SUBSCRIPTION, **fields},
            update_mask={"paths": [path]},
        )

    assert dict(update("labels", labels={"k": "v"}).labels) == {"k": "v"}
    with pytest.raises(NotFound, match=f"dead_letter_topic {DEAD} does not exist"):
        update("dead_letter_policy", dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 6})


def test_a_topic_is_updated_by_its_well_formed_name(lab: Lab) -> None:
    """A malformed one is refused as that, not as missing."""
    request = {"topic": {"name": "nonsense"}, "update_mask": {"paths": ["labels"]}}
    with pytest.raises(InvalidArgument, match=r"topic\.name='nonsense'"):
        lab.call(lab.publisher.update_topic, "UpdateTopicRequest", **request)


def test_a_detached_subscription_refuses_all_but_its_end(lab: Lab) -> None:
    """Acks, new deadlines, seeks, snapshots and pulls name it and the reason; it can be looked at, listed and deleted."""
    lab.subscribe()
    lab.publish("a")
    (taken,) = lab.take()
    lab.call(lab.publisher.detach_subscription, "DetachSubscriptionRequest", subscription=SUBSCRIPTION)
    by_name = {"subscription": SUBSCRIPTION}
    for method, name, fields in (
        (lab.subscriber.acknowledge, "AcknowledgeRequest", {"ack_ids": [taken.ack_id]}),
        (lab.subscriber.modify_ack_deadline, "ModifyAckDeadlineRequest", {"ack_ids": [taken.ack_id]}),
        (lab.subscriber.pull, "PullRequest", {"max_messages": 1}),
        (lab.seeker.create_snapshot, "CreateSnapshotRequest", {"name": SNAPSHOT}),
        (lab.seeker.seek, "SeekRequest", {"time": {"seconds": 1}}),
    ):
        with pytest.raises(FailedPrecondition, match=f"{SUBSCRIPTION} is detached"):
            lab.call(method, name, **by_name, **fields)
    again = lab.call(lab.publisher.detach_subscription, "DetachSubscriptionRequest", subscription=SUBSCRIPTION)
    assert again is not None
    lab.crash()
    assert lab.call(lab.subscriber.get_subscription, "GetSubscriptionRequest", **by_name).detached
    attached = lab.call(lab.publisher.list_topic_subscriptions, "ListTopicSubscriptionsRequest", topic=TOPIC)
    assert list(attached.subscriptions) == []
    listed = lab.call(lab.subscriber.list_subscriptions, "ListSubscriptionsRequest", project="projects/p")
    assert [item.name for item in listed.subscriptions] == [SUBSCRIPTION]
    lab.call(lab.subscriber.delete_subscription, "DeleteSubscriptionRequest", **by_name)
    lab.subscribe()
    lab.publish("b")
    assert lab.data() == ["b"]


def test_a_name_in_use_is_told_with_a_way_out(lab: Lab) -> None:
    """Topic, subscription and snapshot."""
    lab.subscribe()
    lab.call(lab.seeker.create_snapshot, "CreateSnapshotRequest", name=SNAPSHOT, subscription=SUBSCRIPTION)
    for again in (
        lambda: lab.create_topic(),
        lambda: lab.subscribe(),
        lambda: lab.call(lab.seeker.create_snapshot, "CreateSnapshotRequest", name=SNAPSHOT, subscription=SUBSCRIPTION),
    ):
        with pytest.raises(AlreadyExists, match="exists already; "):
            again()
