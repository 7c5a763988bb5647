"""Seek, snapshots, retention and expiration: days in milliseconds."""

from typing import Any

import pytest

from localcloud.pubsub.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.unit.pubsub.lab import SUBSCRIPTION, TOPIC, Lab

DAY_S = 86_400
SNAPSHOT = "projects/p/snapshots/before"
OTHER = "projects/p/subscriptions/other"


def _snapshot(lab: Lab, name: str = SNAPSHOT, subscription: str = SUBSCRIPTION) -> None:
    lab.call(lab.seeker.create_snapshot, "CreateSnapshotRequest", name=name, subscription=subscription)


def test_message_leaves_after_its_retention(lab: Lab) -> None:
    """Seven days on, an unacked message is gone from the subscription and from the disk."""
    lab.subscribe()
    lab.publish("old")
    lab.advance(7 * DAY_S - 60)
    lab.publish("new")
    assert lab.data() == ["old", "new"]
    lab.advance(120)
    assert lab.data() == ["new"]
    lab.advance(DAY_S)
    assert lab.stored() == 1


def test_seek_replays_retained_acked_messages(lab: Lab) -> None:
    """With retain_acked_messages a seek to the past brings acked messages again, from that time on."""
    lab.subscribe(retain_acked_messages=True)
    lab.publish("a")
    lab.advance(100)
    middle_s = lab.clock.time()
    lab.publish("b")
    lab.advance(100)
    lab.publish("c")
    lab.ack(*lab.take())
    lab.seek(time_s=middle_s)
    assert lab.data() == ["b", "c"]
    lab.seek(time_s=0)
    lab.crash()
    assert lab.data() == ["a", "b", "c"]


def test_seek_without_retention_only_acks(lab: Lab) -> None:
    """Without retention what is acked stays acked; unacked messages before the time become acked."""
    lab.subscribe()
    lab.publish("a")
    lab.advance(100)
    middle_s = lab.clock.time()
    lab.publish("b", "c")
    taken = lab.take()
    lab.ack(taken[1])
    lab.seek(time_s=middle_s)
    assert lab.data() == ["c"]
    lab.seek(time_s=0)
    assert lab.data() == ["c"]


def test_seek_to_the_future_purges(lab: Lab) -> None:
    """A seek past the end acks all there is; what is published after it arrives."""
    lab.subscribe()
    lab.publish("a", "b")
    lab.take()
    lab.seek(time_s=lab.clock.time() + 3600)
    lab.publish("c")
    assert lab.data() == ["c"]


def test_seek_ends_leases(lab: Lab) -> None:
    """Ack ids from before a seek do not count after it."""
    lab.subscribe(retain_acked_messages=True)
    lab.publish("a")
    [received] = lab.take()
    lab.seek(time_s=0)
    lab.ack(received)
    assert lab.data() == ["a"]


def test_topic_retention_lets_a_new_subscription_seek_back(lab: Lab) -> None:
    """With retention on the topic, messages from before a subscription's creation can be replayed, once it seeks."""
    lab.create_topic(TOPIC, message_retention_duration={"seconds": 3600})
    lab.publish("early")
    lab.subscribe()
    assert lab.data() == []
    lab.seek(time_s=0)
    [early] = lab.take()
    assert early.data == "early"
    lab.ack(early)
    lab.advance(3 * 3600)
    lab.seek(time_s=0)
    assert lab.data() == []


def test_topic_retention_keeps_what_a_subscription_would_let_go(lab: Lab) -> None:
    """An unacked message leaves once neither its subscription nor its topic keeps it; a deleted topic keeps nothing."""
    lab.create_topic(TOPIC, message_retention_duration={"seconds": 3 * DAY_S})
    lab.subscribe(message_retention_duration={"seconds": 600}, ack_deadline_seconds=600)
    lab.subscribe(OTHER, message_retention_duration={"seconds": 600})
    lab.publish("old")
    lab.advance(3 * DAY_S - 60)
    assert lab.data() == ["old"]
    lab.crash()
    assert lab.data() == ["old"]
    lab.advance(120)
    lab.advance(600)
    assert lab.data() == []
    lab.publish("new")
    lab.advance(1200)
    lab.call(lab.publisher.delete_topic, "DeleteTopicRequest", topic=TOPIC)
    assert lab.data(OTHER) == []


