"""Runs processes for jobs and deployed models: queues them, starts each at most once, sees them end, finds them again.

A run moves `queued → starting → running → ended`, and every step is in the store before it is taken. What the service
finds after being killed, and what it does then:

| record | on the disk | meaning | next |
|---|---|---|---|
| starting, running | an exit code | it ended while nobody looked | ended |
| starting, running | a claim, its process lives | it runs | watched again |
| starting, running | a claim, its process is gone | killed with its wrapper, or a reboot | started anew, 3 times |
| starting | no claim | killed before or just after starting the wrapper | started; the claim decides between the two |

Whoever owns a run (a job, a deployed model) listens: its own state changes in the same transaction as the run's.
"""

import asyncio
import contextlib
import logging
import signal
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from localcloud.jobs import processes
from localcloud.jobs.background import Background
from localcloud.jobs.logs import LogFile
from localcloud.jobs.names import Clock
from localcloud.jobs.records import Outcome, Run
from localcloud.jobs.spares import Spares
from localcloud.jobs.store import Store
from localcloud.jobs.tidying import Tidying, tidy

KIND = "run"
_RECORD_AGAIN_S = 1.0
_KILL_WAIT_S = 2.0  # after KILL only a process in uninterruptible sleep is left

log = logging.getLogger(__name__)


class Listener(Protocol):
    """The owner's side. Called inside the transaction that changes the run."""

    def run_started(self, run: Run) -> None:
        """The process runs (again)."""

    def run_ended(self, run: Run, outcome: Outcome) -> None:
        """The run is over for good."""


