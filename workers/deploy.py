"""The deploy worker: train-done in, a rollout on Vertex AI, deploy-done out.

Run as `python -m workers.deploy`.
"""

import sys
from typing import Any

from messages import DeployDone, Event, TrainDone
from workers.ledger import Ledger
from workers.objects import Objects
from workers.pipeline import PipelineSpec
from workers.rollback import RestorePhase, UndeployPhase
from workers.rollout import DeployPhase, EndpointPhase, TidyPhase, TrafficPhase, UploadPhase, section
from workers.settings import Settings
from workers.smoke import SmokePhase
from workers.sources import Sources
from workers.stage import Context, Phase
from workers.turn import TurnPhase
from workers.vertex import Vertex

NAME = "deploy"


class Deploy:
    """The stage."""

    name = NAME
    subscription = "deploy-worker"
    consumes: type[Event] = TrainDone

    def __init__(self, vertex: Vertex, settings: Settings, sources: Sources, objects: Objects, ledger: Ledger) -> None:
        self.phases: tuple[Phase, ...] = (
            UploadPhase(vertex, settings),
            EndpointPhase(vertex, settings),
            TurnPhase(objects, ledger, NAME),
            DeployPhase(vertex, settings),
            TrafficPhase(vertex, settings),
            SmokePhase(vertex, settings, sources),
            TidyPhase(vertex, settings),
        )
        self.cleanup: tuple[Phase, ...] = (RestorePhase(vertex, settings), UndeployPhase(vertex, settings))

    def limits(self, spec: PipelineSpec) -> tuple[int, float]:
        options = section(spec)
        return options.attempts, options.deadline_s

    def result(self, context: Context) -> Event:
        assert isinstance(context.event, TrainDone)  # the intake let nothing else in
        return DeployDone(
            pipeline=context.spec.name,
            params=context.params,
            endpoint=context.yielded("endpoint", "endpoint"),
            model=context.yielded("upload", "model"),
            deployed_model_id=context.yielded("deploy", "deployed_model_id"),
            traffic_percent=100,
            model_uri=context.event.model_uri,
            metrics=context.event.metrics,
        )


def main() -> int:
    from workers.runtime import Parts, read_event, run_worker

    def build(parts: Parts) -> tuple[Deploy, Any]:
        vertex = Vertex(parts.settings.project, parts.settings.aiplatform_endpoint)
        stage = Deploy(vertex, parts.settings, parts.sources, parts.objects, parts.ledger)
        return stage, read_event(stage.consumes)

    return run_worker(NAME, build)


if __name__ == "__main__":
    sys.exit(main())
