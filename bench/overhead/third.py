"""The third stage of the chain, on the workers' own runtime: train-done in, one Vertex AI custom job, deploy-done out.

A rollout is no no-op job, so the chain of three ends with one more custom job. Everything but the job's arguments and the
event is the product's: intake, engine, ledger, loop, Google's clients. Run as `python -m bench.overhead.third`.
"""

import sys
from collections.abc import Collection, Iterator
from typing import Any

from messages import DeployDone, Event, TrainDone
from messages.topics import SUBSCRIPTIONS, TRAIN_DONE
from workers.folders import run_folder
from workers.pipeline import PipelineSpec
from workers.stage import Context
from workers.strays import Labelled
from workers.train import CustomJobPhase, section
from workers.vertex import CustomJobs

NAME = "third"
SUBSCRIPTION = f"{NAME}-worker"
IMAGE = "noop-third"


class ThirdPhase(CustomJobPhase):
    """The custom job: as the train worker's, with an image and a folder of its own, and no dataset to be told of."""

    def active(self, known: Collection[str]) -> Iterator[Labelled]:
        """Search for no strays: the search of the base goes by the label of the train stage, whose jobs are not ours."""
        return iter(())

    def _body(self, context: Context) -> dict[str, Any]:
        body = super()._body(context)
        body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"] = self._settings.image(IMAGE)
        return body

    def _args(self, context: Context) -> list[str]:
        return [f"--{key}={value}" for key, value in section(context.spec).options.items()]

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
