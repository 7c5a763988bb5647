"""`baton pubsub` against the real broker as a process, and against Google's emulator where the machine has it."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import pytest
from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from baton.__main__ import run
from baton.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NOT_KNOWN, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE
from baton.pubsub import inspection
from tests.integration.baton.conftest import ROOT, Answer
from tests.support.google_emulator import google_emulator
from tests.support.part_process import PartProcess
from tests.support.waiting import wait_until


@dataclass
class PubSub:
    """A Pub/Sub at an address, and a project of its own in it."""

    address: str
    project: str
    channel: Any = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.address)
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))

    def topic(self, name: str, **fields: Any) -> None:
        self.publisher.create_topic(request={"name": f"projects/{self.project}/topics/{name}", **fields})

    def subscribe(self, name: str, topic: str, **fields: Any) -> None:
        request = {"name": self.path(name), "topic": f"projects/{self.project}/topics/{topic}", **fields}
        self.subscriber.create_subscription(request=request)

    def publish(self, topic: str, *data: bytes, **fields: Any) -> list[str]:
        ids: list[str] = []
        for begin in range(0, len(data), 500):
            messages = [{"data": item, **fields} for item in data[begin : begin + 500]]
            request = {"topic": f"projects/{self.project}/topics/{topic}", "messages": messages}
            ids += self.publisher.publish(request=request, timeout=20).message_ids
        return ids

    def pull(self, subscription: str, count: int = 1000) -> list[Any]:
        request = {"subscription": self.path(subscription), "max_messages": count}
        try:
            return list(self.subscriber.pull(request=request, timeout=1.0, retry=None).received_messages)
        except google_errors.DeadlineExceeded:
            return []  # how Google's emulator says that there is nothing

    def path(self, subscription: str) -> str:
        return f"projects/{self.project}/subscriptions/{subscription}"

    def subscriptions(self) -> list[str]:
        found = self.subscriber.list_subscriptions(project=f"projects/{self.project}")
        return [item.name.rpartition("/")[2] for item in found]

    @property
    def environment(self) -> dict[str, str]:
        return {"PUBSUB_EMULATOR_HOST": self.address, "GOOGLE_CLOUD_PROJECT": self.project}


Command = Callable[..., Answer]


@pytest.fixture(scope="session")
def broker_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PartProcess]:
    with PartProcess("pubsub", tmp_path_factory.mktemp("pubsub") / "data") as process:
        yield process


@pytest.fixture(scope="session")
def _google_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with google_emulator(tmp_path_factory.mktemp("emulator")) as address:
        yield address


@pytest.fixture
def project() -> str:
    return f"p{uuid.uuid4().hex[:12]}"


@pytest.fixture
def pubsub(broker_process: PartProcess, project: str) -> Iterator[PubSub]:
    """Our broker."""
    made = PubSub(broker_process.output()["PUBSUB_EMULATOR_HOST"], project)
    yield made
    made.channel.close()


@pytest.fixture
def google(_google_address: str, project: str) -> Iterator[PubSub]:
    """Google's emulator."""
    made = PubSub(_google_address, project)
    yield made
    made.channel.close()


def commander(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name, value in pubsub.environment.items():
        monkeypatch.setenv(name, value)

    def command(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(["pubsub", *arguments])
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return command


@pytest.fixture
def command(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `baton pubsub …` in this process."""
    return commander(pubsub, monkeypatch, capsys)


@pytest.fixture
def without_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the cloud is: all but the broker's own window into itself."""
    monkeypatch.setattr(inspection, "_ask", lambda connections, method, wanted: None)


# -- ls --------------------------------------------------------------------------------------------------------------


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


# -- peek ------------------------------------------------------------------------------------------------------------


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


# -- tail ------------------------------------------------------------------------------------------------------------


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


# -- purge -----------------------------------------------------------------------------------------------------------


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


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("peek", "reader"), "did you mean readers?"),
        (("purge", "reders", "--yes"), "did you mean readers?"),
        (("peek", "births"), "births is a topic; its subscriptions are readers"),
        (("tail", "readers"), "readers is a subscription, of topic births"),
        (("tail", "brith"), "did you mean births?"),
        (("peek", "with blank/and slash"), "`baton pubsub ls` shows all 1"),
        (("peek", "zzz"), "`baton pubsub ls` shows all 1"),
    ],
)
def test_a_wrong_name_gets_the_right_one(
    pubsub: PubSub, command: Command, arguments: tuple[str, ...], told: str
) -> None:
    """With the exit code of what is not known."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    answer = command(*arguments)
    assert answer.code == EXIT_NOT_KNOWN
    assert told in answer.err


def test_full_names_lead_to_other_projects(pubsub: PubSub, command: Command) -> None:
    """As the official client writes them."""
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    other = f"projects/{pubsub.project}-2/subscriptions/readers"
    request = {"name": other, "topic": f"projects/{pubsub.project}/topics/births"}
    pubsub.subscriber.create_subscription(request=request)
    pubsub.publish("births", b"x")
    assert command("purge", other, "--yes").out == "readers purged: 1 message dropped\n"
    assert len(pubsub.pull("readers")) == 1


@pytest.mark.parametrize("arguments", [("peek", "readers"), ("purge", "readers", "--yes")])
@pytest.mark.parametrize("is_seen", [True, False])
def test_a_detached_subscription_has_nothing(
    pubsub: PubSub, command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], is_seen: bool
) -> None:
    """Said alike with the broker's own window and without."""
    if not is_seen:
        monkeypatch.setattr(inspection, "_ask", lambda connections, method, wanted: None)
    pubsub.topic("births")
    pubsub.subscribe("readers", "births")
    pubsub.publisher.detach_subscription(request={"subscription": pubsub.path("readers")})
    answer = command(*arguments)
    assert answer.code == EXIT_USAGE
    assert "detached" in answer.err


def test_a_broker_that_is_down_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the address; whatever else of the local cloud is down does not matter."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    for arguments in (["ls"], ["peek", "x"], ["tail", "x"], ["purge", "x", "--yes"]):
        assert run(["pubsub", *arguments]) == EXIT_UNREACHABLE
        assert "PUBSUB_EMULATOR_HOST=127.0.0.1:9" in capsys.readouterr().err


def test_the_broker_alone_is_enough(pubsub: PubSub, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage may be down: this is how one finds out what is wrong."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    pubsub.topic("births")
    assert "births" in command("ls").out
