"""Whether jobs are asked for one by one or listed: what takes fewer calls.

A list of the active jobs takes as many calls as it has pages, whoever's jobs they are. So a few jobs are asked for one by
one: always up to `AT_MOST`, and beyond that as many, in all looks since the last list, as that list had pages. What was
listed when there were many more jobs is so found out in time.
"""

from collections.abc import Callable, Iterable

from workers.errors import TransientError
from workers.logs import logger
from workers.record import JobRef
from workers.stage import JobStatus

AT_MOST = 3


def one_by_one(jobs: Iterable[JobRef], ask: Callable[[JobRef], JobStatus]) -> dict[str, JobStatus]:
    """Ask for each job's status; where the service stops answering, the rest is left for the next look.

    Raises:
        TransientError: not even the first was to be learned.
    """
    found: dict[str, JobStatus] = {}
    for job in jobs:
        try:
            found[job.id] = ask(job)
        except TransientError as fault:
            if not found:
                raise
            logger(job_id=job.id).warning("look-cut-short", learned=len(found), reason=str(fault))
            break
    return found


class Asking:
    """The choice, by location; for one thread, but for a worker that begins there is no harm in more."""

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

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
