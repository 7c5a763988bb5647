"""Drives a backfill: starts runs while fewer than so many are in flight, and takes note of those that end.

One look at all that is in flight costs three lists of markers, whatever their number: only a run that no stage has in work
any more is read. A driver may die at any moment; whoever resumes finds in the ledger what was started.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from baton.backfill.plan import Plan, Progress
from baton.backfill.store import STALE, Store
from baton.dlq.archive import Summary
from baton.errors import HasEnded, NotKnown
from baton.runs import STAGES, Run, RunState
from workers.objects import Objects

SUCCEEDED = RunState.SUCCEEDED.value
DEAD_LETTERED = "dead-lettered"
ENDINGS = (SUCCEEDED, RunState.FAILED.value, RunState.CANCELLED.value, DEAD_LETTERED)
_SAVE_S = 5.0
_UNCLAIMED_S = 5.0  # an event that nobody has claimed by then may be a dead letter: look
_EXPLAINED = 50  # earlier failures whose reason is looked up at the start
_READERS = 8


class Runs(Protocol):
    """What the driver asks of `baton.Client`."""

    def publish_data_ready(
        self, source: str, pipeline: str = ..., *, params: Mapping[str, Any] | None = None, run_id: str | None = None
    ) -> str: ...

    def look(self, run_id: str) -> Run: ...

    def cancel(self, run_id: str, *, unclaimed: bool = False) -> Run: ...

    def retry(self, run_id: str, from_stage: str | None = None) -> str: ...

    def retries(self, run_id: str) -> list[Run]: ...

    def dead_letters(self) -> list[Summary]: ...


@dataclass(slots=True)
class Standing:
    """Where a backfill stands.

    Args:
        items: run id of the plan -> its source, in the plan's order.
        ended: run id of the plan -> how it ended.
        in_flight: run id of the plan -> the run that is in flight for it (itself, or its retry).
        waiting: those that have not been started.
        reasons: why runs did not succeed, as far as this driver has seen it.
        again: run id of the plan -> the newest retry of it.
        seen_ending: those of `ended` whose end this driver has seen, in that order.
    """

    plan: Plan
    ended: dict[str, str] = field(default_factory=dict)
    in_flight: dict[str, str] = field(default_factory=dict)
    waiting: deque[str] = field(default_factory=deque)
    reasons: dict[str, str] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)
    seen_ending: list[str] = field(default_factory=list)
    items: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.items = self.plan.items()  # once: a digest for each of up to 100,000 sources

    @property
    def counts(self) -> dict[str, int]:
        """How many ended in which way, the good ones first."""
        counted = Counter(self.ended.values())
        return {how: counted[how] for how in ENDINGS if counted[how]}

    @property
    def failed(self) -> list[str]:
        """The runs that ended without a served model, in the plan's order."""
        return [run_id for run_id in self.items if self.ended.get(run_id, SUCCEEDED) != SUCCEEDED]

    @property
    def failures(self) -> int:
        """How many ended without a served model."""
        return sum(how != SUCCEEDED for how in self.ended.values())

    @property
    def is_over(self) -> bool:
        return not self.in_flight and not self.waiting

    def to_json(self) -> dict[str, Any]:
        """Return the summary as `--json` prints it."""
        items, counts = self.items, self.counts
        failed = [
            {
                "run_id": self.again.get(run_id, run_id),
                "source": items[run_id],
                "outcome": self.ended[run_id],
                "reason": self.reasons.get(run_id, ""),
            }
            for run_id in self.failed
        ]
        return {
            "id": self.plan.id,
            "pipeline": self.plan.pipeline,
            "sources": len(items),
            **{how: counts.get(how, 0) for how in ENDINGS},
            "in_flight": len(self.in_flight),
            "waiting": len(self.waiting),
            "not_succeeded": failed,
        }


@dataclass(frozen=True, slots=True)
class _Unclaimed:
    """When to look again at a run that no stage has claimed, in seconds of CLOCK_MONOTONIC, and after which wait."""

    due: float
    wait_s: float


