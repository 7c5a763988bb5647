"""Dead letters against a real local cloud and real workers: nothing is lost by looking, nothing runs twice by redriving."""

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
from baton.dlq.letter import DeadLetter, LetterState
from baton.dlq.redriving import Redriven, Redriver, Sent, outgoing, publisher_of
from baton.errors import Refused, RunFailed
from baton.pulling import pull
from messages.topics import subscription_path
from tests.integration.baton.conftest import ROOT, Answer
from tests.support.house import House
from tests.support.waiting import wait_until

WAIT_S = 60


@pytest.fixture
def baton(here: Callable[..., Answer]) -> Callable[..., Answer]:
    return here


def put_aside(home: House, body: bytes, **attributes: str) -> str:
    """Publish a message that no worker can use; return its id."""
    return home.publish("data-ready", body, attributes)


def bad(**body: object) -> bytes:
    return json.dumps({"pipeline": "quick", "source": "gs://data/births.csv", **body}).encode()


def arrived(client: Client, key: str) -> DeadLetter:
    """Return the letter once it is there."""
    wait_until(lambda: any(found.key == key for found in client.dead_letters()), WAIT_S, f"dead letter {key}")
    return client.dead_letter(key)


def served(client: Client, run_id: str) -> None:
    wait_until(lambda: client.look(run_id).state.value == "succeeded", WAIT_S, f"run {run_id}")


def notes(client: Client) -> list[str]:
    """Return the messages of data-ready that were duplicates."""
    names = client.connections.objects.list("fates/preprocess-worker/")
    found = (name.removeprefix("fates/preprocess-worker/").removesuffix(".json") for name in names)
    return [m for m in found if (client.connections.ledger.fate("preprocess-worker", m) or {})["fate"] == "duplicate"]


def test_a_letter_is_looked_at_mended_and_sent_back(
    baton: Callable[..., Answer], client: Client, running: House
) -> None:
    """By the command line, from the cause to the served model; sent back twice it is one run."""
    key = put_aside(running, bad(params={"limt": 3}))
    arrived(client, key)
    assert key in baton("dlq", "ls").out
    (row,) = [row for row in baton("dlq", "ls", "--json", "--limit", "0").json if row["key"] == key]
    assert (row["state"], row["topic"], row["run_id"]) == ("open", "data-ready", f"m-{key}")
    assert "did you mean limit" in row["reason"]
    assert any("did you mean" in cause["cause"] for cause in baton("dlq", "ls", "--causes", "--json").json)

    shown = baton("dlq", "show", key, "--json").json
    assert shown["checkup"]["verdict"] == "refused"
    assert "limt" in baton("dlq", "show", key).out
    refused = baton("dlq", "redrive", key)
    assert refused.code == 1
    assert "would be refused again" in refused.out
    assert "baton dlq edit" in refused.err

    wrong = baton("dlq", "edit", key, "--set", "params.limit=-3", "--json")
    assert (wrong.code, wrong.json["saved"]) == (1, False)
    tried = baton("dlq", "edit", key, "--set", "params.limit=3", "--unset", "params.limt", "--dry-run", "--json")
    assert (tried.code, tried.json["saved"], tried.json["checkup"]["verdict"]) == (0, False, "accepted")
    assert baton("dlq", "diff", key, "--json").json["diff"] == []
    assert baton("dlq", "edit", key, "--set", "params.limit=3", "--unset", "params.limt").code == 0
    assert '-      "limt": 3' in baton("dlq", "diff", key).out

    assert baton("dlq", "redrive", key, "--dry-run").code == 0
    sent = baton("dlq", "redrive", key, "--json")
    assert (sent.code, sent.json[0]["sent"], sent.json[0]["run_id"]) == (0, "redriven", f"m-{key}")
    served(client, f"m-{key}")
    assert client.run(f"m-{key}").params["limit"] == 3
    assert baton("dlq", "redrive", key).code == 0
    again = baton("dlq", "redrive", key, "--again", "--json")
    assert not again.json[0]["is_effective"]
    wait_until(lambda: again.json[0]["message_id"] in notes(client), WAIT_S, "the duplicate's note")
    assert baton("dlq", "ls", "--state", "redriven", "--json").json[0]["key"] == key


def test_a_letter_that_is_refused_again_comes_back_as_itself(
    baton: Callable[..., Answer], client: Client, running: House
) -> None:
    """One letter, put aside twice, with both reasons."""
    key = put_aside(running, bad(source="http://no"))
    arrived(client, key)
    assert baton("dlq", "redrive", key, "--anyway").code == 0
    wait_until(lambda: len(arrived(client, key).arrivals) == 2, WAIT_S, "the letter is back")
    letter = client.dead_letter(key)
    assert letter.state is LetterState.OPEN
    assert letter.arrivals[0].source_id == key
    assert letter.arrivals[1].source_id != key
    assert "2 times" in baton("dlq", "ls").out


