"""A job that was launched too late is stopped by whoever launched it, unless the record may still count on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from workers.engine import Engine, Watch
from workers.errors import TransientError
from workers.ledger import Entry
from workers.record import JobRef, State
from workers.stage import Context, JobState

Meanwhile = Callable[[StageWorld, Engine, Entry], object]


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    return StageWorld(tmp_path, phases=1)


def launch_late(world: StageWorld, meanwhile: Meanwhile) -> None:
    """Have w1 launch, and w2 do something to the record between w1's launch and its writing that down."""
    world.intake().accept(world.message())
    owner, other, create = world.engine("w1"), world.engine("w2"), world.jobs[0].create

    def slow(context: Context) -> JobRef:
        job = create(context)
        there = world.ledger.read("r1", "preprocess")
        assert there is not None
        world.jobs[0].create = create  # type: ignore[method-assign]
        meanwhile(world, other, there)
        return job

    world.jobs[0].create = slow  # type: ignore[method-assign]
    try:
        owner.advance("r1")
    except TransientError:
        return


def takes_another(world: StageWorld, other: Engine, there: Entry) -> None:
    job = JobRef(id="another", name="n", kind="custom-job")
    world.ledger.move(there, there.record.moved(State.RUNNING, now=world.clock.now, by="w2", job=job))


def goes_on_to_the_next_attempt(world: StageWorld, other: Engine, there: Entry) -> None:
    world.ledger.move(there, there.record.moved(State.LAUNCHING, now=world.clock.now, by="w2", attempt=2))


def adopts_it(world: StageWorld, other: Engine, there: Entry) -> None:
    world.clock.move(SETTLE_S)
    assert isinstance(other.advance("r1"), Watch)


def takes_the_intent_over(world: StageWorld, other: Engine, there: Entry) -> None:
    world.ledger.move(there, there.record.moved(State.LAUNCHING, now=world.clock.now, by="w2"))


@pytest.mark.parametrize("meanwhile", [takes_another, goes_on_to_the_next_attempt])
def test_a_job_that_came_too_late_is_stopped(world: StageWorld, meanwhile: Meanwhile) -> None:
    """The record counts on another, or has left the attempt behind."""
    launch_late(world, meanwhile)
    assert world.jobs[0].jobs["job-1"]["state"] is JobState.CANCELLED


@pytest.mark.parametrize("meanwhile", [adopts_it, takes_the_intent_over])
def test_a_job_that_may_still_count_goes_on(world: StageWorld, meanwhile: Meanwhile) -> None:
    """Who took the intent over has found it, or will."""
    launch_late(world, meanwhile)
    assert world.jobs[0].jobs["job-1"]["state"] is JobState.ACTIVE


def test_one_that_cannot_be_stopped_now_is_left_to_the_search_for_strays(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, and the worker goes on."""

    def away(job: JobRef) -> None:
        raise TransientError("503")

    monkeypatch.setattr(world.jobs[0], "cancel", away)
    launch_late(world, takes_another)
    assert "late-job-cancelled" in (said := capsys.readouterr().out)
    assert "cancel-refused" in said
    assert world.record().job is not None
    assert world.record().job.id == "another"  # type: ignore[union-attr]
