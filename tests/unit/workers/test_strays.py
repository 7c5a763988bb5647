"""Jobs that nobody counts on are stopped, and no others."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.world import MemoryObjects
from workers.errors import LaunchRefused, TransientError
from workers.ledger import Ledger
from workers.record import JobRef, Outcome, StageRecord, State, Trigger
from workers.strays import Labelled, Strays, is_stray

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(state: State, attempt: int = 2, **given: Any) -> StageRecord:
    trigger = Trigger(id="e1", type="t", source="s", time=NOW, body={})
    plain = StageRecord(run_id="r1", stage="train", pipeline="p", state=State.CLAIMED, trigger=trigger, config={})
    return plain.moved(state, now=NOW, by="w1", phase_name="custom-job", attempt=attempt, **given)


def job(id_: str, kind: str = "custom-job") -> JobRef:
    return JobRef(id=id_, name="n", kind=kind)


def found(id_: str = "j2", attempt: int = 2, kind: str = "custom-job") -> Labelled:
    return Labelled(job(id_, kind), "r1", attempt)


@pytest.mark.parametrize(
    ("there", "looked_at", "expected"),
    [
        (record(State.LAUNCHING), found(), False),  # about to be adopted
        (record(State.RUNNING, job=job("j2")), found("j2"), False),
        (record(State.RUNNING, job=job("j1")), found("j2"), True),  # a twin
        (record(State.LAUNCHING), found(attempt=1), True),
        (record(State.RUNNING, attempt=1, job=job("j1")), found(attempt=2), False),  # ours is the older view
        (record(State.PUBLISHED, outcome=Outcome.SUCCEEDED), found(), True),
        (record(State.PUBLISHED, outcome=Outcome.SUCCEEDED), found(kind="deployed-model"), False),  # it serves
        (record(State.PUBLISHED, outcome=Outcome.FAILED), found(kind="deployed-model"), True),
    ],
)
def test_a_stray_is_what_no_record_can_ever_count_on(there: StageRecord, looked_at: Labelled, expected: bool) -> None:
    """An attempt that is over does not come back, and the job that a running record names stays the one."""
    assert is_stray(there, "custom-job", looked_at) is expected


class Provider:
    """A phase that lists the same jobs always; some have ended since, some may not be cancelled."""

    name = "custom-job"

    def __init__(self, *jobs: Labelled, ended: Collection[str] = (), refuses: bool = False) -> None:
        self.jobs, self.ended, self.refuses = jobs, ended, refuses
        self.cancelled: list[str] = []

    def active(self, known: Collection[str]) -> Iterator[Labelled]:
        return (labelled for labelled in self.jobs if labelled.job.id not in known)

    def is_active(self, job: JobRef) -> bool:
        return job.id not in self.ended

    def cancel(self, job: JobRef) -> None:
        if self.refuses:
            raise LaunchRefused("it cannot be cancelled", "wait")
        self.cancelled.append(job.id)


def test_only_strays_that_still_run_are_stopped() -> None:
    """Known jobs, jobs that have ended, and another ledger's runs are left alone."""
    ledger = Ledger(MemoryObjects())
    ledger.claim(record(State.RUNNING, job=job("j1")))
    other = Labelled(job("theirs"), "a-run-of-another-ledger", 1)
    provider = Provider(found("j1"), found("j2"), found("j3"), found("j4"), other, ended=["j3"])
    assert Strays("train", [provider, object()], ledger).stop(known={"j4"}) == ["j2"]
    assert provider.cancelled == ["j2"]


def test_a_refused_cancellation_is_no_fault_of_the_search() -> None:
    """The next search sees the job again."""
    ledger = Ledger(MemoryObjects())
    ledger.claim(record(State.RUNNING, job=job("j1")))
    assert Strays("train", [Provider(found("j2"), refuses=True)], ledger).stop(known=()) == ["j2"]


def test_a_record_that_cannot_be_read_does_not_end_the_search() -> None:
    """Whether its job counts nobody can say: it is left alone, and the stray after it is stopped."""
    objects = MemoryObjects()
    ledger = Ledger(objects)
    ledger.claim(record(State.RUNNING, job=job("j1")))
    newer = record(State.RUNNING).to_json().replace(b'"running"', b'"a-state-of-a-newer-version"')
    objects.write("runs/r0/train.json", newer, if_generation=0)
    provider = Provider(Labelled(job("j0"), "r0", 1), found("j2"))
    assert Strays("train", [provider], ledger).stop(known=()) == ["j2"]
    assert provider.cancelled == ["j2"]


class HalfAway(Provider):
    """It says of the jobs of odd numbers neither whether they run nor stops them."""

    def is_active(self, job: JobRef) -> bool:
        if int(job.id[1:]) % 2:
            raise TransientError(f"{job.id}: 503")
        return True


def test_a_job_without_an_answer_does_not_hide_the_stray_after_it() -> None:
    """The search says in the end that it was not whole."""
    ledger = Ledger(MemoryObjects())
    ledger.claim(record(State.PUBLISHED, outcome=Outcome.SUCCEEDED))
    provider = HalfAway(found("j1"), found("j2"), found("j3"), found("j4"))
    with pytest.raises(TransientError, match="j1"):
        Strays("train", [provider], ledger).stop(known=())
    assert provider.cancelled == ["j2", "j4"]


def test_a_provider_that_is_away_is_not_asked_of_every_job() -> None:
    """Each question takes as long as it is tried again; after a few the search waits for the next time."""
    ledger = Ledger(MemoryObjects())
    ledger.claim(record(State.PUBLISHED, outcome=Outcome.SUCCEEDED))
    provider = HalfAway(*(found(f"j{2 * number + 1}") for number in range(50)), found("j2"))
    with pytest.raises(TransientError):
        Strays("train", [provider], ledger).stop(known=())
    assert provider.cancelled == []
