"""An attempt that failed is cleaned up after, and only then comes the next one or the end."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from tests.support.world import MemoryJobs
from workers.engine import Done, Later, Watch
from workers.errors import BadOutput, LaunchRefused, TransientError
from workers.record import Ending, JobRef, Outcome, State
from workers.stage import Context, JobState, JobStatus


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    """Return a stage of two phases, with one that cleans up."""
    made = StageWorld(tmp_path, phases=2)
    made.jobs.append(MemoryJobs(name="cleanup"))
    made.stage.cleanup = (made.jobs[2],)  # type: ignore[attr-defined]
    return made


def fail(*_: Any) -> dict[str, Any]:
    raise BadOutput("the model answers nonsense", "mend the model")


def test_a_failed_rollout_is_taken_back_before_it_is_told(world: StageWorld) -> None:
    """The phases that clean up run after a later phase has failed, and the outcome is still the failure."""
    world.jobs[1].collect = fail  # type: ignore[method-assign]
    world.intake().accept(world.message())
    world.drive()
    assert [len(jobs.jobs) for jobs in world.jobs] == [1, 1, 1]
    record = world.record()
    assert (record.state, record.outcome, record.ending) == (State.PUBLISHED, Outcome.FAILED, Ending.FAILED)
    assert json.loads(world.publisher.published[-1][1])["reason"] == "bad-output"


def test_each_attempt_is_taken_back_before_the_next(world: StageWorld) -> None:
    """Two attempts, each cleaned up after, and nothing of the first is carried into the second."""

    def fail_at_first(context: Context, _job: JobRef) -> dict[str, Any]:
        if context.attempt == 1:
            raise BadOutput("empty", "look", retry=True)
        return {"digest": "d"}

    world.jobs[1].collect = fail_at_first  # type: ignore[method-assign]
    world.intake().accept(world.message())
    world.drive()
    assert [job["name"][-2:] for job in world.jobs[2].jobs.values()] == ["a1"]
    assert [job["name"][-2:] for job in world.jobs[0].jobs.values()] == ["a1", "a2"]
    assert world.record().outcome is Outcome.SUCCEEDED
    assert (world.record().ending, world.record().failure) == (None, None)


def test_a_failure_before_anything_was_made_needs_no_cleaning(world: StageWorld) -> None:
    """The first phase was refused: there is nothing to take back."""
    world.jobs[0].refuse = LaunchRefused("no such image", "build it")
    world.intake().accept(world.message())
    world.drive()
    assert [len(jobs.jobs) for jobs in world.jobs] == [0, 0, 0]
    assert world.record().outcome is Outcome.FAILED


def test_a_cleanup_that_cannot_be_done_does_not_hold_the_run(world: StageWorld) -> None:
    """It is skipped, the timeline says so, and the outcome is told."""
    world.jobs[1].collect = fail  # type: ignore[method-assign]
    world.jobs[2].refuse = LaunchRefused("permission denied", "grant it")
    world.intake().accept(world.message())
    world.drive()
    assert world.record().outcome is Outcome.FAILED
    assert world.record().failure is not None
    assert world.record().failure.reason == "bad-output"  # type: ignore[union-attr]


def test_a_cancelled_rollout_is_taken_back_too(world: StageWorld) -> None:
    """Cancelled between two phases: what the first made is cleaned up, the second never starts."""
    engine, watch = world.watched()
    world.ledger.cancel("r1", "someone", world.clock.now)
    world.jobs[0].end(watch.job.id, JobState.SUCCEEDED)
    engine.observe(watch.entry, JobStatus(JobState.SUCCEEDED))
    world.drive()
    assert [len(jobs.jobs) for jobs in world.jobs] == [1, 0, 1]
    assert world.record().outcome is Outcome.CANCELLED
    assert world.publisher.ids("stage-failed") == ["r1.preprocess.failed"]


def test_a_cancelled_run_does_not_wait_for_its_backoff(world: StageWorld) -> None:
    """The next attempt is minutes away; the cancellation is not."""
    world.stage.phases = (world.jobs[0],)
    world.stage.cleanup = ()  # type: ignore[attr-defined]
    engine, watch = world.watched()
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.FAILED)), Later)
    world.ledger.cancel("r1", "someone", world.clock.now)
    assert engine.settle_cancellations() == ["r1"]
    assert isinstance(engine.advance("r1"), Done)
    assert world.record().outcome is Outcome.CANCELLED


def test_a_launch_that_never_works_ends_at_the_deadline(world: StageWorld) -> None:
    """A provider that refuses for days does not hold the run for ever, and the history does not grow with it."""
    world.stage.attempts, world.stage.deadline_s = 1, 600.0
    world.jobs[0].refuse = TransientError("503")
    world.intake().accept(world.message())
    engine, after = world.engine(), None
    for _ in range(200):
        try:
            after = engine.advance("r1")
        except TransientError:
            world.clock.move(SETTLE_S)
            continue
        if isinstance(after, Done):
            break
    assert isinstance(after, Done)
    assert world.record().failure is not None
    assert world.record().failure.reason == "launch-deadline"  # type: ignore[union-attr]
    assert len(world.record().history) < 10


def test_a_job_stopped_at_its_provider_is_not_started_again(world: StageWorld) -> None:
    """Somebody pressed "cancel" in the console: the run ends and says so."""
    engine, watch = world.watched()
    world.jobs[0].end(watch.job.id, JobState.CANCELLED)
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.CANCELLED)), Done)
    assert len(world.jobs[0].jobs) == 1
    assert world.record().failure is not None
    assert world.record().failure.reason == "job-cancelled"  # type: ignore[union-attr]


def test_a_failure_that_another_attempt_cannot_cure_is_the_last(world: StageWorld) -> None:
    """The provider said so (`workers.failures`)."""
    engine, watch = world.watched()
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.FAILED, message="no image", retry=False)), Done)
    assert world.record().attempt == 1


def test_a_stage_marked_in_a_cancelled_run_is_closed_by_the_sweep(world: StageWorld) -> None:
    """Marked, never claimed, cancelled: the marker goes, and a claim that comes late finds the stage closed."""
    world.ledger.mark("r1", "preprocess")
    assert world.engine().advance("r1") == Done(None), "without a tombstone a claim may still come"
    assert list(world.ledger.marked("preprocess")) == ["r1"]
    world.ledger.cancel("r1", "someone", world.clock.now)
    assert isinstance(world.engine().advance("r1"), Done)
    assert list(world.ledger.marked("preprocess")) == []
    world.intake().accept(world.message())
    world.drive()
    assert world.jobs[0].jobs == {}
    assert world.publisher.published == []
    assert list(world.ledger.marked("preprocess")) == []


def test_once_the_outcome_is_certain_a_cancellation_comes_too_late(world: StageWorld) -> None:
    """The last phase only tidies up: what it took away cannot be given back, so the run is not taken back either."""
    world.jobs[1].is_optional = True  # type: ignore[attr-defined]
    world.jobs[1].collected = {}
    engine, watch = world.watched()
    world.jobs[0].end(watch.job.id, JobState.SUCCEEDED)
    watch = engine.observe(watch.entry, JobStatus(JobState.SUCCEEDED))
    assert isinstance(watch, Watch)
    world.ledger.cancel("r1", "someone", world.clock.now)
    engine.settle_cancellations()
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.ACTIVE)), Watch)
    assert world.jobs[1].states() == [JobState.ACTIVE]
    world.drive()
    assert world.record().outcome is Outcome.SUCCEEDED


def test_what_is_optional_can_fail_without_the_run(world: StageWorld) -> None:
    """Tidying up was refused: the model serves all the same."""
    world.jobs[1].is_optional = True  # type: ignore[attr-defined]
    world.jobs[1].refuse = LaunchRefused("permission denied", "grant it")
    world.intake().accept(world.message())
    world.drive()
    assert world.record().outcome is Outcome.SUCCEEDED
    assert "permission denied" in world.record().yields["phase-1"]["skipped"]
    assert "skipped" in next(step.note for step in reversed(world.record().history) if step.note)


def test_nothing_is_stopped_before_the_tombstone_stands(world: StageWorld) -> None:
    """Half a cancellation that cannot be completed now: a job stopped already would look as if stopped by hand."""
    engine, watch = world.watched()
    world.objects.write("cancelling/r1", b"{}", if_generation=0)
    original = world.objects.write

    def write(name: str, content: bytes, *, if_generation: int) -> int:
        raise TransientError("503")

    world.objects.write = write  # type: ignore[method-assign]
    with pytest.raises(TransientError):
        engine.settle_cancellations()
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.ACTIVE)), Watch)
    assert world.jobs[0].states() == [JobState.ACTIVE]
    world.objects.write = original  # type: ignore[method-assign]
    assert engine.settle_cancellations() == ["r1"]
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.ACTIVE)), Watch)
    assert world.jobs[0].states() == [JobState.CANCELLED]
