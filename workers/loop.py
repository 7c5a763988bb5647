"""The loop of one worker process: messages in, runs advanced on a few threads, jobs watched, the sweep, a clean end.

The loop owns the schedule and talks to the threads through one queue. Nothing here decides anything about a run: that is
`engine` and `intake`; here is only who calls them when. It runs on a `Host`, which is threads and the machine's clock in a
worker and one seeded scheduler in the simulator.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from workers import logs
from workers.engine import Done, Engine, Later, Next, Watch
from workers.errors import TransientError
from workers.intake import Fate, Intake, Message
from workers.record import JobRef
from workers.schedule import Schedule, Watched
from workers.settings import Settings
from workers.stage import JobStatus, Stage

_IDLE_S = 0.5
_TRY_AGAIN_S = 1.0

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


class Loop:
    """See the module's text."""

    def __init__(
        self, stage: Stage, engine: Engine, intake: Intake, options: Settings, host: Host | None = None
    ) -> None:
        self._stage = stage
        self._engine = engine
        self._intake = intake
        self._options = options
        self._schedule = Schedule(options.poll_first_s, options.poll_max_s)
        host = host or ThreadHost()
        self._monotonic = host.monotonic
        self._inbox = host.inbox()
        self._pool = host.pool(options.threads, f"{stage.name}-advance")
        self._poller = host.pool(1, f"{stage.name}-poll")
        self._polling = False
        self._stopping = threading.Event()
        self._log = logs.logger(stage=stage.name)

    def on_message(self, message: Any) -> None:
        """Pub/Sub's callback: claim, acknowledge, hand the run to the loop."""
        received = Message(message.data, dict(message.attributes), message.message_id, message.delivery_attempt)
        try:
            disposition = self._intake.accept(received)
        except TransientError as fault:
            self._log.warning("message-given-back", message_id=message.message_id, reason=str(fault))
            message.nack()
            return
        except Exception:  # noqa: BLE001 - the edge of the process
            # A defect of ours must not look like success: the message goes back and, in the end, to the dead letter.
            self._log.exception("message-failed", message_id=message.message_id)
            message.nack()
            return
        message.ack()
        if disposition.fate in (Fate.ACCEPTED, Fate.DUPLICATE):
            self._inbox.put(lambda: self._start(disposition.run_id))

    def run(self) -> None:
        """Work until `stop`."""
        next_sweep = self._monotonic()
        while not self._stopping.is_set():
            now = self._monotonic()
            if now >= next_sweep:
                self._pool.submit(self._sweep)
                next_sweep = now + self._options.sweep_s
            for run_id in self._schedule.due_runs(now):
                self._start(run_id)
            self._poll(now)
            self._take(min(next_sweep, self._schedule.next_due() or next_sweep))
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._poller.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """End the loop after the steps in hand; what is left is the sweep's, here or elsewhere."""
        self._stopping.set()
        self._inbox.put(None)

    def _take(self, until: float) -> None:
        timeout_s = min(max(until - self._monotonic(), 0.001), _IDLE_S)
        if self._polling:
            timeout_s = _IDLE_S  # the answer will wake us
        try:
            task = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return
        while task is not None:
            task()
            try:
                task = self._inbox.get(block=False)
            except queue.Empty:
                return

    # -- advancing ---------------------------------------------------------------------------------------------------

    def _start(self, run_id: str) -> None:
        if self._schedule.begin(run_id):
            self._pool.submit(self._work, run_id, lambda: self._engine.advance(run_id))

    def _work(self, run_id: str, step: Callable[[], Next], before: Watched | None = None) -> None:
        """Make steps on a thread; whatever happens, the loop hears of it."""
        try:
            after = step()
        except TransientError as fault:
            self._log.info("not-yet", run_id=run_id, reason=str(fault))
            after = Later(_TRY_AGAIN_S if fault.retry_after_s is None else fault.retry_after_s)
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
            self._log.exception("advance-failed", run_id=run_id)
            after = Later(self._options.sweep_s)
        self._inbox.put(lambda: self._worked(run_id, after, before))

    def _worked(self, run_id: str, after: Next, before: Watched | None) -> None:
        again, now = self._schedule.end(run_id), self._monotonic()
        if again:
            self._start(run_id)
            return
        match after:
            case Later(wait_s):
                self._schedule.wait(run_id, now + wait_s)
            case Watch():
                self._schedule.watch(run_id, after, now, before)
            case Done():
                pass  # the run has left this stage

    # -- watching ----------------------------------------------------------------------------------------------------

    def _poll(self, now: float) -> None:
        if self._polling:
            return
        due = self._schedule.due_jobs(now)
        if due:
            self._polling = True
            self._poller.submit(self._ask, due)

    def _ask(self, due: dict[str, Watched]) -> None:
        """Ask for the state of all due jobs, phase by phase, and hand the answers to the loop."""
        by_phase: dict[int, dict[str, Watched]] = {}
        for run_id, watched in due.items():
            by_phase.setdefault(watched.watch.entry.record.phase, {})[run_id] = watched
        answers: dict[str, JobStatus] = {}
        try:
            for phase, group in by_phase.items():
                jobs: list[JobRef] = [watched.watch.job for watched in group.values()]
                statuses = self._stage.phases[phase].statuses(jobs)
                answers |= {r: statuses[w.watch.job.id] for r, w in group.items() if w.watch.job.id in statuses}
        except TransientError as fault:
            self._log.warning("poll-unanswered", reason=str(fault), jobs=len(due))
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
            self._log.exception("poll-failed", jobs=len(due))
        self._inbox.put(lambda: self._asked(due, answers))

    def _asked(self, due: dict[str, Watched], answers: dict[str, JobStatus]) -> None:
        self._polling = False
        now = self._monotonic()
        for run_id, watched in due.items():
            status = answers.get(run_id)
            if status is None:
                self._schedule.watch(run_id, watched.watch, now, watched)
            elif self._schedule.begin(run_id):
                self._pool.submit(self._note, run_id, watched, status)

    def _note(self, run_id: str, watched: Watched, status: JobStatus) -> None:
        """Tell the engine a job's state; one that still runs is asked for again, later than before."""
        self._work(run_id, lambda: self._engine.observe(watched.watch.entry, status), watched)

    def _sweep(self) -> None:
        """Take up every run that has a marker: whatever a dead worker left is carried on here."""
        try:
            marked = list(self._engine.ledger.marked(self._stage.name))
        except TransientError as fault:
            self._log.warning("sweep-unanswered", reason=str(fault))
            return
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
            self._log.exception("sweep-failed")
            return
        for run_id in marked:
            self._inbox.put(lambda r=run_id: None if r in self._schedule else self._start(r))  # type: ignore[misc]