def test_topic_retention_can_come_and_go(lab: Lab) -> None:
    """An update counts for what is there already."""
    lab.subscribe(message_retention_duration={"seconds": 600})
    lab.publish("a")

    def retain(**fields: Any) -> None:
        lab.call(
            lab.publisher.update_topic,
            "UpdateTopicRequest",
            topic={"name": TOPIC, **fields},
            update_mask={"paths": ["message_retention_duration"]},
        )

    retain(message_retention_duration={"seconds": DAY_S})
    lab.advance(1200)
    [taken] = lab.take()
    lab.nack(taken)
    retain()
    assert lab.data() == []


def test_snapshots_are_listed_changed_and_named(lab: Lab) -> None:
    """By project and by topic, in pages; labels and expiry can be changed, the name is picked where none is given."""
    lab.subscribe()
    for index in range(5):
        _snapshot(lab, f"{SNAPSHOT}-{index}")
    seen, token = [], ""
    while True:
        page = lab.call(
            lab.seeker.list_snapshots, "ListSnapshotsRequest", project="projects/p", page_size=2, page_token=token
        )
        assert len(page.snapshots) <= 2
        seen += [item.name for item in page.snapshots]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"{SNAPSHOT}-{index}" for index in range(5)]
    listed = lab.call(lab.publisher.list_topic_snapshots, "ListTopicSnapshotsRequest", topic=TOPIC)
    assert list(listed.snapshots) == seen
    expires_s = int(lab.clock.time()) + 7200
    changed = lab.call(
        lab.seeker.update_snapshot,
        "UpdateSnapshotRequest",
        snapshot={"name": seen[0], "labels": {"k": "v"}, "expire_time": {"seconds": expires_s}},
        update_mask={"paths": ["labels", "expire_time"]},
    )
    assert (dict(changed.labels), changed.expire_time.seconds, changed.topic) == ({"k": "v"}, expires_s, TOPIC)
    lab.crash()
    shown = lab.call(lab.seeker.get_snapshot, "GetSnapshotRequest", snapshot=seen[0])
    assert (dict(shown.labels), shown.expire_time.seconds) == ({"k": "v"}, expires_s)
    with pytest.raises(InvalidArgument, match="not in the future; set a later one"):
        lab.call(
            lab.seeker.update_snapshot,
            "UpdateSnapshotRequest",
            snapshot={"name": seen[0]},
            update_mask={"paths": ["expire_time"]},
        )
    picked = lab.call(lab.seeker.create_snapshot, "CreateSnapshotRequest", subscription=SUBSCRIPTION)
    assert picked.name.startswith("projects/p/snapshots/")


def test_snapshot_restores_what_was_unacked(lab: Lab) -> None:
    """A seek to a snapshot brings back what was unacked then, exceptions included, and all that came later."""
    lab.subscribe()
    lab.publish(*"abcd")
    taken = lab.take()
    lab.ack(taken[0], taken[2])
    _snapshot(lab)
    lab.ack(taken[1], taken[3])
    lab.publish("e")
    lab.ack(*lab.take())
    lab.crash()
    lab.seek(snapshot=SNAPSHOT)
    assert lab.data() == ["b", "d", "e"]


def test_snapshot_serves_any_subscription_of_the_topic(lab: Lab) -> None:
    """Another subscription of the topic may seek to it; one of another topic may not."""
    lab.subscribe()
    lab.publish("a", "b")
    _snapshot(lab)
    lab.subscribe(OTHER)
    lab.seek(OTHER, snapshot=SNAPSHOT)
    assert lab.data(OTHER) == ["a", "b"]
    lab.subscribe("projects/p/subscriptions/elsewhere", topic="projects/p/topics/elsewhere")
    with pytest.raises(FailedPrecondition, match="same topic"):
        lab.seek("projects/p/subscriptions/elsewhere", snapshot=SNAPSHOT)


