"""What is to stop is found and stopped, also where its launch was answered to nobody or nobody may look at it."""

from pathlib import Path

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from tests.support.world import MemoryJobs
from workers.engine import Done, Engine, Policy, Watch
from workers.errors import LaunchRefused, TransientError
from workers.record import JobRef, Outcome
from workers.stage import Context, JobState, JobStatus

UNSEEN = JobStatus(JobState.ACTIVE, message="it cannot be looked at: 403: no permission")  # as `workers.asking` says it


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    made = StageWorld(tmp_path, phases=1)
    made.stage.attempts = 1
    return made


def launched_unheard(world: StageWorld) -> Engine:
    """Have a job created whose answer is lost, and the run cancelled before the lists have settled."""
    world.intake().accept(world.message())
    engine, create = world.engine(), world.jobs[0].create

    def lost(context: Context) -> JobRef:
        create(context)
        raise TransientError("the connection broke", ambiguous=True)

    world.jobs[0].create = lost  # type: ignore[method-assign]
    with pytest.raises(TransientError):
        engine.advance("r1")
    world.ledger.cancel("r1", "somebody", world.clock.now)
    engine.settle_cancellations()
    world.clock.move(SETTLE_S)
    return engine


def test_a_job_that_nobody_has_heard_of_is_stopped_with_its_run(world: StageWorld) -> None:
    """It is adopted and asked to stop at the first look, and the stage ends when it has."""
    engine = launched_unheard(world)
    watch = engine.advance("r1")
    assert isinstance(watch, Watch)
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.ACTIVE)), Watch)
    assert world.jobs[0].states() == [JobState.CANCELLED]
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.CANCELLED)), Done)
    assert world.record().outcome is Outcome.CANCELLED


def test_whoever_finds_the_run_later_stops_it_just_so(world: StageWorld) -> None:
    """Another worker takes the intent over, and has not looked for cancellations yet."""
    launched_unheard(world)
    successor = world.engine("w2")
    watch = successor.advance("r1")
    assert isinstance(watch, Watch)
    successor.observe(watch.entry, JobStatus(JobState.ACTIVE))
    assert world.jobs[0].states() == [JobState.CANCELLED]


def test_where_nothing_was_launched_the_stage_ends(world: StageWorld) -> None:
    """The look finds no job."""
    engine = launched_unheard(world)
    world.jobs[0].jobs.clear()
    assert isinstance(engine.advance("r1"), Done)
    assert world.record().outcome is Outcome.CANCELLED


def test_a_search_that_is_refused_does_not_hold_a_cancelled_run(
    world: StageWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """What there may be is left to the search for strays, and said."""
    engine = launched_unheard(world)

    def refused(context: Context) -> JobRef | None:
        raise LaunchRefused("403", "ask for the permission")

    world.jobs[0].find = refused  # type: ignore[method-assign]
    assert isinstance(engine.advance("r1"), Done)
    assert world.record().outcome is Outcome.CANCELLED
    assert "search-refused" in capsys.readouterr().out


def test_a_stage_that_cleans_up_takes_away_what_is_there(tmp_path: Path) -> None:
    """A rollout's own cleaning up looks for what was made: nothing is adopted before."""
    world = StageWorld(tmp_path, phases=1)
    world.jobs.append(MemoryJobs(name="cleanup"))
    world.stage.cleanup = (world.jobs[1],)  # type: ignore[attr-defined]
    engine = launched_unheard(world)
    assert isinstance(engine.advance("r1"), Done)
    assert world.record().outcome is Outcome.CANCELLED


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["overdue", "cancelled"])
def test_a_job_that_nobody_may_look_at_does_not_hold_its_run_for_ever(world: StageWorld, is_cancelled: bool) -> None:
    """The deadline and a cancellation count for it too; the failure says that it was not seen to end, and why."""
    engine, watch = world.watched()
    assert isinstance(engine.observe(watch.entry, UNSEEN), Watch)
    if is_cancelled:
        world.ledger.cancel("r1", "somebody", world.clock.now)
        engine.settle_cancellations()
    else:
        world.clock.move(world.stage.deadline_s + 1)
    assert isinstance(engine.observe(watch.entry, UNSEEN), Watch)
    assert world.jobs[0].states() == [JobState.CANCELLED], "it is asked to stop all the same"
    world.clock.move(Policy().stop_s + 1)
    assert isinstance(engine.observe(watch.entry, UNSEEN), Done)
    failure = world.record().failure
    assert failure is not None
    assert failure.reason == "job-does-not-stop"
    assert "403: no permission" in failure.message


def test_a_job_is_given_up_only_after_a_look_that_is_late_enough(world: StageWorld) -> None:
    """A worker that was held up between its look and what it makes of it looks again: the job has ended meanwhile."""
    engine, watch = world.watched()
    world.ledger.cancel("r1", "somebody", world.clock.now)
    engine.settle_cancellations()
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.ACTIVE)), Watch)
    looked_at = world.clock.now
    world.clock.move(Policy().stop_s + 1)
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.ACTIVE), looked_at), Watch)
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.CANCELLED)), Done)
    assert world.record().outcome is Outcome.CANCELLED
