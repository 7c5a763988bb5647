"""The flex template: its parameters are the job's flags, its form is Dataflow's, its image is known to the local cloud."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from beam import babyweight

DEPLOY = Path(__file__).parents[3] / "deploy"
GOOD = {
    "source": ["gs://b/births-*.parquet", "bq://p.d.t"],
    "output": ["gs://b/x"],
    "limit": ["1", "1000"],
    "run_id": ["01J"],
}
BAD = {"source": ["births.csv", ""], "output": ["/tmp/x", "gs://"], "limit": ["0", "-1", "ten"], "run_id": []}


@pytest.fixture
def template() -> dict[str, Any]:
    """The container spec that `flexTemplates:launch` reads."""
    return dict(json.loads((DEPLOY / "templates" / "babyweight.json").read_text()))


def test_the_parameters_are_the_jobs_flags(template: dict[str, Any]) -> None:
    """Every parameter is a flag, and only the flags that the job demands are demanded."""
    parameters = template["metadata"]["parameters"]
    assert [parameter["name"] for parameter in parameters] == list(babyweight.Flags.__dataclass_fields__)
    values = [f"--{parameter['name']}={GOOD[parameter['name']][0]}" for parameter in parameters]
    flags, _ = babyweight.parse_flags(values)
    assert flags.limit == 1
    demanded = [f"--{p['name']}={GOOD[p['name']][0]}" for p in parameters if not p["isOptional"]]
    assert babyweight.parse_flags(demanded)[0] == babyweight.Flags(GOOD["source"][0], GOOD["output"][0], None, "")


def test_the_patterns_take_what_is_good_and_refuse_what_is_not(template: dict[str, Any]) -> None:
    """Dataflow checks values against these before it starts a machine."""
    for parameter in template["metadata"]["parameters"]:
        patterns = [re.compile(pattern) for pattern in parameter.get("regexes", [])]
        for text in GOOD[parameter["name"]]:
            assert all(pattern.search(text) for pattern in patterns), (parameter["name"], text)
        for text in BAD[parameter["name"]]:
            assert not all(pattern.search(text) for pattern in patterns), (parameter["name"], text)


def test_launcher_and_workers_are_one_image_that_the_local_cloud_knows(template: dict[str, Any]) -> None:
    """The last part of the image's URI is a key of images.toml, whose command is this job."""
    assert template["defaultEnvironment"]["sdkContainerImage"] == template["image"]
    key = template["image"].rpartition("/")[2].partition(":")[0]
    images = tomllib.loads((DEPLOY / "images.toml").read_text())["images"]
    assert images[key]["command"][1:] == ["-m", "beam.babyweight", f"--runner={babyweight.LOCAL_RUNNER}"]


def test_the_form_is_dataflows(template: dict[str, Any]) -> None:
    """Every field exists in the discovery document's ContainerSpec, with a known parameter type."""
    from googleapiclient import discovery_cache

    document = Path(discovery_cache.__file__).parent / "documents" / "dataflow.v1b3.json"
    schemas = json.loads(document.read_text())["schemas"]
    assert set(template) <= set(schemas["ContainerSpec"]["properties"])
    assert set(template["metadata"]) <= set(schemas["TemplateMetadata"]["properties"])
    assert set(template["defaultEnvironment"]) <= set(schemas["FlexTemplateRuntimeEnvironment"]["properties"])
    known = schemas["ParameterMetadata"]["properties"]
    for parameter in template["metadata"]["parameters"]:
        assert set(parameter) <= set(known)
        assert parameter["paramType"] in known["paramType"]["enum"]


def test_the_image_is_built_for_the_locked_beam(template: dict[str, Any]) -> None:
    """The SDK image's tag is the version of apache-beam in the lock file."""
    dockerfile = (DEPLOY / "docker" / "beam.Dockerfile").read_text()
    (tag,) = re.findall(r"^FROM apache/beam_python3\.11_sdk:(\S+)$", dockerfile, re.MULTILINE)
    lock = (DEPLOY.parent / "requirements.lock").read_text()
    assert re.search(rf"^apache-beam(\[gcp\])?=={re.escape(tag)}\b", lock, re.MULTILINE)
