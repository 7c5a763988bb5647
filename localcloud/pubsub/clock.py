"""Time, passed in: the real clock, and one that tests move by hand."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Forget the callback; harmless once it has run."""


class Clock(Protocol):
    """What the broker knows of time."""

    def time(self) -> float:
        """Seconds since 1970, UTC: for publish times, retention, expiration."""

    def monotonic(self) -> float:
        """Seconds that never step back: for ack deadlines and backoff."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run the callback on the event loop after the delay."""


class SystemClock:
    """The machine's own time."""

    def time(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of the event loop's clock."""
        return time.monotonic()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run the callback on the running event loop after the delay."""
        return asyncio.get_running_loop().call_later(max(0.0, delay_s), callback)


class _ManualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A clock which stands still until `advance`, so that seven days pass in milliseconds.

    Args:
        start_s: seconds since 1970 at which it stands first.
    """

    def __init__(self, start_s: float = 1_750_000_000.0) -> None:
        self._now_s = start_s
        self._timers: list[tuple[float, int, _ManualTimer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        """Seconds since 1970, as far as the test has moved it."""
        return self._now_s

    def monotonic(self) -> float:
        """The same seconds: this clock never steps back."""
        return self._now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Keep the callback until `advance` reaches its time."""
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (self._now_s + max(0.0, delay_s), next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move time on and run what falls due, in order, each callback at its own time.

        Call it on the broker's event loop.
        """
        target_s = self._now_s + seconds
        while self._timers and self._timers[0][0] <= target_s:
            due_s, _, timer = heapq.heappop(self._timers)
            self._now_s = max(self._now_s, due_s)
            if timer.callback is not None:
                timer.callback()
        self._now_s = target_s


async def pause(clock: Clock, seconds: float) -> None:
    """Sleep on the clock's time."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, lambda: None if over.done() else over.set_result(None))
    try:
        await over
    finally:
        timer.cancel()
