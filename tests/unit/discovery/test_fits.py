"""The glance at an answer never calls right what the walk would refuse or change."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.discovery import Discovery, document_path
from localcloud.schema import SchemaBook

TIME = "2026-01-01T00:00:00.123Z"
OBJECT = {
    "kind": "storage#object", "id": "b/n/1", "name": "n", "bucket": "b", "generation": "1795748378608157",
    "metageneration": "1", "size": "0", "crc32c": "AAAAAA==", "timeCreated": TIME, "updated": TIME,
    "temporaryHold": False, "metadata": {"a": "b"}, "componentCount": 2,
}  # fmt: skip
CUSTOM_JOB = {
    "name": "projects/p/locations/l/customJobs/1", "displayName": "d", "state": "JOB_STATE_RUNNING", "createTime": TIME,
    "labels": {"a": "b"}, "error": {"code": 3, "message": "m"},
    "jobSpec": {
        "workerPoolSpecs": [{"machineSpec": {"machineType": "n1"}, "replicaCount": "1", "containerSpec": {"args": ["x"]}}],
        "scheduling": {"timeout": "60s", "restartJobOnWorkerRestart": True},
    },
}  # fmt: skip
DATAFLOW_JOB = {
    "id": "1",
    "currentState": "JOB_STATE_DONE",
    "createTime": TIME,
    "labels": {"a": "b"},
    "jobMetadata": {},
}
ODD = (
    None, True, 0, -1, 1.5, 2**40, 2**70, "", "x", "7", "-7", "٣", "9223372036854775807", "9223372036854775808", TIME,
    "2026-02-31T00:00:00Z", "JOB_STATE_RUNNING", "3s", [], [None], ["x"], {}, {"x": 1}, {"x": None}, b"x",
)  # fmt: skip


def book(api: str, version: str) -> SchemaBook:
    return Discovery.load(api, version)._book


def variants(value: Any) -> Iterator[Any]:
    """Yield the value with each of its parts replaced by each odd one, and with fields that no document knows."""
    yield from ODD
    if isinstance(value, dict):
        for key, item in value.items():
            for other in variants(item):
                yield {**value, key: other}
        yield {**value, "unknownField": 1}
        yield {**value, "display_name": "an alias"}
    if isinstance(value, list):
        for number, item in enumerate(value):
            for other in variants(item):
                yield [*value[:number], other, *value[number + 1 :]]


@pytest.mark.parametrize(
    ("api", "version", "schema", "answer"),
    [
        ("storage", "v1", "Object", OBJECT),
        ("aiplatform", "v1", "GoogleCloudAiplatformV1CustomJob", CUSTOM_JOB),
        ("dataflow", "v1b3", "Job", DATAFLOW_JOB),
    ],
)
def test_what_fits_is_right_as_it_stands(api: str, version: str, schema: str, answer: dict[str, Any]) -> None:
    """Whatever part of a right answer is spoilt: if it still fits, the walk finds nothing and changes nothing."""
    assert document_path(api, version).is_file()
    schemas = book(api, version)
    assert schemas.fits(schema, answer)
    spoilt = refused = 0
    for given in variants(answer):
        violations: list[Any] = []
        before = copy.deepcopy(given)
        walked = schemas.check_body(schema, given, violations, demand=False, is_response=True)
        spoilt += 1
        refused += bool(violations)
        if schemas.fits(schema, given):
            assert violations == [], given
            assert walked == before, given
    assert refused > spoilt / 3