class Driver:
    """Drives one backfill to its end.

    Args:
        concurrency: how many runs may be in flight at once.
        report: called with the standing after each look.
        look_s: how long to wait between two looks.
    """

    def __init__(
        self,
        runs: Runs,
        objects: Objects,
        store: Store,
        plan: Plan,
        concurrency: int,
        report: Callable[[Standing], None],
        look_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._runs = runs
        self._objects = objects
        self._store = store
        self._concurrency = concurrency
        self._report = report
        self._look_s = look_s
        self._clock = clock
        self._standing = Standing(plan)
        self._started: dict[str, float] = {}
        self._unclaimed: dict[str, _Unclaimed] = {}
        self._saved = 0.0
        self._next_letters = 0.0
        self._retried: frozenset[str] = frozenset()  # those waiting whose first run has failed
        self._found: set[str] = set()  # those that were in flight already when we came

    def run(self, *, retry_failed: bool = False, take_over: bool = False) -> Standing:
        """Start and watch runs until all have ended; Ctrl-C leaves what is in flight alone and writes down how far it is.

        Args:
            retry_failed: try those again that ended without a served model.

        Raises:
            InUse: another terminal drives this backfill, or has taken over.
        """
        standing = self._standing
        progress = self._store.take(standing.plan.id, self._clock(), take_over=take_over)
        try:
            self._begin(progress, retry_failed)
            while True:
                self._look()
                self._start()
                self._save_now_and_then()
                self._report(standing)
                if standing.is_over:
                    return standing
                time.sleep(self._look_s)
        finally:
            self._save(leave=True)

    def cancel(self) -> Standing:
        """Cancel the runs that are in flight, and return when they have ended; what was not started stays so.

        Whoever drives it is sent away. Until that driver notices, it may start runs: these are cancelled as well.
        """
        standing, asked = self._standing, set[str]()
        before = self._store.progress(standing.plan.id)
        progress = self._store.take(standing.plan.id, self._clock(), take_over=True)
        had_driver = before is not None and before.driver and self._clock() - before.beat < STALE
        alone_at = time.monotonic() + (2 * _SAVE_S if had_driver else 0.0)
        try:
            self._begin(progress, retry_failed=False)
            while True:
                self._find_begun()
                new = [now for now in standing.in_flight.values() if now not in asked]
                with ThreadPoolExecutor(_READERS) as pool:
                    list(pool.map(self._cancel, new))
                asked.update(new)
                self._look()
                self._save_now_and_then()
                self._report(standing)
                if not standing.in_flight and time.monotonic() >= alone_at:
                    return standing
                time.sleep(self._look_s)
        finally:
            self._save(leave=True)

    def _cancel(self, run_id: str) -> None:
        try:
            self._runs.cancel(run_id, unclaimed=True)
        except HasEnded:
            return  # before we came; the next look says how

    def _find_begun(self) -> None:
        """Move what somebody else has started meanwhile from those that wait to those in flight."""
        standing, begun = self._standing, self._begun()
        if not begun.isdisjoint(standing.waiting):
            standing.in_flight |= {name: standing.again.get(name, name) for name in standing.waiting if name in begun}
            standing.waiting = deque(run_id for run_id in standing.waiting if run_id not in begun)

    def standing_now(self) -> Standing:
        """Return where the backfill stands, without driving it."""
        progress = self._store.progress(self._standing.plan.id)
        self._begin(progress or Progress(beat=self._clock()), retry_failed=False)
        self._look()
        return self._standing

    def _begin(self, progress: Progress, retry_failed: bool) -> None:
        """Find out what the ledger knows: what has ended, what is in flight, what was never started."""
        standing, items = self._standing, self._standing.items
        begun = self._begun()
        standing.again = dict(progress.again)
        # A dead letter that was mended and sent back has begun since: it is looked at again.
        standing.ended = {
            run_id: how
            for run_id, how in progress.ended.items()
            if run_id in items and not (how == DEAD_LETTERED and run_id in begun)
        }
        if retry_failed:
            for run_id in standing.failed:
                del standing.ended[run_id]
                standing.waiting.append(run_id)
        again = frozenset(standing.waiting)
        for run_id in items:
            if run_id in standing.ended or run_id in again:
                continue
            if run_id in begun:
                standing.in_flight[run_id] = standing.again.get(run_id, run_id)
            else:
                standing.waiting.append(run_id)
        self._retried = again & begun
        self._found = set(standing.in_flight)
        for run_id in standing.failed[:_EXPLAINED]:
            failure = self._runs.look(standing.again.get(run_id, run_id)).failure
            if failure:
                standing.reasons[run_id] = _why(failure)

    def _begun(self) -> frozenset[str]:
        prefix = f"runs/{self._standing.plan.id}-"
        return frozenset(name.removeprefix("runs/").partition("/")[0] for name in self._objects.list(prefix))

    def _look(self) -> None:
        """Take note of the runs that have ended."""
        standing = self._standing
        busy, at = self._busy() if standing.in_flight else frozenset(), time.monotonic()
        self._unclaimed = {r: u for r, u in self._unclaimed.items() if standing.in_flight.get(r) not in busy}
        idle = {
            run_id: now
            for run_id, now in standing.in_flight.items()
            if now not in busy and (run_id not in self._unclaimed or self._unclaimed[run_id].due <= at)
        }
        with ThreadPoolExecutor(_READERS) as pool:
            looked = dict(zip(idle, pool.map(self._runs.look, idle.values()), strict=True))
        for run_id, run in looked.items():
            self._note_unclaimed(run_id, run, at)
            if run_id in self._found and (newer := self._unknown_retry(run_id, run)):
                standing.again[run_id] = standing.in_flight[run_id] = newer
            elif run.state.is_final:
                self._end(run_id, run.state.value, _why(run.failure) if run.failure else "")
        self._look_for_letters(run_id for run_id, run in looked.items() if run.state is RunState.WAITING)

    def _note_unclaimed(self, run_id: str, run: Run, at: float) -> None:
        """Leave a run that nobody has claimed yet alone for a while: its marker will tell, and there may be a thousand."""
        before = self._unclaimed.pop(run_id, None)
        if run.state is RunState.WAITING:
            wait_s = self._look_s if before is None else min(2 * before.wait_s, _UNCLAIMED_S)
            self._unclaimed[run_id] = _Unclaimed(at + wait_s, wait_s)

    def _unknown_retry(self, run_id: str, run: Run) -> str | None:
        """Return the retry of a run found in flight that has failed: its driver may have died before it noted it."""
        self._found.discard(run_id)
        if run.state not in (RunState.FAILED, RunState.CANCELLED) or run_id in self._standing.again:
            return None
        return next((retry.id for retry in reversed(self._runs.retries(run_id))), None)

    def _busy(self) -> frozenset[str]:
        """Return the runs of this backfill that a stage has in work: those with a marker."""
        prefix = f"{self._standing.plan.id}-"
        return frozenset(
            name.rpartition("/")[2] for stage in STAGES for name in self._objects.list(f"inflight/{stage}/{prefix}")
        )

    def _look_for_letters(self, unclaimed: Iterable[str]) -> None:
        """Look, now and then, whether an event that nobody claims was put aside."""
        now, standing = time.monotonic(), self._standing
        late = [run_id for run_id in unclaimed if now - self._started.setdefault(run_id, now) >= _UNCLAIMED_S]
        if not late or now < self._next_letters:
            return
        self._next_letters = now + _UNCLAIMED_S
        letters = {letter.run_id: letter for letter in self._runs.dead_letters()}
        for run_id in late:
            letter = letters.get(standing.in_flight[run_id])
            if letter is not None:
                self._end(run_id, DEAD_LETTERED, f"{letter.reason} (baton dlq show {letter.key})")

    def _start(self) -> None:
        """Start runs while there is room."""
        standing = self._standing
        plan, retried = standing.plan, False
        while standing.waiting and len(standing.in_flight) < self._concurrency:
            run_id = standing.waiting[0]
            if run_id in self._retried:
                if not self._try_again(run_id):
                    standing.waiting.popleft()
                    continue
                retried = True
            else:
                source = standing.items[run_id]
                self._runs.publish_data_ready(source, plan.pipeline, params=plan.params, run_id=run_id)
            standing.waiting.popleft()
            standing.in_flight[run_id] = standing.again.get(run_id, run_id)
            self._started[run_id] = time.monotonic()
            if time.monotonic() - self._saved >= _SAVE_S:
                self._save()  # also to stay the driver: the first starts of many take longer than a beat may be late
        if retried:
            self._save()  # which run tries again is known from here alone

    def _try_again(self, run_id: str) -> bool:
        """Try a run again: one that is there already counts, another driver may have died over it.

        Returns:
            Whether it goes on. One that was cancelled before it began has nothing to begin from, and holds up no other.
        """
        newest = next(iter(reversed(self._runs.retries(run_id))), None)
        if newest is not None and newest.state not in (RunState.FAILED, RunState.CANCELLED):
            self._standing.again[run_id] = newest.id
            return True
        try:
            self._standing.again[run_id] = self._runs.retry(run_id)
        except NotKnown as fault:
            self._end(run_id, RunState.CANCELLED.value, str(fault))
            return False
        return True

    def _end(self, run_id: str, how: str, reason: str) -> None:
        standing = self._standing
        standing.in_flight.pop(run_id, None)
        standing.ended[run_id] = how
        standing.seen_ending.append(run_id)
        if reason and how != SUCCEEDED:
            standing.reasons[run_id] = reason

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved >= _SAVE_S:
            self._save()

    def _save(self, *, leave: bool = False) -> None:
        standing, now = self._standing, self._clock()
        progress = Progress(beat=now, ended=dict(standing.ended), again=dict(standing.again))
        self._store.save(standing.plan.id, progress, now, leave=leave)
        self._saved = time.monotonic()


def _why(failure: Mapping[str, Any]) -> str:
    return f"{failure['stage']}: {failure['message']}"
