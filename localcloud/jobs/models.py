"""Vertex AI models: upload (an operation that copies the artifacts), versions and their aliases, patch, delete.

As in the cloud, a deployed model never reads the caller's directory: upload copies it to a bucket the service owns, and that
copy is what AIP_STORAGE_URI names. Overwriting a training output later changes nothing that serves.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from localcloud.jobs import filters, names
from localcloud.jobs.model_registry import DEFAULT, ModelRegistry, view
from localcloud.jobs.names import Clock, invalid, precondition
from localcloud.jobs.objects import Objects, ObjectsError
from localcloud.jobs.operations import Operations
from localcloud.jobs.paging import page
from localcloud.jobs.store import Document
from localcloud.rest import ApiError, Call, Handler

_PREFIX = "aiplatform.projects.locations.models."
_MAX_ENV = 200
_UPLOAD = "upload_model"
_DELETE = "delete_model"
_CHANGEABLE = ("displayName", "description", "labels", "versionDescription")
_FIELDS: dict[str, filters.Field] = {
    "model": lambda version: names.last_of(version["name"]),
    "display_name": lambda version: str(version["fields"]["displayName"]),
    "create_time": lambda version: names.timestamp(version["createUs"]),
    "update_time": lambda version: names.timestamp(version["updateUs"]),
}

# Which deployed models use a version: (model, version) -> DeployedModelRef dicts.
DeployedRefs = Callable[[str, int], list[dict[str, str]]]


class Models:
    """The handlers of models."""

    def __init__(
        self,
        registry: ModelRegistry,
        operations: Operations,
        objects: Objects,
        deployed: DeployedRefs,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._operations = operations
        self._objects = objects
        self._deployed = deployed
        self._clock = clock
        operations.register(_UPLOAD, self._upload)
        operations.register(_DELETE, self._delete)

    def handlers(self) -> dict[str, Handler]:
        """What this part answers, by method id."""
        return {
            _PREFIX + "upload": self.upload,
            _PREFIX + "get": self.get,
            _PREFIX + "list": self.list_page,
            _PREFIX + "listVersions": self.list_versions,
            _PREFIX + "patch": self.patch,
            _PREFIX + "mergeVersionAliases": self.merge_version_aliases,
            _PREFIX + "delete": self.delete,
            _PREFIX + "deleteVersion": self.delete_version,
        }

    async def upload(self, call: Call) -> dict[str, Any]:
        """models.upload: a new model, or a new version of `parentModel`."""
        body = call.body
        model = body["model"]
        location = names.location_of(call.params["parent"])
        _check_model(model)
        name, version = self._reserve(location, body)
        task = {"name": name, "version": version, "model": {k: v for k, v in model.items() if k != "versionAliases"}}
        task["aliases"] = model.get("versionAliases", [])
        # A place of its own for each upload: one that was cancelled halfway leaves nothing in a later one's copy.
        task["copy"] = names.new_number()
        return self._operations.begin(name, "UploadModelOperationMetadata", _UPLOAD, task)

    async def get(self, call: Call) -> dict[str, Any]:
        """models.get: the default version, or the one after `@`."""
        return self._view(self._registry.find(call.params["name"]), versioned_name="@" in call.params["name"])

    async def list_page(self, call: Call) -> dict[str, Any]:
        """models.list: the default version of each model."""
        wanted = filters.ResourceFilter(call.params.get("filter", ""), _FIELDS, _labels)
        chosen = filter(wanted, self._registry.models(names.location_of(call.params["parent"])))
        found, token = page(
            call, chosen, lambda m: int(m["modelCreateUs"]), now_us=self._clock(), default_size=100, largest_size=1000
        )
        return ({"models": [self._view(m) for m in found]} if found else {}) | token

    async def list_versions(self, call: Call) -> dict[str, Any]:
        """models.listVersions, newest first."""
        model = call.params["name"].partition("@")[0]
        self._registry.find(model)
        wanted = filters.ResourceFilter(call.params.get("filter", ""), _FIELDS, _labels)
        chosen = filter(wanted, reversed(self._registry.versions(model)))
        found, token = page(
            call, chosen, lambda v: int(v["createUs"]), now_us=self._clock(), default_size=50, largest_size=1000
        )
        return ({"models": [self._view(v, versioned_name=True) for v in found]} if found else {}) | token

    async def patch(self, call: Call) -> dict[str, Any]:
        """models.patch: display name, description, labels, version description."""
        version = self._registry.find(call.params["name"])
        body = call.body
        if body.get("etag") and body["etag"] != str(version["updateUs"]):
            raise ApiError(409, "ABORTED", f"The etag of {version['name']} has changed; read it again.", "aborted")
        mask = field_mask(call.params.get("updateMask", ""), _CHANGEABLE)
        if "labels" in mask:
            names.check_labels(body.get("labels", {}), "model.labels")
        if "displayName" in mask:
            _check_display_name(body.get("displayName", ""))
        changed = self._registry.change(version, masked(mask, version["fields"], body))
        return self._view(changed)

    async def merge_version_aliases(self, call: Call) -> dict[str, Any]:
        """models.mergeVersionAliases."""
        version = self._registry.find(call.params["name"])
        return self._view(self._registry.merge_aliases(version, call.body["versionAliases"]))

    async def delete(self, call: Call) -> dict[str, Any]:
        """models.delete: with all versions; refused while one of them is deployed."""
        name = call.params["name"]
        self._registry.find(name)
        versions = self._registry.versions(name)
        for version in versions:
            self._refuse_deployed(version)
        self._registry.delete(name)
        task = {"uris": [v["storageUri"] for v in versions if v["storageUri"]]}
        return self._operations.begin(name, "DeleteOperationMetadata", _DELETE, task)

    async def delete_version(self, call: Call) -> dict[str, Any]:
        """models.deleteVersion."""
        version = self._registry.find(call.params["name"])
        if "@" not in call.params["name"]:
            raise invalid(f"{call.params['name']!r} names no version; append @VERSION.")
        self._refuse_deployed(version)
        self._registry.delete_version(version)
        task = {"uris": [version["storageUri"]] if version["storageUri"] else []}
        return self._operations.begin(version["name"], "DeleteOperationMetadata", _DELETE, task)

    # Operations

    async def _upload(self, task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        name, number, model = task["name"], int(task["version"]), task["model"]
        done = [v for v in self._registry.versions(name) if v["version"] == number]
        if not done:
            storage_uri = await self._copy_artifacts(name, f"{number}/{task['copy']}", model.get("artifactUri", ""))
            self._registry.add(name, number, model, task["aliases"], storage_uri)
        return {"model": name, "modelVersionId": str(number)}, "UploadModelResponse"

    async def _copy_artifacts(self, name: str, place: str, source: str) -> str:
        if not source:
            return ""
        project = names.project_of(name)
        destination = f"gs://{tenant_bucket(project)}/{names.last_of(name)}/{place}/artifacts"
        try:
            await self._objects.copy_directory(source, destination, project)
        except ObjectsError as error:
            code, status = 400, "FAILED_PRECONDITION"
            if error.is_missing or error.is_away:
                code, status = (404, "NOT_FOUND") if error.is_missing else (503, "UNAVAILABLE")
            raise ApiError(code, status, f"model.artifact_uri: {error}") from error
        return destination

    async def _delete(self, task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        for uri in task["uris"]:
            try:
                await self._objects.delete_directory(uri)
            except ObjectsError as error:
                if not error.is_missing:
                    raise ApiError(503, "UNAVAILABLE", str(error)) from error
        return {}, "google.protobuf.Empty"

    # Small things

    def _reserve(self, location: str, body: Mapping[str, Any]) -> tuple[str, int]:
        """Choose a name and a version number that no upload under way has."""
        under_way = [(t["name"], int(t["version"])) for t in self._operations.pending(_UPLOAD)]
        parent_model = body.get("parentModel", "")
        if parent_model:
            name = parent_model.partition("@")[0]
            if names.location_of(name) != location:
                raise invalid(f"parent_model {parent_model!r} is not in {location}, where the version is uploaded.")
            self._registry.find(name)
            taken = [number for other, number in under_way if other == name]
            return name, max([self._registry.last_number(name), *taken]) + 1
        model_id = body.get("modelId", "")
        if model_id:
            names.check_model_id(model_id)
        name = f"{location}/models/{model_id or names.new_number()}"
        if self._registry.versions(name) or any(other == name for other, _ in under_way):
            raise ApiError(409, "ALREADY_EXISTS", f"The model {name!r} already exists.", "alreadyExists")
        return name, 1

    def _refuse_deployed(self, version: Document) -> None:
        deployed = self._deployed(version["name"], version["version"])
        if deployed:
            places = ", ".join(f"{ref['endpoint']} ({ref['deployedModelId']})" for ref in deployed)
            raise precondition(
                f"Version {version['version']} of {version['name']} is deployed at {places}; undeploy it first."
            )

    def _view(self, version: Document, *, versioned_name: bool = False) -> dict[str, Any]:
        deployed = self._deployed(version["name"], version["version"])
        return view(version, deployed, versioned_name=versioned_name)


def tenant_bucket(project: str) -> str:
    """The bucket that holds the service's own copies of a project's models."""
    safe = re.sub(r"[^a-z0-9-]", "-", project.lower())
    return f"caip-tenant-{safe}"[:60].rstrip("-")


def field_mask(text: str, changeable: tuple[str, ...]) -> list[str]:
    """Read an update mask in either spelling; `*` means all that may change. Raises ApiError 400."""
    fields: list[str] = []
    for part in filter(None, text.split(",")):
        name = re.sub(r"_([a-z])", lambda found: found.group(1).upper(), part.strip())
        if name == "*":
            return list(changeable)
        if name not in changeable:
            raise invalid(f"update_mask: {part!r} can not be changed; choose from {', '.join(changeable)}.")
        fields.append(name)
    if not fields:
        raise invalid(f"update_mask is required; choose from {', '.join(changeable)}.")
    return fields


def masked(mask: list[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the mask from `new`; one that `new` lacks is emptied."""
    return {name: new.get(name, type(old.get(name, ""))()) for name in mask}


