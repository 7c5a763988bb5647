"""What a Dataflow job runs: from a flex template's ContainerSpec and parameters, or from a job that Beam submitted."""

import json
import re
from collections.abc import Mapping
from typing import Any

from localcloud.discovery import ContractViolation, Discovery
from localcloud.jobs.names import check_text, invalid
from localcloud.jobs.objects import Objects, ObjectsError
from localcloud.rest import ApiError

_VIOLATIONS_TYPE = "type.googleapis.com/google.dataflow.v1beta3.InvalidTemplateParameters"


async def container_spec(launch: Mapping[str, Any], objects: Objects, discovery: Discovery) -> dict[str, Any]:
    """Return the ContainerSpec of a launch, given inline or as a file in Cloud Storage; raises ApiError."""
    inline, path = launch.get("containerSpec"), launch.get("containerSpecGcsPath")
    if (inline is None) == (path is None):
        raise invalid("Exactly one of container_spec and container_spec_gcs_path must be given.")
    if inline is not None:
        spec: dict[str, Any] = inline
    else:
        spec = await _read_spec(str(path), objects, discovery)
    if not spec.get("image"):
        raise invalid(
            f"The template's container spec names no image ({path or 'container_spec'}); set its field image."
        )
    return spec


def check_parameters(spec: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
    """Check launch parameters against the template's metadata, where it has any; raises ApiError with each violation."""
    check_text([*parameters, *parameters.values()], "launch_parameter.parameters")
    known = {item["name"]: item for item in spec.get("metadata", {}).get("parameters", [])}
    if not known:
        return
    violations: list[dict[str, str]] = []
    for name, item in known.items():
        if name not in parameters and not item.get("isOptional", False):
            violations.append({"parameter": name, "description": "Missing required parameter"})
    for name, value in parameters.items():
        if name not in known:
            violations.append({"parameter": name, "description": "Unrecognized parameter"})
        elif not _matches(known[name].get("regexes", []), value):
            text = f"Value {value!r} does not match the parameter's regexes"
            violations.append({"parameter": name, "description": text})
    if violations:
        details = [{"@type": _VIOLATIONS_TYPE, "parameterViolations": violations}]
        named = ", ".join(f"{v['parameter']}: {v['description']}" for v in violations)
        raise ApiError(
            400, "INVALID_ARGUMENT", f"The template parameters are invalid. {named}", "badRequest", details=details
        )


def arguments(launch: Mapping[str, Any], project: str, region: str) -> list[str]:
    """The launcher's arguments: each parameter as --key=value, then what Dataflow itself passes."""
    environment = launch.get("environment", {})
    argv = [f"--{key}={value}" for key, value in launch.get("parameters", {}).items()]
    argv += [f"--project={project}", f"--region={region}", f"--job_name={launch['jobName']}"]
    if environment.get("tempLocation"):
        argv.append(f"--temp_location={environment['tempLocation']}")
    return argv


def submitted(job: Mapping[str, Any], project: str, region: str) -> tuple[str, list[str]]:
    """The SDK harness image of a job that Beam submitted, and the arguments that lead it to the staged pipeline."""
    environment = job.get("environment", {})
    options = environment.get("sdkPipelineOptions", {}).get("options", {})
    url = options.get("pipelineUrl")
    if not isinstance(url, str) or not url.startswith("gs://"):
        raise invalid(
            f"job.environment.sdk_pipeline_options.options.pipelineUrl is {url!r}; the local cloud runs pipelines that the "
            "portable runner staged (gs://…/pipeline.pb)."
        )
    pools = environment.get("workerPools", [])
    harnesses = [harness for pool in pools for harness in pool.get("sdkHarnessContainerImages", [])]
    image = next((harness["containerImage"] for harness in harnesses if harness.get("containerImage")), "")
    if not image:
        raise invalid("job.environment.worker_pools names no sdk_harness_container_images; nothing says what to run.")
    argv = [f"--pipeline_url={url}", f"--project={project}", f"--region={region}", f"--job_name={job['name']}"]
    if environment.get("tempStoragePrefix"):
        argv.append(f"--temp_location=gs://{environment['tempStoragePrefix'].partition('/')[2]}")
    check_text(argv, "job")
    return image, argv


async def _read_spec(path: str, objects: Objects, discovery: Discovery) -> dict[str, Any]:
    try:
        raw = await objects.read(path)
    except ObjectsError as error:
        if error.is_away:  # says nothing about the request: it may be sent again
            raise ApiError(503, "UNAVAILABLE", f"Unable to open template file: {path}. {error}") from error
        raise invalid(f"Unable to open template file: {path}. {error}") from error
    try:
        spec = discovery.check_schema("ContainerSpec", json.loads(raw))
    except ContractViolation as error:
        raise invalid(f"The template file {path} is no ContainerSpec: {error.message}") from error
    except ValueError as error:
        raise invalid(f"The template file {path} is not JSON: {error}") from error
    checked: dict[str, Any] = spec
    return checked


def _matches(regexes: list[str], value: str) -> bool:
    try:
        return all(re.fullmatch(regex, value) for regex in regexes)
    except re.error:
        return True  # Google's dialect (RE2) where Python's differs: not ours to judge
