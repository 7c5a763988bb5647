"""Nothing is tried for ever, and every end can be told: however many workers, however slow, whatever a job left."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from tests.support.world import MemoryJobs
from workers.ending import bounded
from workers.engine import Done, Engine, Later, Watch
from workers.errors import BadOutput, LaunchRefused, TransientError
from workers.record import Failure, JobRef, Outcome
from workers.stage import Context, JobState, JobStatus


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    """Return a stage of one phase, with one that cleans up."""
    made = StageWorld(tmp_path, phases=1)
    made.jobs.append(MemoryJobs(name="cleanup"))
    made.stage.cleanup = (made.jobs[1],)  # type: ignore[attr-defined]
    made.stage.attempts, made.stage.deadline_s = 1, 600.0
    return made


def turns(world: StageWorld, *engines: Engine, wait_s: float) -> float:
    """Let the workers look at the run in turns until it is done; return how long that took, in seconds."""
    began = world.clock.now
    for engine in itertools.islice(itertools.cycle(engines), 2000):
        try:
            after = engine.advance("r1")
        except TransientError:
            after = Later(wait_s)
        if isinstance(after, Done):
            return (world.clock.now - began).total_seconds()
        world.clock.move(max(after.wait_s, wait_s) if isinstance(after, Later) else wait_s)
    raise AssertionError(f"it is never done: {world.record().history[-1]}")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_launch_that_never_works_ends_with_any_number_of_workers(world: StageWorld, workers: int) -> None:
    """Each waits longer than an intent settles, so that another has taken it over meanwhile: none is ever late."""
    world.jobs[0].refuse = TransientError("503")
    world.intake().accept(world.message())
    engines = [world.engine(f"w{number}") for number in range(workers)]
    assert turns(world, *engines, wait_s=3 * SETTLE_S) < 3 * 600.0
    failure = world.record().failure
    assert failure is not None
    assert failure.reason == "launch-deadline"


def test_a_provider_that_is_away_longer_than_the_deadline_is_waited_for(world: StageWorld) -> None:
    """That nobody can even look is no failure of the run: when the provider is back, it is launched."""
    world.intake().accept(world.message())
    engine, find = world.engine(), world.jobs[0].find

    def away(context: Context) -> JobRef | None:
        raise TransientError("503")

    world.jobs[0].is_made_by_launches = False
    world.jobs[0].find = away  # type: ignore[method-assign]
    for _ in range(100):
        with pytest.raises(TransientError):
            engine.advance("r1")
        world.clock.move(30.0)
    world.jobs[0].find = find  # type: ignore[method-assign]
    assert isinstance(engine.advance("r1"), Watch)


def test_a_look_that_always_takes_too_long_is_a_failure_in_the_end(world: StageWorld) -> None:
    """It says which setting to raise, does not spin, and writes no history without end."""
    find = world.jobs[0].find

    def slow(context: Context) -> JobRef | None:
        world.clock.move(SETTLE_S / 2)
        return find(context)

    world.jobs[0].is_made_by_launches = False
    world.jobs[0].find = slow  # type: ignore[method-assign]
    world.intake().accept(world.message())
    turns(world, world.engine(), wait_s=0.0)
    failure = world.record().failure
    assert failure is not None
    assert failure.reason == "launch-deadline"
    assert "BATON_SETTLE_S" in failure.mend
    assert len(world.record().history) < 20


@pytest.mark.parametrize(
    "given",
    [{"dataset_uri": "gs://b/d", "loss": float("nan")}, {"dataset_uri": "\ud800"}, {"dataset_uri": 3}, {}],
    ids=["not finite", "half a character", "another type", "nothing"],
)
def test_a_result_that_cannot_be_told_is_a_failure(world: StageWorld, given: dict[str, Any]) -> None:
    """It is the job's fault, and said so; it does not hold the run for ever."""
    world.jobs[0].collected = given
    world.intake().accept(world.message())
    assert isinstance(world.drive(), Done)
    failure = world.record().failure
    assert failure is not None
    assert failure.reason == "bad-output"
    assert world.publisher.ids("stage-failed") == ["r1.preprocess.failed"]


