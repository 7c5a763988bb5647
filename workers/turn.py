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
        """Take the turn for a run that waits, where it is free; one that cannot be learned is left out.

        Whether it is free is read once for an endpoint, however many wait for it.
        """
        by_endpoint: dict[str, list[JobRef]] = {}
        for job in jobs:
            by_endpoint.setdefault(job.data["object"], []).append(job)
        found: dict[str, JobStatus] = {}
        for name, group in by_endpoint.items():
            try:
                holder, generation = self._holder(name)
                is_free = holder is None or self._has_finished(holder)
            except TransientError as fault:
                logger(stage=self._stage).info("turn-unknown", turn=name, reason=str(fault))
                continue
            for job in group:
                run_id = job.data["run_id"]
                try:
                    took = run_id != holder and is_free and self._take(name, run_id, generation)
                except TransientError as fault:
                    logger(run_id=run_id, stage=self._stage).info("turn-unknown", reason=str(fault))
                    continue
                is_free = is_free and not took
                has_it = took or run_id == holder
                found[job.id] = (
                    JobStatus(JobState.SUCCEEDED, "HELD")
                    if has_it
                    else JobStatus(JobState.WAITING, f"WAITING for {holder}")
                )
        return found

    def cancel(self, job: JobRef) -> None:
        """Nothing runs; the turn passes on when the run's deploy has finished."""

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {}

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return ()

    def _take(self, name: str, run_id: str, generation: int) -> bool:
        """Take a free turn; False if another run was quicker, or this one needs none any more: a watcher can be late."""
        if self._has_finished(run_id):
            return False
        try:
            self._objects.write(name, json.dumps({"run_id": run_id}).encode(), if_generation=generation)
        except Conflict:
            return False
        return True

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