def test_dropped_letters_stay_and_can_be_brought_back(
    baton: Callable[..., Answer], client: Client, running: House
) -> None:
    """Dropped ones are neither shown nor sent."""
    key = put_aside(running, b"not JSON at all")
    arrived(client, key)
    assert baton("dlq", "drop", key, "--note", "a test").code == 0
    assert key not in baton("dlq", "ls", "--limit", "0").out
    assert "a test" in baton("dlq", "show", key).out
    refused = baton("dlq", "redrive", key, "--anyway")
    assert refused.code == 1
    assert "--undo" in refused.out
    assert baton("dlq", "drop", "--undo", key).code == 0
    assert client.dead_letter(key).state is LetterState.OPEN
    assert baton("dlq", "drop", "--all", "--reason-contains", "b'not JSON at all'", "--yes").code == 0
    assert client.dead_letter(key).state is LetterState.DROPPED


def test_many_are_chosen_by_their_reason(baton: Callable[..., Answer], client: Client, running: House) -> None:
    """After the cause is mended, all of that cause are sent back at once, and no others."""
    keys = [put_aside(running, bad(pipeline="later", params={"limit": n + 1})) for n in range(3)]
    other = put_aside(running, b"unrelated")
    for key in (*keys, other):
        arrived(client, key)
    folder = running.folder / "pipelines"
    (folder / "later.toml").write_text((folder / "quick.toml").read_text().replace('"quick"', '"later"', 1))
    try:
        answer = baton("dlq", "redrive", "--all", "--reason-contains", "pipeline 'later'", "--json")
        assert answer.code == 0
        assert sorted(row["key"] for row in answer.json) == sorted(keys)
        for key in keys:
            served(client, f"m-{key}")
    finally:
        (folder / "later.toml").unlink()
    assert client.dead_letter(other).state is LetterState.OPEN


def test_whoever_waits_for_a_run_is_told_of_its_letter(client: Client, running: House) -> None:
    """Also when another terminal has taken the letter out of the inbox meanwhile."""
    key = put_aside(running, bad(source="http://no"))
    arrived(client, key)
    with pytest.raises(RunFailed, match="source") as told:
        client.refuse_dead_letter(f"m-{key}")
    assert f"baton dlq edit {key}" in told.value.mend


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


def test_an_edit_is_taken_back_though_the_worker_refuses_the_original(
    baton: Callable[..., Answer], client: Client, running: House
) -> None:
    """It always does: that is why the letter is there."""
    key = put_aside(running, bad(params={"limt": 1}))
    arrived(client, key)
    assert baton("dlq", "edit", key, "--unset", "params.limt").code == 0
    assert baton("dlq", "edit", key, "--reset", "--json").json["saved"]
    assert client.dead_letter(key).edited is None


