"""Moves a stage of a run to its end: launch once, watch, try again, publish once.

`advance` and `observe` are idempotent and safe to call by anybody at any time: read the record, make one step, compare
and set. Every step has at most one effect outside the ledger, and stands between two ledger writes, so a process may die
between any two lines and another one carries on. The rules:

- before an effect, the intent is in the ledger (`launching`, by whom, since when);
- whoever makes the effect looks first whether it was made already (find, then create);
- an intent is left alone until it has settled; then anybody may take it over, and its late owner, when it wakes, sees by
  its own clock that its time is up, or loses the compare-and-set (`workers.launching`);
- the next attempt begins when the job of the one before has ended (`workers.watching`);
- the next event's id follows from run and stage: told twice, it is one event (`workers.ending`).
"""

import random
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from workers.ending import Ends
from workers.errors import Conflict
from workers.held import Held
from workers.launching import Launches
from workers.ledger import Entry, Ledger
from workers.logs import logger
from workers.moves import Moves
from workers.publisher import Publisher
from workers.record import RESOURCE, StageRecord, State
from workers.stage import JobState, JobStatus, Phase, Stage
from workers.steps import Clock, Done, Later, Next, Policy, Watch
from workers.strays import Strays
from workers.watching import Watches

__all__ = ["Clock", "Done", "Engine", "Later", "Next", "Policy", "Watch"]

_STEPS_AT_ONCE = 64  # more steps without a wait than any stage has: a loop here is a defect


