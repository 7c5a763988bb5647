"""How long jobs of one kind usually take, by what their provider says of those that ended: when a look pays.

A first look after `poll_first_s` finds a job of a day running and a job of 20 ms long gone. What is learned only ever makes
a look earlier than the growing interval would, and only while that is short: jobs of many seconds are left to it, however
long their like took.

A job's time counts from when it was written down, which is when looking begins. That compares the provider's clock with
ours: where they differ, a look comes too early, or when it would have come without.
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
        """Take note of a job that had succeeded `took_s` after it was written down; before that counts as at once."""
        self._seen.setdefault(kind, deque(maxlen=_LAST)).append(max(took_s, 0.0))
        self._seen.move_to_end(kind)
        if len(self._seen) > _KINDS:
            self._seen.popitem(last=False)

    def usual_s(self, kind: Kind) -> float | None:
        """Return how soon a job of this kind may end; None where none has been seen."""
        seen = self._seen.get(kind)
        return min(seen) if seen else None


def moment(text: str) -> datetime | None:
    """Return an RFC 3339 time with its zone, or None where it is missing or is no such time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