def test_a_failure_of_any_size_can_be_told(world: StageWorld) -> None:
    """It quotes what others said: megabytes, or text that is no text."""

    def collect(context: Context, job: JobRef) -> dict[str, Any]:
        raise BadOutput("x" * 2_000_000 + "\ud800", "y" * 2_000_000)

    world.jobs[0].collect = collect  # type: ignore[method-assign]
    world.jobs[0].log_tail = lambda job: ("\udfff" + "z" * 1_000_000,) * 300  # type: ignore[method-assign,assignment]
    world.intake().accept(world.message())
    assert isinstance(world.drive(), Done)
    told = json.loads(world.publisher.published[-1][1])
    assert told["message"].startswith("xxx")
    assert told["log_tail"][-1].startswith("?zzz")


def test_a_short_failure_is_told_as_it_is() -> None:
    """Only what is too long is cut."""
    failure = Failure(reason="r", message="ü", mend="m", log_tail=("a", "b"))
    assert bounded(failure) == failure


def test_what_could_not_be_taken_back_is_told(tmp_path: Path) -> None:
    """The cleaning up is given up at the deadline; who reads of the failure learns what is left."""

    def fail(context: Context, job: JobRef) -> dict[str, Any]:
        raise BadOutput("the model answers nonsense", "mend the model")

    world = StageWorld(tmp_path, phases=2)
    world.stage.cleanup = (MemoryJobs(name="cleanup", refuse=LaunchRefused("the traffic is stuck", "wait")),)  # type: ignore[attr-defined]
    world.jobs[1].collect = fail  # type: ignore[method-assign]
    world.intake().accept(world.message())
    world.drive()
    failure = world.record().failure
    assert failure is not None
    assert failure.message.startswith("the model answers nonsense; and cleanup was given up: the traffic is stuck")
    assert failure.mend.startswith("look at the provider for what is left of it, and take that back by hand; ")
    assert world.record().outcome is Outcome.FAILED


def test_a_cancellation_is_not_let_go_while_a_claim_is_on_its_way(world: StageWorld) -> None:
    """The claim looked for the tombstone before it stood; that no stage runs says nothing until it has arrived."""
    engine, other = world.engine(), world.engine("w2")
    mark = world.ledger.mark

    def slow_mark(run_id: str, stage: str) -> None:
        world.ledger.cancel("r1", "somebody", world.clock.now)
        assert other.settle_cancellations() == ["r1"]
        world.clock.move(SETTLE_S / 4)
        assert other.settle_cancellations() == ["r1"]
        mark(run_id, stage)

    world.ledger.mark = slow_mark  # type: ignore[method-assign]
    claim = world.intake().accept(world.message(), intend=engine.intend).claim
    assert claim is not None
    watch = engine.begin(claim)
    assert isinstance(watch, Watch)
    assert engine.settle_cancellations() == ["r1"], "so the job that runs is stopped"
    engine.observe(watch.entry, JobStatus(JobState.ACTIVE))
    assert world.jobs[0].states() == [JobState.CANCELLED]
    engine.observe(watch.entry, JobStatus(JobState.CANCELLED))
    assert world.record().outcome is Outcome.CANCELLED
    world.clock.move(SETTLE_S)
    other.settle_cancellations()
    assert list(world.ledger.cancelling()) == []


def test_a_record_that_cannot_be_read_does_not_keep_other_runs_from_being_stopped(world: StageWorld) -> None:
    """A newer version has written it, say."""
    engine = world.engine()
    for run_id in ("r1", "r2"):
        world.ledger.cancel(run_id, "somebody", world.clock.now)
    world.objects.write("runs/r1/preprocess.json", b'{"state": "of the future"}', if_generation=0)
    engine.settle_cancellations()
    world.clock.move(SETTLE_S)
    assert engine.settle_cancellations() == ["r1", "r2"]
    assert list(world.ledger.cancelling()) == ["r1"]


def test_a_cancelled_run_does_not_wait_for_what_its_job_left(world: StageWorld) -> None:
    """Its store may be away for hours; nobody needs it any more."""
    engine, watch = world.watched()

    def away(context: Context, job: JobRef) -> dict[str, Any]:
        raise TransientError("503")

    world.jobs[0].collect = away  # type: ignore[method-assign]
    with pytest.raises(TransientError):
        engine.observe(watch.entry, JobStatus(JobState.SUCCEEDED))
    world.ledger.cancel("r1", "somebody", world.clock.now)
    engine.settle_cancellations()
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.SUCCEEDED)), Done)
    assert world.record().outcome is Outcome.CANCELLED
