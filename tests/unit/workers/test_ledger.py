"""The ledger's markers, and what a cancellation leaves and takes away."""

from datetime import UTC, datetime
from typing import Any

from tests.support.world import MemoryObjects
from workers.ledger import Ledger
from workers.record import StageRecord, State, Transition, Trigger

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(state: State = State.CLAIMED, **given: Any) -> StageRecord:
    trigger = Trigger(id="e1", type="t", source="s", time=NOW, body={})
    plain = StageRecord(run_id="r1", stage="train", pipeline="p", state=state, trigger=trigger, config={}, **given)
    return plain.moved(state, now=NOW, by="w1")


def test_a_cancellation_is_listed_until_every_stage_has_ended() -> None:
    """So the workers learn of it with one call, whatever the number of runs."""
    ledger = Ledger(MemoryObjects())
    entry = ledger.claim(record())
    ledger.cancel("r1", "someone", NOW)
    ledger.settle_cancellation("r1", "w1", NOW)
    assert list(ledger.cancelling()) == ["r1"]
    ledger.move(entry, entry.record.moved(State.PUBLISHED, now=NOW, by="w1"))
    ledger.settle_cancellation("r1", "w1", NOW)
    assert list(ledger.cancelling()) == []
    assert ledger.is_cancelled("r1"), "the tombstone stays"


def test_half_a_cancellation_is_completed_by_whoever_finds_it() -> None:
    """The canceller died between the marker and the tombstone: what was accepted counts."""
    objects = MemoryObjects()
    ledger = Ledger(objects)
    ledger.claim(record())
    objects.write("cancelling/r1", b"{}", if_generation=0)
    assert not ledger.is_cancelled("r1")
    ledger.settle_cancellation("r1", "w1", NOW)
    assert ledger.is_cancelled("r1")


def test_fields_of_a_newer_version_survive_a_move() -> None:
    """Workers of two versions move the same record in turn."""
    newer = record().model_copy(update={"of_a_newer_version": {"kept": True}})
    read = StageRecord.from_json(newer.to_json())
    moved = StageRecord.from_json(read.moved(State.LAUNCHING, now=NOW, by="w2").to_json())
    assert moved.model_extra == {"of_a_newer_version": {"kept": True}}


def test_an_outage_does_not_grow_the_history() -> None:
    """The same step again takes the place of the one before it, with its newer time."""
    moved = record()
    for second in range(100):
        moved = moved.moved(
            State.LAUNCHING, now=NOW.replace(second=second % 60), by="w1", attempt=1, note="looks again"
        )
    assert [step.state for step in moved.history] == [State.CLAIMED, State.LAUNCHING]
    assert moved.since == NOW.replace(second=39)
    assert isinstance(moved.history[-1], Transition)
