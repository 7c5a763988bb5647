"""What takes a failed or cancelled rollout back: first the traffic, then the deployment.

Both look before they do anything and may be repeated. A deployment that turns up only after that (an operation that its
dead worker had begun) is found and undeployed by `workers.strays`.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

from workers.endpoint import EndpointWork, deployed, deployed_model_id_of, traffic
from workers.errors import LaunchRefused, NotFound, TransientError
from workers.record import RESOURCE, JobRef
from workers.stage import Context
from workers.strays import Labelled

DEPLOYED_MODEL = "deployed-model"
_JOB_NAME = re.compile(r"-deploy-(?P<run>[a-z0-9-]+)-a(?P<attempt>[0-9]+)$")


class _TakesBack(EndpointWork):
    """The base: there is something to take back as long as the attempt's deployment is there."""

    def find(self, context: Context) -> JobRef | None:
        try:
            is_there = self._mine(context) in deployed(self._endpoint(context))
        except NotFound:
            is_there = False  # there is not even an endpoint
        return None if is_there else JobRef(id="nothing", name=context.job_name, kind=RESOURCE)

    def collect(self, context: Context, job: JobRef) -> dict[str, Any]:
        return {}


class RestorePhase(_TakesBack):
    """Gives the traffic back to what served before; where nothing did, or it is gone, nothing serves.

    No answer is better than one from a model that did not pass. A deployment without traffic is no proof that it gets
    none: the request of a worker that was stalled over it may still be on its way. So the endpoint is written to in any
    case, with the split that it has, and what was read before that is refused from then on.
    """

    name = "restore"

    def create(self, context: Context) -> JobRef:
        endpoint, mine = self._endpoint(context), self._mine(context)
        split = traffic(endpoint)
        if mine in split:
            before = context.record.yields.get("deploy", {}).get("before", {})
            split = {id_: int(before.get(id_, 0)) for id_ in deployed(endpoint) if id_ != mine}
        try:
            self._move_traffic(context, endpoint, split if sum(split.values()) == 100 else {})
        except LaunchRefused as fault:
            # What failed must not go on serving for one refusal: it is tried until the stage's deadline.
            raise TransientError(f"traffic is not taken back yet: {fault}") from fault
        return self._there(context, self._endpoint_name(context))


class UndeployPhase(_TakesBack):
    """Takes the attempt's deployment away; also finds those that nobody counts on."""

    name = "undeploy"

    def create(self, context: Context) -> JobRef:
        return self._undeploy(context, self._mine(context))

    def active(self, known: Collection[str]) -> Iterator[Labelled]:
        """Yield the deployed models that a run of ours made: their ids follow from run and attempt."""
        location = self._settings.region
        endpoints = self._vertex.locations(location).endpoints()
        request = endpoints.list(parent=self._vertex.parent(location), filter="labels.baton-pipeline:*", pageSize=100)
        for endpoint in list(self._vertex.rest(location).pages(request, endpoints.list_next, "endpoints")):
            serving = traffic(endpoint)
            for model in endpoint.get("deployedModels", []):
                named = _JOB_NAME.search(model.get("displayName", ""))
                if named is None or model["id"] in serving:
                    continue
                run_id, attempt = named["run"], int(named["attempt"])
                if deployed_model_id_of(run_id, attempt) == model["id"]:
                    job = JobRef(id=model["id"], name=endpoint["name"], kind=DEPLOYED_MODEL, location=location)
                    yield Labelled(job, run_id, attempt)

    def is_active(self, job: JobRef) -> bool:
        endpoints = self._vertex.locations(job.location).endpoints()
        try:
            endpoint = self._vertex.rest(job.location).read(endpoints.get(name=job.name))
        except NotFound:
            return False
        return job.id in deployed(endpoint) and job.id not in traffic(endpoint)

    def cancel(self, job: JobRef) -> None:
        if job.kind != DEPLOYED_MODEL:
            super().cancel(job)
            return
        endpoints = self._vertex.locations(job.location).endpoints()
        request = endpoints.undeployModel(endpoint=job.name, body={"deployedModelId": job.id})
        self._vertex.rest(job.location).send(request)
