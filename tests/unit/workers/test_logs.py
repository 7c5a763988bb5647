"""One JSON object per line on stderr, whoever writes it."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from workers import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the loggers back as they were: what they write to is this test's own."""
    before = [
        (name, log.handlers[:], log.level, log.propagate) for name in ("", "google") if (log := logging.getLogger(name))
    ]
    yield
    for name, handlers, level, propagate in before:
        log = logging.getLogger(name)
        log.handlers[:], log.level, log.propagate = handlers, level, propagate
    logging.getLogger("google_auth_httplib2").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def test_what_a_library_warns_of_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """With the process's fields; quotes, line ends and tracebacks cannot break the line."""
    logs.configure("info", worker="w-1")
    try:
        raise ValueError("it's\nbroken")
    except ValueError:
        logging.getLogger("google.some.client").warning('can\'t "reach" %s', "x\ny", exc_info=True)
    (line,) = capsys.readouterr().err.splitlines()
    body = json.loads(line)
    assert (body["severity"], body["action"], body["logger"]) == ("WARNING", "library", "google.some.client")
    assert body["message"] == 'can\'t "reach" x\ny'
    assert body["worker"] == "w-1"
    assert "ValueError: it's" in body["exception"]


def test_the_refresh_of_a_token_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """google_auth_httplib2 says at each one that it leaves our time-out alone."""
    logs.configure("info")
    logging.getLogger("google_auth_httplib2").warning("httplib2 transport does not support per-request timeout.")
    assert capsys.readouterr().err == ""


def test_a_line_and_its_end_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and libraries write to the same stream; two writes would let one line into the middle of another."""
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stream())
    logs.configure("info", worker="w-1")
    logs.logger(run_id="r1").info("state")
    logging.getLogger("google.some.client").warning("slow")
    assert [text[-1:] for text in written] == ["\n", "\n"]
    assert [json.loads(text)["action"] for text in written] == ["state", "library"]
