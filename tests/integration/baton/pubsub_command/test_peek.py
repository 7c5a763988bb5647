"""`baton pubsub peek`: it shows what waits and takes nothing, on the real broker and on Google's emulator."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from baton.errors import EXIT_OK, EXIT_USAGE
from tests.integration.baton.pubsub_command.conftest import Command, PubSub, commander
from tests.support.waiting import wait_until


def test_peek_leaves_everything_where_it_is(pubsub: PubSub, command: Command) -> None:
    """In publish order, leased ones too; the next reader gets every message, on its first attempt."""
    pubsub.topic("births")
    pubsub.topic("dead")
    dead = {"dead_letter_topic": f"projects/{pubsub.project}/topics/dead"}
    pubsub.subscribe("readers", "births", dead_letter_policy=dead)
    ids = pubsub.publish("births", *[b"%d" % index for index in range(25)])
    (leased,) = pubsub.pull("readers", 1)
    answer = command("peek", "readers")
    assert re.findall(r"message (\d+)", answer.out) == ids[:10]
    assert "10 of 25 waiting; -n 0 shows all" in answer.err
    assert answer.out.splitlines()[0].endswith("text  leased")
    lines = [json.loads(line) for line in command("peek", "readers", "-n", "0", "--json").out.splitlines()]
    assert [line["message_id"] for line in lines] == ids
    assert [line["is_leased"] for line in lines] == [True] + [False] * 24
    rest = pubsub.pull("readers")
    assert [item.message.data for item in rest] == [b"%d" % index for index in range(1, 25)]
    assert {item.delivery_attempt for item in (leased, *rest)} == {1}


def test_peek_through_ten_thousand(pubsub: PubSub, command: Command) -> None:
    """All of them, page by page, each once; raw data goes into a pipe byte for byte."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    ids = pubsub.publish("births", *[b"\x1b%d" % index for index in range(10_000)])
    out = command("peek", "readers", "-n", "0", "--json").out
    assert [json.loads(line)["message_id"] for line in out.splitlines()] == ids
    assert command("peek", "readers", "-n", "2", "--raw").out == "\x1b0\n\x1b1\n"


@pytest.mark.parametrize("form", [[], ["--json"], ["--raw"]])
def test_a_reader_that_has_enough_is_no_fault(pubsub: PubSub, form: list[str]) -> None:
    """`baton pubsub peek … | head -1` says nothing about a broken pipe, as `ls | head` does not."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    pubsub.publish("births", *[b"x" * 1000] * 200)
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(
        [sys.executable, "-m", "baton", "pubsub", "peek", "readers", "-n", "0", *form],
        stdout=writes,
        stderr=subprocess.PIPE,
        env={**os.environ, **pubsub.environment},
        timeout=60,
    )
    os.close(writes)
    assert done.stderr == b""


def test_peek_of_nothing_says_so(pubsub: PubSub, command: Command) -> None:
    """On stderr; stdout has what was asked for."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    answer = command("peek", "readers")
    assert (answer.code, answer.out) == (EXIT_OK, "")
    assert "nothing waits in readers" in answer.err


@pytest.mark.usefixtures("without_inspection")
def test_peek_as_in_the_cloud(pubsub: PubSub, command: Command) -> None:
    """By a snapshot and a subscription of its own, filter and all; both are gone afterwards, and no lease was taken."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births", filter="attributes:odd")
    pubsub.publish("births", b"even")
    (wanted,) = pubsub.publish("births", b"odd", attributes={"odd": "1"})
    answer = command("peek", "readers")
    assert re.findall(r"message (\d+)", answer.out) == [wanted]
    assert "1 shown, in any order" in answer.err
    assert pubsub.subscriptions() == ["readers"]
    assert [item.message.data for item in pubsub.pull("readers")] == [b"odd"]


@pytest.mark.usefixtures("without_inspection")
def test_peek_as_in_the_cloud_needs_the_topic(pubsub: PubSub, command: Command) -> None:
    """A deleted topic lets nobody subscribe: that is said with what can be done."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    pubsub.publisher.delete_topic(topic=f"projects/{pubsub.project}/topics/births")
    answer = command("peek", "readers")
    assert answer.code == EXIT_USAGE
    assert "has been deleted" in answer.err


def test_peek_where_messages_can_only_be_taken(google: PubSub, monkeypatch: Any, capsys: Any) -> None:
    """Google's emulator: refused with the mend; borrowed messages are back at once."""
    command = commander(google, monkeypatch, capsys)
    google.topic("births")
    google.subscribe("readers", "births")
    google.publish("births", *[b"%d" % index for index in range(20)])
    refused = command("peek", "readers")
    assert (refused.code, refused.out) == (EXIT_USAGE, "")
    assert "--borrow" in refused.err
    borrowed = command("peek", "readers", "--borrow", "-n", "5", "--json")
    assert len(borrowed.out.splitlines()) == 5
    wait_until(lambda: len(command("peek", "readers", "--borrow", "-n", "0", "--json").out.splitlines()) == 20)
    assert google.subscriptions() == ["readers"]
