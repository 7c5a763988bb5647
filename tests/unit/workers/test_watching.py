"""What a look at a running job leads to: it goes on, is asked to stop, or has ended; and what is said of it."""

from pathlib import Path

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from workers.engine import Done, Engine, Later, Policy, Watch
from workers.errors import LaunchRefused
from workers.record import JobRef
from workers.stage import Context, JobState, JobStatus

ACTIVE, WAITING, VANISHED = JobStatus(JobState.ACTIVE), JobStatus(JobState.WAITING), JobStatus(JobState.VANISHED)
FAILED, CANCELLED = JobStatus(JobState.FAILED), JobStatus(JobState.CANCELLED)


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    return StageWorld(tmp_path)


def cancel(world: StageWorld, engine: Engine) -> None:
    world.ledger.cancel("r1", "somebody", world.clock.now)
    engine.settle_cancellations()


@pytest.mark.parametrize("status", [ACTIVE, WAITING], ids=["active", "waiting"])
def test_a_job_that_goes_on_costs_no_call(world: StageWorld, status: JobStatus) -> None:
    """Of ten thousand jobs nearly all just go on: nothing is read for them."""
    engine, watch = world.watched()
    assert engine.goes_on(engine.hold(watch), status)


@pytest.mark.parametrize("status", [ACTIVE, WAITING], ids=["active", "waiting"])
def test_a_cancelled_run_does_not_just_go_on(world: StageWorld, status: JobStatus) -> None:
    """Its job has to be asked to stop, long before it would end by itself."""
    engine, watch = world.watched()
    cancel(world, engine)
    assert not engine.goes_on(engine.hold(watch), status)


def test_the_deadline_is_one_of_work_and_not_of_waiting(world: StageWorld) -> None:
    """A rollout may wait for its turn for as long as the one before it takes; a job that runs may not go on."""
    engine, watch = world.watched()
    held = engine.hold(watch)
    world.clock.move(world.stage.deadline_s)
    assert engine.goes_on(held, ACTIVE), "it has all of its deadline"
    world.clock.move(1)
    assert not engine.goes_on(held, ACTIVE)
    assert engine.goes_on(held, WAITING)
    assert isinstance(engine.observe(watch.entry, WAITING), Watch)
    assert world.jobs[0].states() == [JobState.ACTIVE], "nobody asked it to stop"
    assert isinstance(engine.observe(watch.entry, ACTIVE), Watch)
    assert world.jobs[0].states() == [JobState.CANCELLED]


@pytest.mark.parametrize("is_held", [True, False], ids=["just goes on", "observed"])
def test_a_job_that_was_seen_again_is_not_missing(world: StageWorld, is_held: bool) -> None:
    """Two answers that do not know it count only where none in between does."""
    engine, watch = world.watched()
    assert isinstance(engine.observe(watch.entry, VANISHED), Watch)
    world.clock.move(SETTLE_S)
    if is_held:
        assert engine.goes_on(engine.hold(watch), ACTIVE)
    else:
        assert isinstance(engine.observe(watch.entry, ACTIVE), Watch)
    assert isinstance(engine.observe(watch.entry, VANISHED), Watch), "the first answer of a new silence"
    world.clock.move(SETTLE_S)
    assert not isinstance(engine.observe(watch.entry, VANISHED), Watch)
    assert world.record().failure is not None


