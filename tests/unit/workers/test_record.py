"""The history of a record: what it tells, and that it stays short."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workers.record import STEPS_TOLD, JobRef, StageRecord, State, Trigger

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def claimed() -> StageRecord:
    trigger = Trigger(id="e1", type="t", source="s", time=NOW, body={})
    plain = StageRecord(run_id="r1", stage="deploy", pipeline="p", state=State.CLAIMED, trigger=trigger, config={})
    return plain.moved(State.CLAIMED, now=NOW, by="w0")


def intent(record: StageRecord, by: str, note: str = "", phase: str = "smoke", **changes: Any) -> StageRecord:
    """Write the next intent, ten seconds later."""
    now = record.since + timedelta(seconds=10)
    moved = record.moved(State.LAUNCHING, now=now, by=by, note=note, phase_name=phase, **{"attempt": 1, **changes})
    return StageRecord.from_json(moved.to_json())


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_take_over_from_each_other_do_not_grow_the_history(workers: int) -> None:
    """A provider that is away for a day: the first steps are told, the last one, and how many were left out between."""
    record = intent(claimed(), "w0")
    for number in range(1, 5000):
        record = intent(record, f"w{number % workers}", f"taken over from {record.mover}")
        if number % 7 == 0:
            record = intent(record, record.mover, "late: looks again")
    assert len(record.history) == 1 + STEPS_TOLD
    assert [step.note for step in record.history[:4]] == ["", "", "taken over from w0", "taken over from w1"]
    assert record.mover == f"w{4999 % workers}"
    assert record.since == NOW + timedelta(seconds=10 * (1 + 4999 + 4999 // 7))
    assert record.history[-1].left_out == 1 + 4999 + 4999 // 7 - STEPS_TOLD


def test_what_differs_in_attempt_phase_or_job_is_told() -> None:
    """Only steps in a row that say the same of the stage are drawn together; no job's id is lost."""
    record = claimed()
    for attempt in (1, 2, 3):
        for number in range(20):
            record = intent(record, f"w{number % 2}", f"taken over from w{(number + 1) % 2}", attempt=attempt, job=None)
        for name in ("j1", "j2"):
            job = JobRef(id=f"{name}-a{attempt}", name="n", kind="k")
            now = record.since + timedelta(seconds=1)
            record = record.moved(State.RUNNING, now=now, by="w1", phase_name="smoke", job=job)
    assert record.history[0].state is State.CLAIMED
    jobs = [step.job_id for step in record.history if step.job_id]
    assert jobs == ["j1-a1", "j2-a1", "j1-a2", "j2-a2", "j1-a3", "j2-a3"]
    assert len(record.history) == 1 + 3 * (STEPS_TOLD + 2)


def test_a_short_to_and_fro_is_told_whole() -> None:
    """An intent that is taken over a few times reads as it happened."""
    record = intent(claimed(), "w0")
    for by in ("w1", "w2", "w1"):
        record = intent(record, by, f"taken over from {record.mover}")
    assert [step.by for step in record.history] == ["w0", "w0", "w1", "w2", "w1"]
    assert {step.left_out for step in record.history} == {None}
