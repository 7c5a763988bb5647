"""Dead letters against a real local cloud and real workers: nothing is lost by looking, nothing runs twice by redriving."""

from collections.abc import Callable
from typing import Any

import pytest

from baton.client import Client
from baton.dlq.letter import LetterState
from baton.dlq.redriving import Sent
from baton.errors import RunFailed
from tests.integration.baton.conftest import Answer
from tests.support.house import House
from tests.support.letters import WAIT_S, arrived, bad, notes, put_aside, served
from tests.support.waiting import wait_until


@pytest.fixture
def baton(here: Callable[..., Answer]) -> Callable[..., Answer]:
    return here


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


@pytest.mark.parametrize("command", ["ls", "redrive --all", "drop --all"])
def test_nothing_that_is_meant_is_said(baton: Callable[..., Answer], command: str) -> None:
    """With what was looked for; exit 0."""
    answer = baton("dlq", *command.split(), "--reason-contains", "no reason says that")
    assert answer.code == 0
    assert "no dead letters that are open whose reason contains 'no reason says that'" in answer.err


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
