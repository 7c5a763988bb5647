"""Acks, nacks, deadlines, flow control, on a clock moved by hand."""

import asyncio

import pytest

from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.errors import InvalidArgument
from tests.unit.pubsub.lab import TOPIC, Lab


def test_lease_ends_at_its_deadline_and_not_before(lab: Lab) -> None:
    """An unacked message comes again after exactly the subscription's deadline."""
    lab.subscribe(ack_deadline_seconds=10)
    lab.publish("a")
    assert lab.data() == ["a"]
    lab.advance(9.9)
    assert lab.data() == []
    lab.advance(0.2)
    assert lab.data() == ["a"]


def test_extension_counts_from_now(lab: Lab) -> None:
    """A new deadline replaces the old one, longer or shorter."""
    lab.subscribe(ack_deadline_seconds=10)
    lab.publish("long", "short")
    long, short = lab.take()
    lab.extend(60, long)
    lab.extend(2, short)
    lab.advance(2)
    assert lab.data() == ["short"]
    lab.advance(57)
    assert lab.data() == ["short"]
    lab.advance(1.5)
    assert "long" in lab.data()


def test_late_ack_counts_until_the_message_is_handed_out_again(lab: Lab) -> None:
    """After the deadline an ack still counts if nobody got the message meanwhile."""
    lab.subscribe()
    lab.publish("a")
    [first] = lab.take()
    lab.advance(11)
    assert lab.ack(first) == {}
    assert lab.data() == []


def test_ack_of_an_earlier_delivery_does_nothing(lab: Lab) -> None:
    """Once a message was handed out again, only the newest ack id counts."""
    lab.subscribe()
    lab.publish("a")
    [first] = lab.take()
    lab.advance(11)
    [second] = lab.take()
    lab.ack(first)
    lab.advance(11)
    assert lab.data() == ["a"]
    assert second.ack_id != first.ack_id


def test_nothing_undoes_a_nack(lab: Lab) -> None:
    """A late receipt-modack or ack with a nacked id has no effect."""
    lab.subscribe()
    lab.publish("a")
    [first] = lab.take()
    lab.nack(first)
    lab.extend(600, first)
    lab.ack(first)
    assert lab.data() == ["a"]


def test_redelivered_messages_come_first_in_publish_order(lab: Lab) -> None:
    """What comes back is handed out before what is new."""
    lab.subscribe()
    lab.publish("a", "b", "c")
    taken = lab.take()
    lab.publish("d")
    lab.nack(*reversed(taken))
    assert lab.data() == ["a", "b", "c", "d"]


def test_flow_control_counts_messages_until_they_are_acked(lab: Lab) -> None:
    """A reader is never handed more than its limit; acks by any path make room."""
    lab.subscribe()
    lab.publish(*"abcdef")
    reader = Consumer(max_messages=2)
    first = lab.take(reader=reader)
    assert [item.data for item in first] == ["a", "b"]
    assert lab.take(reader=reader) == []
    lab.ack(first[0])
    assert [item.data for item in lab.take(reader=reader)] == ["c"]
    lab.nack(first[1])
    assert [item.data for item in lab.take(reader=reader)] == ["b"]


def test_flow_control_counts_bytes(lab: Lab) -> None:
    """A reader with a byte limit gets one message however large, then waits."""
    lab.subscribe()
    lab.publish("x" * 1000, "y" * 1000, "z" * 1000)
    reader = Consumer(max_bytes=1500)
    first = lab.take(reader=reader)
    assert len(first) == 1
    assert len(lab.take(reader=reader)) == 1
    assert lab.take(reader=reader) == []
    lab.ack(*first)
    assert len(lab.take(reader=reader)) == 1


def test_expired_lease_makes_room(lab: Lab) -> None:
    """A message whose lease has ended no longer counts against its reader."""
    lab.subscribe()
    lab.publish("a", "b")
    reader = Consumer(max_messages=1)
    lab.take(reader=reader)
    lab.advance(11)
    assert reader.messages == 0
    assert reader.bytes == 0


