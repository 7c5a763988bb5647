"""The schedule asks less and less often, and never lets two threads work on one run."""

from datetime import UTC, datetime

from workers.held import Held
from workers.record import JobRef
from workers.schedule import Schedule


def held(job_id: str = "j1") -> Held:
    job = JobRef(id=job_id, name="n", kind="k")
    return Held("r", "p", 0, job, datetime(2026, 1, 1, tzinfo=UTC), 3600.0, b"", generation=1)


def test_intervals_grow_to_the_limit_and_begin_anew_with_a_new_job() -> None:
    """A day-long job is not asked for ten times a second, a fresh one is."""
    schedule, now, before, waits = Schedule(0.1, 30.0), 0.0, None, []
    for _ in range(20):
        schedule.watch("r", held(), now, before)
        due = schedule.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
        before = schedule.due_jobs(now)["r"]
    assert waits[0] == 0.1
    assert waits[:6] == sorted(waits[:6])
    assert all(14.0 < wait_s <= 30.0 for wait_s in waits[16:])
    schedule.watch("r", held("j2"), now, before)
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
    schedule.watch("watched", held(), 0.0)
    schedule.wait("waiting", 300.0)
    for run_id in ("watched", "waiting", "elsewhere"):
        schedule.hurry(run_id, 1.0)
    assert list(schedule.due_jobs(1.0)) == ["watched"]
    assert schedule.due_runs(1.0) == ["waiting"]
    assert schedule.job_ids() == {"j1"}


def test_while_jobs_are_asked_for_no_other_job_is_due() -> None:
    """The loop would turn without end otherwise."""
    schedule = Schedule(1.0, 30)
    schedule.watch("a", held(), 0.0)
    schedule.wait("b", 5.0)
    assert schedule.next_due() == 1.0
    assert schedule.next_due(is_polling=True) == 5.0


def test_what_can_wait_is_looked_at_together() -> None:
    """A list tells of all jobs: ten thousand that come one by one are asked for twice in an interval."""
    schedule, now, looks = Schedule(0.1, 30), 0.0, []
    for number in range(10_000):
        schedule.watch(f"r{number}", held(f"j{number}"), number * 0.003, age_s=3600.0)
    while now < 600.0:
        now = schedule.next_due() or 0.0
        due = schedule.due_jobs(now)
        looks.append((now, len(due)))
        for run_id, watched in due.items():
            schedule.watch(run_id, watched.held, now, watched)
    settled = [count for time, count in looks if time > 300.0]
    assert len(settled) <= 1 + 300 / 30 * 2
    assert sum(settled) >= 10_000 * 300 / 30
    assert len(looks) < 80


def test_a_job_that_has_run_for_long_is_not_looked_at_like_a_new_one() -> None:
    """A worker that starts among thousands of old jobs begins where the one before it was, but for a first look."""
    schedule = Schedule(0.1, 30)
    schedule.watch("new", held("j1"), 0.0)
    schedule.watch("old", held("j2"), 0.0, age_s=3600.0)
    due = schedule.next_due()
    assert due == 0.1
    assert list(schedule.due_jobs(1.8)) == ["new"]
    assert list(schedule.due_jobs(3.75)) == ["old"]


def test_after_a_long_look_no_job_is_asked_for_at_once() -> None:
    """What waits for a time does not wait for that."""
    schedule = Schedule(1.0, 30)
    schedule.watch("a", held(), 0.0)
    assert schedule.next_due(polls_from=7.0) == 7.0
    schedule.wait("b", 5.0)
    assert schedule.next_due(polls_from=7.0) == 5.0