def test_a_refusal_to_stop_is_said_and_asked_again(world: StageWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """A permission may be missing for an hour: the job is asked again at the next look."""
    engine, watch = world.watched()
    cancel(world, engine)
    stop, asked = world.jobs[0].cancel, 0

    def refused(job: JobRef) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise LaunchRefused("403: no permission", "ask for it")
        stop(job)

    world.jobs[0].cancel = refused  # type: ignore[method-assign]
    assert isinstance(engine.observe(watch.entry, ACTIVE), Watch)
    assert "cancel-refused" in capsys.readouterr().out
    assert isinstance(engine.observe(watch.entry, ACTIVE), Watch)
    assert world.jobs[0].states() == [JobState.CANCELLED]
    assert isinstance(engine.observe(watch.entry, CANCELLED), Done)


@pytest.mark.parametrize(
    ("late_s", "status", "reason", "message", "mend"),
    [
        (
            0.0,
            FAILED,
            "job-failed",
            "job job-1 ended as failed",
            "read `baton logs r1 preprocess`, mend the cause, then ",
        ),
        (
            1.0,
            FAILED,
            "job-failed",
            "job job-1 ended as failed",
            "read `baton logs r1 preprocess`, mend the cause, then ",
        ),
        (
            0.0,
            CANCELLED,
            "job-cancelled",
            "job job-1 ended as cancelled",
            "it was cancelled at its provider, not by Baton",
        ),
        (
            1.0,
            CANCELLED,
            "deadline",
            "job job-1 ran longer than the stage's deadline of ",
            "raise deadline_s under [preprocess]",
        ),
        (
            0.0,
            JobStatus(JobState.FAILED, "JOB_STATE_EXPIRED"),
            "job-failed",
            "job job-1 ended as JOB_STATE_EXPIRED",
            "read `baton logs",
        ),
        (0.0, JobStatus(JobState.FAILED, message="no disk"), "job-failed", "no disk", "read `baton logs"),
    ],
    ids=[
        "failed",
        "failed late",
        "stopped by a person",
        "over its deadline",
        "as its provider says it",
        "with a message",
    ],
)
def test_a_failure_says_what_happened_and_what_to_do(
    world: StageWorld, late_s: float, status: JobStatus, reason: str, message: str, mend: str
) -> None:
    """Each kind of end has words of its own; a failure of the job's own is none of the deadline."""
    world.stage.attempts = 1
    engine, watch = world.watched()
    if late_s:
        world.clock.move(world.stage.deadline_s + late_s)
    assert isinstance(engine.observe(watch.entry, status), Done)
    failure = world.record().failure
    assert failure is not None
    assert failure.reason == reason
    assert failure.message.startswith(message)
    assert failure.mend.startswith(mend)


def test_what_is_worth_another_attempt(world: StageWorld) -> None:
    """A job over its deadline is tried again; one that a person stopped is not started again behind their back."""
    world.stage.attempts = 3
    engine, watch = world.watched()
    world.clock.move(world.stage.deadline_s + 1)
    after = engine.observe(watch.entry, CANCELLED)
    assert isinstance(after, Later)
    world.clock.move(after.wait_s)
    second = engine.advance("r1")
    assert isinstance(second, Watch)
    assert isinstance(engine.observe(second.entry, CANCELLED), Done)
    assert world.record().attempt == 2


def test_a_job_that_does_not_stop_is_not_tried_again(world: StageWorld) -> None:
    """It still runs: another beside it would be the second job of the stage."""
    world.stage.attempts = 3
    engine, watch = world.watched()
    world.jobs[0].cancel = lambda job: None  # type: ignore[method-assign]
    world.clock.move(world.stage.deadline_s + 1)
    assert isinstance(engine.observe(watch.entry, ACTIVE), Watch)
    world.clock.move(Policy().stop_s + 1)
    assert isinstance(engine.observe(watch.entry, ACTIVE), Done)
    assert world.record().attempt == 1
    assert len(world.jobs[0].jobs) == 1


def test_a_search_for_a_twin_that_is_refused_finds_none(world: StageWorld) -> None:
    """The job's own end is known all the same."""
    engine, watch = world.watched()

    def refused(context: Context) -> JobRef | None:
        raise LaunchRefused("403: no permission", "ask for it")

    world.jobs[0].find = refused  # type: ignore[method-assign]
    assert isinstance(engine.observe(watch.entry, CANCELLED), Done)
    failure = world.record().failure
    assert failure is not None
    assert failure.reason == "job-cancelled"
