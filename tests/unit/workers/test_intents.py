"""Whose an intent is, and for how long: its writer's own setting counts, from the time at which it may be acted on."""

from pathlib import Path

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from workers.engine import Engine, Later, Policy, Watch
from workers.errors import TransientError
from workers.record import JobRef, State
from workers.stage import Context, JobState, JobStatus

LONG_S, BACKOFF_S = 60.0, 30.0


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    return StageWorld(tmp_path, phases=1)


def engine(world: StageWorld, worker: str, settle_s: float) -> Engine:
    policy = Policy(settle_s=settle_s, backoff_first_s=BACKOFF_S)
    return Engine(world.stage, world.ledger, world.publisher, world.clock, worker, policy, jitter=lambda: 0.5)


def unheard(world: StageWorld, owner: Engine) -> None:
    """Have the owner's launch fail without an answer."""
    world.jobs[0].refuse = TransientError("503", ambiguous=True)
    with pytest.raises(TransientError):
        owner.advance("r1")
    world.jobs[0].refuse = None


def test_an_intent_is_left_alone_for_as_long_as_its_owner_is_set_to(world: StageWorld) -> None:
    """Two versions side by side may be set differently."""
    world.intake().accept(world.message())
    unheard(world, engine(world, "patient", LONG_S))
    world.clock.move(SETTLE_S + 1)
    hasty = engine(world, "hasty", SETTLE_S)
    assert hasty.advance("r1") == Later(LONG_S - SETTLE_S - 1)
    world.clock.move(LONG_S)
    hasty.advance("r1")
    assert world.record().mover == "hasty"


def failed_once(world: StageWorld) -> Engine:
    """Have a first attempt fail; return its worker, which is to wait before the next."""
    world.intake().accept(world.message())
    owner = engine(world, "w1", SETTLE_S)
    watch = owner.advance("r1")
    assert isinstance(watch, Watch)
    assert owner.observe(watch.entry, JobStatus(JobState.FAILED, message="pre-empted")) == Later(BACKOFF_S)
    return owner


def test_the_next_attempt_is_its_owners_from_its_time_on(world: StageWorld) -> None:
    """The pause does not count: at its end the intent is as young as any, though it was written long before."""
    failed_once(world)
    world.clock.move(BACKOFF_S + 1)
    assert engine(world, "w2", SETTLE_S).advance("r1") == Later(SETTLE_S - 1)
    assert world.record().mover == "w1"


def test_an_attempt_after_a_long_pause_is_not_late(world: StageWorld) -> None:
    """Its owner launches at once, without a look whether it slept."""
    owner = failed_once(world)
    world.clock.move(BACKOFF_S)
    assert isinstance(owner.advance("r1"), Watch)
    assert [step.note for step in world.record().history if step.attempt == 2] == ["job-failed", ""]


def test_an_intent_of_an_older_version_settles_all_the_same(world: StageWorld) -> None:
    """It says nothing of its settling: then it is counted by our own setting, and from its time on too."""
    failed_once(world)
    there = world.ledger.read("r1", "preprocess")
    assert there is not None
    world.ledger.move(there, there.record.model_copy(update={"settles_at": None}))
    world.clock.move(BACKOFF_S + 1)
    other = engine(world, "w2", SETTLE_S)
    assert other.advance("r1") == Later(SETTLE_S - 1)
    world.clock.move(SETTLE_S)
    other.advance("r1")
    assert world.record().mover == "w2"


def test_who_reads_and_sleeps_before_it_writes_is_stopped_by_the_fence(world: StageWorld) -> None:
    """A phase that looks at what it is about to change asks once more whether it is still its turn."""
    world.intake().accept(world.message())
    owner, create = engine(world, "w1", SETTLE_S), world.jobs[0].create

    def sleeps(context: Context) -> JobRef:
        context.fence()
        world.clock.move(SETTLE_S)
        context.fence()
        return create(context)

    world.jobs[0].create = sleeps  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="late") as fault:
        owner.advance("r1")
    assert fault.value.retry_after_s == 0.0
    assert world.jobs[0].jobs == {}
    assert world.record().state is State.LAUNCHING


def test_a_cancellation_that_is_over_is_forgotten(world: StageWorld) -> None:
    """A worker that lives for months does not keep the id of every run that was ever cancelled."""
    owner = engine(world, "w1", SETTLE_S)
    world.ledger.cancel("r1", "somebody", world.clock.now)
    assert owner.settle_cancellations() == ["r1"]
    assert owner._moves.cancelled == {"r1"}
    world.clock.move(SETTLE_S)
    owner.settle_cancellations()
    assert owner.settle_cancellations() == []
    assert owner._moves.cancelled == set()
    assert owner._standing == {}
