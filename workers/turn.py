"""One rollout at a time per endpoint, without a lock server.

Two runs that end together would both move the endpoint's traffic, each over the other's. So a rollout first takes its
turn: `turns/<endpoint>.json` names the run whose turn it is, changed by compare-and-set. It passes on by state, not by
time: whoever holds it is a run in the ledger, and once that run's deploy has finished, the next may take it. A holder
that died is carried to its end by the sweep like any other run, so no turn is ever stuck.

Waiting for the turn is watched like a job: less and less often, and for as long as it takes.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workers.errors import Conflict, TransientError
from workers.ledger import Ledger
from workers.logs import logger
from workers.objects import ABSENT, Objects
from workers.record import JobRef, State
from workers.stage import Context, JobState, JobStatus

KIND = "turn"


class TurnPhase:
    """The phase of a rollout that waits for the endpoint."""

    name = "turn"

    def __init__(self, objects: Objects, ledger: Ledger, stage: str) -> None:
        self._objects = objects
        self._ledger = ledger
        self._stage = stage

    def find(self, context: Context) -> JobRef | None:
        return self._ref(context)  # to wait takes nothing; `statuses` takes the turn when it is free

    def create(self, context: Context) -> JobRef:
        return self._ref(context)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        """Take the turn for each run that waits, where it is free; one that cannot be learned is left out."""
        found = {}
        for job in jobs:
            try:
                found[job.id] = self._take(job)
            except TransientError as fault:
                logger(run_id=job.data["run_id"], stage=self._stage).info("turn-unknown", reason=str(fault))
        return found

    def cancel(self, job: JobRef) -> None:
        """Nothing runs; the turn passes on when the run's deploy has finished."""

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {}

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return ()

    def _take(self, job: JobRef) -> JobStatus:
        name, run_id = job.data["object"], job.data["run_id"]
        holder, generation = self._holder(name)
        if holder == run_id:
            return JobStatus(JobState.SUCCEEDED, "HELD")
        waits = JobStatus(JobState.WAITING, f"WAITING for {holder}")
        if self._has_finished(run_id):
            return waits  # a late watcher must not take a turn for a run that needs none any more
        if holder is not None and not self._has_finished(holder):
            return waits
        try:
            self._objects.write(name, json.dumps({"run_id": run_id}).encode(), if_generation=generation)
        except Conflict:
            return waits  # another run was quicker
        return JobStatus(JobState.SUCCEEDED, "HELD")

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
