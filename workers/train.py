"""The train worker: preprocess-done in, one Vertex AI custom job, train-done out.

Run as `python -m workers.train`.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from messages import Event, PreprocessDone, TrainDone
from messages.events import Job
from workers.errors import BadOutput, PipelineError
from workers.folders import run_folder
from workers.labels import LEDGER, STAGE, job_labels, ledger_label
from workers.pipeline import PipelineSpec, TrainSection
from workers.plain import is_number, is_text
from workers.record import JobRef
from workers.settings import Settings
from workers.sources import Sources, read_json
from workers.stage import Context, JobState, JobStatus
from workers.strays import Labelled
from workers.vertex import CustomJobs, ref

NAME = "train"
# parameter -> the trainer's flag
_FLAGS = {
    "num_train_examples": "--num-train-examples",
    "num_eval_examples": "--num-eval-examples",
    "num_evals": "--num-evals",
    "learning_rate": "--learning-rate",
}


def section(spec: PipelineSpec) -> TrainSection:
    """Return the pipeline's [train]."""
    if spec.train is None:
        raise PipelineError(f"pipeline {spec.name!r} has no [train]; add it to {spec.name}.toml")
    return spec.train


class CustomJobPhase:
    """The custom job that trains the model."""

    name = "custom-job"
    is_made_by_launches = True

    def __init__(self, jobs: CustomJobs, sources: Sources, settings: Settings) -> None:
        self._jobs = jobs
        self._sources = sources
        self._settings = settings

    def find(self, context: Context) -> JobRef | None:
        return self._jobs.find(job_labels(context, self._settings), self._location(context))

    def create(self, context: Context) -> JobRef:
        return self._jobs.create(self._body(context), self._location(context), context.is_alone)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        return self._jobs.statuses(jobs)

    def cancel(self, job: JobRef) -> None:
        self._jobs.cancel(job)

    def active(self, known: Collection[str]) -> Iterator[Labelled]:
        wanted = {LEDGER: ledger_label(self._settings), STAGE: NAME}
        location = self._settings.region
        for job in self._jobs.active(wanted, location):
            labels = job["labels"]
            if job["name"] not in known:
                yield Labelled(ref(job, location), labels["baton-run"], int(labels["baton-attempt"]))

    def is_active(self, job: JobRef) -> bool:
        status = self._jobs.statuses([job]).get(job.id)
        return status is not None and status.state is JobState.ACTIVE

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        status = self._jobs.statuses([job]).get(job.id)
        return () if status is None else tuple(status.message.splitlines()[-20:])

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        """Read the metrics, which the trainer writes last."""
        model = f"{self._base(context)}/model"
        body = read_json(self._sources, f"{model}/metrics.json", wrote=f"job {job.id}")
        metrics = {k: v for k, v in body.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        if not metrics:
            raise BadOutput(f"{model}/metrics.json holds no number", "mend what the trainer writes")
        for name, value in metrics.items():
            if not is_text(name):
                raise BadOutput(f"{model}/metrics.json has a metric {name!r:.80}", "name it in UTF-8")
            if not is_number(value):
                raise BadOutput(
                    f"the training diverged: {name} = {value!r:.80} in {model}/metrics.json",
                    "lower the learning rate or mend the data, then start a new run",
                )
        return {"model_uri": model, "metrics": metrics}

    def _body(self, context: Context) -> dict[str, Any]:
        options, settings = section(context.spec), self._settings
        machine: dict[str, Any] = {"machineType": context.params.machine_type or options.machine_type}
        if options.accelerator_type and options.accelerator_count:
            machine |= {"acceleratorType": options.accelerator_type, "acceleratorCount": options.accelerator_count}
        pool = {
            "machineSpec": machine,
            "replicaCount": str(options.replicas),
            "containerSpec": {"imageUri": settings.image(options.image), "args": self._args(context)},
        }
        spec: dict[str, Any] = {
            "workerPoolSpecs": [pool],
            "baseOutputDirectory": {"outputUriPrefix": self._base(context)},
            "scheduling": {"timeout": f"{int(options.deadline_s)}s", "restartJobOnWorkerRestart": True},
        }
        if settings.service_account:
            spec["serviceAccount"] = settings.service_account
        return {"displayName": context.job_name[:128], "labels": job_labels(context, settings), "jobSpec": spec}

    def _args(self, context: Context) -> list[str]:
        event = context.event
        assert isinstance(event, PreprocessDone)  # the intake let nothing else in
        args = [f"--dataset={event.dataset_uri}"]
        given = context.params.given()
        args += [f"{flag}={given[name]}" for name, flag in _FLAGS.items() if name in given]
        args += [f"--{key.replace('_', '-')}={value}" for key, value in section(context.spec).options.items()]
        return args

    def _base(self, context: Context) -> str:
        return f"{run_folder(context, self._settings)}/{NAME}-a{context.attempt}"

    def _location(self, context: Context) -> str:
        return context.params.region or self._settings.region


class Train:
    """The stage."""

    name = NAME
    subscription = "train-worker"
    consumes: type[Event] = PreprocessDone

    def __init__(self, phase: CustomJobPhase) -> None:
        self.phases = (phase,)

    def limits(self, spec: PipelineSpec) -> tuple[int, float]:
        options = section(spec)
        return options.attempts, options.deadline_s

    def result(self, context: Context) -> Event:
        given, job = context.record.yields[CustomJobPhase.name], context.record.job
        assert job is not None  # a stage has a result only after its job
        assert isinstance(context.event, PreprocessDone)
        return TrainDone(
            pipeline=context.spec.name,
            params=context.params,
            dataset_uri=context.event.dataset_uri,
            job=Job(id=job.id, name=job.name, attempt=context.attempt),
            **given,
        )


def main() -> int:
    from workers.runtime import Parts, read_event, run_worker
    from workers.vertex import Vertex

    def build(parts: Parts) -> tuple[Train, Any]:
        vertex = Vertex(parts.settings.project, parts.settings.aiplatform_endpoint)
        stage = Train(CustomJobPhase(CustomJobs(vertex), parts.sources, parts.settings))
        return stage, read_event(stage.consumes)

    return run_worker(NAME, build)


if __name__ == "__main__":
    sys.exit(main())