def test_what_cannot_be_edited_is_refused_before_the_editor_opens(
    baton: Callable[..., Answer], client: Client, running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter that was dropped is not mended for nothing."""
    dropped = put_aside(running, b"junk")
    arrived(client, dropped)
    assert baton("dlq", "drop", dropped).code == 0
    monkeypatch.setattr("baton.cli.dlq_changing._in_editor", lambda current: pytest.fail("the editor was opened"))
    answer = baton("dlq", "edit", dropped)
    assert answer.code == 2
    assert "--undo" in answer.err


def test_a_letter_that_pubsub_does_not_take_keeps_none_of_the_others(
    baton: Callable[..., Answer], client: Client, running: House
) -> None:
    """A message may have 100 attributes, and a redriven one has two more: it stays open and says what to do."""
    full = put_aside(running, bad(full=1, source="http://no"), **{f"k{n}": "v" for n in range(95)})
    good = put_aside(running, bad(params={"limt": 1}))
    arrived(client, full)
    arrived(client, good)
    more = [part for n in range(95, 99) for part in ("--set-attribute", f"k{n}=v")]
    assert baton("dlq", "edit", full, "--set", "source=gs://data/births.csv", *more).code == 0
    assert baton("dlq", "edit", good, "--unset", "params.limt").code == 0
    answer = baton("dlq", "redrive", full, good, full, "--json")
    assert answer.code == 1
    assert {row["key"]: row["sent"] for row in answer.json} == {full: "not taken by Pub/Sub", good: "redriven"}
    served(client, f"m-{good}")
    letter = client.dead_letter(full)
    assert letter.state is LetterState.OPEN
    assert "101 attributes" in letter.history[-1].note
    assert f"baton dlq edit {full}" in baton("dlq", "redrive", full).out
    assert baton("dlq", "edit", full, "--unset-attribute", "k98").code == 0
    assert baton("dlq", "redrive", full).code == 0
    served(client, f"m-{full}")


def test_an_object_that_is_no_letter_hides_none(baton: Callable[..., Answer], client: Client, running: House) -> None:
    """Whoever put it among them: the others are listed and sent, and it is named with its place."""
    key = put_aside(running, bad(source="http://no"))
    arrived(client, key)
    blob = client.connections.storage.bucket(client.profile.bucket).blob("dead-letters/nonsense.json")
    blob.metadata = {"state": "parked", "time": "nonsense", "forwarded": "{"}
    blob.upload_from_string(b"no JSON")
    try:
        listed = {row["key"] for row in baton("dlq", "ls", "--limit", "0", "--json").json}
        assert {key, "nonsense"} <= listed
        shown = baton("dlq", "show", "nonsense")
        assert shown.code == 2
        assert "dead-letters/nonsense.json is no dead letter" in shown.err
        sent = {found.key: found.sent for found in client.redrive("nonsense", key, anyway=True)}
        assert sent == {"nonsense": Sent.UNREADABLE, key: Sent.REDRIVEN}
    finally:
        blob.delete()


def test_a_key_of_no_letter_is_said_before_anything_is_done(
    baton: Callable[..., Answer], client: Client, running: House
) -> None:
    """Neither half of the others is sent, nor half of them dropped."""
    key = put_aside(running, b"junk")
    arrived(client, key)
    for arguments in (["redrive", key, "nope", "--anyway"], ["drop", key, "nope"]):
        answer = baton("dlq", *arguments)
        assert answer.code == 4
        assert "'nope'" in answer.err
        assert "baton dlq ls --state all" in answer.err
    assert client.dead_letter(key).state is LetterState.OPEN


def test_who_says_no_drops_nothing(
    baton: Callable[..., Answer], client: Client, running: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, as for a purge: nobody interrupted anything."""
    key = put_aside(running, b"junk to keep")
    arrived(client, key)
    monkeypatch.setattr("baton.cli.dlq._may_drop", lambda number: False)
    answer = baton("dlq", "drop", "--all", "--reason-contains", "junk to keep")
    assert (answer.code, answer.err.strip()) == (1, "nothing dropped")
    assert client.dead_letter(key).state is LetterState.OPEN


def test_dropping_all_asks(baton: Callable[..., Answer], client: Client, running: House) -> None:
    """A program, which cannot be asked, says --yes; --json is no yes."""
    key = put_aside(running, b"junk that nobody asked for")
    arrived(client, key)
    for form in ([], ["--json"]):
        answer = baton("dlq", "drop", "--all", "--reason-contains", "nobody asked for", *form)
        assert answer.code == 2
        assert "--yes" in answer.err
    assert client.dead_letter(key).state is LetterState.OPEN


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


@pytest.mark.parametrize("command", ["ls", "redrive --all", "drop --all"])
def test_nothing_that_is_meant_is_said(baton: Callable[..., Answer], command: str) -> None:
    """With what was looked for; exit 0."""
    answer = baton("dlq", *command.split(), "--reason-contains", "no reason says that")
    assert answer.code == 0
    assert "no dead letters that are open whose reason contains 'no reason says that'" in answer.err


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["redrive"],
        ["redrive", "--all", "x"],
        ["drop"],
        ["redrive", "x", "--topic", "t"],
        ["drop", "x", "--reason-contains", "y"],
    ],
)
def test_what_is_meant_must_be_said(baton: Callable[..., Answer], arguments: list[str]) -> None:
    """Neither everything by accident, nor nothing."""
    assert baton("dlq", *arguments).code == 2


def test_an_unknown_letter_is_not_known(baton: Callable[..., Answer]) -> None:
    """Nor is a path."""
    for key in ("123", "../runs/r1/train", ""):
        answer = baton("dlq", "show", key)
        assert answer.code == 4
        assert "baton dlq ls" in answer.err


def test_a_hostile_letter_does_not_steer_the_terminal(
    baton: Callable[..., Answer], client: Client, running: House
) -> None:
    """Neither its data nor its attributes, neither shown nor listed, neither as text nor as JSON."""
    key = put_aside(running, b"\x1b[2J\x1b]0;owned\x07\xc2\x9b31m", **{"a\x1b[31m": "b\nok: true\x1b[0m\u202e"})
    arrived(client, key)
    for arguments in (["show", key], ["show", key, "--json"], ["ls"], ["ls", "--json"], ["diff", key]):
        out: Any = baton("dlq", *arguments)
        assert "\x1b" not in out.out + out.err
        assert not any(sign in out.out + out.err for sign in ("\x9b", "\x07", "\u202e"))
        assert "\nok: true" not in out.out
