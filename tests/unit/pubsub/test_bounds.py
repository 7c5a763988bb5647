"""Answers stay under the 4 MiB that a stock client takes, whatever is asked for."""

from typing import Any

from localcloud.pubsub import wire
from localcloud.pubsub.inspection import Inspector
from tests.unit.pubsub.lab import Lab

LIMIT_BYTES = 4 << 20


def test_page_of_bulky_topics_is_cut_and_goes_on(lab: Lab) -> None:
    """1,000 topics of 8 KB do not fit one answer: pages are shorter, and together they are all."""
    labels = {f"k{index:059}": "x" * 60 for index in range(64)}
    names = [f"projects/p/topics/topic-{index:04}" for index in range(500)]
    for name in names:
        lab.create_topic(name, labels=labels)
    seen: list[str] = []
    token = ""
    while True:
        page = lab.call(
            lab.publisher.list_topics, "ListTopicsRequest", project="projects/p", page_size=1000, page_token=token
        )
        assert page.ByteSize() < LIMIT_BYTES
        seen += [topic.name for topic in page.topics]
        token = page.next_page_token
        if not token:
            break
    assert seen == names


def test_peek_shows_large_data_in_part(lab: Lab) -> None:
    """A message of 5 MB is shown by its first 256 KiB, and says so."""
    lab.subscribe()
    lab.publish("x" * 5_000_000)
    lab.publish("small")
    (large, small), _ = lab.run(Inspector(lab.broker).peek(lab.subscription(), 10, 0))
    assert large["is_cut"]
    assert len(large["data_base64"]) < 400_000
    assert not small["is_cut"]


def test_stats_by_prefix_and_page(lab: Lab) -> None:
    """Statistics can be asked for a part of the names, page by page, and together the pages are all."""
    lab.subscribe()
    names = [f"projects/q/topics/topic-{index}" for index in range(5)]
    for name in names:
        lab.create_topic(name)
    lab.call(lab.subscriber.create_subscription, "Subscription", name="projects/q/subscriptions/one", topic=names[0])
    inspector, after, seen = Inspector(lab.broker), "", []
    while True:
        page = lab.run(inspector.page("projects/q/", after, 2))
        shown = [item["name"] for kind in ("topics", "subscriptions") for item in page[kind]]
        assert 1 <= len(shown) <= 2
        seen += shown
        after = page["next_after"]
        if not after:
            break
    assert sorted(seen) == ["projects/q/subscriptions/one", *names]


def test_peek_through_what_a_filter_leaves_out_is_done_in_pieces(lab: Lab) -> None:
    """One call reads a bounded part of the log and says where to go on, so that others have their turn."""
    lab.subscribe(filter="attributes:wanted")
    for _ in range(45):
        lab.publish(*["x"] * 1000)
    lab.publish("y", wanted="1")
    inspector, after, calls = Inspector(lab.broker), 0, 0
    found: list[Any] = []
    while True:
        more, after = lab.run(inspector.peek(lab.subscription(), 1000, after))
        found, calls = found + more, calls + 1
        if not after:
            break
    assert [item["attributes"] for item in found] == [{"wanted": "1"}]
    assert 2 <= calls <= 5


def test_batches_of_small_messages_are_bounded_in_number(lab: Lab) -> None:
    """However small messages are, a response holds a thousand at most."""
    lab.subscribe()
    for _ in range(3):
        lab.publish(*["x"] * 1000)
    batch = lab.take(5000)
    assert len(batch) == 1000
    response = wire.received_messages((item.ack_id, item.message.SerializeToString(), 0) for item in batch)
    assert len(response) < LIMIT_BYTES


def test_search_through_what_does_not_match_gives_others_their_turn(lab: Lab) -> None:
    """A match behind 30,000 messages that do not match is found in steps, each followed by a wake-up."""
    lab.subscribe(filter="attributes:wanted")
    for _ in range(30):
        lab.publish(*["x"] * 1000)
    lab.publish("y", wanted="1")
    steps = 0
    while not (found := lab.data()):
        steps += 1
    assert found == ["y"]
    assert steps >= 1


def test_long_expired_backlog_is_passed_over(lab: Lab) -> None:
    """Messages that expired while nobody looked are passed over in steps until the first that has not."""
    lab.subscribe(message_retention_duration={"seconds": 600})
    lab.take()
    for _ in range(20):
        lab.publish(*["old"] * 1000)
    lab.housekeeping.stop()
    lab.advance(601)
    lab.publish("new")
    found: list[str] = []
    while not found:
        found = lab.data()
    assert found == ["new"]
