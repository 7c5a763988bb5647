"""The third stage of the chain, on the workers' own runtime: train-done in, one Vertex AI custom job, deploy-done out.

A rollout is no no-op job, so the chain of three ends with one more custom job. Everything but the job's arguments and the
event is the product's: intake, engine, ledger, loop, Google's clients. Run as `python -m bench.overhead.third`.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from messages import DeployDone, Event, TrainDone
from messages.topics import SUBSCRIPTIONS, TRAIN_DONE
from workers.folders import run_folder
from workers.labels import job_labels
from workers.pipeline import PipelineSpec
from workers.record import JobRef
from workers.settings import Settings
from workers.sources import Sources, read_json
from workers.stage import Context, JobStatus
from workers.train import section
from workers.vertex import CustomJobs

NAME = "third"
SUBSCRIPTION = f"{NAME}-worker"
IMAGE = "noop-third"


class ThirdPhase:
    """The custom job; like `workers.train`'s, with its own image and folder."""

    name = "custom-job"
    is_made_by_launches = True

    def __init__(self, jobs: CustomJobs, sources: Sources, settings: Settings) -> None:
        self._jobs = jobs
        self._sources = sources
        self._settings = settings

    def find(self, context: Context) -> JobRef | None:
        return self._jobs.find(job_labels(context, self._settings), self._settings.region)

    def create(self, context: Context) -> JobRef:
        options = section(context.spec)
        container = {
            "imageUri": self._settings.image(IMAGE),
            "args": [f"--{key}={value}" for key, value in options.options.items()],
        }
        pool = {
            "machineSpec": {"machineType": options.machine_type},
            "replicaCount": "1",
            "containerSpec": container,
        }
        body = {
            "displayName": context.job_name[:128],
            "labels": job_labels(context, self._settings),
            "jobSpec": {
                "workerPoolSpecs": [pool],
                "baseOutputDirectory": {"outputUriPrefix": self._base(context)},
            },
        }
        return self._jobs.create(body, self._settings.region)

    def statuses(self, jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
        return self._jobs.statuses(jobs)

    def cancel(self, job: JobRef) -> None:
        self._jobs.cancel(job)

    def log_tail(self, job: JobRef) -> tuple[str, ...]:
        return tuple(self._jobs.statuses([job])[job.id].message.splitlines()[-20:])

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        model = f"{self._base(context)}/model"
        return {"model_uri": model, "metrics": read_json(self._sources, f"{model}/metrics.json", wrote=f"job {job.id}")}

    def _base(self, context: Context) -> str:
        return f"{run_folder(context, self._settings)}/{NAME}-a{context.attempt}"


class Third:
    """The stage."""

    name = NAME
    subscription = SUBSCRIPTION
    consumes: type[Event] = TrainDone

    def __init__(self, phase: ThirdPhase) -> None:
        self.phases = (phase,)

    def limits(self, spec: PipelineSpec) -> tuple[int, float]:
        options = section(spec)
        return options.attempts, options.deadline_s

    def result(self, context: Context) -> Event:
        given = context.record.yields[ThirdPhase.name]
        return DeployDone(
            pipeline=context.spec.name,
            params=context.params,
            endpoint="",  # nothing was rolled out; the event is there so that the chain ends as a real one does
            model="",
            deployed_model_id="",
            traffic_percent=0,
            **given,
        )


def main() -> int:
    from workers.runtime import Parts, read_event, run_worker
    from workers.vertex import Vertex

    SUBSCRIPTIONS[SUBSCRIPTION] = TRAIN_DONE

    def build(parts: Parts) -> tuple[Third, Any]:
        vertex = Vertex(parts.settings.project, parts.settings.aiplatform_endpoint)
        stage = Third(ThirdPhase(CustomJobs(vertex), parts.sources, parts.settings))
        return stage, read_event(stage.consumes)

    return run_worker(NAME, build)


if __name__ == "__main__":
    sys.exit(main())
