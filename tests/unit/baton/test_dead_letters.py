"""Dead letters: what they are read from, how they are mended, and that showing one is safe."""

import io
import json
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from baton.cli.dlq_changing import change_of
from baton.cli.dlq_views import content_lines, diff_lines, letter_details, letter_list, letter_table
from baton.cli.editor import edited_text
from baton.dlq.archive import Summary
from baton.dlq.checkup import Checkup, Fault, Verdict
from baton.dlq.desk import by_cause
from baton.dlq.editing import difference, document, read_document, with_fields
from baton.dlq.inbox import letter_of
from baton.dlq.letter import Content, DeadLetter, LetterState
from baton.dlq.redriving import outgoing
from baton.errors import Refused
from baton.render import json_text

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
WORKER = {
    "baton-dead-letter-reason": "data.params.limt …",
    "baton-dead-letter-topic": "data-ready",
    "baton-dead-letter-subscription": "preprocess-worker",
    "baton-dead-letter-message-id": "77",
    "baton-dead-letter-attempts": "1",
}
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
any_text = st.text(st.characters(), max_size=40)  # surrogates too


def letter(data: bytes = b'{"pipeline":"p"}', **attributes: str) -> DeadLetter:
    return letter_of("900", NOW, data, {**WORKER, **attributes})


# -- what a letter is read from ---------------------------------------------------------------------------------------


def test_a_letter_stands_for_the_message_that_was_first_published() -> None:
    """Its key is that message's id, and so is the run of bare JSON; the dead letter's own id is only remembered."""
    found = letter()
    assert (found.key, found.message_id, found.run_id, found.topic) == ("77", "77", "m-77", "data-ready")
    assert found.arrivals[0].letter_id == "900"
    assert found.content.attributes == {}


def test_a_redriven_message_that_is_refused_again_is_the_same_letter() -> None:
    """It has a new message id, and carries its first one along."""
    sent_again = letter(**{"baton-dead-letter-message-id": "88", "baton-redriven-message-id": "77"})
    assert (sent_again.key, sent_again.run_id) == ("77", "m-77")
    assert sent_again.arrivals[0].identity == "88"


def test_a_redriven_message_says_which_letter_it_was() -> None:
    """Also where the letter's key is not the message's first id."""
    sent_again = letter(**{"baton-redriven-message-id": "55", "baton-redriven-letter": "900"})
    assert (sent_again.key, sent_again.run_id) == ("900", "m-55")


def test_what_pubsub_put_aside_is_known_by_the_letters_own_id() -> None:
    """It does not say which message it was; the queue says which topic."""
    attributes = {"CloudPubSubDeadLetterSourceSubscription": "train-worker", "ce-type": "t", "ce-subject": "r1"}
    found = letter_of("900", NOW, b"{}", attributes)
    assert (found.key, found.message_id, found.topic, found.run_id) == ("900", "", "preprocess-done", "r1")
    assert found.content.attributes == {"ce-type": "t", "ce-subject": "r1"}


@pytest.mark.parametrize("forged", ["../../runs/r1/train", "a/b", "", "x" * 500])
def test_a_forged_id_never_becomes_an_objects_name(forged: str) -> None:
    """The letter is kept under the id that the service gave it."""
    assert letter(**{"baton-dead-letter-message-id": forged}).key == "900"
    assert letter(**{"baton-redriven-message-id": forged}).key == "77"


def test_a_redrive_sends_what_was_first_published_with_its_first_id() -> None:
    """Nothing of its time among the dead letters is left."""
    data, attributes = outgoing(letter(b"{}", colour="red"))
    assert data == b"{}"
    assert attributes == {"colour": "red", "baton-redriven-message-id": "77", "baton-redriven-letter": "77"}


# -- mending ----------------------------------------------------------------------------------------------------------


def content(body: object = None, **attributes: str) -> Content:
    return Content.of(json.dumps({"a": 1} if body is None else body).encode(), attributes)


def test_fields_are_set_and_taken_away_by_their_path() -> None:
    """Into objects by dots; attributes beside them."""
    before = content({"source": "x", "params": {"limt": 3}}, a="1", b="2")
    after = with_fields(
        before, {"params.limit": 3}, unset=["params.limt"], attributes={"c": "3"}, unset_attributes=["b"]
    )
    assert json.loads(after.data) == {"source": "x", "params": {"limit": 3}}
    assert after.attributes == {"a": "1", "c": "3"}


