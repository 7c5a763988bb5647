"""What the broker tells about itself is true: backlog, what is out, how old the oldest is."""

from typing import Any

import pytest

from localcloud.pubsub import wire
from localcloud.pubsub.inspection import Inspector
from tests.unit.pubsub.lab import SUBSCRIPTION, TOPIC, Lab


def stats(lab: Lab, name: str = SUBSCRIPTION) -> dict[str, Any]:
    """Return one subscription's statistics."""
    found = lab.run(Inspector(lab.broker).stats())["subscriptions"]
    return next(item for item in found if item["name"] == name)


def test_what_a_unary_pull_took_is_outstanding(lab: Lab) -> None:
    """Messages are out until they are acked, given back or late, however they were asked for."""
    lab.subscribe(ack_deadline_seconds=10)
    lab.publish("a", "b", "c", "d")

    async def pull() -> Any:
        request = wire.message_class("PullRequest")(subscription=SUBSCRIPTION, max_messages=4)
        return await lab.subscriber.pull(request, _Context())

    answer = wire.PullResponse.FromString(lab.run(pull()))
    ack_ids = [item.ack_id for item in answer.received_messages]
    assert stats(lab)["outstanding_messages"] == 4
    lab.call(lab.subscriber.acknowledge, "AcknowledgeRequest", subscription=SUBSCRIPTION, ack_ids=ack_ids[:1])
    lab.call(
        lab.subscriber.modify_ack_deadline,
        "ModifyAckDeadlineRequest",
        subscription=SUBSCRIPTION,
        ack_ids=ack_ids[1:2],
        ack_deadline_seconds=0,
    )
    assert stats(lab)["outstanding_messages"] == 2
    lab.advance(11)
    counted = stats(lab)
    assert (counted["outstanding_messages"], counted["backlog_messages"]) == (0, 3)
    assert (counted["delivered_messages"], counted["acked_messages"]) == (4, 1)
    assert (counted["nacked_messages"], counted["expired_messages"]) == (1, 2)


class _Context:
    """A call without a deadline."""

    def time_remaining(self) -> None:
        return None


def test_a_filtered_backlog_counts_what_matches(lab: Lab) -> None:
    """Even where nobody has read yet: what the filter leaves out is no backlog."""
    lab.subscribe(filter='attributes.kind = "odd"')
    for index in range(30):
        lab.publish(*["x"] * 100, kind="odd" if index % 3 else "even")
    counted = stats(lab)
    assert (counted["backlog_messages"], counted["backlog_is_exact"]) == (2000, True)


def test_a_large_filtered_backlog_says_that_it_is_a_bound(lab: Lab) -> None:
    """One look asks the filter about some tens of thousands of messages; the next looks go on from there."""
    lab.subscribe(filter="attributes:wanted")
    for _ in range(60):
        lab.publish(*["x"] * 1000)
    lab.publish("y", wanted="1")
    counted = stats(lab)
    assert not counted["backlog_is_exact"]
    assert 1 <= counted["backlog_messages"] < 60_001
    for _ in range(5):
        counted = stats(lab)
    assert (counted["backlog_messages"], counted["backlog_is_exact"]) == (1, True)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_the_oldest_is_the_oldest_unacked_one(lab: Lab, is_restarted: bool) -> None:
    """Acks out of order do not count as the oldest, before a restart and after."""
    lab.subscribe()
    lab.publish("a")
    lab.advance(5)
    lab.publish("b")
    lab.advance(5)
    a, b = lab.take()
    assert stats(lab)["oldest_unacked_age_s"] == pytest.approx(10, abs=0.1)
    lab.ack(a)
    if is_restarted:
        lab.crash()
    assert stats(lab)["oldest_unacked_age_s"] == pytest.approx(5, abs=0.1)
    if not is_restarted:
        lab.ack(b)
        assert stats(lab)["oldest_unacked_age_s"] == 0


def test_an_ack_behind_the_oldest_stays_one_after_a_restart(lab: Lab) -> None:
    """The exceptions on disk are no backlog."""
    lab.subscribe()
    lab.publish("a", "b", "c")
    received = lab.take()
    lab.ack(received[1], received[2])
    lab.crash()
    assert stats(lab)["backlog_messages"] == 1
    lab.ack(*lab.take())
    counted = stats(lab)
    assert (counted["backlog_messages"], counted["oldest_unacked_age_s"]) == (0, 0)


def test_a_detached_subscription_has_no_backlog(lab: Lab) -> None:
    """What its old topic gets is not its own."""
    lab.subscribe()
    lab.subscribe("projects/p/subscriptions/other")
    lab.publish("a")
    lab.call(lab.publisher.detach_subscription, "DetachSubscriptionRequest", subscription=SUBSCRIPTION)
    lab.publish("b", "c", topic=TOPIC)
    counted = stats(lab)
    assert (counted["backlog_messages"], counted["oldest_unacked_age_s"]) == (0, 0)
    assert stats(lab, "projects/p/subscriptions/other")["backlog_messages"] == 3