def _check_model(model: Mapping[str, Any]) -> None:
    _check_display_name(model["displayName"])
    names.check_labels(model.get("labels", {}), "model.labels")
    for alias in model.get("versionAliases", []):
        if alias != DEFAULT:
            names.check_alias(alias)
    container = model.get("containerSpec")
    if container is None:
        raise invalid("model.container_spec must be set: the local cloud serves models by their container only.")
    names.check_env(container.get("env", []), "model.container_spec.env", _MAX_ENV)
    texts = [*container.get("command", []), *container.get("args", [])]
    names.check_text([*texts, *(item["value"] for item in container.get("env", []))], "model.container_spec")
    for route in ("predictRoute", "healthRoute"):
        if not (container.get(route) or "/").startswith("/"):
            raise invalid(f"model.container_spec.{route}: {container[route]!r} must begin with a slash.")
    artifact_uri = model.get("artifactUri", "")
    if artifact_uri and not artifact_uri.startswith("gs://"):
        raise invalid(
            f"model.artifact_uri: {artifact_uri!r} is not a Cloud Storage URI; expected gs://bucket/directory."
        )


def _check_display_name(name: str) -> None:
    if not name:
        raise invalid("List of found errors:\t1.Field: model.display_name; Message: Required field is not set.\t")
    names.check_display_name(name, "model.display_name")


def _labels(version: Document) -> Mapping[str, str]:
    labels: Mapping[str, str] = version["fields"].get("labels", {})
    return labels
