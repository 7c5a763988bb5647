"""What the supervisor does later or beside: timers that belong to a run, and tasks whose failures are not lost."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Background:
    """Timers by key and tasks, ended together. Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._timers: dict[str, list[asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def soon(self, action: Callable[[], None]) -> None:
        """Do something in the next turn of the event loop."""
        asyncio.get_running_loop().call_soon(action)

    def after(self, key: str, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, unless the key is dropped by then."""
        timer = asyncio.get_running_loop().call_later(delay_s, action)
        self._timers.setdefault(key, []).append(timer)

    def drop(self, key: str) -> None:
        """Cancel a key's timers."""
        for timer in self._timers.pop(key, ()):
            timer.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; a failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self, within_s: float) -> None:
        """Cancel all timers and wait a while for the tasks."""
        for key in list(self._timers):
            self.drop(key)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background work failed", exc_info=task.exception(), extra={"action": "task_failed"})
