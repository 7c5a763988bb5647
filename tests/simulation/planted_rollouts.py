"""Bugs of rollouts, put into the real code on purpose; see `tests.simulation.planted`."""

from dataclasses import replace
from typing import Any

from workers.deploy import Deploy
from workers.endpoint import traffic
from workers.errors import NotFound
from workers.record import RESOURCE, JobRef
from workers.rollback import RestorePhase
from workers.rollout import DeployPhase
from workers.stage import Context, JobState, JobStatus


class EverybodysTurn(Deploy):
    """Rollouts do not wait for each other."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        turn = next(phase for phase in self.phases if phase.name == "turn")
        turn.statuses = lambda jobs: {j.id: JobStatus(JobState.SUCCEEDED) for j in jobs}  # type: ignore[method-assign]


class TrafficWithoutEtag(Deploy):
    """The split is written over whatever is there by now."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        traffic = next(phase for phase in self.phases if phase.name == "traffic")
        original = traffic._move_traffic  # type: ignore[attr-defined]
        traffic._move_traffic = lambda context, endpoint, split: original(  # type: ignore[attr-defined]
            replace(context, fence=lambda: None), {"name": endpoint["name"]}, split
        )


class NothingIsTakenBack(Deploy):
    """A failed rollout leaves its deployment, and its traffic, where they are."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cleanup = ()


class LateTrafficForgotten(RestorePhase):
    """A deployment without traffic is taken for one that gets none: the etag stays, and a late request is let in."""

    def find(self, context: Context) -> JobRef | None:
        try:
            is_serving = self._mine(context) in traffic(self._endpoint(context))
        except NotFound:
            is_serving = False
        return None if is_serving else JobRef(id="nothing", name=context.job_name, kind=RESOURCE)


class ForgetsLateTraffic(Deploy):
    def __init__(self, vertex: Any, settings: Any, *args: Any) -> None:
        super().__init__(vertex, settings, *args)
        self.cleanup = (LateTrafficForgotten(vertex, settings), *self.cleanup[1:])


class BeforeReadLate(DeployPhase):
    """What served before is forgotten: a rollback has nowhere to go back to."""

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {**super().collect(context, job), "before": {}}


class ForgetsTheWayBack(Deploy):
    def __init__(self, vertex: Any, settings: Any, *args: Any) -> None:
        super().__init__(vertex, settings, *args)
        forgetful = BeforeReadLate(vertex, settings)
        self.phases = tuple(forgetful if phase.name == "deploy" else phase for phase in self.phases)


class TrafficWithTheDeployment(DeployPhase):
    """The first model gets its traffic with its deployment, by what the worker saw before it slept."""

    def create(self, context: Context) -> JobRef:
        is_first = not self._endpoint(context).get("trafficSplit")
        original = self._send

        def send(context: Context, request: Any) -> dict[str, Any]:
            if is_first and "deployedModel" in request.params["body"]:
                request.params["body"]["trafficSplit"] = {"0": 100}
            return original(context, request)

        self._send = send  # type: ignore[method-assign]
        return super().create(context)


class DeploysWithTraffic(Deploy):
    def __init__(self, vertex: Any, settings: Any, *args: Any) -> None:
        super().__init__(vertex, settings, *args)
        eager = TrafficWithTheDeployment(vertex, settings)
        self.phases = tuple(eager if phase.name == "deploy" else phase for phase in self.phases)