def test_what_is_not_touched_keeps_its_bytes() -> None:
    """Spaces, order and large numbers of the original survive an edit of something else, and an edit of nothing."""
    before = Content.of(b'{ "n": 12345678901234567890, "x": 1e400 }', {"a": "1"})
    assert with_fields(before, {}, attributes={"b": "2"}).data == before.data
    assert read_document(document(before).replace('"1"', '"2"'), before).data == before.data


@pytest.mark.parametrize("data", [b"\xff\xfe", b"plain text", b'{"a":[1,2]}', b'"\\ud800"', b"", "é\u202e".encode()])
def test_any_message_can_be_edited_as_a_document(data: bytes) -> None:
    """JSON as JSON, text as text, the rest in base64; unedited it is what it was."""
    before = Content.of(data, {"k": "v"})
    assert read_document(document(before), before) == before


@pytest.mark.parametrize(("was", "mended"), [("true", "1"), ("1", "true"), ("1.0", "1"), ("0", "false")])
def test_a_mend_that_python_calls_equal_is_a_mend(was: str, mended: str) -> None:
    """`true` where a number belongs is a usual fault: to Python `True == 1`, to a worker it is not."""
    before = Content.of(f'{{"params":{{"limit":{was}}}}}'.encode(), {})
    after = read_document(document(before).replace(f'"limit": {was}', f'"limit": {mended}'), before)
    assert after.data == f'{{"params":{{"limit":{mended}}}}}'.encode()


def test_a_field_that_is_null_can_be_taken_away() -> None:
    """It is there."""
    assert json.loads(with_fields(content({"a": 1, "b": None}), {}, unset=["b"]).data) == {"a": 1}


def test_what_is_not_there_cannot_be_taken_away() -> None:
    """A misspelt name is not passed over; what there is at that place is named."""
    before = content({"a": 1, "params": {"limt": 3}}, colour="red")
    with pytest.raises(Refused, match=r"no field 'params.limit'.*the fields of params are limt"):
        with_fields(before, {}, unset=["params.limit"])
    with pytest.raises(Refused, match=r"no attribute 'color'.*its attributes are colour"):
        with_fields(before, {}, unset_attributes=["color"])


@pytest.mark.parametrize(
    ("fields", "word"), [({"a.b": 1}, "no object"), ({"x": 1}, "no JSON object"), ({"y": 1}, "not JSON")]
)
def test_an_edit_that_cannot_be_made_is_refused(fields: dict[str, int], word: str) -> None:
    """With what stands in its way."""
    before = {"a.b": content(), "x": content([1]), "y": Content.of(b"junk", {})}[next(iter(fields))]
    with pytest.raises(Refused, match=word):
        with_fields(before, fields)
    with pytest.raises(Refused, match="no field 'b'"):
        with_fields(content(), {}, unset=["b"])


@pytest.mark.parametrize(
    "text", ["junk", "[]", '{"data": 1}', '{"attributes": {"a": 1}, "data": 1}', '{"attributes": {}}']
)
def test_a_document_that_lost_its_form_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(Refused):
        read_document(text, content())


def test_the_editor_is_a_program_and_not_a_line_of_shell(tmp_path: Path) -> None:
    """Words are its arguments; a semicolon is only a word."""
    editor = tmp_path / "my editor"
    editor.write_text('#!/bin/sh\n[ "$1" = "--wait" ] && [ "$2" = ";" ] && echo changed > "$3"\n')
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    assert edited_text("before", {"EDITOR": f"'{editor}' --wait ;"}) == "changed\n"
    with pytest.raises(Refused, match="ended with 1"):
        edited_text("before", {"EDITOR": f"'{editor}' --no"})
    with pytest.raises(Refused, match="cannot be started"):
        edited_text("before", {"VISUAL": str(tmp_path / "missing")})