def test_response_stays_under_four_mebibytes(lab: Lab) -> None:
    """However much waits, one batch fits what a stock client takes; a message too large for that comes alone."""
    lab.subscribe()
    for _ in range(5):
        lab.publish("x" * 900_000)
    lab.publish("y" * 6_000_000)
    sizes = []
    while batch := lab.take():
        sizes.append(sum(len(item.data) for item in batch))
        assert sizes[-1] < 4 << 20 or len(batch) == 1
    assert sum(sizes) == 10_500_000


def test_ack_ids_of_another_subscription_are_refused(lab: Lab) -> None:
    """An ack id belongs to its subscription."""
    lab.subscribe()
    lab.subscribe("projects/p/subscriptions/other")
    lab.publish("a")
    [received] = lab.take()
    with pytest.raises(InvalidArgument, match="other"):
        lab.ack(received, name="projects/p/subscriptions/other")


def test_unsent_messages_of_a_leaving_reader_are_free_at_once(lab: Lab) -> None:
    """What was taken but never written to a broken stream goes to the next reader without waiting."""
    lab.subscribe()
    lab.publish("a", "b")
    subscription, gone = lab.subscription(), Consumer()

    async def break_off() -> None:
        subscription.join(gone)
        subscription.leave(gone, subscription.take(gone))

    lab.run(break_off())
    assert lab.data() == ["a", "b"]
    assert subscription.consumers == set()


def test_acks_out_of_order_survive_a_crash(lab: Lab) -> None:
    """What was acked stays acked, whatever came before it; what was not comes again."""
    lab.subscribe()
    lab.publish(*[str(index) for index in range(100)])
    taken = lab.take()
    lab.ack(*taken[1::3])
    lab.crash()
    assert lab.data() == [item.data for index, item in enumerate(taken) if index % 3 != 1]


def test_ack_id_from_before_a_crash_counts(lab: Lab) -> None:
    """A reader may ack what it got before the crash, read or not read again by then."""
    lab.subscribe()
    lab.publish(*"abcd")
    taken = lab.take()
    lab.crash()
    lab.ack(taken[0])
    assert [item.data for item in lab.take(1)] == ["b"]
    lab.ack(taken[2], taken[2])
    assert lab.data() == ["d"]
    lab.crash()
    assert lab.data() == ["b", "d"]


def test_log_is_deleted_once_everybody_has_acked(lab: Lab) -> None:
    """The disk holds what somebody still needs, and no more."""
    lab.subscribe()
    lab.subscribe("projects/p/subscriptions/other")
    for _ in range(3):
        lab.publish(*["x"] * 1000)
    while taken := lab.take():
        lab.ack(*taken)
    assert lab.stored() == 3000
    while taken := lab.take(name="projects/p/subscriptions/other"):
        lab.ack(*taken, name="projects/p/subscriptions/other")
    for _ in range(20):
        lab.advance(1)
    assert lab.stored() == 0


def test_topic_without_readers_keeps_nothing(lab: Lab) -> None:
    """A message for nobody gets an id and is not stored."""
    lab.create_topic(TOPIC)
    assert len(lab.publish("a", "b")) == 2
    assert lab.stored() == 0


def test_message_ids_never_repeat(lab: Lab) -> None:
    """Ids are unique across crashes, stored or not."""
    lab.create_topic(TOPIC)
    seen = lab.publish("a", "b")
    lab.crash()
    seen += lab.publish("c")
    lab.crash()
    seen += lab.publish("d")
    assert len(set(seen)) == 4


def test_disk_space_is_given_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a large backlog has drained, the file shrinks again."""
    monkeypatch.setattr("localcloud.pubsub.store._WORTH_RECLAIMING_BYTES", 1 << 20)
    monkeypatch.setattr("localcloud.pubsub.store._RECLAIM_PAUSE_S", 0.0)
    lab.subscribe()
    for _ in range(20):
        lab.publish(*["x" * 1000] * 1000)
    grown = lab.store.read("PRAGMA page_count")[0][0]
    while taken := lab.take():
        lab.ack(*taken)
    while lab.stored():
        lab.advance(1)
    lab.advance(300)

    async def until_small() -> None:
        async with asyncio.timeout(20):
            while lab.store.read("PRAGMA page_count")[0][0] > grown // 10:
                await asyncio.sleep(0.005)

    lab.run(until_small())
    lab.publish("still works")
    assert lab.data() == ["still works"]