def test_snapshot_holds_the_log_until_it_is_deleted(lab: Lab) -> None:
    """Messages stay on disk for a snapshot, and go with it."""
    lab.subscribe()
    lab.publish("a")
    _snapshot(lab)
    lab.ack(*lab.take())
    lab.advance(60)
    assert lab.stored() == 1
    lab.call(lab.seeker.delete_snapshot, "DeleteSnapshotRequest", snapshot=SNAPSHOT)
    lab.advance(1)
    assert lab.stored() == 0


def test_snapshot_expires(lab: Lab) -> None:
    """A snapshot lives for seven days, less the age of its oldest message; under an hour it is refused."""
    lab.subscribe()
    lab.publish("a")
    lab.advance(DAY_S)
    _snapshot(lab)
    lab.advance(5 * DAY_S)
    lab.call(lab.seeker.get_snapshot, "GetSnapshotRequest", snapshot=SNAPSHOT)
    lab.advance(DAY_S + 600)
    with pytest.raises(NotFound):
        lab.call(lab.seeker.get_snapshot, "GetSnapshotRequest", snapshot=SNAPSHOT)
    lab.publish("b")
    lab.advance(7 * DAY_S - 1800)
    with pytest.raises(FailedPrecondition, match="an hour"):
        _snapshot(lab)


def test_idle_subscription_expires(lab: Lab) -> None:
    """Thirty-one days without use end a subscription; any use counts."""
    lab.subscribe()
    lab.advance(30 * DAY_S)
    lab.call(lab.subscriber.get_subscription, "GetSubscriptionRequest", subscription=SUBSCRIPTION)
    lab.advance(30 * DAY_S)
    lab.crash()
    lab.advance(2 * DAY_S)
    with pytest.raises(NotFound):
        lab.call(lab.subscriber.get_subscription, "GetSubscriptionRequest", subscription=SUBSCRIPTION)


def test_subscription_without_ttl_never_expires(lab: Lab) -> None:
    """An expiration policy without ttl means never."""
    lab.subscribe(expiration_policy={})
    lab.advance(400 * DAY_S)
    lab.call(lab.subscriber.get_subscription, "GetSubscriptionRequest", subscription=SUBSCRIPTION)


def test_detached_subscription_keeps_its_name_and_nothing_else(lab: Lab) -> None:
    """After a detach the backlog is gone and pulling is refused, before and after a crash."""
    lab.subscribe()
    lab.publish("a")
    lab.call(lab.publisher.detach_subscription, "DetachSubscriptionRequest", subscription=SUBSCRIPTION)
    lab.crash()
    lab.publish("b")
    found = lab.call(lab.subscriber.get_subscription, "GetSubscriptionRequest", subscription=SUBSCRIPTION)
    assert found.detached
    with pytest.raises(FailedPrecondition, match="detached"):
        lab.call(lab.subscriber.pull, "PullRequest", subscription=SUBSCRIPTION, max_messages=1)
    lab.advance(1)
    assert lab.stored() == 0


def test_deleted_topic_is_forgotten_with_its_last_subscription(lab: Lab) -> None:
    """The messages of a deleted topic leave the disk when nobody can read them any more."""
    lab.subscribe()
    lab.publish(*["x"] * 1000)
    lab.publish(*["x"] * 1000)
    lab.call(lab.publisher.delete_topic, "DeleteTopicRequest", topic=TOPIC)
    lab.crash()
    assert len(lab.take()) == 1000
    lab.call(lab.subscriber.delete_subscription, "DeleteSubscriptionRequest", subscription=SUBSCRIPTION)
    for _ in range(10):
        lab.advance(1)
    assert lab.stored() == 0
    assert lab.store.read("SELECT count(*) FROM topics")[0][0] == 0
