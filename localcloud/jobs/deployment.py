"""From a model version to a serving process: what is checked, recorded and given to the process (the AIP_* contract)."""

from collections.abc import Mapping
from typing import Any

from localcloud.jobs import names
from localcloud.jobs.custom_jobs import expand
from localcloud.jobs.images import Images
from localcloud.jobs.names import invalid, timestamp
from localcloud.jobs.store import Document
from localcloud.jobs.surroundings import Surroundings

_MAX_ENV = 200
# Vertex AI allows half an hour by default for machines and images that a laptop need not wait for.
_DEFAULT_TIMEOUT_S = 300.0


def check(deployed: Mapping[str, Any]) -> None:
    """Refuse what a container deployment can not be; raises ApiError."""
    dedicated = deployed.get("dedicatedResources")
    if dedicated is None:
        raise invalid("deployed_model.dedicated_resources must be set to deploy a custom container.")
    if not dedicated.get("machineSpec", {}).get("machineType"):
        raise invalid(
            "List of found errors:\t1.Field: deployed_model.dedicated_resources.machine_spec.machine_type; "
            "Message: Required field is not set.\t"
        )
    least, most = dedicated.get("minReplicaCount", 0), dedicated.get("maxReplicaCount")
    if least < 1:
        raise invalid(f"deployed_model.dedicated_resources.min_replica_count is {least}; it must be at least 1.")
    if most is not None and most < least:
        raise invalid(f"deployed_model.dedicated_resources.max_replica_count {most} is less than the minimum {least}.")


def record(deployed: Mapping[str, Any], deployed_id: str, version: Document) -> dict[str, Any]:
    """The deployed model as it is kept."""
    display_name = version["fields"]["displayName"]
    return {
        **{key: value for key, value in deployed.items() if key not in ("createTime", "privateEndpoints", "status")},
        "id": deployed_id,
        "model": version["name"],
        "modelVersionId": str(version["version"]),
        "displayName": deployed.get("displayName") or display_name,
        "modelDisplayName": display_name,
    }


def shown(deployed: Mapping[str, Any]) -> dict[str, Any]:
    """The deployed model as the API shows it."""
    view = {key: value for key, value in deployed.items() if key not in ("createUs", "modelDisplayName")}
    if "createUs" in deployed:
        view["createTime"] = timestamp(deployed["createUs"])
    return view


def timeout_s(version: Document) -> float:
    """How long a deployment may take."""
    given = version["fields"]["containerSpec"].get("deploymentTimeout")
    return names.duration_s(given) if given else _DEFAULT_TIMEOUT_S


def server_spec(
    endpoint: Document, deployed: Mapping[str, Any], version: Document, images: Images, surroundings: Surroundings
) -> dict[str, Any]:
    """All that the fleet needs to run a deployed model's server."""
    container = version["fields"]["containerSpec"]
    image = images.find(container["imageUri"])
    endpoint_id, deployed_id = names.last_of(endpoint["name"]), deployed["id"]
    default_route = f"/v1/endpoints/{endpoint_id}/deployedModels/{deployed_id}"
    health = container.get("healthRoute") or default_route
    predict = container.get("predictRoute") or default_route + ":predict"
    machine = deployed["dedicatedResources"]["machineSpec"]
    env = {
        "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0",
        "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
        "AIP_PROJECT_NUMBER": names.project_of(endpoint["name"]),
        "AIP_ENDPOINT_ID": endpoint_id,
        "AIP_DEPLOYED_MODEL_ID": deployed_id,
        "AIP_MODEL_NAME": names.last_of(version["name"]),
        "AIP_VERSION_NAME": str(version["version"]),
        "AIP_STORAGE_URI": version["storageUri"],
        "AIP_HEALTH_ROUTE": health,
        "AIP_PREDICT_ROUTE": predict,
        "AIP_MACHINE_TYPE": machine["machineType"],
        "AIP_ACCELERATOR_TYPE": machine.get("acceleratorType", ""),
    }
    for name, value in names.check_env(container.get("env", []), "container_spec.env", _MAX_ENV).items():
        env[name] = expand(value, env)
    argv = image.argv(container.get("command", ()), container.get("args", ())) if image else []
    log_name = f"serving-{endpoint_id}-{deployed_id}-{names.new_number()}"
    return {
        "argv": [*argv[:1], *(expand(part, env) for part in argv[1:])],
        "env": surroundings.environment(image.env if image else {}, env),
        "directory": image.directory if image else "",
        "log": str(surroundings.log_path(log_name)),
        "healthRoute": health,
        "predictRoute": predict,
        "refusal": "" if image else images.refusal(container["imageUri"]),
    }
