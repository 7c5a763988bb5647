"""Vertex AI endpoints: create, deploy and undeploy models, move traffic, predict."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from localcloud.jobs import deployment, filters, names, traffic
from localcloud.jobs.endpoint_registry import EndpointRegistry, server_key, view
from localcloud.jobs.fleet import Fleet, NeverReady, ServerUnavailable
from localcloud.jobs.images import Images
from localcloud.jobs.model_registry import ModelRegistry
from localcloud.jobs.models import field_mask, masked
from localcloud.jobs.names import Clock, invalid, precondition
from localcloud.jobs.operations import Operations
from localcloud.jobs.paging import page
from localcloud.jobs.store import Document
from localcloud.jobs.surroundings import Surroundings
from localcloud.rest import STATUS_OF_CODE, ApiError, Call, Handler, Response

_PREFIX = "aiplatform.projects.locations.endpoints."
_DEPLOY = "deploy_model"
_MAX_PREDICT_BYTES = 1_500_000  # of a shared endpoint, request and answer each
_CHANGEABLE = ("displayName", "description", "labels", "trafficSplit")
_FIELDS: dict[str, filters.Field] = {
    "endpoint": lambda endpoint: names.last_of(endpoint["name"]),
    "display_name": lambda endpoint: str(endpoint["fields"].get("displayName", "")),
    "create_time": lambda endpoint: names.timestamp(endpoint["createUs"]),
    "update_time": lambda endpoint: names.timestamp(endpoint["updateUs"]),
}


class Endpoints:
    """The handlers of endpoints."""

    def __init__(
        self,
        registry: EndpointRegistry,
        models: ModelRegistry,
        fleet: Fleet,
        images: Images,
        operations: Operations,
        surroundings: Surroundings,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._models = models
        self._fleet = fleet
        self._images = images
        self._operations = operations
        self._surroundings = surroundings
        self._clock = clock
        self._splitter = traffic.Splitter()
        operations.register(_DEPLOY, self._deploy, self._undo_deploy)

    def handlers(self) -> dict[str, Handler]:
        """What this part answers, by method id."""
        return {
            _PREFIX + "create": self.create,
            _PREFIX + "get": self.get,
            _PREFIX + "list": self.list_page,
            _PREFIX + "patch": self.patch,
            _PREFIX + "delete": self.delete,
            _PREFIX + "deployModel": self.deploy_model,
            _PREFIX + "undeployModel": self.undeploy_model,
            _PREFIX + "predict": self.predict,
            _PREFIX + "rawPredict": self.raw_predict,
        }

    async def create(self, call: Call) -> dict[str, Any]:
        """endpoints.create: with a chosen id a repeat is refused, which makes it idempotent."""
        body = call.body
        parent = names.location_of(call.params["parent"])
        names.check_display_name(body["displayName"], "endpoint.display_name")
        names.check_labels(body.get("labels", {}), "endpoint.labels")
        if body.get("trafficSplit"):
            raise invalid("endpoint.traffic_split must be empty: a new endpoint has no deployed model.")
        if body.get("dedicatedEndpointEnabled"):
            text = "dedicated_endpoint_enabled: the local cloud has no dedicated DNS names; leave it out."
            raise ApiError(501, "UNIMPLEMENTED", text)
        endpoint_id = call.params.get("endpointId") or names.new_number()
        if call.params.get("endpointId"):
            names.check_endpoint_id(endpoint_id)
        endpoint = self._registry.add(f"{parent}/endpoints/{endpoint_id}", body)
        return self._operations.finished(
            endpoint["name"],
            "CreateEndpointOperationMetadata",
            {"name": endpoint["name"], "displayName": body["displayName"]},
            "google.cloud.aiplatform.v1.Endpoint",
        )

    async def get(self, call: Call) -> dict[str, Any]:
        """endpoints.get."""
        return view(self._registry.find(call.params["name"]))

    async def list_page(self, call: Call) -> dict[str, Any]:
        """endpoints.list."""
        wanted = filters.ResourceFilter(call.params.get("filter", ""), _FIELDS, _labels)
        chosen = filter(wanted, self._registry.newest(names.location_of(call.params["parent"])))
        found, token = page(
            call, chosen, lambda e: int(e["createUs"]), now_us=self._clock(), default_size=100, largest_size=1000
        )
        return ({"endpoints": [view(e) for e in found]} if found else {}) | token

    async def patch(self, call: Call) -> dict[str, Any]:
        """endpoints.patch: this is how traffic moves between deployed models."""
        endpoint = self._registry.find(call.params["name"])
        body = call.body
        if body.get("etag") and body["etag"] != str(endpoint["updateUs"]):
            raise ApiError(409, "ABORTED", f"The etag of {endpoint['name']} has changed; read it again.", "aborted")
        mask = field_mask(call.params.get("updateMask", ""), _CHANGEABLE)
        if "labels" in mask:
            names.check_labels(body.get("labels", {}), "endpoint.labels")
        changed: dict[str, Any] = {"fields": {**endpoint["fields"], **masked(mask, endpoint["fields"], body)}}
        changed["fields"].pop("trafficSplit", None)
        if "trafficSplit" in mask:
            split = body.get("trafficSplit", {})
            traffic.check(split, endpoint["deployed"])
            changed["trafficSplit"] = split
        return view(self._registry.change(endpoint, **changed))

    async def delete(self, call: Call) -> dict[str, Any]:
        """endpoints.delete: only without deployed models."""
        endpoint = self._registry.find(call.params["name"])
        if endpoint["deployed"] or self._deploying(endpoint["name"]):
            raise precondition(
                f"The endpoint {endpoint['name']!r} has deployed models ({', '.join(endpoint['deployed'])}); "
                "undeploy them first."
            )
        self._registry.delete(endpoint)
        return self._operations.finished(endpoint["name"], "DeleteOperationMetadata", {}, "google.protobuf.Empty")

    async def deploy_model(self, call: Call) -> dict[str, Any]:
        """endpoints.deployModel: an operation, done when the server answers its health route."""
        endpoint = self._registry.find(call.params["endpoint"])
        deployed = call.body["deployedModel"]
        version = self._models.find(deployed.get("model") or "")
        deployment.check(deployed)
        deploying = self._deploying(endpoint["name"])
        deployed_id = deployed.get("id") or names.new_number()
        if deployed.get("id"):
            names.check_deployed_id(deployed_id)
        if deployed_id in endpoint["deployed"] or deployed_id in deploying:
            raise ApiError(409, "ALREADY_EXISTS", f"DeployedModel {deployed_id} already exists in {endpoint['name']}.")
        split = traffic.with_new_model(call.body.get("trafficSplit", {}), deployed_id)
        traffic.check(split, [*endpoint["deployed"], deployed_id])
        task = {
            "endpoint": endpoint["name"],
            "split": split,
            "model": version["name"],
            "version": version["version"],
            "deployed": deployment.record(deployed, deployed_id, version),
        }
        return self._operations.begin(endpoint["name"], "DeployModelOperationMetadata", _DEPLOY, task)

    async def undeploy_model(self, call: Call) -> dict[str, Any]:
        """endpoints.undeployModel: refused while the model has traffic, unless it is the last one."""
        endpoint = self._registry.find(call.params["endpoint"])
        deployed_id = call.body["deployedModelId"]
        if deployed_id not in endpoint["deployed"]:
            raise precondition(f"DeployedModel {deployed_id} does not exist in {endpoint['name']}.")
        others = [other for other in endpoint["deployed"] if other != deployed_id]
        split = call.body.get("trafficSplit") or endpoint["trafficSplit"]
        if not others:
            split = {}
        elif split.get(deployed_id, 0) > 0:
            raise precondition(
                f"DeployedModel {deployed_id} of {endpoint['name']} has {split[deployed_id]} % of the traffic; "
                "give a traffic_split that moves it to the others."
            )
        split = {key: percent for key, percent in split.items() if key != deployed_id}
        traffic.check(split, others)
        self._registry.undeploy(endpoint, deployed_id, split, self._fleet)
        return self._operations.finished(
            endpoint["name"],
            "UndeployModelOperationMetadata",
            {},
            "google.cloud.aiplatform.v1.UndeployModelResponse",
        )

    async def predict(self, call: Call) -> dict[str, Any]:
        """endpoints.predict: one of the deployed models answers, by the traffic split."""
        endpoint, deployed = self._choose(call)
        body = {key: call.body[key] for key in ("instances", "parameters") if key in call.body}
        raw = json.dumps(body, separators=(",", ":")).encode()
        answer = await self._ask(endpoint, deployed, raw, "application/json")
        if answer.status != 200:
            raise ApiError(answer.status, STATUS_OF_CODE.get(answer.status, "INTERNAL"), _text(answer))
        try:
            content = json.loads(answer.body)  # type: ignore[arg-type]
            predictions = content["predictions"]
        except (ValueError, KeyError, TypeError) as error:
            text = f"The model server's answer is no JSON object with predictions: {_text(answer)}"
            raise ApiError(500, "INTERNAL", text) from error
        shown = {
            "predictions": predictions,
            "deployedModelId": deployed["id"],
            "model": deployed["model"],
            "modelVersionId": deployed["modelVersionId"],
            "modelDisplayName": deployed["modelDisplayName"],
        }
        return shown | ({"metadata": content["metadata"]} if "metadata" in content else {})

    async def raw_predict(self, call: Call) -> Response:
        """endpoints.rawPredict: any body in, any body out; the headers say who answered."""
        raw = await call.read(_MAX_PREDICT_BYTES)
        endpoint, deployed = self._choose(call)
        content_type = call.headers.get("content-type", "application/json")
        raw, content_type = _unwrap(raw, content_type)
        answer = await self._ask(endpoint, deployed, raw, content_type)
        answer.headers["x-vertex-ai-endpoint-id"] = names.last_of(endpoint["name"])
        answer.headers["x-vertex-ai-deployed-model-id"] = deployed["id"]
        return answer

    # Operations

    async def _deploy(self, task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        deployed, name = task["deployed"], task["endpoint"]
        key = server_key(name, deployed["id"])
        endpoint = self._registry.find(name)
        if deployed["id"] not in endpoint["deployed"]:
            version = self._models.find(f"{task['model']}@{task['version']}")
            spec = deployment.server_spec(endpoint, deployed, version, self._images, self._surroundings)
            self._fleet.ensure(key, spec)
            try:
                await self._fleet.wait_ready(key, deployment.timeout_s(version))
                # Others may have come, gone or taken traffic meanwhile.
                self._registry.deploy(name, deployed, task["split"])
            except NeverReady as error:
                self._fleet.remove(key)
                text = (
                    "Model server never became ready. Please validate that your model file or container configuration "
                    f"are valid. {error}"
                )
                raise precondition(text) from error
            except ApiError:
                self._fleet.remove(key)
                raise
        return {"deployedModel": deployment.shown(deployed)}, "DeployModelResponse"

    def _undo_deploy(self, task: Mapping[str, Any]) -> None:
        deployed_id = task["deployed"]["id"]
        if deployed_id not in self._registry.find(task["endpoint"])["deployed"]:
            self._fleet.remove(server_key(task["endpoint"], deployed_id))

    # Small things

    def _choose(self, call: Call) -> tuple[Document, Mapping[str, Any]]:
        endpoint = self._registry.find(call.params["endpoint"])
        deployed_id = self._splitter.choose(endpoint["name"], endpoint["trafficSplit"])
        if deployed_id is None:
            raise precondition(f"Endpoint {endpoint['name']} doesn't have traffic_split.")
        return endpoint, endpoint["deployed"][deployed_id]

    async def _ask(self, endpoint: Document, deployed: Mapping[str, Any], raw: bytes, content_type: str) -> Response:
        if len(raw) > _MAX_PREDICT_BYTES:
            raise invalid(f"Request payload size exceeds the limit: {_MAX_PREDICT_BYTES} bytes.")
        try:
            answer = await self._fleet.ask(server_key(endpoint["name"], deployed["id"]), raw, content_type)
        except ServerUnavailable as error:
            raise ApiError(503, "UNAVAILABLE", str(error)) from error
        except TimeoutError as error:
            raise ApiError(504, "DEADLINE_EXCEEDED", str(error)) from error
        return Response(
            status=answer.status,
            body=answer.body,
            content_type=answer.headers.get("content-type", "application/octet-stream"),
        )

    def _deploying(self, endpoint: str) -> list[str]:
        """The ids of models whose deployment is under way."""
        return [task["deployed"]["id"] for task in self._operations.pending(_DEPLOY) if task["endpoint"] == endpoint]


def _unwrap(raw: bytes, content_type: str) -> tuple[bytes, str]:
    """The discovery client sends `{"httpBody": {"data": …, "contentType": …}}`; everyone else sends the body itself."""
    try:
        wrapped = json.loads(raw)["httpBody"]
        return base64.b64decode(wrapped["data"]), wrapped.get("contentType", content_type)
    except (ValueError, KeyError, TypeError):
        return raw, content_type


def _text(answer: Response) -> str:
    return bytes(answer.body)[:2000].decode("utf-8", "replace")  # type: ignore[arg-type]


def _labels(endpoint: Document) -> Mapping[str, str]:
    labels: Mapping[str, str] = endpoint["fields"].get("labels", {})
    return labels
