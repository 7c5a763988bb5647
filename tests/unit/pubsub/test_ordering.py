"""Ordering keys."""

from localcloud.pubsub.consumer import Consumer
from tests.unit.pubsub.lab import DEAD, Lab


def _texts(received: list) -> list[str]:  # type: ignore[type-arg]
    return [item.data for item in received]


def test_key_goes_to_one_reader_while_it_is_out(lab: Lab) -> None:
    """While a message of a key is out, its followers go to the same reader; other keys to anybody."""
    lab.subscribe(enable_message_ordering=True)
    lab.publish("a1", key="a")
    first, second = Consumer(), Consumer()
    [a1] = lab.take(reader=first)
    lab.publish("a2", key="a")
    lab.publish("b1", key="b")
    assert _texts(lab.take(reader=second)) == ["b1"]
    assert _texts(lab.take(reader=first)) == ["a2"]
    lab.ack(a1)
    lab.publish("a3", key="a")
    assert lab.take(reader=second) == []
    assert _texts(lab.take(reader=first)) == ["a3"]


def test_key_is_free_for_others_once_all_is_acked(lab: Lab) -> None:
    """When nothing of a key is out any more, the next reader may have it."""
    lab.subscribe(enable_message_ordering=True)
    lab.publish("a1", "a2", key="a")
    first, second = Consumer(), Consumer()
    lab.ack(*lab.take(reader=first))
    lab.publish("a3", key="a")
    assert _texts(lab.take(reader=second)) == ["a3"]


def test_nack_brings_every_later_message_of_the_key_again(lab: Lab) -> None:
    """Redelivery of one message brings its followers too, in order, even those acked."""
    lab.subscribe(enable_message_ordering=True)
    lab.publish("a1", "a2", "a3", key="a")
    lab.publish("b1", key="b")
    a1, a2, a3, b1 = lab.take()
    lab.ack(a3)
    lab.ack(b1)
    lab.nack(a2)
    lab.ack(a1)
    assert lab.data() == ["a2", "a3"]


def test_expiry_brings_every_later_message_of_the_key_again(lab: Lab) -> None:
    """A deadline that passes works as a nack does."""
    lab.subscribe(enable_message_ordering=True)
    lab.publish("a1", "a2", "a3", key="a")
    a1, _, a3 = lab.take()
    lab.ack(a1)
    lab.ack(a3)
    lab.advance(11)
    assert lab.data() == ["a2", "a3"]


def test_ack_out_of_order_counts_once_its_predecessors_are_acked(lab: Lab) -> None:
    """Acks of a key take effect in order; a crash before that forgets the early one."""
    lab.subscribe(enable_message_ordering=True)
    lab.publish("a1", "a2", key="a")
    a1, a2 = lab.take()
    lab.ack(a2)
    lab.crash()
    a1, a2 = lab.take()
    lab.ack(a2)
    lab.ack(a1)
    lab.crash()
    assert lab.data() == []


def test_exactly_once_refuses_acks_out_of_order(lab: Lab) -> None:
    """With exactly-once an early ack fails for now, so that the client repeats it."""
    lab.subscribe(enable_message_ordering=True, enable_exactly_once_delivery=True)
    lab.publish("a1", "a2", key="a")
    a1, a2 = lab.take()
    assert lab.ack(a2)[a2.ack_id].startswith("TRANSIENT_FAILURE")
    assert lab.ack(a1, a2) == {}


def test_backoff_holds_the_whole_key(lab: Lab) -> None:
    """With a retry policy nothing of the key moves before the failed message does; other keys go on."""
    lab.subscribe(enable_message_ordering=True, retry_policy={"minimum_backoff": {"seconds": 20}})
    lab.publish("a1", "a2", key="a")
    lab.nack(lab.take()[0])
    lab.publish("a3", key="a")
    lab.publish("b1", key="b")
    assert lab.data() == ["b1"]
    lab.advance(20)
    assert lab.data() == ["a1", "a2", "a3"]


def test_dead_lettered_message_lets_its_key_go_on(lab: Lab) -> None:
    """After its last attempt a message leaves, and its followers come."""
    lab.create_topic(DEAD)
    lab.subscribe(
        enable_message_ordering=True, dead_letter_policy={"dead_letter_topic": DEAD, "max_delivery_attempts": 5}
    )
    lab.publish("a1", "a2", key="a")
    for _ in range(5):
        lab.nack(lab.take(1)[0])
    assert lab.data() == ["a2"]


def test_messages_without_key_are_not_held(lab: Lab) -> None:
    """An ordered subscription hands out messages without a key as any other does."""
    lab.subscribe(enable_message_ordering=True)
    lab.publish("x", "y")
    x, _ = lab.take()
    lab.nack(x)
    assert lab.data() == ["x"]


def test_key_of_a_gone_reader_waits_for_its_leases(lab: Lab) -> None:
    """When a reader leaves, its key moves on once the leases have ended, and not before."""
    lab.subscribe(enable_message_ordering=True)
    lab.publish("a1", "a2", key="a")
    gone, next_reader = Consumer(), Consumer()
    lab.subscription().join(gone)
    assert _texts(lab.take(1, reader=gone)) == ["a1"]

    async def leave() -> None:
        lab.subscription().leave(gone, [])

    lab.run(leave())
    assert lab.take(reader=next_reader) == []
    lab.advance(11)
    assert _texts(lab.take(reader=next_reader)) == ["a1", "a2"]


def test_blocked_keys_do_not_hide_free_ones(lab: Lab) -> None:
    """A key with a long queue that is out elsewhere does not keep other keys from a reader."""
    lab.subscribe(enable_message_ordering=True)
    owner, other = Consumer(max_messages=1), Consumer()
    for _ in range(6):
        lab.publish(*["a"] * 1000, key="a")
    assert len(lab.take(reader=owner)) == 1
    lab.publish("b", key="b")
    assert _texts(lab.take(reader=other)) == ["b"]
