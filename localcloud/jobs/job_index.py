"""Which jobs have a name, carry a label, or are active: what a list need not look through all jobs for.

Every launch is followed by a look for twins, by label or name, and every poll lists what is active. Without an index each of
them tests every job there has been, and a burst of a thousand jobs spends more time on that than on the jobs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from localcloud.jobs.records import Job

_ACTIVE = "is active"  # no label: their keys hold no blank
_NAME = "has the name"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a list asks of its jobs without exception; a job that does not meet it is not in the list."""

    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    is_active: bool = False


class JobIndex:
    """The jobs of one kind by what lists ask for, in the order of their creation."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._found: dict[tuple[str, str, str], dict[str, None]] = {}
        for job in jobs:
            self.put(job)

    def put(self, job: Job) -> None:
        """Take note of a new job, or of the state of a known one."""
        for mark in _lasting(job):
            self._found.setdefault(mark, {})[job.key] = None
        active = self._found.setdefault((job.parent, _ACTIVE, ""), {})
        if job.is_active:
            active[job.key] = None
        else:
            active.pop(job.key, None)

    def remove(self, job: Job) -> None:
        """Forget a job."""
        for mark in (*_lasting(job), (job.parent, _ACTIVE, "")):
            keys = self._found.get(mark, {})
            keys.pop(job.key, None)
            if not keys:
                self._found.pop(mark, None)

    def newest(self, parent: str, demand: Demand) -> Iterator[str] | None:
        """Return the keys of jobs among which are all that meet the demand, newest first; None: it rules out none."""
        marks = [(parent, key, value) for key, value in demand.labels.items()]
        if demand.name is not None:
            marks.append((parent, _NAME, demand.name))
        if demand.is_active:
            marks.append((parent, _ACTIVE, ""))
        if not marks:
            return None
        fewest = min((self._found.get(mark, {}) for mark in marks), key=len)
        return reversed(list(fewest))


def _lasting(job: Job) -> list[tuple[str, str, str]]:
    """What never changes of a job."""
    return [(job.parent, _NAME, job.name), *((job.parent, key, value) for key, value in job.labels.items())]
