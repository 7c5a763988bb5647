"""Backfills over a ledger in memory, with runs that end when a test says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from baton.backfill.driver import Driver, Standing
from baton.backfill.plan import Plan
from baton.backfill.store import Store
from baton.dlq.archive import Summary
from baton.errors import HasEnded, NotKnown, Refused
from baton.runs import Run, RunState, StageView
from tests.support.world import MemoryObjects, VirtualClock

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def plan(*sources: str, backfill: str = "b", **changes: Any) -> Plan:
    return Plan(**{"id": backfill, "pipeline": "p", "sources": sources, "created": NOW, **changes})


@dataclass
class FakeRuns:
    """Runs that end when they are told to, over the ledger's own object names."""

    objects: MemoryObjects
    published: list[str] = field(default_factory=list)
    states: dict[str, RunState] = field(default_factory=dict)
    letters: list[Summary] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    never_begun: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    most: int = 0

    def publish_data_ready(
        self, source: str, pipeline: str = "", *, params: Mapping[str, Any] | None = None, run_id: str | None = None
    ) -> str:
        assert run_id is not None
        self.published.append(run_id)
        if run_id not in self.states and "refused" not in source:
            self._begin(run_id)
        return run_id

    def _begin(self, run_id: str) -> None:
        self.states[run_id] = RunState.RUNNING
        for name in (f"runs/{run_id}/preprocess.json", f"inflight/preprocess/{run_id}"):
            self.objects.write(name, b"", if_generation=0)
        self.most = max(self.most, list(self.states.values()).count(RunState.RUNNING))

    def end(self, run_id: str, state: RunState = RunState.SUCCEEDED) -> None:
        self.states[run_id] = state
        self.objects.delete(f"inflight/preprocess/{run_id}")

    def look(self, run_id: str) -> Run:
        self.looked.append(run_id)
        state = self.states.get(run_id, RunState.WAITING)
        failure = {"reason": "r", "message": "broken", "mend": "m"} if state is RunState.FAILED else None
        return Run(run_id, "p", state, (StageView("preprocess", outcome=state.value, failure=failure),))

    def cancel_unclaimed(self, run_id: str) -> None:
        self.states[run_id] = RunState.CANCELLED
        self.never_begun.add(run_id)
        self.objects.write(f"runs/{run_id}/cancelled.json", b"", if_generation=0)

    def cancel(self, run_id: str, *, unclaimed: bool = False) -> Run:
        assert unclaimed, "one may not be claimed yet"
        self.cancelled.append(run_id)
        if self.states.get(run_id) in (RunState.SUCCEEDED, RunState.FAILED):
            raise HasEnded(f"run {run_id} has ended")
        self.end(run_id, RunState.CANCELLED)
        return self.look(run_id)

    def retry(self, run_id: str, from_stage: str | None = None) -> str:
        if run_id in self.never_begun:
            raise NotKnown(f"run {run_id} was cancelled before a worker claimed it", "publish it under another id")
        if self.states[run_id] not in (RunState.FAILED, RunState.CANCELLED):
            raise Refused(f"run {run_id} {self.states[run_id].value}")
        new = f"{run_id}-r{len(self.retries(run_id)) + 2}"
        self._begin(new)
        return new

    def retries(self, run_id: str) -> list[Run]:
        return [self.look(name) for name in sorted(self.states) if name.startswith(f"{run_id}-r")]

    def dead_letters(self) -> list[Summary]:
        return self.letters


class Desk:
    """A ledger in memory with fake runs; each `drive` is a process of its own."""

    def __init__(self) -> None:
        self.objects, self.clock = MemoryObjects(), VirtualClock()
        self.runs = FakeRuns(self.objects)
        self.drivers = 0

    def store(self) -> Store:
        self.drivers += 1
        return Store(self.objects, f"driver-{self.drivers}")

    def drive(
        self, of: Plan, look: Callable[[Standing], None], concurrency: int = 2, look_s: float = 0.0, **wish: bool
    ) -> Standing:
        driver = Driver(self.runs, self.objects, self.store(), of, concurrency, look, look_s, self.clock)
        return driver.run(**wish)

    def cancel(self, of: Plan, look: Callable[[Standing], None] = lambda _: None) -> Standing:
        return Driver(self.runs, self.objects, self.store(), of, 1, look, 0.0, self.clock).cancel()

    def end_all(self, standing: Standing, state: RunState = RunState.SUCCEEDED) -> None:
        for name in standing.in_flight.values():
            if name in self.runs.states:
                self.runs.end(name, state)


class Stopped(BaseException):
    """kill -9, or Ctrl-C: nothing after it runs but `finally`."""
