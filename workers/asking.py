"""How many jobs are looked at: in few calls, and so that no job and no location hides what the others answer.

A list of the active jobs takes as many calls as it has pages, whoever's jobs they are. So a few jobs are asked for one by
one: always up to `AT_MOST`, and beyond that as many, in all looks since the last list, as that list had pages. What was
listed when there were many more jobs is so found out in time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from workers.errors import StageError, TransientError
from workers.logs import logger
from workers.record import JobRef
from workers.stage import JobState, JobStatus

AT_MOST = 3
_REMEMBERED = 1000
T = TypeVar("T")


class Asking:
    """The choice, by location; for one thread, but for a worker that begins there is no harm in more."""

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}
        self._unanswered: set[str] = set()  # jobs whose own record was not to be had when it was asked for last
        self._places: set[str] = set()  # locations with jobs of ours

    def statuses(
        self,
        jobs: Sequence[JobRef],
        ask: Callable[[JobRef], JobStatus],
        active: Callable[[str], Mapping[str, JobStatus]] | None = None,
    ) -> dict[str, JobStatus]:
        """Return what is to be learned of each job; what is missing is left for the next look.

        A job that nobody may look at counts as active: its stage's deadline, and a cancellation, end it like any other.

        Args:
            ask: asks for one job.
            active: lists a location's active jobs; None where that cannot be done.

        Raises:
            TransientError: nothing at all was learned.
        """
        by_location: dict[str, list[JobRef]] = {}
        for job in jobs:
            by_location.setdefault(job.location, []).append(job)
        self._places.update(by_location)
        found: dict[str, JobStatus] = {}
        fault: TransientError | None = None
        for location, group in by_location.items():
            log = logger(location=location)
            try:
                for job, answer in self._look(location, group, ask, active):
                    if isinstance(answer, JobStatus):
                        found[job.id] = answer
                        continue
                    log.error("look-refused", job_id=job.id, reason=str(answer))
                    found[job.id] = _unseen(answer)
            except TransientError as unanswered:
                fault = unanswered
                log.warning("look-cut-short", jobs=len(group), reason=str(unanswered))
            except StageError as refused:  # the list
                log.error("look-refused", jobs=len(group), reason=str(refused))
                found |= {job.id: _unseen(refused) for job in group}
        if fault is not None and not found:
            raise TransientError(f"nothing was to be learned of {len(jobs)} jobs: {fault}") from fault
        return found

    def _look(
        self,
        location: str,
        jobs: Sequence[JobRef],
        ask: Callable[[JobRef], JobStatus],
        active: Callable[[str], Mapping[str, JobStatus]] | None,
    ) -> Iterator[tuple[JobRef, JobStatus | StageError]]:
        """Yield what each job of a location answers, up to the first that gets no answer.

        Where a service is away, ten thousand jobs are not tried one after another. It may be that one job alone that gets
        none: the next time it is asked for last.
        """
        listed = {} if active is None or self.one_by_one(location, len(jobs)) else active(location)
        yield from ((job, listed[job.id]) for job in jobs if job.id in listed)
        # Ended since, or the list is late: its own record tells.
        left = [job for job in jobs if job.id not in listed]
        for job in sorted(left, key=lambda job: job.id in self._unanswered):
            if len(self._unanswered) >= _REMEMBERED:
                self._unanswered.clear()  # most of them are long gone
            self._unanswered.add(job.id)
            answer: JobStatus | StageError
            try:
                answer = ask(job)
            except StageError as refused:
                answer = refused
            self._unanswered.discard(job.id)
            yield job, answer

    def one_by_one(self, location: str, jobs: int) -> bool:
        """Tell whether to ask for so many jobs one by one."""
        left = self._credit.get(location, 0)
        if jobs > max(AT_MOST, left):
            return False
        self._credit[location] = max(left - jobs, 0)
        return True

    def listed(self, location: str, pages: int) -> None:
        """Take note of how many pages the active jobs took."""
        self._credit[location] = pages

    def works_in(self, location: str) -> None:
        """Take note of a location where jobs of ours may be."""
        self._places.add(location)

    def everywhere(self, location: str, search: Callable[[str], list[T]]) -> Iterator[T]:
        """Yield what is found wherever jobs of ours are known to be, and in `location`, which comes last.

        A run may name a region of its own, and a worker that was started again learns of it only by what it watches. Such a
        region's refusal or silence is only said: what is found elsewhere must not wait for it.
        """
        for place in sorted(self._places - {location}):
            try:
                found = search(place)
            except (StageError, TransientError) as fault:
                logger(location=place).warning("search-unanswered", reason=str(fault))
                continue
            yield from found
        yield from search(location)


def _unseen(refused: StageError) -> JobStatus:
    return JobStatus(JobState.ACTIVE, message=f"it cannot be looked at: {refused.message}")
