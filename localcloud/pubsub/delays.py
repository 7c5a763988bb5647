"""Things that wait for their time, with one timer for the first of them."""

import heapq
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

from localcloud.pubsub.clock import Clock, Timer

T = TypeVar("T")


class DelayLine(Generic[T]):
    """Keeps items until they are due.

    Args:
        due: called with all items which have come due, in order.
    """

    def __init__(self, clock: Clock, due: Callable[[list[T]], None]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[float, int, T]] = []
        self._order = itertools.count()
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, delay_s: float, item: T) -> None:
        """Hold the item for so long."""
        due_s = self._clock.monotonic() + delay_s
        heapq.heappush(self._heap, (due_s, next(self._order), item))
        if self._heap[0][0] == due_s:
            self._arm()

    def clear(self) -> None:
        """Forget everything."""
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._clock.call_later(self._heap[0][0] - self._clock.monotonic(), self._run)

    def _run(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic()
        items: list[T] = []
        while self._heap and self._heap[0][0] <= now_s:
            items.append(heapq.heappop(self._heap)[2])
        self._arm()
        if items:
            self._due(items)
