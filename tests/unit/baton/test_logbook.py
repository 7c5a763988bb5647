"""Where the processes' lines go."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from baton import logbook
from baton.logbook import LogBook


def test_each_process_has_a_file_and_all_share_the_terminal(tmp_path: Path) -> None:
    """Files hold the lines untouched; the terminal shows them readable."""
    shown = io.StringIO()
    book = LogBook(tmp_path, Console(file=shown, width=200))
    book("train", '{"severity":"INFO","action":"ready"}')
    book("cloud", "plain")
    book.close()
    assert book.path("train").read_text() == '{"severity":"INFO","action":"ready"}\n'
    assert book.path("cloud").read_text() == "plain\n"
    assert "INFO    ready" in shown.getvalue()


def test_raw_shows_lines_untouched(tmp_path: Path) -> None:
    """`baton up --raw | jq` gets JSON."""
    shown = io.StringIO()
    book = LogBook(tmp_path, Console(file=shown), is_raw=True)
    book("train", '{"action":"[ready]"}')
    book.close()
    assert shown.getvalue() == '{"action":"[ready]"}\n'


def test_a_reader_that_goes_away_is_told_once_and_lines_are_kept(tmp_path: Path) -> None:
    """`baton up | head` must not block the children."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    gone: list[bool] = []
    book = LogBook(tmp_path, Console(file=Closed()), is_raw=True, on_closed=lambda: gone.append(True))
    book("train", "one")
    book("train", "two")
    book.close()
    assert gone == [True]
    assert book.path("train").read_text() == "one\ntwo\n"


def test_a_file_that_grows_too_large_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A house that is up for weeks does not fill the disk."""
    monkeypatch.setattr(logbook, "_MAX_BYTES", 10)
    book = LogBook(tmp_path, None)
    for number in range(6):
        book("train", f"line {number}")
    book.close()
    kept = "".join(path.read_text() for path in sorted(tmp_path.glob("train.log*"), reverse=True))
    assert kept.splitlines()[-1] == "line 5"
    assert len(list(tmp_path.iterdir())) == 2
