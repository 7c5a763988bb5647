"""The schedule asks less and less often, and never lets two threads work on one run."""

from typing import Any

from workers.engine import Watch
from workers.record import JobRef
from workers.schedule import Schedule


def watch(job_id: str = "j1") -> Watch:
    entry: Any = None
    return Watch(entry, JobRef(id=job_id, name="n", kind="k"))


def test_intervals_grow_to_the_limit_and_begin_anew_with_a_new_job() -> None:
    """A day-long job is not asked for ten times a second, a fresh one is."""
    schedule, now, before, waits = Schedule(0.1, 30.0), 0.0, None, []
    for _ in range(20):
        schedule.watch("r", watch(), now, before)
        due = schedule.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
        before = schedule.due_jobs(now)["r"]
    assert waits[0] == 0.1
    assert waits == sorted(waits)
    assert waits[-1] == 30.0
    schedule.watch("r", watch("j2"), now, before)
    assert schedule.next_due() == now + 0.1


def test_a_run_is_worked_on_by_one_thread() -> None:
    """Asking for a busy run has it looked at once more, afterwards."""
    schedule = Schedule(0.1, 30)
    assert schedule.begin("r")
    assert not schedule.begin("r")
    assert "r" in schedule
    assert schedule.end("r")
    assert schedule.begin("r")
    assert not schedule.end("r")
    assert "r" not in schedule


def test_what_waits_comes_when_it_is_due() -> None:
    """Runs wait in the order of their times, whatever the order in which they came."""
    schedule = Schedule(0.1, 30)
    schedule.wait("b", 2.0)
    schedule.wait("a", 1.0)
    assert len(schedule) == 2
    assert schedule.due_runs(0.5) == []
    assert schedule.due_runs(2.0) == ["a", "b"]
    assert schedule.next_due() is None


def test_a_run_that_waits_twice_comes_once() -> None:
    """Its newest time counts: being woken in between leaves nothing behind."""
    schedule = Schedule(0.1, 30)
    schedule.wait("r", 5.0)
    schedule.wait("r", 2.0)
    assert schedule.due_runs(3.0) == ["r"]
    assert schedule.due_runs(9.0) == []
    schedule.wait("r", 12.0)
    assert schedule.begin("r")
    assert schedule.due_runs(20.0) == []


def test_a_run_in_a_hurry_is_looked_at_now() -> None:
    """A cancelled run does not wait for the next look at its job, nor for its backoff; another's is none of ours."""
    schedule = Schedule(10.0, 30)
    schedule.watch("watched", watch(), 0.0)
    schedule.wait("waiting", 300.0)
    for run_id in ("watched", "waiting", "elsewhere"):
        schedule.hurry(run_id, 1.0)
    assert list(schedule.due_jobs(1.0)) == ["watched"]
    assert schedule.due_runs(1.0) == ["waiting"]
    assert schedule.job_ids() == {"j1"}


def test_while_jobs_are_asked_for_no_other_job_is_due() -> None:
    """The loop would turn without end otherwise."""
    schedule = Schedule(1.0, 30)
    schedule.watch("a", watch(), 0.0)
    schedule.wait("b", 5.0)
    assert schedule.next_due() == 1.0
    assert schedule.next_due(is_polling=True) == 5.0
