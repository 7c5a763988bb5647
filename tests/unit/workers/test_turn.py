"""One rollout at a time: the turn passes on when its holder has finished."""

from datetime import UTC, datetime

import pytest

from tests.support.world import MemoryObjects
from workers.errors import TransientError
from workers.ledger import Ledger
from workers.record import JobRef, StageRecord, State, Trigger
from workers.stage import JobState
from workers.turn import KIND, TurnPhase

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class House:
    """The ledger with the deploy stages of some runs, and the phase."""

    def __init__(self, *run_ids: str) -> None:
        self.objects = MemoryObjects()
        self.ledger = Ledger(self.objects)
        self.turn = TurnPhase(self.objects, self.ledger, "deploy")
        for run_id in run_ids:
            trigger = Trigger(id="e1", type="t", source="s", time=NOW, body={})
            plain = StageRecord(
                run_id=run_id, stage="deploy", pipeline="p", state=State.CLAIMED, trigger=trigger, config={}
            )
            self.ledger.claim(plain.moved(State.CLAIMED, now=NOW, by="w"))

    def state(self, run_id: str) -> JobState:
        waits = JobRef(id=run_id, name="n", kind=KIND, data={"object": "turns/served.json", "run_id": run_id})
        return self.turn.statuses([waits])[run_id].state

    def finish(self, run_id: str) -> None:
        entry = self.ledger.read(run_id, "deploy")
        assert entry is not None
        self.ledger.move(entry, entry.record.moved(State.FINISHED, now=NOW, by="w"))


def test_the_turn_passes_on_when_its_holder_has_finished() -> None:
    """Whoever comes first has it; the others wait, for as long as it takes."""
    house = House("r1", "r2")
    assert house.state("r1") is JobState.SUCCEEDED
    assert house.state("r2") is JobState.WAITING
    assert house.state("r1") is JobState.SUCCEEDED, "asked again, it is still its own"
    house.finish("r1")
    assert house.state("r2") is JobState.SUCCEEDED
    assert house.state("r1") is JobState.WAITING, "a late watcher takes no turn for a run that needs none"


def test_one_unanswered_question_does_not_hide_the_other_answers() -> None:
    """A run whose turn could not be learned is left out, the others are told."""
    house = House("r1", "r2")
    original = house.objects.read

    def read(name: str) -> object:
        if "r2" in name:
            raise TransientError("503")
        return original(name)

    house.objects.read = read  # type: ignore[method-assign, assignment]
    refs = [JobRef(id=r, name="n", kind=KIND, data={"object": "turns/served.json", "run_id": r}) for r in ("r2", "r1")]
    assert set(house.turn.statuses(refs)) == {"r1"}


def test_only_one_of_two_that_race_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loser of the compare-and-set waits."""
    house = House("r1", "r2")
    original = house.objects.write

    def write_after_another(name: str, content: bytes, *, if_generation: int) -> int:
        monkeypatch.setattr(house.objects, "write", original)
        assert house.state("r2") is JobState.SUCCEEDED
        return original(name, content, if_generation=if_generation)

    monkeypatch.setattr(house.objects, "write", write_after_another)
    assert house.state("r1") is JobState.WAITING


def test_however_many_wait_the_holder_is_looked_at_once() -> None:
    """A thousand rollouts that wait for one endpoint cost two reads a look, not three thousand."""
    run_ids = [f"r{number}" for number in range(1000)]
    house = House(*run_ids)
    assert house.state("r7") is JobState.SUCCEEDED
    reads: list[str] = []
    house.objects.on_effect = lambda moment, effect: reads.append(effect) if effect.startswith("read") else None
    refs = [JobRef(id=r, name="n", kind=KIND, data={"object": "turns/served.json", "run_id": r}) for r in run_ids]
    states = house.turn.statuses(refs)
    assert reads == ["read turns/served.json", "read runs/r7/deploy.json"]
    assert [job_id for job_id, status in states.items() if status.state is JobState.SUCCEEDED] == ["r7"]
    house.finish("r7")
    taken = house.turn.statuses(refs)
    assert [job_id for job_id, status in taken.items() if status.state is JobState.SUCCEEDED] == ["r0", "r7"]
