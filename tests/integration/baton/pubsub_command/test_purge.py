"""`baton pubsub purge`: it drops what waits, asks before, and says how much that was."""

from typing import Any

import pytest

from baton.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from tests.integration.baton.pubsub_command.conftest import Command, PubSub, commander


def test_purge_drops_what_waits_there_and_nowhere_else(pubsub: PubSub, command: Command) -> None:
    """And says how much that was; what comes later is delivered."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    pubsub.subscribe("others", "births")
    pubsub.publish("births", *[b"x"] * 1234)
    pubsub.pull("readers", 10)
    answer = command("purge", "readers", "--yes")
    assert (answer.code, answer.out) == (EXIT_OK, "readers purged: 1,234 messages dropped\n")
    assert pubsub.pull("readers") == []
    assert len(pubsub.pull("others")) == 1000
    pubsub.publish("births", b"new")
    assert [item.message.data for item in pubsub.pull("readers")] == [b"new"]
    assert command("purge", "others", "--yes", "--json").json == {
        "subscription": pubsub.path("others"),
        "dropped_messages": 1235,
    }
    assert "nothing waits in others" in command("purge", "others").out


def test_purge_asks(pubsub: PubSub, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A no drops nothing; where nobody can be asked it is refused."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    pubsub.publish("births", b"x")
    refused = command("purge", "readers")
    assert refused.code == EXIT_USAGE
    assert "give --yes" in refused.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []

    def says_no(text: str, **_: Any) -> bool:
        asked.append(text)
        return False

    monkeypatch.setattr("click.confirm", says_no)
    assert command("purge", "readers").code == EXIT_FAILED
    assert asked[0].startswith("drop 1 message, the oldest ")
    assert len(pubsub.pull("readers")) == 1


def test_purge_where_nobody_counts(google: PubSub, monkeypatch: Any, capsys: Any) -> None:
    """It purges, and says that it cannot say how much."""
    command = commander(google, monkeypatch, capsys)
    google.topic("births")
    google.subscribe("readers", "births")
    google.publish("births", b"x", b"y")
    answer = command("purge", "readers", "--yes")
    assert answer.code == EXIT_OK
    assert "does not tell" in answer.out
    assert google.pull("readers") == []
