"""What a loop runs on in tests: quick settings, a delivered message, a host that goes on only when it is told to."""

import queue
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.host import Task

SETTINGS = {
    "GOOGLE_CLOUD_PROJECT": "p",
    "BATON_BUCKET": "b",
    "BATON_POLL_FIRST_S": "1",
    "BATON_POLL_MAX_S": "1",
    "BATON_SWEEP_S": "0.05",
    "BATON_CANCEL_S": "60",
    "BATON_THREADS": "2",
}


@dataclass
class Delivered:
    """A message as Pub/Sub's client hands it over."""

    data: bytes
    attributes: Mapping[str, str]
    message_id: str = "m1"
    delivery_attempt: int = 1
    answers: list[str] = field(default_factory=list)

    def ack(self) -> None:
        self.answers.append("ack")

    def nack(self) -> None:
        self.answers.append("nack")


class HandHost:
    """A host on which nothing happens by itself: a test says which thread goes on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.posted: deque[Task | None] = deque()
        self.work: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def monotonic(self) -> float:
        return self.now

    def pool(self, threads: int, name: str) -> "HandHost":
        return self

    def inbox(self) -> "HandHost":
        return self

    def submit(self, function: Callable[..., None], /, *args: Any) -> None:
        self.work.append((function, args))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.work.clear()

    def put(self, item: Task | None) -> None:
        self.posted.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Task | None:
        if not self.posted:
            raise queue.Empty
        return self.posted.popleft()

    def loop_goes_on(self) -> None:
        """Let the loop do what has been posted to it so far."""
        for task in [self.posted.popleft() for _ in range(len(self.posted))]:
            assert task is not None
            task()

    def threads_go_on(self) -> None:
        """Let the threads do what waits for them so far."""
        for function, args in [self.work.popleft() for _ in range(len(self.work))]:
            function(*args)
