"""Dead letters, with somebody else at the same letter, or a process that dies in the middle: one effect, nothing lost."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from baton.client import Client
from baton.dlq import inbox, redriving
from baton.dlq.desk import DeadLetters
from baton.dlq.letter import LetterState
from baton.dlq.redriving import Redriven, Redriver, Sent, outgoing, publisher_of
from baton.errors import Refused
from baton.pulling import pull
from messages.topics import subscription_path
from tests.integration.baton.conftest import ROOT, Answer
from tests.support.house import House
from tests.support.letters import WAIT_S, arrived, bad, notes, put_aside, served
from tests.support.waiting import wait_until


@pytest.fixture
def baton(here: Callable[..., Answer]) -> Callable[..., Answer]:
    return here


def test_a_crash_between_archive_and_acknowledgement_leaves_one_letter(client: Client, running: House) -> None:
    """The message comes again, and is known."""
    client.dead_letter_desk.collect()
    key = put_aside(running, b"twice")
    path = subscription_path("baton-local", "dead-letter-inbox")
    received: list[Any] = wait_until(lambda: pull(client.connections, path), WAIT_S, "the letter waits")
    _, fault = inbox.keep_all(client.dead_letter_desk.archive, received)  # … and here the process dies
    assert fault is None
    first = client.dead_letter_desk.get(key)
    give_back = {"subscription": path, "ack_ids": [item.ack_id for item in received], "ack_deadline_seconds": 0}
    client.connections.subscriber.modify_ack_deadline(request=give_back)
    assert client.dead_letter_desk.collect() == len(received)
    assert client.dead_letter_desk.get(key) == first


def test_a_crash_between_putting_aside_and_noting_it_leaves_one_letter(client: Client, running: House) -> None:
    """The worker puts the same message aside twice; the letter is not told as two, and a redriven one stays redriven."""
    key = put_aside(running, bad(source="http://no"))
    letter = arrived(client, key)
    assert client.redrive(key, anyway=True)[0].sent is Sent.REDRIVEN
    told_again = {
        **letter.content.attributes,
        "baton-dead-letter-reason": letter.reason,
        "baton-dead-letter-subscription": "preprocess-worker",
        "baton-dead-letter-message-id": key,
    }
    running.publish("dead-letter", letter.content.data, told_again)
    wait_until(lambda: len(arrived(client, key).arrivals) == 2, WAIT_S, "what was redriven is back")
    client.dead_letter_desk.collect()
    assert [arrival.source_id for arrival in client.dead_letter(key).arrivals].count(key) == 1


def test_two_terminals_send_one_letter_back_once(client: Client, running: House) -> None:
    """Both begin at the same moment; one publishes, the other is told so."""
    key = put_aside(running, bad(params={"limt": 1}))
    arrived(client, key)
    desks = [DeadLetters(client.connections) for _ in range(2)]
    for number, desk in enumerate(desks):
        desk._by = f"terminal-{number}"
    client.dead_letter_desk.edit(key, lambda content: type(content).of(bad(), content.attributes))
    gate = threading.Barrier(len(desks))

    def send(desk: DeadLetters) -> Sent:
        gate.wait(10)
        return desk.redrive(key).sent

    with ThreadPoolExecutor(len(desks)) as pool:
        outcomes = sorted(pool.map(send, desks))
    assert outcomes in ([Sent.ALREADY, Sent.REDRIVEN], [Sent.BUSY, Sent.REDRIVEN])
    served(client, f"m-{key}")
    assert [change.state for change in client.dead_letter(key).history].count(LetterState.REDRIVING) == 1


def test_an_edit_does_not_undo_anothers(baton: Callable[..., Answer], client: Client, running: House) -> None:
    """Who took his time in an editor is told that the letter is another one by now; the other's edit stays."""
    key = put_aside(running, bad(params={"limt": 1}))
    seen = arrived(client, key).current
    assert baton("dlq", "edit", key, "--set", "params.limit=2", "--unset", "params.limt").code == 0
    with pytest.raises(Refused, match="changed by somebody else"):
        client.dead_letter_desk.edit(key, lambda content: type(content).of(bad(), {}), before=seen)
    assert json.loads(client.dead_letter(key).current.data)["params"] == {"limit": 2}


