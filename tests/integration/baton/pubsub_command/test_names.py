"""What `baton pubsub` says of names that lead nowhere, of detached subscriptions, and of a broker that is down."""

import pytest

from baton.__main__ import run
from baton.errors import EXIT_NOT_KNOWN, EXIT_UNREACHABLE, EXIT_USAGE
from baton.pubsub import inspection
from tests.integration.baton.pubsub_command.conftest import Command, PubSub


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
