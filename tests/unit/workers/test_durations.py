"""The first look at a job comes when it may have ended, where its like have ended soon."""

from datetime import UTC, datetime

import pytest

from workers.durations import Durations, moment
from workers.held import Held
from workers.record import JobRef
from workers.schedule import Schedule

KIND = ("p", 0)


def looks(usual_s: float | None, age_s: float = 0.0, count: int = 3) -> list[float]:
    """Return when a job that goes on is looked at, in seconds from now, to the millisecond."""
    held = Held("r", *KIND, JobRef(id="j1", name="n", kind="k"), datetime(2026, 1, 1, tzinfo=UTC), 60.0, b"", 1)
    schedule, now, times, before = Schedule(0.1, 30.0), 0.0, [], None
    for _ in range(count):
        schedule.watch("r", held, now, before, age_s=age_s + now, usual_s=usual_s)
        due = schedule.next_due()
        assert due is not None
        before, now = schedule.due_jobs(due)["r"], due
        times.append(round(now, 3))
    return times


def test_the_first_look_comes_at_the_usual_end() -> None:
    """And the next ones soon after, further and further apart."""
    assert looks(0.024) == [0.024, 0.027, 0.032]
    assert looks(0.024, age_s=0.005)[0] == 0.019
    assert looks(0.024, age_s=0.030)[0] == 0.002


def test_what_was_learned_never_delays_a_look() -> None:
    """Jobs of a day are looked at as if nothing had been learned: this one may have failed at once."""
    assert looks(86_400.0) == looks(None)
    for usual_ms in range(300):
        learned = looks(usual_ms / 1000, count=6)
        assert all(look <= without for look, without in zip(learned, looks(None, count=6), strict=True)), usual_ms


def test_a_job_of_some_tenths_is_looked_at_when_it_should_have_ended() -> None:
    """Between two looks of the growing interval, as long as that is short."""
    assert looks(0.115, count=4) == [0.1, 0.115, 0.129, 0.151]
    assert looks(2.0, count=6) == [*looks(None, count=5), 2.0]
    assert looks(5.0, count=9) == looks(None, count=9)


def test_a_look_that_came_just_before_the_end_is_soon_followed_by_another() -> None:
    """The usual end has passed by the time that the growing interval is over, and this job takes a little longer."""
    assert looks(0.095, age_s=0.0, count=4) == [0.095, 0.107, 0.125, 0.151]
    assert looks(0.1, count=4) == [0.1, 0.108, 0.121, 0.14]
    assert looks(0.25, count=5) == [0.1, 0.25, 0.271, 0.302, 0.349]


def test_a_job_older_than_the_first_interval_goes_by_its_age() -> None:
    """A worker that comes up finds thousands; those are not the short jobs that its kind is known for."""
    assert looks(0.020, age_s=3600.0) == looks(None, age_s=3600.0)


def test_one_quick_job_makes_a_crowd_forgotten() -> None:
    """While two hundred waited for two machines each took seconds; the next one alone does not."""
    durations = Durations()
    assert durations.usual_s(KIND) is None
    for took_s in (4.0, 5.0, 6.0, 0.02):
        durations.learn(KIND, took_s)
    assert durations.usual_s(KIND) == 0.02
    assert durations.usual_s(("another", 0)) is None


def test_only_the_last_few_count() -> None:
    """A pipeline whose jobs have grown is not asked after too early for ever."""
    durations = Durations()
    for took_s in (0.01, 2.0, 2.0, 3.0, 2.0, 2.5):
        durations.learn(KIND, took_s)
    assert durations.usual_s(KIND) == 2.0
    durations.learn(KIND, -1.0)
    assert durations.usual_s(KIND) == 0.0


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-01-01T00:00:00.250Z", 250_000),
        ("2026-01-01T00:00:00.123456789Z", 123_456),
        ("2026-01-01T01:00:00+01:00", 0),
        ("", None),
        ("2026-01-01T00:00:00", None),
        ("yesterday", None),
    ],
)
def test_times_are_googles(text: str, micros: int | None) -> None:
    """Any number of decimals is read; a missing or odd time, or one without its zone, teaches nothing."""
    found = moment(text)
    assert (None if found is None else (found - datetime(2026, 1, 1, tzinfo=UTC)).microseconds) == micros
