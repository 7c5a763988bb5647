"""One rollout at a time per endpoint, without a lock server.

Two runs that end together would both move the endpoint's traffic, each over the other's. So a rollout first takes its
turn: `turns/<endpoint>.json` names the run whose turn it is, changed by compare-and-set. It passes on by state, not by
time: whoever holds it is a run in the ledger, and once that run's deploy has finished, the next may take it. A holder
that died is carried to its end by the sweep like any other run, so no turn is ever stuck.

Waiting for the turn is watched like a job: less and less often, and for as long as it takes. Another worker may have led
a watched run through its turn to its end meanwhile; it is told that it has the turn, finds its record moved, and is let go.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from workers.errors import Conflict, TransientError
from workers.ledger import Ledger
from workers.logs import logger
from workers.objects import ABSENT, Objects
from workers.record import JobRef, State
from workers.stage import Context, JobState, JobStatus

KIND = "turn"
_HELD = JobStatus(JobState.SUCCEEDED, "HELD")
_FEW = 5  # records of waiting runs that are read at one look: thousands may wait for one endpoint


class TurnPhase:
    """The phase of a rollout that waits for the endpoint."""

    name = "turn"

    def __init__(self, objects: Objects, ledger: Ledger, stage: str) -> None:
        self._objects = objects
        self._ledger = ledger
        self._stage = stage
        self._chance = random.Random(0)  # noqa: S311 - whose record is read is no secret, and a simulation comes again

    def find(self, context: Context) -> JobRef | None:
        return self._ref(context)  # to wait takes nothing; `statuses` takes the turn when it is free

    def create(self, context: Context) -> JobRef:
        return self._ref(context)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        """Take the turn for a run that waits, where it is free; one that cannot be learned is left out.

        Whether it is free is read once for an endpoint, however many wait for it; of these a few are looked up. One that
        has finished is told that the turn is its own: it takes none, since its record stands elsewhere by then.
        """
        by_endpoint: dict[str, list[JobRef]] = {}
        for job in jobs:
            by_endpoint.setdefault(job.data["object"], []).append(job)
        found: dict[str, JobStatus] = {}
        for name, group in by_endpoint.items():
            try:
                holder, generation = self._holder(name)
                is_free = holder is None or self._has_finished(holder)
            except (TransientError, ValueError) as fault:
                self._log_unknown(fault, turn=name)
                continue
            waiting = [job for job in group if job.data["run_id"] != holder]
            waits = JobStatus(JobState.WAITING, f"WAITING for {holder}")
            found |= {job.id: _HELD if job.data["run_id"] == holder else waits for job in group}
            for job in self._to_look_up(waiting, is_free):
                try:
                    is_over = self._has_finished(job.data["run_id"])
                    took = is_free and not is_over and self._take(name, job.data["run_id"], generation)
                except (TransientError, ValueError) as fault:
                    self._log_unknown(fault, run_id=job.data["run_id"])
                    found.pop(job.id, None)
                    continue
                is_free = is_free and is_over  # a turn that was written is this run's, or that of whoever was quicker
                if took or is_over:
                    found[job.id] = _HELD
        return found

    def cancel(self, job: JobRef) -> None:
        """Nothing runs; the turn passes on when the run's deploy has finished."""

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {}

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return ()

    def _to_look_up(self, waiting: Sequence[JobRef], is_free: bool) -> list[JobRef]:
        """Return those whose records are read now: where the turn is free the first few, and always a few by chance.

        So each comes up in the end, and one whose record cannot be read stands in nobody's way.
        """
        first = list(waiting[:_FEW]) if is_free else []
        others = waiting[len(first) :]
        return first + self._chance.sample(others, min(_FEW, len(others)))

    def _take(self, name: str, run_id: str, generation: int) -> bool:
        """Take a free turn for a run that was just seen to need it; False if another run was quicker."""
        try:
            self._objects.write(name, json.dumps({"run_id": run_id}).encode(), if_generation=generation)
        except Conflict:
            return False
        return True

    def _log_unknown(self, fault: Exception, **place: str) -> None:
        """Say that something was not to be learned: no answer, or an object that cannot be read."""
        log = logger(stage=self._stage)
        (log.info if isinstance(fault, TransientError) else log.error)("turn-unknown", reason=str(fault), **place)

    def _holder(self, name: str) -> tuple[str | None, int]:
        versioned = self._objects.read(name)
        if versioned is None:
            return None, ABSENT
        return json.loads(versioned.content)["run_id"], versioned.generation

    def _has_finished(self, run_id: str) -> bool:
        entry = self._ledger.read(run_id, self._stage)
        return entry is None or entry.record.state in (State.FINISHED, State.PUBLISHED)

    def _ref(self, context: Context) -> JobRef:
        endpoint = context.spec.deploy.endpoint if context.spec.deploy else context.spec.name
        name = f"turns/{endpoint}.json"
        data = {"object": name, "run_id": context.run_id}
        return JobRef(id=f"{name}#{context.run_id}", name=context.job_name, kind=KIND, state="WAITING", data=data)
