"""Endpoints on record: their fields, deployed models and traffic split. No HTTP here.

The split is looked at again when a deployment ends, in the transaction that commits it: minutes may have passed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from localcloud.jobs import deployment, names, traffic
from localcloud.jobs.fleet import Fleet
from localcloud.jobs.names import Clock, not_found, timestamp
from localcloud.jobs.store import Document, Store
from localcloud.rest import ApiError

KIND = "endpoint"
_OUTPUT_ONLY = ("name", "deployedModels", "trafficSplit", "etag", "createTime", "updateTime")


class EndpointRegistry:
    """All endpoints of one jobs service."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def add(self, name: str, fields: Mapping[str, Any]) -> Document:
        """Commit a new endpoint; raises ApiError 409 when the name is taken."""
        if self._store.get(KIND, name) is not None:
            raise ApiError(409, "ALREADY_EXISTS", f"The endpoint {name!r} already exists.", "alreadyExists")
        now = self._clock()
        kept = {key: value for key, value in fields.items() if key not in _OUTPUT_ONLY}
        endpoint = {"name": name, "fields": kept, "deployed": {}, "trafficSplit": {}, "createUs": now, "updateUs": now}
        self._store.put(KIND, name, endpoint, names.location_of(name))
        return endpoint

    def find(self, name: str) -> Document:
        """Return an endpoint; raises ApiError 404."""
        endpoint = self._store.get(KIND, name)
        if endpoint is None:
            raise not_found(name)
        return endpoint

    def newest(self, parent: str) -> Iterator[Document]:
        """The endpoints of a location, newest first."""
        yield from self._store.documents(KIND, parent, newest_first=True)

    def change(self, endpoint: Document, **changes: Any) -> Document:
        """Commit changed parts of an endpoint; its etag never comes again, whatever the clock does."""
        changed = {**endpoint, **changes, "updateUs": max(self._clock(), endpoint["updateUs"] + 1)}
        self._store.put(KIND, endpoint["name"], changed, names.location_of(endpoint["name"]))
        return changed

    def delete(self, endpoint: Document) -> None:
        """Forget an endpoint."""
        self._store.delete(KIND, endpoint["name"])

    def deploy(self, name: str, deployed: Mapping[str, Any], split: Mapping[str, int]) -> Document:
        """Commit a deployed model whose server is ready, and the new split unless it is empty; raises ApiError."""
        endpoint = self.find(name)
        models = {**endpoint["deployed"], deployed["id"]: {**deployed, "createUs": self._clock()}}
        traffic.check(split, models)
        return self.change(endpoint, deployed=models, trafficSplit=dict(split) or endpoint["trafficSplit"])

    def undeploy(self, endpoint: Document, deployed_id: str, split: Mapping[str, int], fleet: Fleet) -> Document:
        """Commit that a model is gone, and end its server."""
        models = {key: value for key, value in endpoint["deployed"].items() if key != deployed_id}
        with self._store.transaction():
            changed = self.change(endpoint, deployed=models, trafficSplit=dict(split))
            fleet.remove(server_key(endpoint["name"], deployed_id))
        return changed

    def deployed_refs(self, model: str, version: int) -> list[dict[str, str]]:
        """Where a model version is deployed, as DeployedModelRef."""
        return [
            {"endpoint": endpoint["name"], "deployedModelId": deployed["id"]}
            for endpoint in self._store.documents(KIND)
            for deployed in endpoint["deployed"].values()
            if deployed["model"] == model and deployed["modelVersionId"] == str(version)
        ]


def server_key(endpoint: str, deployed_id: str) -> str:
    """The name of a deployed model's server."""
    return f"{endpoint}/deployedModels/{deployed_id}"


def view(endpoint: Document) -> dict[str, Any]:
    """An endpoint as the API shows it."""
    shown: dict[str, Any] = {
        **endpoint["fields"],
        "name": endpoint["name"],
        "createTime": timestamp(endpoint["createUs"]),
        "updateTime": timestamp(endpoint["updateUs"]),
        "etag": str(endpoint["updateUs"]),
    }
    if endpoint["deployed"]:
        shown["deployedModels"] = [deployment.shown(deployed) for deployed in endpoint["deployed"].values()]
    if endpoint["trafficSplit"]:
        shown["trafficSplit"] = endpoint["trafficSplit"]
    return shown
