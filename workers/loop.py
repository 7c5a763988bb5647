"""The loop of one worker process: messages in, runs advanced on a few threads, jobs watched, the sweep, a clean end.

The loop owns the schedule and talks to the threads through one queue. Nothing here decides anything about a run: that is
`engine` and `intake`; here is only who calls them when.
"""

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from workers import logs
from workers.durations import Durations
from workers.engine import Done, Engine, Later, Next, Watch
from workers.errors import TransientError
from workers.held import Held
from workers.host import Host, ThreadHost
from workers.intake import Fate, Intake, Message
from workers.ledger import Entry
from workers.record import JobRef
from workers.schedule import Schedule, Watched
from workers.settings import Settings
from workers.stage import JobStatus, Stage

_TRY_AGAIN_S = 1.0


@dataclass(slots=True)
class _Chore:
    """Something that is done at an interval, on a thread, and never twice at once.

    Args:
        plan: called by the loop, which owns the schedule; what it returns is done on a thread.
    """

    name: str
    interval_s: float
    due: float
    plan: Callable[[], Callable[[], object]]
    is_running: bool = False


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
        self._durations = Durations()
        self._polling = False
        self._polls_from = 0.0
        self._working = 0  # runs that are on a thread or wait for one
        self._claims: dict[str, Entry] = {}  # new ones, whose run a thread was busy with when they came
        self._backlog: OrderedDict[str, None] = OrderedDict()  # runs that a sweep has found, in its order
        self._failures: dict[str, int] = {}  # run id -> how many times in a row a service did not answer
        now = self._monotonic()
        self._chores = (
            _Chore("sweep", options.sweep_s, now, lambda: self._sweep),
            _Chore("cancellations", options.cancel_s, now, lambda: self._look_for_cancellations),
            _Chore("strays", options.strays_s, now + options.strays_s, self._search_for_strays),
        )
        self._stopping = threading.Event()
        self._log = logs.logger(stage=stage.name)

    def on_message(self, message: Any) -> None:
        """Pub/Sub's callback: claim, hand the run to the loop, acknowledge."""
        received = Message(message.data, dict(message.attributes), message.message_id, message.delivery_attempt)
        # Where runs wait for a thread an intent would grow old before its deed, and the sweep of an idle worker could not
        # take the run up at once.
        is_idle = self._working < self._options.threads
        try:
            disposition = self._intake.accept(received, self._engine.intend if is_idle else None, self._hand_over)
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
        if disposition.fate is Fate.DUPLICATE:
            self._inbox.put(lambda: self._start(disposition.run_id))

    def _hand_over(self, claim: Entry) -> None:
        """Have a new claim's job launched; its message is acknowledged meanwhile."""
        self._inbox.put(lambda: self._start(claim.record.run_id, claim))

    def run(self) -> None:
        """Work until `stop`."""
        while not self._stopping.is_set():
            now = self._monotonic()
            for chore in self._chores:
                if now >= chore.due:
                    chore.due = now + chore.interval_s
                    self._begin(chore)
            for run_id in self._schedule.due_runs(now):
                self._start(run_id)
            self._poll(now)
            due = min(chore.due for chore in self._chores)
            self._take(min(due, self._next_due() or due))
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._poller.shutdown(wait=True, cancel_futures=True)

    def _next_due(self) -> float | None:
        return self._schedule.next_due(is_polling=self._polling, polls_from=self._polls_from)

    def stop(self) -> None:
        """End the loop after the steps in hand; what is left is the sweep's, here or elsewhere."""
        self._stopping.set()
        self._inbox.put(None)

    def _take(self, until: float) -> None:
        timeout_s = max(until - self._monotonic(), 0.0)
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

    def _start(self, run_id: str, claim: Entry | None = None) -> None:
        if self._schedule.begin(run_id):
            self._working += 1
            step = partial(self._engine.advance, run_id) if claim is None else partial(self._engine.begin, claim)
            self._pool.submit(self._work, run_id, step)
        elif claim is not None:
            # A sweep has found the record already, and must leave its intent to whoever wrote it: that is this claim.
            self._claims[run_id] = claim

    def _take_up(self, run_ids: list[str]) -> None:
        """Have runs advanced of which nobody is known to take care, as threads fall idle: what comes in goes first."""
        self._backlog.update(dict.fromkeys(run_id for run_id in run_ids if run_id not in self._schedule))
        self._feed()

    def _feed(self) -> None:
        while self._backlog and self._working < self._options.threads:
            run_id, _ = self._backlog.popitem(last=False)
            if run_id not in self._schedule:
                self._start(run_id)

    def _work(self, run_id: str, step: Callable[[], Next], before: Watched | None = None) -> None:
        """Make steps on a thread; whatever happens, the loop hears of it."""
        try:
            after: Next | Held = step()
            if isinstance(after, Watch):
                after = self._engine.hold(after)
        except TransientError as fault:
            self._log.info("not-yet", run_id=run_id, reason=str(fault))
            after = Later(self._patience_s(run_id) if fault.retry_after_s is None else fault.retry_after_s)
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
            self._log.exception("advance-failed", run_id=run_id)
            after = Later(self._options.sweep_s)
        else:
            self._failures.pop(run_id, None)
        self._inbox.put(lambda: self._worked(run_id, after, before))

    def _patience_s(self, run_id: str) -> float:
        """Return how long to leave a service alone that did not answer: longer each time."""
        failures = self._failures[run_id] = self._failures.get(run_id, 0) + 1
        return min(_TRY_AGAIN_S * 1.5 ** (failures - 1), self._options.poll_max_s)

    def _worked(self, run_id: str, after: Next | Held, before: Watched | None) -> None:
        self._working -= 1
        again, now = self._schedule.end(run_id), self._monotonic()
        if again:
            self._start(run_id, self._claims.pop(run_id, None))
        else:
            self._next(run_id, after, now, before)
        self._feed()

    def _next(self, run_id: str, after: Next | Held, now: float, before: Watched | None) -> None:
        match after:
            case Later(wait_s):
                self._schedule.wait(run_id, now + wait_s)
            case Held():
                self._watch(run_id, after, now, before)
            case Done() | Watch():
                pass  # the run has left this stage

    def _watch(self, run_id: str, held: Held, now: float, before: Watched | None) -> None:
        age_s, usual_s = held.age_s(self._engine.now()), self._durations.usual_s(held.kind)
        self._schedule.watch(run_id, held, now, before, age_s=age_s, usual_s=usual_s)

    # -- watching ----------------------------------------------------------------------------------------------------

    def _poll(self, now: float) -> None:
        if self._polling or now < self._polls_from:
            return
        due = self._schedule.due_jobs(now)
        if due:
            self._polling = True
            self._poller.submit(self._ask, due, now)

    def _ask(self, due: dict[str, Watched], began: float) -> None:
        """Ask for the state of all due jobs, phase by phase, and hand what has changed to the loop."""
        by_phase: dict[int, dict[str, Watched]] = {}
        for run_id, watched in due.items():
            by_phase.setdefault(watched.held.phase, {})[run_id] = watched
        news: dict[str, JobStatus] = {}
        asked_at = self._engine.now()
        for phase, group in by_phase.items():
            jobs: list[JobRef] = [watched.held.job for watched in group.values()]
            try:
                statuses = self._engine.phases[phase].statuses(jobs)
                for run_id, watched in group.items():
                    status = statuses.get(watched.held.job.id)
                    if status is not None and not self._engine.goes_on(watched.held, status):
                        news[run_id] = status
            except TransientError as fault:
                self._log.warning("poll-unanswered", reason=str(fault), jobs=len(jobs))
            except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
                self._log.exception("poll-failed", jobs=len(jobs))
        self._inbox.put(lambda: self._asked(due, news, asked_at, began))

    def _asked(self, due: dict[str, Watched], news: dict[str, JobStatus], asked_at: datetime, began: float) -> None:
        self._polling = False
        now = self._monotonic()
        # The longer a look takes, the longer the rest: half of the time at most. What slept meanwhile does not rest as long.
        self._polls_from = now + min(now - began, self._options.poll_max_s)
        for run_id, watched in due.items():
            if not self._schedule.holds(run_id, watched):
                continue  # meanwhile somebody asked for the run
            status = news.get(run_id)
            if status is None:
                self._watch(run_id, watched.held, now, watched)
                continue
            if status.ended_at is not None:
                self._durations.learn(watched.held.kind, watched.held.age_s(status.ended_at))
            if self._schedule.begin(run_id):
                self._working += 1
                self._pool.submit(self._note, run_id, watched, status, asked_at)

    def _note(self, run_id: str, watched: Watched, status: JobStatus, asked_at: datetime) -> None:
        """Tell the engine a job's state; one that still runs is asked for again, later than before."""
        self._work(run_id, lambda: self._engine.observe(watched.held.entry, status, asked_at), watched)

    # -- chores ------------------------------------------------------------------------------------------------------

    def _begin(self, chore: _Chore) -> None:
        if not chore.is_running:
            chore.is_running = True
            self._pool.submit(self._do, chore, chore.plan())

    def _do(self, chore: _Chore, work: Callable[[], object]) -> None:
        try:
            work()
        except TransientError as fault:
            self._log.warning("chore-unanswered", chore=chore.name, reason=str(fault))
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and done again
            self._log.exception("chore-failed", chore=chore.name)
        chore.is_running = False

    def _sweep(self) -> None:
        """Take up every run that has a marker: whatever a dead worker left is carried on here."""
        marked = list(self._engine.ledger.marked(self._stage.name))
        self._inbox.put(lambda: self._take_up(marked))

    def _look_for_cancellations(self) -> None:
        """Have the jobs of cancelled runs looked at now: their next look would be up to `poll_max_s` away."""
        for run_id in self._engine.settle_cancellations():
            self._inbox.put(partial(self._hurry, run_id))

    def _hurry(self, run_id: str) -> None:
        self._schedule.hurry(run_id, self._monotonic())

    def _search_for_strays(self) -> Callable[[], object]:
        known = self._schedule.job_ids()
        return lambda: self._engine.stop_strays(known)