def test_a_slip_in_the_editor_does_not_cost_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is there again when the editor opens once more; who says no is told what is wrong."""
    opened: list[str] = []

    def editor(text: str) -> str:
        opened.append(text)
        return text.replace('"a": 1', '"a": 2,') if len(opened) % 2 else text.replace("2,", "2")

    monkeypatch.setattr("baton.cli.editor.edited_text", editor)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("click.confirm", lambda question, **how: True)
    change = change_of(content(), fields=(), unset=(), attributes=(), unset_attributes=(), data=None, reset=False)
    assert json.loads(change(content()).data) == {"a": 2}
    assert '"a": 2,' in opened[1]
    monkeypatch.setattr("click.confirm", lambda question, **how: False)
    with pytest.raises(Refused, match="not JSON"):
        change(content())


# -- showing ----------------------------------------------------------------------------------------------------------


def test_a_thousand_letters_of_one_cause_are_one_line() -> None:
    """Values do not make a cause."""
    summaries = [
        Summary(str(n), LetterState.OPEN, "data-ready", "", f"pipeline 'p{n}' is unknown; see line {n}", NOW)
        for n in range(3)
    ]
    other = Summary("x", LetterState.OPEN, "train-done", "", "delivered 10 times", NOW)
    assert by_cause([*summaries, other]) == [
        (3, "data-ready", "pipeline … is unknown; see line …"),
        (1, "train-done", "delivered … times"),
    ]


def printed(*parts: object) -> str:
    console = Console(width=120, no_color=True, record=True, file=io.StringIO())
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_no_terminal_is_too_narrow_for_a_key(width: int) -> None:
    """A key is there to be copied; the reason stands there too, and the longest run id pushes neither away."""
    summaries = [
        Summary("95759537506", LetterState.REDRIVING, "preprocess-done", "r" * 63, "data.source = …", NOW, 2, True),
        Summary("95759537507", LetterState.OPEN, "data-ready", "m-95759537507", "x" * 400, NOW),
    ]
    console = Console(width=width, force_terminal=True, no_color=True, record=True, file=io.StringIO())
    for part in letter_list(summaries, console):
        console.print(part)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for word in ("95759537506", "95759537507", "redriving, edited", "preprocess-done", "(2 times)", "data.source = …"):
        assert word in text


def test_a_pipe_has_one_letter_a_line() -> None:
    """Whatever its width: a line of `grep` is a letter."""
    summaries = [Summary("77", LetterState.OPEN, "data-ready", "r" * 63, "x" * 400, NOW)]
    console = Console(width=80, record=True, file=io.StringIO())
    for part in letter_list(summaries, console):
        console.print(part)
    assert len(console.export_text().splitlines()) == 2, "the head and the letter"


@given(st.binary(max_size=60), any_text, any_text, any_text)
def test_no_message_steers_the_terminal(data: bytes, name: str, value: str, reason: str) -> None:
    """Whatever stands in data, attributes and reason: no control character, no turned text, no faked line."""
    shown = letter(data, **{name or "a": value, "baton-dead-letter-reason": reason})
    edited = shown.model_copy(update={"edited": Content.of(data + b"x", {value: name})})
    checkup = Checkup(Verdict.REFUSED, value, reason, [Fault(name, value, reason)], note=value)
    summary = Summary("77", LetterState.OPEN, "data-ready", value, reason, NOW)
    lines = [*letter_details(edited, checkup), *content_lines(shown)]
    assert not any("\n" in line for line in lines)
    narrow = list(letter_list([summary], Console(width=40, force_terminal=True, file=io.StringIO())))
    text = printed(*lines, letter_table([summary]), *narrow)
    assert not STEERING.search(text)


@given(st.recursive(any_text | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(any_text, inner)))
def test_json_for_machines_is_safe_for_terminals_too(body: object) -> None:
    """What is printed has nothing that steers, can be encoded, and reads back as what it was."""
    text = json_text(body, indent=2)
    assert not STEERING.search(text)
    assert json.loads(text.encode()) == body


def test_a_large_message_does_not_flood_the_terminal() -> None:
    """It is cut, and says by how much."""
    lines = content_lines(letter(json.dumps(list(range(10_000))).encode()))
    assert len(lines) < 250
    assert "lines more; --json shows all" in lines[-1]
    assert max(map(len, content_lines(letter(b"x" * 900_000)))) < 2_100


def test_a_diff_shows_what_was_edited() -> None:
    """Lines with plus and minus."""
    lines = diff_lines(difference(content({"a": 1}), content({"a": 2})))
    assert any("green" in line and '"a": 2' in line for line in lines)
    assert any("red" in line and '"a": 1' in line for line in lines)
