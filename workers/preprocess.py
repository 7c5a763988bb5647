"""The preprocess worker: data-ready in, one Dataflow flex-template job, preprocess-done out.

Run as `python -m workers.preprocess`.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from messages import DataReady, Event, PreprocessDone
from messages.events import Job
from workers.dataflow import Dataflow, ref
from workers.errors import BadOutput, PipelineError
from workers.folders import run_folder
from workers.labels import LEDGER, STAGE, job_labels, ledger_label
from workers.pipeline import PipelineSpec, PreprocessSection
from workers.plain import is_text
from workers.record import JobRef
from workers.settings import Settings
from workers.sources import Sources, read_json
from workers.stage import Context, JobState, JobStatus
from workers.strays import Labelled

NAME = "preprocess"
_MEND = "mend what the Beam job writes"


def section(spec: PipelineSpec) -> PreprocessSection:
    """Return the pipeline's [preprocess]."""
    if spec.preprocess is None:
        raise PipelineError(f"pipeline {spec.name!r} has no [preprocess]; add it to {spec.name}.toml")
    return spec.preprocess


class DataflowPhase:
    """The Dataflow job that writes the dataset."""

    name = "dataflow"
    is_made_by_launches = True

    def __init__(self, dataflow: Dataflow, sources: Sources, settings: Settings) -> None:
        self._dataflow = dataflow
        self._sources = sources
        self._settings = settings

    def find(self, context: Context) -> JobRef | None:
        labels = job_labels(context, self._settings)
        return self._dataflow.find(context.job_name, labels, self._location(context))

    def create(self, context: Context) -> JobRef:
        options, settings = section(context.spec), self._settings
        assert isinstance(context.event, DataReady)  # the intake let nothing else in
        parameters = {key: str(value) for key, value in options.options.items()}
        parameters |= {"source": context.event.source, "output": self._output(context), "run_id": context.run_id}
        if context.params.limit is not None:
            parameters["limit"] = str(context.params.limit)
        environment: dict[str, Any] = {
            "tempLocation": f"gs://{settings.bucket}/temporary/{context.run_id}",
            "maxWorkers": options.max_workers,
            "additionalUserLabels": job_labels(context, settings),
        }
        if options.machine_type:
            environment["machineType"] = options.machine_type
        if settings.service_account:
            environment["serviceAccountEmail"] = settings.service_account
        template = options.template if "://" in options.template else f"gs://{settings.bucket}/{options.template}"
        name, location = context.job_name, self._location(context)
        return self._dataflow.launch(name, location, template, parameters, environment, context.is_alone)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        return self._dataflow.statuses(jobs)

    def cancel(self, job: JobRef) -> None:
        self._dataflow.cancel(job)

    def active(self, known: Collection[str]) -> Iterator[Labelled]:
        wanted = {LEDGER: ledger_label(self._settings), STAGE: NAME}
        location = self._settings.region
        for job in self._dataflow.active(location, wanted, known):
            labels = job["labels"]
            yield Labelled(ref(job, location), labels["baton-run"], int(labels["baton-attempt"]))

    def is_active(self, job: JobRef) -> bool:
        status = self._dataflow.statuses([job]).get(job.id)
        return status is not None and status.state is JobState.ACTIVE

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return self._dataflow.messages(job)

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        """Read the manifest, which the job writes last."""
        dataset = self._output(context)
        manifest = read_json(self._sources, f"{dataset}/manifest.json", wrote=f"job {job.id}")
        try:
            counts = {
                "train_examples": int(manifest["train"]["rows"]),
                "eval_examples": int(manifest["eval"]["rows"]),
                "rejected_rows": int(manifest["rejects"]["total"]),
            }
        except (KeyError, TypeError, ValueError, OverflowError) as fault:
            raise BadOutput(f"{dataset}/manifest.json lacks a count ({fault!r})", _MEND) from fault
        for name, count in counts.items():
            if count < 0:
                raise BadOutput(f"{dataset}/manifest.json gives {name} = {count}, less than nothing", _MEND)
        digest = manifest.get("digest")
        if digest is not None and not is_text(digest):
            raise BadOutput(f"{dataset}/manifest.json gives digest = {digest!r:.80}, which is no text", _MEND)
        return {"dataset_uri": dataset, "digest": digest, **counts}

    def _output(self, context: Context) -> str:
        return f"{run_folder(context, self._settings)}/{NAME}-a{context.attempt}"

    def _location(self, context: Context) -> str:
        return context.params.region or self._settings.region


class Preprocess:
    """The stage."""

    name = NAME
    subscription = "preprocess-worker"
    consumes: type[Event] = DataReady

    def __init__(self, phase: DataflowPhase) -> None:
        self.phases = (phase,)

    def limits(self, spec: PipelineSpec) -> tuple[int, float]:
        options = section(spec)
        return options.attempts, options.deadline_s

    def result(self, context: Context) -> Event:
        given, job = context.record.yields[DataflowPhase.name], context.record.job
        assert job is not None  # a stage has a result only after its job
        return PreprocessDone(
            pipeline=context.spec.name,
            params=context.params,
            job=Job(id=job.id, name=job.name, attempt=context.attempt),
            **given,
        )


def main() -> int:
    from workers.data_ready import read_data_ready
    from workers.runtime import Parts, run_worker

    def build(parts: Parts) -> tuple[Preprocess, Any]:
        from workers.google_rest import GoogleRest

        settings = parts.settings
        dataflow = Dataflow(GoogleRest("dataflow", "v1b3", settings.dataflow_endpoint), settings.project)
        stage = Preprocess(DataflowPhase(dataflow, parts.sources, settings))
        return stage, read_data_ready(parts.catalog, parts.sources)

    return run_worker(NAME, build)


if __name__ == "__main__":
    sys.exit(main())