def test_what_was_sent_before_an_interruption_is_told(
    baton: Callable[..., Answer], client: Client, running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on its way, whatever becomes of the rest."""

    def interrupted(keys: list[str], **wish: Any) -> Generator[Redriven, None, None]:
        yield Redriven(keys[0], Sent.REDRIVEN, "data-ready")
        raise KeyboardInterrupt

    key = put_aside(running, b"junk")
    arrived(client, key)
    monkeypatch.setattr(client.dead_letter_desk, "redrive_all", interrupted)
    answer = baton("dlq", "redrive", key)
    assert answer.code == 130
    assert f"{key}  redriven" in answer.out


KILLED_AFTER_PUBLISH = """
import os, signal, sys
from baton.__main__ import run
from baton.dlq import redriving

real = redriving.publisher_of

def publisher_of(connections):
    publish = real(connections)
    def dying(*message):
        publish(*message)
        os.kill(os.getpid(), signal.SIGKILL)
    return dying

redriving.publisher_of = publisher_of
import baton.dlq.desk
baton.dlq.desk.publisher_of = publisher_of
run(["dlq", "redrive", sys.argv[1]])
"""


def test_the_command_dies_between_publish_and_mark(client: Client, running: House) -> None:
    """kill -9: the letter says that it was being redriven, another sends it again, and the run is one."""
    key = put_aside(running, bad(params={"limt": 1}))
    arrived(client, key)
    client.dead_letter_desk.edit(key, lambda content: type(content).of(bad(), content.attributes))
    died = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_PUBLISH, key], cwd=ROOT, env=running.env(), capture_output=True, timeout=60
    )
    assert died.returncode == -9, died.stderr
    letter = client.dead_letter(key)
    assert letter.state is LetterState.REDRIVING
    assert client.redrive(key)[0].sent is Sent.BUSY
    later = Redriver(
        client.dead_letter_desk.archive,
        client.dead_letter_desk.checker,
        publisher_of(client.connections),
        "another",
        lambda: datetime.now(UTC) + redriving.SETTLE + timedelta(seconds=1),
    )
    sent = later.redrive(key)
    assert sent.sent is Sent.REDRIVEN
    served(client, f"m-{key}")
    wait_until(lambda: sent.message_id in notes(client), WAIT_S, "the second telling is a duplicate")


def test_what_is_put_aside_while_it_is_marked_is_not_hidden(client: Client, running: House) -> None:
    """A letter that came back before the mark was written stays open."""
    key = put_aside(running, b"quick to come back")
    letter = arrived(client, key)
    desk = client.dead_letter_desk

    def publish_and_come_back(topic: str, data: bytes, attributes: dict[str, str]) -> str:
        returned = {
            **attributes,
            "baton-dead-letter-reason": "again",
            "baton-dead-letter-subscription": "preprocess-worker",
            "baton-dead-letter-message-id": "424242",
        }
        inbox.keep(desk.archive, inbox.letter_of("424243", datetime.now(UTC), data, returned))
        return "424242"

    sent = Redriver(desk.archive, desk.checker, publish_and_come_back, "me", lambda: datetime.now(UTC)).redrive(
        key, anyway=True
    )
    assert sent.sent is Sent.REDRIVEN
    found = desk.get(key)
    assert found.state is LetterState.OPEN
    assert found.reason == "again"
    assert outgoing(letter)[0] == outgoing(found)[0]


def test_a_letter_forged_under_anothers_id_is_kept_beside_it(client: Client, running: House) -> None:
    """It has other content: neither replaces the other."""
    key = put_aside(running, b"the first")
    arrived(client, key)
    forged = {
        "baton-dead-letter-subscription": "preprocess-worker",
        "baton-dead-letter-message-id": "1",
        "baton-redriven-message-id": key,
    }
    own = running.publish("dead-letter", b"something else", forged)
    assert arrived(client, own).content.data == b"something else"
    assert client.dead_letter(key).content.data == b"the first"
