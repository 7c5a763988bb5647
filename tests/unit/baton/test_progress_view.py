"""The view of runs while they go on: a picture in a terminal, a line for each change elsewhere."""

from datetime import UTC, datetime

from rich.console import Console

from baton.progress import changes, live_view
from baton.runs import JobView, Run, RunState, StageView
from baton.tracking import Progress, Snapshot

NOW = datetime(2026, 11, 21, 9, 0, 12, tzinfo=UTC)
START = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
JOB = JobView("id", "name", "custom-job", "JOB_STATE_RUNNING", "us-central1")
DONE = StageView("preprocess", "published", "succeeded", 1, started=START, ended=START, triggered=START)
TRAINING = StageView("train", "running", attempt=1, job=JOB, started=START, triggered=START)
FAILED = StageView(
    "train",
    "published",
    "failed",
    2,
    started=START,
    ended=NOW,
    failure={"message": "it [broke]", "reason": "job-failed"},
)


def snapshot(stage: StageView, progress: Progress, state: RunState = RunState.RUNNING) -> Snapshot:
    run = Run("run-1", "babyweight", state, (DONE, stage, StageView("deploy")), START)
    return Snapshot(run, {stage.name: progress})


def shown(snapshot_: Snapshot) -> str:
    console = Console(width=110, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(live_view([("by message", snapshot_)], NOW))
    return capture.get()


def test_the_picture_shows_state_bar_elapsed_and_detail() -> None:
    """One row a stage; those to come are there too."""
    text = shown(snapshot(TRAINING, Progress(0.5, "JOB_STATE_RUNNING", "step 50 of 100")))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].startswith("by message run-1 running 12.0 s")
    assert lines[1].startswith("✔ preprocess")
    assert "━━━" in lines[2]
    assert lines[2].endswith("12.0 s running JOB_STATE_RUNNING 50% step 50 of 100")
    assert lines[3].startswith("· deploy")
    assert lines[3].endswith("waiting")


def test_a_failure_is_shown_as_it_was_said() -> None:
    """Brackets in a message are no markup."""
    assert "failed: it [broke]" in shown(snapshot(FAILED, Progress(), RunState.FAILED))


def test_each_change_is_one_line() -> None:
    """Nothing is said twice."""
    first = snapshot(TRAINING, Progress(None, "JOB_STATE_PENDING"))
    second = snapshot(TRAINING, Progress(0.2, "JOB_STATE_RUNNING"))
    assert list(changes(None, first)) == ["run-1 preprocess: succeeded", "run-1 train: running JOB_STATE_PENDING"]
    assert list(changes(first, first)) == []
    assert list(changes(first, second)) == ["run-1 train: running JOB_STATE_RUNNING 20%"]


def test_the_end_of_a_run_is_a_line_of_its_own() -> None:
    """With the reason of a failure, and the attempt it was."""
    before = snapshot(TRAINING, Progress(0.2, "JOB_STATE_RUNNING"))
    after = snapshot(FAILED, Progress(), RunState.FAILED)
    assert list(changes(before, after)) == ["run-1 train: failed (job-failed) attempt 2", "run-1: failed"]


def test_a_run_that_nobody_has_claimed_says_so() -> None:
    """Silence would look like a hang."""
    waiting = Snapshot(Run("run-1", "", RunState.WAITING, (StageView("preprocess"),)), {})
    assert list(changes(None, waiting)) == ["run-1: waiting for a worker to claim it"]
    assert list(changes(waiting, waiting)) == []
