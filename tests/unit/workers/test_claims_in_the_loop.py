"""A claim reaches the engine, whoever has found its record in the meantime."""

import queue
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.stage_world import StageWorld
from tests.unit.workers.test_loop import SETTINGS, Delivered
from workers.host import Task
from workers.loop import Loop
from workers.settings import Settings
from workers.stage import JobState


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


def test_a_claim_that_a_sweep_has_found_first_is_launched_at_once(tmp_path: Path) -> None:
    """The sweep leaves the intent to its writer; the writer, told that the run is busy, must not lose its claim by that."""
    world, host = StageWorld(tmp_path), HandHost()
    loop = Loop(world.stage, world.engine(), world.intake(), Settings.from_environment(SETTINGS), host)
    message = world.message()
    arrived = Delivered(message.data, message.attributes)
    loop.on_message(arrived)
    loop._take_up(["r1"])  # the marker was there when the sweep looked; its thread has not read the record yet
    host.loop_goes_on()
    host.threads_go_on()
    assert world.jobs[0].jobs == {}
    host.loop_goes_on()
    host.threads_go_on()
    assert arrived.answers == ["ack"]
    assert world.jobs[0].states() == [JobState.ACTIVE]
    host.loop_goes_on()
    assert not loop._claims


def test_a_job_need_not_wait_for_the_acknowledgement(tmp_path: Path) -> None:
    """The claim is enough: whatever becomes of the message now, it is a duplicate of it."""
    world, host = StageWorld(tmp_path), HandHost()
    loop = Loop(world.stage, world.engine(), world.intake(), Settings.from_environment(SETTINGS), host)
    message = world.message()

    class Watched(Delivered):
        def ack(self) -> None:
            host.loop_goes_on()
            host.threads_go_on()
            assert world.jobs[0].states() == [JobState.ACTIVE]
            super().ack()

    arrived, again = Watched(message.data, message.attributes), Delivered(message.data, message.attributes)
    loop.on_message(arrived)
    loop.on_message(again)
    host.loop_goes_on()
    host.threads_go_on()
    assert arrived.answers == again.answers == ["ack"]
    assert world.jobs[0].states() == [JobState.ACTIVE]
