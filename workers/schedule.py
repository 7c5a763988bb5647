"""When each run is looked at next: those that wait for a time, and those that wait for a job.

A job's interval grows from `poll_first_s` to `poll_max_s`, so the same setting suits a laptop job of a second and a
training of a day; where jobs of its kind have ended sooner than that, the first look comes when this one may have. Looks
that can wait for a second or longer wait for each other: one list tells of all jobs, so ten thousand that are looked at
together cost as many calls as there are pages, and one by one as many as there are jobs.
What the loop asks at every turn costs the same with ten runs and with ten thousand. Not thread-safe: the loop owns it.
"""

import heapq
import itertools
import math
from dataclasses import dataclass, field

from workers.held import Held

_GROWTH = 1.5
_TOGETHER_S = 1.0  # intervals from here on end at common times
_AGES = 16  # a job found running after so many intervals of its age is looked at as one whose interval has grown
_EARLY = 8  # ... but sooner at first: it may have ended while nobody looked
_STEPS = 12  # a job that takes a little longer than usual is looked at again after so small a part of that time
_SOONEST_S = 0.002  # about what a look takes


@dataclass(slots=True)
class Watched:
    """A running job and when its state is asked for next, in seconds of the monotonic clock."""

    held: Held
    interval_s: float
    due: float


@dataclass(slots=True)
class _Due:
    """Run ids by time. An entry is void once its run has another time; void ones are dropped when they come up."""

    times: dict[str, float] = field(default_factory=dict)
    _heap: list[tuple[float, int, str]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def set(self, run_id: str, time: float) -> None:
        self.times[run_id] = time
        heapq.heappush(self._heap, (time, next(self._order), run_id))

    def next(self) -> float | None:
        while self._heap and self.times.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> list[str]:
        """Take out the runs whose time has come, the earliest first."""
        found = []
        while (time := self.next()) is not None and time <= now:
            found.append(heapq.heappop(self._heap)[2])
            del self.times[found[-1]]
        return found


@dataclass(slots=True)
class Schedule:
    """All runs that this process takes care of."""

    poll_first_s: float
    poll_max_s: float
    _watched: dict[str, Watched] = field(default_factory=dict)
    _looks: _Due = field(default_factory=_Due)  # at watched jobs
    _waits: _Due = field(default_factory=_Due)
    _busy: set[str] = field(default_factory=set)
    _again: set[str] = field(default_factory=set)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._busy or run_id in self._watched or run_id in self._waits.times

    def __len__(self) -> int:
        return len(self._busy | self._watched.keys() | self._waits.times.keys())

    def begin(self, run_id: str) -> bool:
        """Note that a thread works on the run; False if one does already, which will then look again at its end."""
        if run_id in self._busy:
            self._again.add(run_id)
            return False
        self._busy.add(run_id)
        self._watched.pop(run_id, None)
        self._looks.times.pop(run_id, None)
        self._waits.times.pop(run_id, None)
        return True

    def end(self, run_id: str) -> bool:
        """Note that the thread is done; True if the run was asked for meanwhile and must be looked at again."""
        self._busy.discard(run_id)
        again = run_id in self._again
        self._again.discard(run_id)
        return again

    def wait(self, run_id: str, due: float) -> None:
        """Have the run advanced at `due`."""
        self._waits.set(run_id, due)

    def watch(
        self,
        run_id: str,
        held: Held,
        now: float,
        before: Watched | None = None,
        *,
        age_s: float = 0.0,
        usual_s: float | None = None,
    ) -> None:
        """Have the run's job looked at, a new one first after `poll_first_s`; if `before` held the same job, less often.

        Args:
            age_s: for how long the job has run already, where nobody has looked at it here.
            usual_s: how soon jobs of this kind end.
        """
        if before is not None and before.held.job.id != held.job.id:
            before = None  # the run has gone on to its next job
        if before is not None:
            interval_s = min(before.interval_s * _GROWTH, self.poll_max_s)
        else:
            interval_s = max(min(age_s / _AGES, self.poll_max_s / _EARLY), self.poll_first_s)
        due = self._together(now + interval_s, interval_s)
        if usual_s is not None and interval_s < _TOGETHER_S:
            step_s = min(max(usual_s / _STEPS, _SOONEST_S), interval_s)
            wait_s = self._until_usual_end(before, age_s, usual_s, interval_s, step_s)
            if wait_s is not None:
                due, interval_s = now + wait_s, step_s
        self._watched[run_id] = Watched(held, interval_s, due)
        self._looks.set(run_id, due)

    def _until_usual_end(
        self, before: Watched | None, age_s: float, usual_s: float, interval_s: float, step_s: float
    ) -> float | None:
        """Return how long to wait for a job that may end before its next look would come; None where none is due."""
        if age_s < usual_s:
            return max(usual_s - age_s, _SOONEST_S) if usual_s < age_s + interval_s else None
        if before is None:
            return _SOONEST_S if age_s < self.poll_first_s else None
        # The usual end fell between the look before and this one, which happened to come just too early.
        is_first_after = age_s - before.interval_s < usual_s and before.interval_s > step_s
        return step_s if is_first_after else None

    def _together(self, due: float, interval_s: float) -> float:
        """Return a common time in the later part of the interval that ends at `due`: for equal intervals the same."""
        if interval_s < _TOGETHER_S:
            return due
        step_s = 2.0 ** math.floor(math.log2(interval_s))
        return math.floor(due / step_s) * step_s

    def due_runs(self, now: float) -> list[str]:
        """Take out and return the runs whose time has come."""
        return self._waits.pop(now)

    def due_jobs(self, now: float) -> dict[str, Watched]:
        """Return the runs whose jobs are due, once; they stay in until `begin` or `watch` moves them."""
        return {run_id: self._watched[run_id] for run_id in self._looks.pop(now)}

    def holds(self, run_id: str, watched: Watched) -> bool:
        """Tell whether the run still waits for just this look."""
        return self._watched.get(run_id) is watched

    def next_due(self, *, is_polling: bool = False, polls_from: float = 0.0) -> float | None:
        """Return when something is due next, or None; while jobs are being asked for, no other job is due.

        Args:
            polls_from: no job is asked for earlier.
        """
        look = None if is_polling else self._looks.next()
        times = [self._waits.next(), None if look is None else max(look, polls_from)]
        return min((time for time in times if time is not None), default=None)

    def hurry(self, run_id: str, now: float) -> None:
        """Have the run looked at now, if it waits for a time or a job."""
        if run_id in self._watched:
            self._looks.set(run_id, now)
        elif run_id in self._waits.times:
            self._waits.set(run_id, now)

    def job_ids(self) -> set[str]:
        """Return the ids of the jobs that are watched."""
        return {watched.held.job.id for watched in self._watched.values()}
