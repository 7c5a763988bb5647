"""`baton pubsub ls`: what waits where, on the real broker as a process and on Google's emulator."""

from typing import Any

from baton.errors import EXIT_OK
from tests.integration.baton.conftest import Answer
from tests.integration.baton.pubsub_command.conftest import Command, PubSub, commander


def row(answer: Answer, name: str) -> list[str]:
    (found,) = [line.split() for line in answer.out.splitlines() if line.split()[:1] == [name]]
    return found[1:]


def test_ls_counts_what_waits_and_what_was_delivered(pubsub: PubSub, command: Command) -> None:
    """Topics with their subscriptions below; an empty topic, a filter, a deleted topic have their word."""
    for topic in ("births", "lonely", "gone"):
        pubsub.topic(topic)
    pubsub.subscribe("readers", "births")
    pubsub.subscribe("odd", "births", filter="attributes:odd")
    pubsub.subscribe("orphan", "gone")
    pubsub.publisher.delete_topic(topic=f"projects/{pubsub.project}/topics/gone")
    pubsub.publish("births", *[b"x"] * 10_000)
    pubsub.publish("births", b"y", attributes={"odd": "1"})
    received = pubsub.pull("readers", 3)
    ack_ids = [item.ack_id for item in received[:1]]
    pubsub.subscriber.acknowledge(subscription=pubsub.path("readers"), ack_ids=ack_ids)
    answer = command("ls")
    assert answer.code == EXIT_OK, answer.err
    assert row(answer, "births") == ["10,001"]
    backlog, leased, _, _, delivered, acked, *_ = row(answer, "readers")  # the age is two words
    assert (backlog, leased, delivered, acked) == ("10,000", "2", "3", "1")
    assert row(answer, "odd")[:2] == ["filtered", "1"]
    assert "lonely (no subscription)" in answer.out
    assert answer.out.index("(deleted topic)") < answer.out.index("  orphan")


def test_ls_as_json(pubsub: PubSub, command: Command) -> None:
    """The counts under the names that the broker gives them; a pattern chooses."""
    pubsub.topic("births")
    pubsub.topic("deaths")
    pubsub.subscribe("readers", "births", enable_message_ordering=True)
    pubsub.publish("births", b"x")
    told = command("ls", "read*", "--json").json
    assert (told["project"], told["has_counts"]) == (pubsub.project, True)
    (topic,) = told["topics"]
    (subscription,) = topic["subscriptions"]
    assert topic["published_messages"] == 1
    assert (subscription["backlog_messages"], subscription["backlog_is_exact"]) == (1, True)
    assert (subscription["traits"], subscription["delivery"]) == (["ordered"], "pull")
    assert [topic["name"].rpartition("/")[2] for topic in command("ls", "deaths", "--json").json["topics"]] == [
        "deaths"
    ]


def test_ls_of_nothing_says_so(pubsub: PubSub, command: Command) -> None:
    """An empty project, and a pattern that meets nothing, with what is near it."""
    assert "has no topics" in command("ls").err
    pubsub.topic("data-ready")
    answer = command("ls", "date-ready")
    assert (answer.code, answer.out) == (EXIT_OK, "")
    assert "near it: data-ready" in answer.err


def test_ls_of_more_than_an_answer_holds(pubsub: PubSub, command: Command) -> None:
    """Statistics come in pages of 3,000; every subscription has its counts."""
    pubsub.topic("births")
    for index in range(3100):
        pubsub.subscribe(f"s{index:05}", "births")
    (topic,) = command("ls", "--json").json["topics"]
    assert len(topic["subscriptions"]) == 3100
    assert {row["backlog_messages"] for row in topic["subscriptions"]} == {0}


def test_ls_where_nobody_counts(google: PubSub, monkeypatch: Any, capsys: Any) -> None:
    """Google's emulator: the list, and plain words about the counts."""
    command = commander(google, monkeypatch, capsys)
    google.topic("births")
    google.subscribe("readers", "births")
    answer = command("ls")
    assert answer.code == EXIT_OK
    assert row(answer, "readers") == []
    assert "tells no counts" in answer.err
    told = command("ls", "--json").json
    assert told["has_counts"] is False
    assert told["topics"][0]["subscriptions"][0]["backlog_messages"] is None
