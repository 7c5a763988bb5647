"""One rollout at a time per endpoint, without a lock server.

Two runs that end together would both move the endpoint's traffic, each over the other's. So a rollout first takes its
turn: `turns/<endpoint>.json` names the run whose turn it is, changed by compare-and-set. It passes on by state, not by
time: whoever holds it is a run in the ledger, and once that run's deploy has finished, the next may take it. A holder
that died is carried to its end by the sweep like any other run, so no turn is ever stuck.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workers.errors import Conflict, TransientError
from workers.ledger import Ledger
from workers.objects import ABSENT, Objects
from workers.record import JobRef, State
from workers.stage import Context, JobState, JobStatus

_ASK_AGAIN_S = 0.5


class TurnPhase:
    """The first phase of a rollout: wait for the endpoint."""

    name = "turn"

    def __init__(self, objects: Objects, ledger: Ledger, stage: str) -> None:
        self._objects = objects
        self._ledger = ledger
        self._stage = stage

    def find(self, context: Context) -> JobRef | None:
        return self._ref(context) if self._holder(self._object(context))[0] == context.run_id else None

    def create(self, context: Context) -> JobRef:
        """Take the turn.

        Raises:
            TransientError: it is another run's; ask again.
        """
        name = self._object(context)
        holder, generation = self._holder(name)
        if holder not in (None, context.run_id) and not self._has_finished(str(holder)):
            raise TransientError(f"{name} is run {holder}'s turn", retry_after_s=_ASK_AGAIN_S)
        try:
            content = json.dumps({"run_id": context.run_id}).encode()
            self._objects.write(name, content, if_generation=generation)
        except Conflict as fault:
            raise TransientError(f"{name} was taken by another run just now", retry_after_s=_ASK_AGAIN_S) from fault
        return self._ref(context)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        return {job.id: JobStatus(JobState.SUCCEEDED) for job in jobs}

    def cancel(self, job: JobRef) -> None:
        """Nothing runs; the turn passes on when the run's deploy has finished."""

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {}

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return ()

    def _holder(self, name: str) -> tuple[str | None, int]:
        versioned = self._objects.read(name)
        if versioned is None:
            return None, ABSENT
        return json.loads(versioned.content)["run_id"], versioned.generation

    def _has_finished(self, run_id: str) -> bool:
        entry = self._ledger.read(run_id, self._stage)
        return entry is None or entry.record.state in (State.FINISHED, State.PUBLISHED)

    def _object(self, context: Context) -> str:
        endpoint = context.spec.deploy.endpoint if context.spec.deploy else context.spec.name
        return f"turns/{endpoint}.json"

    def _ref(self, context: Context) -> JobRef:
        return JobRef(id=self._object(context), name=context.job_name, kind="turn", state="HELD")
