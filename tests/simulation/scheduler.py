"""Virtual time and one thread of control: which task runs next is a matter of the seed alone.

Tasks are greenlets, so that the workers' synchronous code runs as it is and can be stopped inside any call. Exactly one
runs at a time; it goes on until it sleeps or waits. A process is a group of tasks that dies, freezes and wakes as one.
"""

import heapq
import itertools
import queue
from collections import deque
from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

_UNWINDS = 5  # a task that waits again while it is unwound is told again


class Crash(BaseException):
    """The process dies here; not an Exception, so that nothing in the product can survive it."""


class Process:
    """What lives, freezes and dies together: the tasks of one process."""

    __slots__ = ("frozen_until", "is_alive", "name", "on_death", "paused")

    def __init__(self, name: str, on_death: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.is_alive = True
        self.frozen_until = 0.0
        self.paused = 0  # tasks that a fault holds up
        self.on_death = on_death

    def kill(self) -> None:
        """End it at once; its tasks never run again."""
        if self.is_alive:
            self.is_alive = False
            self.on_death()


class Task(greenlet):
    """One flow of control of a process. `token` tells a wake-up that counts from one that came too late."""

    __slots__ = ("process", "token")

    process: Process
    token: int


class Scheduler:
    """Runs tasks and callbacks in the order of virtual time, in seconds; ties go by the order of asking."""

    def __init__(self) -> None:
        self.now = 0.0
        self.entered = 0.0  # when the request that is being served was decided on by its worker
        self._due: list[tuple[float, int, Any, int]] = []
        self._order = itertools.count()
        self._tasks: dict[Task, None] = {}  # begun and not ended
        self._next_look = 0.0  # when `run` asks next whether it is over
        self._hub: greenlet = getcurrent()

    def spawn(self, process: Process, function: Callable[..., None], *args: Any) -> None:
        """Start a task now."""

        def body() -> None:
            try:
                function(*args)
            except Crash:
                process.kill()
            self._tasks.pop(task, None)

        task = Task(body, parent=self._hub)
        self._tasks[task] = None
        task.process, task.token = process, 0
        self._push(self.now, task, 0)

    def at(self, time: float, callback: Callable[[], None]) -> None:
        """Call back at `time`; callbacks belong to the world outside and must not sleep."""
        heapq.heappush(self._due, (time, next(self._order), callback, -1))

    def sleep(self, seconds: float) -> None:
        """Let the current task sleep."""
        task: Any = getcurrent()
        if self.passes(seconds, task.process):
            return
        task.token = token = task.token + 1
        heapq.heappush(self._due, (self.now + seconds, next(self._order), task, token))
        self._hub.switch()

    def passes(self, seconds: float, process: Process) -> bool:
        """Move time on and return True where nothing would run before a task of `process` had slept so long.

        Most sleeps are such; two switches of greenlets each would be a third of a history's cost.
        """
        time, due = self.now + seconds, self._due
        if (due and due[0][0] <= time) or time > self._next_look or not process.is_alive or process.frozen_until > time:
            return False
        self.now = time
        return True

    def block(self) -> None:
        """Let the current task wait until `wake`."""
        self._hub.switch()

    def wake(self, task: Task, token: int, seconds: float = 0.0) -> None:
        """Have a blocked task go on, unless it has gone on already since it got `token`."""
        self._push(self.now + seconds, task, token)

    def current(self) -> Task:
        """Return the task that runs."""
        task = getcurrent()
        assert isinstance(task, Task)  # the product's code runs in tasks only
        return task

    def run(self, until: Callable[[], bool], limit: float, every: float) -> bool:
        """Run until `until()` holds, which is asked every so many seconds; False if `limit` came first."""
        self._next_look = self.now + every
        due = self._due
        while due:
            time, order, what, token = heapq.heappop(due)
            if time > self._next_look:
                heapq.heappush(due, (time, order, what, token))
                self.now = self._next_look
                if until():
                    return True
                if self.now >= limit:
                    return False
                self._next_look = self.now + every
                continue
            if token < 0:
                self.now = max(self.now, time)
                what()
                continue
            process = what.process
            if not process.is_alive or token != what.token:
                continue
            if process.frozen_until > time:
                heapq.heappush(due, (process.frozen_until, order, what, token))
                continue
            self.now = max(self.now, time)
            what.token += 1
            what.switch()
        return until()

    def close(self) -> None:
        """End all tasks: a suspended one would keep its whole world alive, which no garbage collector sees through."""
        for task in list(self._tasks):
            for _ in range(_UNWINDS):
                if task.dead:
                    break
                task.throw(GreenletExit)
        self._tasks.clear()
        self._due.clear()

    def _push(self, time: float, task: Task, token: int) -> None:
        heapq.heappush(self._due, (time, next(self._order), task, token))


class TaskInbox:
    """`workers.host.Inbox` between the tasks of one process."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()
        self._waiter: tuple[Task, int] | None = None

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._waiter is not None:
            self._scheduler.wake(*self._waiter)
            self._waiter = None

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not self._items and block:
            task = self._scheduler.current()
            if timeout is not None and self._scheduler.passes(timeout, task.process):
                raise queue.Empty
            task.token += 1
            self._waiter = (task, task.token)
            if timeout is not None:
                self._scheduler.wake(task, task.token, timeout)
            self._scheduler.block()
            self._waiter = None
        if not self._items:
            raise queue.Empty
        return self._items.popleft()


class TaskPool:
    """`workers.host.Pool`: at most so many tasks of one process at a time."""

    def __init__(self, scheduler: Scheduler, process: Process, threads: int) -> None:
        self._scheduler = scheduler
        self._process = process
        self._free = threads
        self._queued: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def submit(self, function: Callable[..., None], /, *args: Any) -> None:
        self._queued.append((function, args))
        if self._free:
            self._free -= 1
            self._scheduler.spawn(self._process, self._work)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._queued.clear()

    def _work(self) -> None:
        while self._queued:
            function, args = self._queued.popleft()
            function(*args)
        self._free += 1


class TaskHost:
    """`workers.host.Host` for one process of the simulation."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process
        self.pools: list[TaskPool] = []

    def monotonic(self) -> float:
        return self._scheduler.now

    def pool(self, threads: int, name: str) -> TaskPool:
        self.pools.append(TaskPool(self._scheduler, self._process, threads))
        return self.pools[-1]

    def inbox(self) -> TaskInbox:
        return TaskInbox(self._scheduler)
