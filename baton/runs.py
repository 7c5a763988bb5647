"""Runs as people see them: read from the ledger, which is also the timeline.

Nothing here writes. A run is what its stages' records say; the stages still to come follow from the configuration that
the first of them was claimed with.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from workers.record import Failure, Outcome, StageRecord, State

STAGES = ("preprocess", "train", "deploy")


class RunState(StrEnum):
    """Where a run as a whole stands."""

    WAITING = "waiting"  # published, not yet claimed by any worker
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True, slots=True)
class JobView:
    """A stage's job: `id` and `state` in its provider's words."""

    id: str
    name: str
    kind: str
    state: str
    location: str


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a stage's history; `left_out` steps like it came just before and are not told."""

    time: datetime
    state: str
    attempt: int
    phase: str
    job_id: str
    by: str
    note: str
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage of a run.

    Args:
        state: waiting, claimed, launching, running, finished or published (as in the ledger).
        outcome: succeeded, failed, cancelled, or "" while it goes on.
        result: the body of the event that it published.
        failure: reason, message, mend and log_tail of a failure, or None.
        triggered: when the event that started it was published; None for a stage still to come.
    """

    name: str
    state: str = "waiting"
    outcome: str = ""
    attempt: int = 0
    phase: str = ""
    phase_index: int = 0
    job: JobView | None = None
    source: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, Any] | None = None
    triggered: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    history: tuple[Step, ...] = ()

    @property
    def has_ended(self) -> bool:
        return bool(self.outcome)

    @property
    def has_begun(self) -> bool:
        return self.started is not None

    def elapsed_s(self, now: datetime) -> float:
        """Return how long it has taken, in seconds, from its claim to its end or to `now`."""
        if self.started is None:
            return 0.0
        return max(0.0, ((self.ended or now) - self.started).total_seconds())


@dataclass(frozen=True, slots=True)
class Run:
    """One trip through the pipeline.

    Args:
        started: when the event that began it was published; None while no worker has claimed it.
        params: what the run was started with, defaults of the pipeline included.
        parent: the run that this one tries again or plays again, or "".
    """

    id: str
    pipeline: str
    state: RunState
    stages: tuple[StageView, ...]
    started: datetime | None = None
    ended: datetime | None = None
    params: dict[str, Any] = field(default_factory=dict)
    parent: str = ""

    def stage(self, name: str) -> StageView | None:
        """Return the stage of that name, or None where the run has none."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def metrics(self) -> dict[str, float]:
        """The trained model's figures, empty until it is trained."""
        train, deploy = self.stage("train"), self.stage("deploy")
        found = (train.result if train else {}).get("metrics") or (deploy.result if deploy else {}).get("metrics")
        return dict(found or {})

    @property
    def endpoint(self) -> str:
        """The endpoint's resource name once the model serves, or ""."""
        deploy = self.stage("deploy")
        return str(deploy.result.get("endpoint", "")) if deploy and deploy.outcome == Outcome.SUCCEEDED else ""

    @property
    def failure(self) -> dict[str, Any] | None:
        """Why the run failed: stage, reason, message, mend, log_tail; None where it did not."""
        failed = next((stage for stage in self.stages if stage.failure and stage.outcome == Outcome.FAILED), None)
        return {"stage": failed.name, **(failed.failure or {})} if failed else None

    def elapsed_s(self, now: datetime) -> float:
        """Return how long it has taken, in seconds, from its event to its end or to `now`."""
        return max(0.0, ((self.ended or now) - self.started).total_seconds()) if self.started else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the run as `--json` prints it: the fields above, times in RFC 3339, absent things left out."""
        body = asdict(self)
        body["metrics"], body["endpoint"], body["failure"] = self.metrics, self.endpoint, self.failure
        cleaned = _cleaned(body)
        assert isinstance(cleaned, dict)  # a dict stays one
        return cleaned


def run_of(run_id: str, records: Iterable[StageRecord], is_cancelled: bool = False) -> Run:
    """Return the run that these records are of; without any, one that waits to be claimed."""
    by_stage = {record.stage: record for record in records}
    if not by_stage:
        state = RunState.CANCELLED if is_cancelled else RunState.WAITING
        return Run(run_id, "", state, tuple(StageView(name) for name in STAGES))
    first = min(by_stage.values(), key=lambda record: record.history[0].time)
    views = tuple(
        stage_of(by_stage[name]) if name in by_stage else StageView(name) for name in _expected(first, by_stage)
    )
    state = _state(views, is_cancelled)
    ended = max((view.ended for view in views if view.ended), default=None) if state.is_final else None
    parent = first.trigger.parent_run or ""
    return Run(run_id, first.pipeline, state, views, first.trigger.time, ended, dict(first.params), parent)


def stage_of(record: StageRecord) -> StageView:
    """Return a record as a stage to look at."""
    steps = tuple(
        Step(
            step.time,
            step.state.value,
            step.attempt,
            step.phase,
            step.job_id,
            step.by,
            step.note,
            step.left_out or 0,
        )
        for step in record.history
    )
    done = next((step.time for step in record.history if step.state is State.FINISHED), None)
    job = record.job
    return StageView(
        name=record.stage,
        state=record.state.value,
        outcome=record.outcome.value if record.outcome else "",
        attempt=record.attempt,
        phase=record.history[-1].phase,
        phase_index=record.phase,
        job=JobView(job.id, job.name, job.kind, job.state, job.location) if job else None,
        source=str(_source_of(record.trigger.body)),
        result=dict((record.result or {}).get("body", {})),
        failure=_failure(record.failure) if record.failure else None,
        triggered=record.trigger.time,
        started=record.history[0].time,
        ended=done,
        history=steps,
    )


def _expected(first: StageRecord, by_stage: dict[str, StageRecord]) -> list[str]:
    """Return the stages of the run, in order: those that began, and those that its pipeline has after the first."""
    order = [*STAGES, *(name for name in by_stage if name not in STAGES)]
    start = order.index(first.stage)
    return [name for i, name in enumerate(order) if name in by_stage or (i > start and first.config.get(name))]


def _state(views: tuple[StageView, ...], is_cancelled: bool) -> RunState:
    outcomes = {view.outcome for view in views}
    if Outcome.FAILED in outcomes:
        return RunState.FAILED
    if Outcome.CANCELLED in outcomes:
        return RunState.CANCELLED
    if outcomes == {Outcome.SUCCEEDED.value}:
        return RunState.SUCCEEDED
    between = all(view.has_ended or not view.has_begun for view in views)
    return RunState.CANCELLED if is_cancelled and between else RunState.RUNNING


def _source_of(body: dict[str, Any]) -> Any:
    return next((body[key] for key in ("source", "dataset_uri", "model_uri") if body.get(key)), "")


def _failure(failure: Failure) -> dict[str, Any]:
    return {**failure.model_dump(), "log_tail": list(failure.log_tail)}


def _cleaned(value: Any) -> Any:
    """Return plain JSON: times as texts, tuples as lists, None left out."""
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value
