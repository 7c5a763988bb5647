"""Log lines for people."""

import json

import pytest

from baton.render import log_line, rest_of, seconds


def line(**fields: object) -> str:
    return json.dumps({"time": "2026-11-21T09:00:00.123Z", "severity": "INFO", **fields})


def test_a_line_shows_process_level_action_run_and_the_rest() -> None:
    """What is left out: empty values and what every line of a worker has."""
    shown = log_line("train", line(action="state", run_id="run-1", stage="train", worker="w", state="running", note=""))
    assert shown.plain[13:] == "train      INFO    state run-1 state=running"


def test_values_with_blanks_are_quoted() -> None:
    """So that one pair can be told from the next."""
    assert rest_of({"action": "x", "reason": "a b", "n": 3}) == ' reason="a b" n=3'


def test_a_line_that_is_no_json_stands_as_it_is() -> None:
    """Tracebacks and ready lines stay readable."""
    assert log_line("cloud", "  File x, line 3").plain.endswith("cloud        File x, line 3")
    assert log_line("cloud", '{"broken').plain.endswith('{"broken')


def test_an_exception_follows_on_its_own_lines() -> None:
    """A traceback inside the JSON is shown as a traceback."""
    shown = log_line("train", line(action="advance-failed", exception="Traceback:\n  boom")).plain
    assert shown.endswith("advance-failed\nTraceback:\n  boom")


def test_a_log_line_cannot_steer_the_terminal() -> None:
    """Escape sequences of hostile data are replaced."""
    assert "\x1b" not in log_line("train", line(action="x", reason="\x1b[2Jgone")).plain
    assert "\x1b" not in log_line("train", "\x1b[2Jgone").plain


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (125, "2 min 05 s"), (3720, "1 h 02 min")]
)
def test_durations_read_as_people_say_them(value: float, text: str) -> None:
    """Seconds, then minutes, then hours."""
    assert seconds(value) == text
