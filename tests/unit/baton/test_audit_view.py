"""The audit's sums on a terminal."""

import io

import pytest
from rich.console import Console

from baton.audit.fate import Verdict
from baton.audit.report import Report, Row
from baton.cli import audit
from baton.cli.audit import VERDICTS

COUNTS = {Verdict.CONSUMED: 1_234, Verdict.DEAD_LETTERED: 27, Verdict.IN_FLIGHT: 4, Verdict.LOST: 3}
REPORT = Report([Row("data-ready", "preprocess-worker", 1_268, COUNTS), Row("deploy-done", "", 0, {})], [])


def shown(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    console = Console(width=width, force_terminal=True, no_color=True, record=True, file=io.StringIO())
    monkeypatch.setattr(audit, "answers", lambda: console)
    audit._show(REPORT)
    return console.export_text()


def test_a_wide_terminal_has_a_column_for_each_fate(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, those that are 0 too."""
    head = shown(120, monkeypatch).splitlines()[0]
    assert all(name in head for name in VERDICTS)


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_has_the_fates_in_words(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut: what is not 0 is named whole."""
    text = shown(width, monkeypatch)
    assert "…" not in text
    words = " ".join(text.split())
    for told in ("data-ready preprocess-worker 1,268", "1,234 consumed", "4 in flight", "3 lost", "dead-lettered"):
        assert told in words
    assert "duplicate" not in words