class Supervisor:
    """All processes of one jobs service. Used from the event loop's thread only."""

    def __init__(self, store: Store, directory: Path, clock: Clock, *, max_parallel: int, kill_grace_s: float) -> None:
        self._store = store
        self._directory = directory
        self._clock = clock
        self._max_parallel = max_parallel
        self._kill_grace_s = kill_grace_s
        self._listeners: dict[str, Listener] = {}
        self._queue: deque[str] = deque()
        self._watches: dict[str, processes.Watch] = {}
        self._slots: set[str] = set()
        self._background = Background()
        self._tidying = Tidying()
        self._spares = Spares(lambda: bool(self._watches))
        self._ended = asyncio.Event()
        self._is_stopping = False

    def listen(self, owner_kind: str, listener: Listener) -> None:
        """Tell `listener` of runs whose id begins with `<owner_kind>-`."""
        self._listeners[owner_kind] = listener

    @property
    def has_slot(self) -> bool:
        """Whether a run submitted now would start at once."""
        return not self._queue and len(self._slots) < self._max_parallel

    def get(self, run_id: str) -> Run | None:
        """Return a run's record."""
        document = self._store.get(KIND, run_id)
        return Run.of(document) if document else None

    def open_logs(self) -> list[Path]:
        """The log files that running processes write to."""
        runs = (self.get(run_id) for run_id in self._watches)
        return [Path(run.log) for run in runs if run is not None]

    def submit(self, run: Run) -> None:
        """Record a run; it starts in the next turn of the event loop, or when a slot is free.

        Call it inside the transaction that records its owner: then both are known, or neither.
        """
        self._save(run)
        self._background.soon(lambda: self._enqueue(run))

    def cancel(self, run_id: str) -> None:
        """Ask a run to end: TERM now, KILL after the grace; one not yet started never starts."""
        run = self.get(run_id)
        if run is None or run.phase == "ended" or run.is_cancelled:
            return
        run = run.but(is_cancelled=True)
        self._save(run)
        self._terminate(run)

    def preempt(self, run_id: str) -> None:
        """Kill a running run as a pre-empted machine would: it starts anew. Does nothing to one not running."""
        run = self.get(run_id)
        if run is not None and run.phase == "running":
            self._signal(run.run_id, run.pid, signal.SIGKILL)

    def after(self, run_id: str, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, unless the run has ended by then."""
        self._background.after(run_id, delay_s, action)

    async def recover(self) -> None:
        """Find again what an earlier service left behind. Call once, before anything is submitted."""
        live = [run for run in self._runs() if run.phase != "ended"]
        for orphan in {place.name for place in self._directory.iterdir()} - {run.run_id for run in live}:
            for attempt in (self._directory / orphan).glob("*"):  # killed between an end's record and its tidying
                self._tidying.strays(f"{orphan}.{attempt.name}")
            self._remove_place(orphan)
        for run in live:
            if run.phase == "queued":
                self._enqueue(run)
            elif run.is_interrupted:
                await self._resume_interrupted(run)
            else:
                await self._find(run)
        self._pump()

    async def stop(self, grace_s: float) -> None:
        """End every process: TERM, after the grace KILL. What was cut off starts anew with the next service."""
        self._is_stopping = True
        live = [run for run in self._runs() if run.phase in ("starting", "running")]
        with self._store.transaction():
            for run in live:
                self._save(run.but(is_interrupted=True))
        for run in live:
            self._signal(run.run_id, run.pid, signal.SIGTERM)
        if not await self._all_ended(grace_s):
            for run in self._runs():
                if run.phase == "running":
                    self._signal(run.run_id, run.pid, signal.SIGKILL)
            await self._all_ended(_KILL_WAIT_S)
        for watch in self._watches.values():
            watch.close()
        await self._background.close(_KILL_WAIT_S)
        await self._tidying.close()
        self._spares.close()

    # Starting

    def _enqueue(self, run: Run) -> None:
        delay_s = (run.not_before_us - self._clock()) / 1e6
        if run.not_before_us and delay_s > 0:
            self.after(run.run_id, delay_s, lambda: self._enqueue(run))
        elif run.takes_slot:
            self._queue.append(run.run_id)
            self._pump()
        else:
            self._start(run.run_id)

    def _pump(self) -> None:
        """Start queued runs while there are slots."""
        while self._queue and len(self._slots) < self._max_parallel and not self._is_stopping:
            self._start(self._queue.popleft())

    def _start(self, run_id: str) -> None:
        run = self.get(run_id)
        if run is None or run.phase != "queued" or self._is_stopping:
            return
        if run.is_cancelled:
            self._finish(run, Outcome(None, "cancelled"))
            return
        if run.refusal:
            self._finish(run, Outcome(None, "refused", run.refusal))
            return
        port = processes.free_port() if run.port_variable else 0
        starting = run.but(phase="starting", attempt=run.attempt + 1, port=port)
        try:
            self._save(starting)
        except sqlite3.Error:
            log.exception("cannot record a start, trying again", extra={"action": "record_failed", "run_id": run_id})
            self.after(run_id, _RECORD_AGAIN_S, lambda: self._enqueue(run))
            return
        if run.takes_slot:
            self._slots.add(run_id)
        self._spawn(starting)

    def _spawn(self, run: Run) -> None:
        """Start the wrapper of the attempt on record; a wrapper already on its way makes this one give way."""
        place = self.place(run)
        argv, env = run.argv, run.env
        if run.port_variable:
            env = {**env, run.port_variable: str(run.port)}
            argv = [part.replace(f"$({run.port_variable})", str(run.port)) for part in argv]
        directory = Path(run.directory) if run.directory else place / "tmp"
        try:
            pid = self._spares.start(
                place, argv=argv, env=env, directory=directory, log=Path(run.log), token=_token(run)
            )
        except (OSError, ValueError) as error:
            self._finish(run, Outcome(None, "refused", f"the process could not be started: {error}"))
            return
        self._record(run.run_id, lambda: self._running(run, pid, is_child=True))

    def _running(self, run: Run, pid: int, *, is_child: bool) -> None:
        """Put on record that the process runs, and watch it."""
        run = run.but(phase="running", pid=pid, started_us=run.started_us or self._clock())
        with self._store.transaction():
            self._save(run)
            self._listener(run).run_started(run)
        self._watches[run.run_id] = processes.Watch(
            pid, self.place(run), lambda: self._exited(run.run_id, pid), is_child=is_child
        )
        if run.timeout_s:
            left_s = max(0.0, run.timeout_s - (self._clock() - run.started_us) / 1e6)
            self.after(run.run_id, left_s, lambda: self._record(run.run_id, lambda: self._expire(run.run_id)))
        if run.is_cancelled:
            self._terminate(run)

    # Ending

    def _exited(self, run_id: str, pid: int) -> None:
        self._watches.pop(run_id, None)
        run = self.get(run_id)
        if run is None or run.phase == "ended":
            return
        LogFile(Path(run.log)).mark(self._clock())
        # What a job leaves behind dies with it, as in a container; the group's number is ours until we reap.
        processes.signal_group(pid, signal.SIGKILL)
        status = processes.reap(pid)
        self._record(run_id, lambda: self._gone(run_id, pid, status))

    def _gone(self, run_id: str, pid: int, status: int | None) -> None:
        """A process has ended and is reaped."""
        run = self.get(run_id)
        if run is None or run.phase == "ended":
            return
        code = processes.exit_code(self.place(run))
        if code is None and status is not None and status >= 0:
            if status == processes.CLAIM_LOST and processes.claimant(self.place(run)) not in (None, pid):
                self._background.spawn(self._find(run))
                return
            code = status  # the exit file could not be written (a full disk)
        if code is None:
            self._background.spawn(self._settle_lost(run))
        else:
            self._tidying.strays(_token(run))
            self._settle(run, code)

    async def _settle_lost(self, run: Run) -> None:
        """The wrapper died without a word: what it left must be gone before another attempt starts."""
        await asyncio.to_thread(tidy, [_token(run)])

        def settle() -> None:
            present = self.get(run.run_id)
            if present is not None and present.phase != "ended":
                self._settle(present, processes.exit_code(self.place(present)))

        self._record(run.run_id, settle)

    def _settle(self, run: Run, code: int | None) -> None:
        """Decide what an exit means: an end, or another attempt."""
        if run.is_cancelled:
            self._finish(run, Outcome(code, "cancelled"))
        elif run.is_expired:
            self._finish(run, Outcome(code, "expired"))
        elif run.is_interrupted and (code != 0 or run.is_server):
            self._slots.discard(run.run_id)
            self._save(run.but(phase="queued", pid=0, is_interrupted=False))
            self._ended.set()
        elif code is not None:
            self._finish(run, Outcome(code, "exited"))
        elif run.losses >= run.max_losses:
            self._finish(run, Outcome(None, "lost", f"its processes vanished {run.losses + 1} times"))
        else:
            self._retry(run)

    def _retry(self, run: Run) -> None:
        log.warning("run lost, starting anew", extra={"action": "run_lost", "run_id": run.run_id})
        self._slots.discard(run.run_id)
        run = run.but(phase="queued", pid=0, losses=run.losses + 1)
        self._save(run)
        self._background.soon(lambda: self._enqueue(run))

    def _finish(self, run: Run, outcome: Outcome) -> None:
        run = run.but(phase="ended", pid=0)
        with self._store.transaction():
            self._save(run)
            self._listener(run).run_ended(run, outcome)
        self._slots.discard(run.run_id)
        self._background.drop(run.run_id)
        self._ended.set()
        self._remove_place(run.run_id)
        self._background.soon(self._pump)

    def _terminate(self, run: Run) -> None:
        if run.phase == "queued":
            with contextlib.suppress(ValueError):
                self._queue.remove(run.run_id)
            self._background.soon(lambda: self._start(run.run_id))  # sees the mark and finishes it
        elif run.pid:
            pid = run.pid
            self._signal(run.run_id, pid, signal.SIGTERM)
            self.after(run.run_id, self._kill_grace_s, lambda: self._signal(run.run_id, pid, signal.SIGKILL))

    def _signal(self, run_id: str, pid: int, number: signal.Signals) -> None:
        """Signal a run's processes; once their end is seen, though not yet on record, the pid may be another's."""
        if run_id in self._watches:
            processes.signal_group(pid, number)

    def _expire(self, run_id: str) -> None:
        run = self.get(run_id)
        if run is not None and run.phase == "running" and run_id in self._watches:
            run = run.but(is_expired=True)
            self._save(run)
            self._terminate(run)

    # Finding again

    async def _find(self, run: Run) -> None:
        """Carry on with a run of which only the record and its directory are known."""
        place = self.place(run)
        pid = await processes.settled_claimant(place)
        run = self.get(run.run_id) or run  # it may have been cancelled while we waited
        if run.takes_slot:
            self._slots.add(run.run_id)
        code = processes.exit_code(place)
        if code is not None:
            self._settle(run, code)
        elif pid is None and run.is_cancelled and processes.void(place):
            self._finish(run, Outcome(None, "cancelled"))
        elif pid is None:
            self._spawn(run)
        elif processes.is_alive(pid, place):
            self._running(run, pid, is_child=False)
        else:
            await self._settle_lost(run)

    async def _resume_interrupted(self, run: Run) -> None:
        """A service was stopped while this ran, and killed before it saw the end."""
        place = self.place(run)
        pid = await processes.settled_claimant(place)
        if pid and processes.is_alive(pid, place):
            processes.signal_group(pid, signal.SIGKILL)
        await asyncio.to_thread(tidy, [_token(run)])
        processes.void(place)
        code = processes.exit_code(place)
        run = run.but(is_interrupted=False)
        if run.is_cancelled or (code == 0 and not run.is_server):
            self._settle(run, code)
        else:
            self._save(run.but(phase="queued", pid=0))
            self._enqueue(run)

    # Small things

    def _record(self, run_id: str, step: Callable[[], None]) -> None:
        """Take a step that must not be lost: while the store refuses it (a full disk), try again."""
        try:
            step()
        except sqlite3.Error:
            log.exception("cannot record a step, trying again", extra={"action": "record_failed", "run_id": run_id})
            self.after(run_id, _RECORD_AGAIN_S, lambda: self._record(run_id, step))

    def place(self, run: Run) -> Path:
        """The directory of a run's present attempt."""
        return self._directory / run.run_id / str(run.attempt)

    def _remove_place(self, run_id: str) -> None:
        self._tidying.folder(self._directory / run_id)

    def _runs(self) -> Iterable[Run]:
        return [Run.of(document) for document in self._store.documents(KIND)]

    def _save(self, run: Run) -> None:
        self._store.put(KIND, run.run_id, run.document())

    def _listener(self, run: Run) -> Listener:
        return self._listeners[run.run_id.partition("-")[0]]

    async def _all_ended(self, within_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while self._watches:
            self._ended.clear()
            try:
                await asyncio.wait_for(self._ended.wait(), deadline - loop.time())
            except TimeoutError:
                return not self._watches
        return True


def _token(run: Run) -> str:
    """What marks the processes of one attempt; the random part of a job's id is in the run id."""
    return f"{run.run_id}.{run.attempt}"