class Engine:
    """The protocol of one stage.

    Args:
        worker: this process's unique name.
        clock: the time, aware.
        jitter: a float in [0, 1), to spread retries.
    """

    def __init__(
        self,
        stage: Stage,
        ledger: Ledger,
        publisher: Publisher,
        clock: Clock,
        worker: str,
        policy: Policy | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.stage = stage
        self.ledger = ledger
        self._moves = Moves(stage, ledger, clock, worker, policy or Policy())
        self._ends = Ends(self._moves, publisher, jitter)
        self._launches = Launches(self._moves, self._ends)
        self._watches = Watches(self._moves, self._ends)
        self._strays = Strays(stage.name, self._moves.phases, ledger)
        self._standing: dict[str, datetime] = {}  # cancelled run -> since when its tombstone is known to stand

    @property
    def phases(self) -> Sequence[Phase]:
        """The stage's phases, and after them those that clean up, as records number them."""
        return self._moves.phases

    def advance(self, run_id: str) -> Next:
        """Make every step that can be made now.

        Raises:
            TransientError: a service did not answer; call again later.
        """
        entry = self.ledger.read(run_id, self.stage.name)
        if entry is None:
            entry = self._void(run_id)
        return Done(None) if entry is None else self._go_on(entry)

    def intend(self, record: StageRecord) -> StageRecord:
        """Return a new claim with the intent of its first launch in it, for a worker that launches at once."""
        return self._moves.intend(record)

    def begin(self, claim: Entry) -> Next:
        """Go on from a claim that this process has just written: as `advance`, without asking what it knows.

        Raises:
            TransientError: a service did not answer; call `advance` later.
        """
        is_intent = claim.record.state is State.LAUNCHING
        step = self._guarded(
            lambda e: self._launches.launch_new(e, is_claim=True) if is_intent else self._step(e), claim
        )
        return self._go_on(step) if isinstance(step, Entry) else step

    def now(self) -> datetime:
        """Return the time as the ledger writes it."""
        return self._moves.clock()

    def observe(self, entry: Entry, status: JobStatus, asked_at: datetime | None = None) -> Next:
        """Take note of a running job's state, and go on if it has ended.

        Args:
            asked_at: when the provider was asked; None = just now.

        Raises:
            TransientError: a service did not answer; observe again later.
        """
        asked_at = asked_at or self.now()
        step = self._guarded(lambda e: self._watches.observed(e, status, asked_at), entry)
        return self._go_on(step) if isinstance(step, Entry) else step

    def hold(self, watch: Watch) -> Held:
        """Return what is kept of a watched job until its next look."""
        return self._watches.hold(watch)

    def goes_on(self, held: Held, status: JobStatus) -> bool:
        """Tell whether the job just goes on: nothing to observe, and no call was needed to know it."""
        return self._watches.goes_on(held, status)

    def stop_strays(self, known: Collection[str]) -> list[str]:
        """Stop jobs that run although nobody counts on them; `known` are the ids of those that are watched here.

        Raises:
            TransientError: a service did not answer; search again later.
        """
        return self._strays.stop(known)

    def settle_cancellations(self) -> list[str]:
        """Take note of the runs that are being cancelled and return them; those with nothing left to stop are let go.

        Raises:
            TransientError: a service did not answer; ask again later.
        """
        run_ids = list(self.ledger.cancelling())
        self._moves.cancelled.intersection_update(run_ids)
        for settled in self._standing.keys() - set(run_ids):
            del self._standing[settled]
        for run_id in run_ids:
            try:
                self._settle_cancellation(run_id)
            except ValueError as fault:  # a record that this version cannot read: the other runs are to be stopped too
                logger(run_id=run_id, stage=self.stage.name).error("cancellation-unsettled", reason=str(fault))
        return run_ids

    def _settle_cancellation(self, run_id: str) -> None:
        """Make sure of the tombstone; when it has stood for a while, see whether anything is left to stop.

        A claim that is on its way looked for the tombstone before it stood: only when such claims have arrived does it say
        anything that every stage has ended.
        """
        now = self._moves.clock()
        if run_id not in self._standing:
            if not self.ledger.is_cancelled(run_id):
                self.ledger.cancel(run_id, self._moves.worker, now)  # who began it died in between
            self._standing[run_id] = self._moves.clock()
        # Only with its tombstone: what is stopped without one would look as if somebody had stopped it by hand.
        self._moves.cancelled.add(run_id)
        if now - self._standing[run_id] >= timedelta(seconds=self._moves.policy.settle_s):
            self.ledger.settle_cancellation(run_id, self._moves.worker, now)

    def _go_on(self, entry: Entry) -> Next:
        for _ in range(_STEPS_AT_ONCE):
            step = self._guarded(self._step, entry)
            if not isinstance(step, Entry):
                return step
            entry = step
        record = entry.record
        raise AssertionError(f"{record.stage} of run {record.run_id} made {_STEPS_AT_ONCE} steps without a wait")

    def _void(self, run_id: str) -> Entry | None:
        """Close the stage of a cancelled run that was marked and never claimed; without a tombstone, leave it be.

        A marker without a record means that a claim is on its way, or that its message was given up on and can be sent
        again. In a cancelled run no claim may come any more: the empty record sees to that, and the marker can go.
        """
        if not self.ledger.is_cancelled(run_id):
            return None
        try:
            return self.ledger.claim(self._moves.void(run_id))
        except Conflict:
            return self.ledger.read(run_id, self.stage.name)

    def _guarded(self, step: Callable[[Entry], Entry | Next], entry: Entry) -> Entry | Next:
        """Make a step; if somebody else made one first, read again."""
        try:
            return step(entry)
        except Conflict:
            record = entry.record
            logger(run_id=record.run_id, stage=record.stage).info("step-lost", state=record.state)
            return self.ledger.read(record.run_id, record.stage) or Done(None)

    def _step(self, entry: Entry) -> Entry | Next:
        match entry.record.state:
            case State.CLAIMED:
                return self._launches.launch_new(self._moves.move(entry, State.LAUNCHING, attempt=1), is_claim=False)
            case State.LAUNCHING:
                return self._launches.launch(entry)
            case State.RUNNING:
                job = entry.record.job
                assert job is not None  # set with this state, always
                if job.kind == RESOURCE:
                    return self._watches.observed(entry, JobStatus(JobState.SUCCEEDED, job.state), self.now())
                return Watch(entry, job)
            case State.FINISHED:
                return self._ends.publish(entry)
            case State.PUBLISHED:
                return self._ends.close(entry)
