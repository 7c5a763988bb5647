"""`baton pubsub tail` as a process: it shows what comes, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from baton.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from tests.integration.baton.conftest import ROOT
from tests.integration.baton.pubsub_command.conftest import Command, PubSub
from tests.support.part_process import PartProcess


class Tail:
    """`baton pubsub tail` as a process; as a context manager it is gone at the end."""

    def __init__(self, pubsub: PubSub, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "baton", "pubsub", "tail", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **pubsub.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Tail":
        assert "Ctrl-C ends it" in self.said()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        with self.process:
            pass  # it waits, and closes the pipes

    def line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def said(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tail_shows_what_comes_and_leaves_nothing_behind(pubsub: PubSub, number: int) -> None:
    """Its subscription is deleted when a person or the system ends it."""
    pubsub.topic("births")
    pubsub.publish("births", b"before")
    with Tail(pubsub, "births", "--json") as tail:
        for index in range(3):
            pubsub.publish("births", b"%d" % index)
            assert tail.line()["data"] == str(index)
        assert len(pubsub.subscriptions()) == 1
        assert tail.end(number) == EXIT_INTERRUPTED
    assert pubsub.subscriptions() == []


def test_tail_stops_after_a_count(pubsub: PubSub) -> None:
    """By itself, and well."""
    pubsub.topic("births")
    with Tail(pubsub, "births", "--count", "2", "--raw") as tail:
        pubsub.publish("births", b"a", b"b", b"c")
        assert tail.process.communicate(timeout=20)[0] == "a\nb\n"
        assert tail.process.returncode == EXIT_OK
    assert pubsub.subscriptions() == []


def test_tail_ends_when_nobody_reads_it(pubsub: PubSub) -> None:
    """As `baton pubsub tail … | head` wants it: at once, though nothing comes any more."""
    pubsub.topic("births")
    with Tail(pubsub, "births", "--json") as tail:
        assert tail.process.stdout is not None
        tail.process.stdout.close()
        tail.process.wait(20)
    assert pubsub.subscriptions() == []


def test_a_killed_tail_leaves_what_expires_by_itself(pubsub: PubSub) -> None:
    """After a day without use, which is longer than it keeps messages."""
    pubsub.topic("births")
    with Tail(pubsub, "births") as tail:
        tail.end(signal.SIGKILL)
    (left,) = pubsub.subscriptions()
    found = pubsub.subscriber.get_subscription(subscription=pubsub.path(left))
    assert left.startswith("tail-")
    assert found.expiration_policy.ttl.total_seconds() == 86_400
    assert found.message_retention_duration < found.expiration_policy.ttl


def test_tail_goes_on_after_the_broker_was_killed(tmp_path: Path, project: str) -> None:
    """It says that nothing answers, waits, and misses nothing and shows nothing twice."""
    with PartProcess("pubsub", tmp_path / "data") as process:
        pubsub = PubSub(process.output()["PUBSUB_EMULATOR_HOST"], project)
        pubsub.topic("births")
        with Tail(pubsub, "births", "--json") as tail:
            pubsub.publish("births", b"1")
            assert tail.line()["data"] == "1"
            process.kill()
            assert "nothing answers" in tail.said()
            process.start()
            pubsub.publish("births", b"2")
            assert tail.line()["data"] == "2"
            assert "it answers again" in tail.said()
            assert tail.end(signal.SIGTERM) == EXIT_INTERRUPTED
        assert pubsub.subscriptions() == []
        pubsub.channel.close()


def test_tail_since(pubsub: PubSub, command: Command) -> None:
    """What a topic with retention keeps is shown first; without retention it is refused with the mend."""
    pubsub.topic("kept", message_retention_duration={"seconds": 86_400})
    pubsub.topic("births")
    ids = pubsub.publish("kept", b"1", b"2")
    with Tail(pubsub, "kept", "--since", "5m", "--json", "-n", "3") as tail:
        assert [tail.line()["message_id"], tail.line()["message_id"]] == ids
        pubsub.publish("kept", b"3")
        assert tail.line()["data"] == "3"
        assert tail.process.wait(20) == EXIT_OK
    answer = command("tail", "births", "--since", "5m")
    assert answer.code == EXIT_USAGE
    assert "--message-retention-duration" in answer.err
    assert pubsub.subscriptions() == []
