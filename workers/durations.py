"""How long jobs of one kind usually take, by what their provider says of those that ended: when the first look pays.

A first look after `poll_first_s` finds a job of a day running and a job of 20 ms long gone. What is learned only ever makes
the first look earlier than that setting, and no job is looked at less often for it: jobs of seconds and more are left
to the growing interval, however long their like took.
"""

from collections import OrderedDict, deque
from datetime import datetime

Kind = tuple[str, int]
"""A pipeline and the number of a phase: jobs that should take about the same time."""

_LAST = 5
_KINDS = 1000


class Durations:
    """The durations seen by one worker. The shortest of the last few counts: a crowd's waiting for machines is forgotten
    as soon as one job got its own at once. Not thread-safe: the loop owns it."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Kind, deque[float]] = OrderedDict()

    def learn(self, kind: Kind, took_s: float) -> None:
        """Take note of a job that succeeded `took_s` after its creation."""
        if took_s < 0:
            return  # two clocks of the provider's that disagree
        self._seen.setdefault(kind, deque(maxlen=_LAST)).append(took_s)
        self._seen.move_to_end(kind)
        if len(self._seen) > _KINDS:
            self._seen.popitem(last=False)

    def usual_s(self, kind: Kind) -> float | None:
        """Return how soon a job of this kind may end; None where none has been seen."""
        seen = self._seen.get(kind)
        return min(seen) if seen else None


def between_s(begin: str, end: str) -> float | None:
    """Return the seconds between two RFC 3339 times, or None where either is missing or is no time."""
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
    except (ValueError, TypeError):
        return None
