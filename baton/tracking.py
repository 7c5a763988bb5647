"""How far each stage of a run is: what the ledger does not know is asked of the job's provider and of its progress file.

Only stages that are running are asked about. Whatever cannot be learned is left out: a missing figure must not disturb
the watching of a run.
"""

import json
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google_errors

from baton.connections import KNOWN_FAULTS, Connections
from baton.runs import Run, StageView
from workers.dataflow import KIND as DATAFLOW
from workers.record import RESOURCE, JobRef
from workers.vertex import KIND as CUSTOM_JOB
from workers.vertex import Operations

ROLLOUT_PHASES = ("upload", "endpoint", "turn", "deploy", "traffic", "smoke", "tidy")
_PROGRESS_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is.

    Args:
        fraction: from 0 to 1, or None where its job does not say.
        job_state: the provider's own word, or "".
        detail: what there is to say besides, such as the step and the newest metric.
    """

    fraction: float | None = None
    job_state: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run and how far its stages are."""

    run: Run
    progress: dict[str, Progress]

    def of(self, stage: str) -> Progress:
        return self.progress.get(stage, Progress())


class Tracker:
    """Looks how far the stages of a run are."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def snapshot(self, run: Run) -> Snapshot:
        """Return the run with the progress of its stages."""
        return Snapshot(run, {stage.name: self._progress(run, stage) for stage in run.stages if stage.has_begun})

    def _progress(self, run: Run, stage: StageView) -> Progress:
        if stage.has_ended:
            return Progress(1.0 if stage.outcome == "succeeded" else None, stage.outcome)
        if stage.name == "deploy":
            return _rollout_progress(stage, self._job_state(stage))
        if stage.name == "train" and stage.state == "running":
            return self._training_progress(run, stage)
        return Progress(None, self._job_state(stage))

    def _job_state(self, stage: StageView) -> str:
        """Ask the provider for the state of the stage's job; the ledger's own word where it does not answer."""
        job = stage.job
        if job is None or stage.state != "running":
            return ""
        ref = JobRef(id=job.id, name=job.name, kind=job.kind, location=job.location, state=job.state)
        connections = self._connections
        try:
            if job.kind == DATAFLOW:
                statuses = connections.dataflow.statuses([ref])
            elif job.kind == CUSTOM_JOB:
                statuses = connections.custom_jobs.statuses([ref])
            elif job.kind == Operations.KIND:
                statuses = connections.operations.statuses([ref])
            else:
                return job.state if job.kind != RESOURCE else ""
        except KNOWN_FAULTS:
            return job.state
        return statuses[job.id].provider_state or job.state

    def _training_progress(self, run: Run, stage: StageView) -> Progress:
        state = self._job_state(stage)
        body = self._progress_file(run, stage)
        if body is None:
            return Progress(None, state)
        metrics = ", ".join(f"{name} {value:.3g}" for name, value in _numbers(body.get("metrics")).items())
        step = f"step {body.get('step', '?')} of {body.get('steps', '?')}"
        return Progress(_fraction(body.get("fraction")), state, f"{step}, {metrics}" if metrics else step)

    def _progress_file(self, run: Run, stage: StageView) -> dict[str, Any] | None:
        """Read what the trainer writes at each evaluation, below its log directory."""
        connections = self._connections
        root = run_artifacts(run, connections)
        bucket, _, folder = root.removeprefix("gs://").partition("/")
        blob = connections.storage.bucket(bucket).blob(f"{folder}/train-a{stage.attempt}/logs/progress.json")
        try:
            body = json.loads(blob.download_as_bytes(checksum=None, timeout=_PROGRESS_TIMEOUT_S, retry=None))
        except (google_errors.GoogleAPICallError, OSError, ValueError):
            return None  # not written yet, or just now being replaced
        return body if isinstance(body, dict) else None


def run_artifacts(run: Run, connections: Connections) -> str:
    """Return the folder of the run's artifacts, as the workers compute it."""
    return f"{(run.params.get('output_uri') or f'gs://{connections.profile.bucket}/artifacts').rstrip('/')}/{run.id}"


def _rollout_progress(stage: StageView, job_state: str) -> Progress:
    if stage.phase not in ROLLOUT_PHASES:
        return Progress(None, job_state, stage.phase)  # taking a failed one back has no share of the way
    return Progress(ROLLOUT_PHASES.index(stage.phase) / len(ROLLOUT_PHASES), job_state, stage.phase)


def _fraction(value: Any) -> float | None:
    return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) else None


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {str(k): float(v) for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}
