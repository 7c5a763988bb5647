"""A claim may bring the intent of its first launch: one write for two, and nothing to look for while it is young."""

from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from tests.support.world import MemoryJobs
from workers.engine import Done, Later, Watch
from workers.errors import TransientError
from workers.record import JobRef, State
from workers.stage import Context, JobState, JobStatus


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    return StageWorld(tmp_path)


def effects(world: StageWorld) -> list[str]:
    """Return a list that every further effect is noted in."""
    seen: list[str] = []
    world.hook(lambda moment, effect: seen.append(effect) if moment == "before" else None)
    return seen


def test_a_claim_with_its_intent_is_launched_without_a_look(world: StageWorld) -> None:
    """Between the claim and the job there is neither a read nor a write; the timeline tells of both steps."""
    engine = world.engine()
    claim = world.intake().accept(world.message(), engine.intend).claim
    assert claim is not None
    assert [step.state for step in world.record().history] == [State.CLAIMED, State.LAUNCHING]
    seen = effects(world)
    assert isinstance(engine.begin(claim), Watch)
    assert seen == ["create", "write runs/r1/preprocess.json"]


def test_a_claim_without_an_intent_looks_for_the_tombstone_only(world: StageWorld) -> None:
    """It may have waited for a thread: the run may be cancelled by now, but nobody can have launched."""
    engine = world.engine()
    claim = world.intake().accept(world.message()).claim
    assert claim is not None
    seen = effects(world)
    assert isinstance(engine.begin(claim), Watch)
    record = "write runs/r1/preprocess.json"
    assert seen == [record, "read runs/r1/cancelled.json", "create", record]


def test_an_intent_that_grew_old_is_looked_at_before_anything_is_made(world: StageWorld) -> None:
    """Its owner slept: by now the intent may be somebody else's, and the job be there."""
    engine = world.engine("w1")
    claim = world.intake("w1").accept(world.message(), engine.intend).claim
    assert claim is not None
    world.clock.move(SETTLE_S + 1)
    assert isinstance(world.engine("w2").advance("r1"), Watch)
    assert isinstance(engine.begin(claim), Watch)
    assert len(world.jobs[0].jobs) == 1


def test_a_claims_intent_is_its_own_threads(world: StageWorld) -> None:
    """A sweep of the same process that finds the record before the claim's answer is there leaves it alone."""
    engine = world.engine()
    claim = world.intake().accept(world.message(), engine.intend).claim
    assert claim is not None
    assert isinstance(engine.advance("r1"), Later)
    assert isinstance(engine.begin(claim), Watch)
    assert len(world.jobs[0].jobs) == 1


def test_a_refusal_for_the_moment_does_not_cost_the_settle_time(world: StageWorld) -> None:
    """The thread has acted, and said so: from then on the intent is the process's, as any other."""
    engine = world.engine()
    claim = world.intake().accept(world.message(), engine.intend).claim
    assert claim is not None
    world.jobs[0].refuse = TransientError("busy")
    with pytest.raises(TransientError):
        engine.begin(claim)
    world.jobs[0].refuse = None
    assert isinstance(engine.advance("r1"), Watch)


def test_a_claim_that_slept_after_its_look_for_the_tombstone_looks_again(world: StageWorld) -> None:
    """Between the look and the claim somebody may have cancelled the run."""
    engine = world.engine()

    def sleep_and_be_cancelled(moment: str, effect: str) -> None:
        if (moment, effect) == ("before", "write runs/r1/preprocess.json"):
            world.clock.move(600)
            world.ledger.cancel("r1", "somebody", world.clock())

    world.hook(sleep_and_be_cancelled)
    claim = world.intake().accept(world.message(), engine.intend).claim
    assert claim is not None
    assert isinstance(engine.begin(claim), Done)
    assert world.jobs[0].jobs == {}


def test_a_lost_answer_is_never_asked_again_without_a_look(world: StageWorld) -> None:
    """What is known of a first intent counts for one try only."""
    engine = world.engine()
    claim = world.intake().accept(world.message(), engine.intend).claim
    assert claim is not None

    def lose_the_first_answer(moment: str, effect: str) -> None:
        if (moment, effect) == ("after", "create") and len(world.jobs[0].jobs) == 1:
            raise TransientError("lost", ambiguous=True)

    world.hook(lose_the_first_answer)
    with pytest.raises(TransientError):
        engine.begin(claim)
    world.hook(lambda moment, effect: None)
    assert isinstance(engine.advance("r1"), Later)
    world.clock.move(SETTLE_S)
    assert isinstance(engine.advance("r1"), Watch)
    assert len(world.jobs[0].jobs) == 1


def test_a_dead_claimers_intent_is_taken_over_once_it_has_settled(world: StageWorld) -> None:
    """A crash between claim and launch delays the run by the settle time, and loses nothing."""
    world.intake("w1").accept(world.message(), world.engine("w1").intend)
    other = world.engine("w2")
    assert isinstance(other.advance("r1"), Later)
    world.clock.move(SETTLE_S + 1)
    assert isinstance(other.advance("r1"), Watch)
    assert len(world.jobs[0].jobs) == 1


class Asking(MemoryJobs):
    """Asks, once its job is there, whether nobody else can have made one."""

    alone: ClassVar[list[bool]] = []

    def create(self, context: Context) -> JobRef:
        made = super().create(context)
        self.alone.append(context.is_alone())
        return made


@pytest.mark.parametrize(("takes_s", "is_alone"), [(0.0, True), (SETTLE_S / 4, True), (SETTLE_S / 2, False)])
def test_only_the_answer_to_a_young_first_intent_needs_no_second_look(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch, takes_s: float, is_alone: bool
) -> None:
    """Whoever takes the intent over may have launched before an owner that slept; not at a later attempt or look either."""
    asking = Asking(name=world.jobs[0].name)
    monkeypatch.setattr(Asking, "alone", [])
    world.jobs[:] = [asking]
    world.stage.phases = (asking,)
    engine = world.engine()
    claim = world.intake().accept(world.message(), engine.intend).claim
    assert claim is not None
    world.hook(lambda moment, effect: world.clock.move(takes_s) if (moment, effect) == ("before", "create") else None)
    watch = engine.begin(claim)
    assert isinstance(watch, Watch)
    assert asking.alone == [is_alone]
    later = engine.observe(watch.entry, JobStatus(JobState.FAILED))
    assert isinstance(later, Later)
    world.clock.move(later.wait_s)
    world.hook(lambda _moment, _effect: None)
    assert isinstance(engine.advance("r1"), Watch)
    assert asking.alone == [is_alone, False]


def test_a_phase_that_finds_more_than_its_own_is_always_asked(world: StageWorld) -> None:
    """An endpoint, say, may be there from an earlier run."""
    world.jobs[0].is_made_by_launches = False
    engine = world.engine()
    claim = world.intake().accept(world.message(), engine.intend).claim
    assert claim is not None
    seen = effects(world)
    engine.begin(claim)
    assert seen[:3] == ["read runs/r1/cancelled.json", "find", "create"]
