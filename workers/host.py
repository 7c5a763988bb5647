"""What a worker's process runs on: threads and the machine's clock, or one seeded scheduler in the simulator."""

import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Task = Callable[[], None]


class Pool(Protocol):
    """Threads; what `concurrent.futures` calls an executor."""

    def submit(self, function: Callable[..., None], /, *args: Any) -> Any: ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...


class Inbox(Protocol):
    """A queue between threads; `get` raises `queue.Empty` after `timeout` seconds."""

    def put(self, item: Task | None) -> None: ...

    def get(self, block: bool = True, timeout: float | None = None) -> Task | None: ...


class Host(Protocol):
    """What a loop runs on."""

    def monotonic(self) -> float: ...

    def pool(self, threads: int, name: str) -> Pool: ...

    def inbox(self) -> Inbox: ...


class ThreadHost:
    """Real threads and real time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def pool(self, threads: int, name: str) -> Pool:
        return ThreadPoolExecutor(threads, thread_name_prefix=name)

    def inbox(self) -> Inbox:
        return queue.SimpleQueue()
