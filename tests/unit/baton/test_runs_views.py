"""Lists of runs, and the options that runs are watched with: nothing is cut, nothing is waited for without an end."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from baton.__main__ import run as command
from baton.cli.runs import run_details, run_list
from baton.errors import EXIT_USAGE
from baton.runs import Run, RunState, StageView, run_of

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
STAGE = StageView("preprocess", "published", "succeeded", 1, started=NOW, ended=NOW, triggered=NOW)
RUN = Run("natality-2022-csv-27499d6083a4", "babyweight", RunState.SUCCEEDED, (STAGE,), NOW, NOW)


def shown(run: Run, width: int) -> str:
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(run_list([run], NOW, width))
    return capture.get()


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("run_id", [RUN.id, "x" * 63, "r"])
def test_a_list_of_runs_cuts_nothing_at_any_width(run_id: str, width: int) -> None:
    """The state is what the list is looked at for, and the id what is copied from it."""
    text = shown(replace(RUN, id=run_id), width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    head, first, *more = text.splitlines()
    for word in ("state", "stage", "started", "took"):
        assert word in head
    for word in ("succeeded", "preprocess", "11-21"):
        assert word in first
    ids = [first.split()[0], *(line.split()[0] for line in more if not line.startswith(" "))]
    assert "".join(ids) == run_id
    assert "…" not in text


def test_an_id_of_the_usual_length_is_one_word_on_80_columns() -> None:
    """So that it can be copied by a double click."""
    assert RUN.id in shown(RUN, 80)


def test_one_that_never_began_leaves_the_list_as_narrow_as_it_was() -> None:
    """It has no pipeline, which is not another one."""
    console = Console(width=80, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(run_list([RUN, run_of("r1", [], is_cancelled=True)], NOW, 80))
    assert "pipeline" not in capture.get()


def test_a_run_that_was_cancelled_before_it_began_is_shown_so() -> None:
    """Stages that wait would look as if they were still to come."""
    (said,) = run_details(run_of("r1", [], is_cancelled=True), NOW, 80)
    assert "before a worker claimed it" in said


@pytest.mark.parametrize("span", ["nan", "-3", "soon"])
@pytest.mark.parametrize("words", [["runs", "watch", "r"], ["cancel", "r"], ["retry", "r"], ["replay", "r"]])
def test_no_number_is_no_time_to_wait(words: list[str], span: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`nan` seconds would last for ever."""
    assert command([*words, "--timeout", span]) == EXIT_USAGE
    assert f"{span!r} is no span of time" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_no_defect_of_ours() -> None:
    """Its answer could not be written: that is said in a line, not as a traceback."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "baton", "pipelines", "check", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--pipeline and --sources is missing"),
        (["--pipeline", "p"], "--sources is missing"),
        (["--sources", "gs://b/x"], "--pipeline is missing"),
        (["--resume", "b", "--param", "limit=1"], "--resume b takes no --param"),
        (["--resume", "b", "--pipeline", "p", "--sources", "gs://b/x"], "--resume b takes no --pipeline and --sources"),
        (["--status", "b", "--retry-failed"], "--status b takes no --retry-failed"),
        (["--status", "b", "--resume", "b"], "--status b takes no --resume"),
        (["--cancel", "b", "--retry-failed"], "--cancel b takes no --retry-failed"),
        (["--cancel", "b", "--resume", "b"], "--cancel b takes no --resume"),
        (["--status", "b", "--cancel", "b"], "--status b takes no --cancel"),
    ],
)
def test_what_a_backfill_would_leave_aside_is_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A parameter beside `--resume` was taken and had no effect."""
    assert command(["backfill", *words]) == EXIT_USAGE
    assert says in " ".join(capsys.readouterr().err.split())
