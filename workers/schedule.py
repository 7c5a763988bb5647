"""When each run is looked at next: those that wait for a time, and those that wait for a job.

A job's interval grows from `poll_first_s` to `poll_max_s`, so the same setting suits a laptop job of a second and a
training of a day. Not thread-safe: the runtime's loop owns it.
"""

import heapq
import itertools
from dataclasses import dataclass, field

from workers.steps import Watch

_GROWTH = 1.5


@dataclass(slots=True)
class Watched:
    """A running job and when its state is asked for next, in seconds of the monotonic clock."""

    watch: Watch
    interval_s: float
    due: float


@dataclass(slots=True)
class Schedule:
    """All runs that this process takes care of."""

    poll_first_s: float
    poll_max_s: float
    _watched: dict[str, Watched] = field(default_factory=dict)
    _waiting: list[tuple[float, int, str]] = field(default_factory=list)
    _due: dict[str, float] = field(default_factory=dict)  # of those that wait; an older entry in the heap is void
    _busy: set[str] = field(default_factory=set)
    _again: set[str] = field(default_factory=set)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._busy or run_id in self._watched or run_id in self._due

    def __len__(self) -> int:
        return len(self._busy | self._watched.keys() | self._due.keys())

    def begin(self, run_id: str) -> bool:
        """Note that a thread works on the run; False if one does already, which will then look again at its end."""
        if run_id in self._busy:
            self._again.add(run_id)
            return False
        self._busy.add(run_id)
        self._watched.pop(run_id, None)
        self._due.pop(run_id, None)
        return True

    def end(self, run_id: str) -> bool:
        """Note that the thread is done; True if the run was asked for meanwhile and must be looked at again."""
        self._busy.discard(run_id)
        again = run_id in self._again
        self._again.discard(run_id)
        return again

    def wait(self, run_id: str, due: float) -> None:
        """Have the run advanced at `due`."""
        self._due[run_id] = due
        heapq.heappush(self._waiting, (due, next(self._order), run_id))

    def watch(self, run_id: str, watch: Watch, now: float, before: Watched | None = None) -> None:
        """Have the run's job looked at, first after `poll_first_s`; if `before` watched the same job, less often."""
        interval_s = self.poll_first_s
        if before is not None and before.watch.job.id == watch.job.id:
            interval_s = min(before.interval_s * _GROWTH, self.poll_max_s)
        self._watched[run_id] = Watched(watch, interval_s, now + interval_s)

    def due_runs(self, now: float) -> list[str]:
        """Take out and return the runs whose time has come."""
        due = []
        while self._waiting and self._waiting[0][0] <= now:
            time, _, run_id = heapq.heappop(self._waiting)
            if self._due.get(run_id) == time:
                del self._due[run_id]
                due.append(run_id)
        return due

    def hurry(self, run_id: str, now: float) -> None:
        """Have the run looked at now, if it waits for a time or a job."""
        if run_id in self._watched:
            self._watched[run_id].due = min(self._watched[run_id].due, now)
        elif run_id in self._due:
            self.wait(run_id, now)

    def job_ids(self) -> set[str]:
        """Return the ids of the jobs that are watched."""
        return {watched.watch.job.id for watched in self._watched.values()}

    def due_jobs(self, now: float) -> dict[str, Watched]:
        """Return the runs whose jobs are due; they stay in until `begin` or `watch` moves them."""
        return {run_id: watched for run_id, watched in self._watched.items() if watched.due <= now}

    def next_due(self) -> float | None:
        """Return when something is due next, or None."""
        times = [watched.due for watched in self._watched.values()]
        if self._waiting:
            times.append(self._waiting[0][0])
        return min(times, default=None)
