"""One rollout at a time: the turn passes on when its holder has finished."""

import json
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

    def states(self, *run_ids: str) -> dict[str, JobState]:
        refs = [JobRef(id=r, name="n", kind=KIND, data={"object": "turns/served.json", "run_id": r}) for r in run_ids]
        return {run_id: status.state for run_id, status in self.turn.statuses(refs).items()}

    def holder(self) -> str:
        versioned = self.objects.read("turns/served.json")
        assert versioned is not None
        return str(json.loads(versioned.content)["run_id"])

    def reads(self) -> list[str]:
        """Return a list that every read from now on is added to."""
        reads: list[str] = []
        self.objects.on_effect = lambda moment, effect: reads.append(effect) if effect.startswith("read") else None
        return reads

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
    assert house.state("r1") is JobState.SUCCEEDED, "a late watcher is told to go on, and finds that the run has ended"
    assert house.holder() == "r2", "it takes no turn for a run that needs none"


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


def test_however_many_wait_few_records_are_read() -> None:
    """A thousand rollouts that wait for one endpoint cost a handful of reads a look, not three thousand."""
    run_ids = [f"r{number}" for number in range(1000)]
    house = House(*run_ids)
    assert house.state("r7") is JobState.SUCCEEDED
    reads = house.reads()
    states = house.states(*run_ids)
    assert reads[:2] == ["read turns/served.json", "read runs/r7/deploy.json"]
    assert len(reads) <= 10
    assert len(states) == 1000
    assert [run_id for run_id, state in states.items() if state is JobState.SUCCEEDED] == ["r7"]
    house.finish("r7")
    reads.clear()
    taken = house.states(*run_ids)
    assert len(reads) <= 15
    assert [run_id for run_id, state in taken.items() if state is JobState.SUCCEEDED] == ["r0", "r7"]


def test_a_run_that_finished_elsewhere_is_let_go_though_the_turn_is_never_free() -> None:
    """Another worker led it through its turn to its end, and the turn passed on: who still watches it hears of it."""
    run_ids = [f"r{number}" for number in range(60)]
    house = House("holder", *run_ids)
    assert house.state("holder") is JobState.SUCCEEDED
    house.finish("r33")
    reads = house.reads()
    looks = 0
    while house.states(*run_ids)["r33"] is JobState.WAITING:
        looks += 1
        assert looks < 500, "it is never told"
    assert len(reads) <= 10 * (looks + 1)
    assert set(house.states(*(r for r in run_ids if r != "r33")).values()) == {JobState.WAITING}
    assert house.holder() == "holder"


def test_a_record_that_cannot_be_read_stands_in_nobodys_way() -> None:
    """Neither the others of its endpoint nor those of other endpoints go without an answer."""
    broken = [f"b{number}" for number in range(20)]
    house = House("r1", "r2")
    for run_id in broken:
        house.objects.write(f"runs/{run_id}/deploy.json", b"{}", if_generation=0)
    house.objects.write("turns/other.json", b'{"run_id": "b1"}', if_generation=0)
    other = JobRef(id="r2", name="n", kind=KIND, data={"object": "turns/other.json", "run_id": "r2"})
    mine = JobRef(id="r1", name="n", kind=KIND, data={"object": "turns/served.json", "run_id": "r1"})
    assert set(house.turn.statuses([other, mine])) == {"r1"}
    house.finish("r1")
    looks = 0
    while house.states(*broken, "r2").get("r2") is not JobState.SUCCEEDED:
        looks += 1
        assert looks < 500, "it never gets the turn"
    assert house.holder() == "r2"


def test_of_several_that_could_take_a_free_turn_only_one_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lost to a quicker worker does not try for all its other runs as well."""
    house = House("r1", "r2", "r3")
    original = house.objects.write
    writes: list[str] = []

    def write_after_another(name: str, content: bytes, *, if_generation: int) -> int:
        writes.append(name)
        if len(writes) == 1:
            original(name, b'{"run_id": "of-another-worker"}', if_generation=if_generation)
        return original(name, content, if_generation=if_generation)

    monkeypatch.setattr(house.objects, "write", write_after_another)
    assert set(house.states("r1", "r2", "r3").values()) == {JobState.WAITING}
    assert writes == ["turns/served.json"]
