"""What a discovery document allows in a request and in an answer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.discovery import ContractViolation, Discovery, Match

DATAFLOW = Discovery.load("dataflow", "v1b3")
VERTEX = Discovery.load("aiplatform", "v1")
STORAGE = Discovery.load("storage", "v1")
_P = "projects/p/locations/l"


def match(api: Discovery, verb: str, path: str) -> Match:
    found = api.match(verb, path)
    assert found is not None
    return found


LAUNCH = match(DATAFLOW, "POST", f"/v1b3/{_P}/flexTemplates:launch")
JOBS = match(DATAFLOW, "GET", f"/v1b3/{_P}/jobs")
CREATE = match(VERTEX, "POST", f"/v1/{_P}/customJobs")
ENDPOINT = match(VERTEX, "PATCH", f"/v1/{_P}/endpoints/e")
PREDICT = match(VERTEX, "POST", f"/v1/{_P}/endpoints/e:predict")
OBJECTS = match(STORAGE, "GET", "/storage/v1/b/k/o")
PATCH_OBJECT = match(STORAGE, "PATCH", "/storage/v1/b/k/o/x")


def problems(api: Discovery, target: Match, body: Any, query: Any = ()) -> list[tuple[str, str]]:
    with pytest.raises(ContractViolation) as caught:
        api.check_request(target, query, body)
    return [(violation.field, violation.description) for violation in caught.value.violations]


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        (
            {"launchParameter": {"jobName": "a", "x": 1}},
            "launch_parameter",
            "Invalid JSON payload received. Unknown name \"x\" at 'launch_parameter': Cannot find field.",
        ),
        (
            {"launchParameter": {"jobName": 5}},
            "launch_parameter.job_name",
            "Invalid value at 'launch_parameter.job_name' (TYPE_STRING), 5",
        ),
        (
            {"launchParameter": {"jobName": "a", "update": "maybe"}},
            "launch_parameter.update",
            "Invalid value at 'launch_parameter.update' (TYPE_BOOL), \"maybe\"",
        ),
        (
            {"launchParameter": {"jobName": "a", "environment": {"numWorkers": 2**31}}},
            "launch_parameter.environment.num_workers",
            "Invalid value at 'launch_parameter.environment.num_workers' (TYPE_INT32), 2147483648",
        ),
        ({"launchParameter": []}, "launch_parameter", "LaunchFlexTemplateParameter"),
        ({"launchParameter": {"jobName": "a", "parameters": ["b"]}}, "launch_parameter.parameters", "(map)"),
        (
            {"launchParameter": {"jobName": "a", "parameters": {"b": {}}}},
            'launch_parameter.parameters["b"]',
            "(TYPE_STRING)",
        ),
        ({}, "launch_parameter", "Required field is not set."),
        (None, "launch_parameter", "Required field is not set."),
    ],
)
def test_violations_are_worded_as_google_words_them(body: Any, field: str, text: str) -> None:
    """A violation names the field as a proto path and the value, in Google's sentence."""
    found = problems(DATAFLOW, LAUNCH, body)
    assert [f for f, _ in found] == [field]
    assert text in found[0][1]


def test_every_violation_is_reported() -> None:
    """A request with several faults gets all of them at once."""
    body = {"jobSpec": {"workerPoolSpecs": [{"replicaCount": "many", "bogus": 1}]}}
    fields = {field for field, _ in problems(VERTEX, CREATE, body)}
    assert fields == {
        "custom_job.display_name",
        "custom_job.job_spec.worker_pool_specs[0]",
        "custom_job.job_spec.worker_pool_specs[0].replica_count",
    }


def test_canonical_form() -> None:
    """snake_case, numbers for enums, numbers for int64 and null are taken, and answered in one form."""
    body = {
        "display_name": "a",
        "labels": None,
        "job_spec": {
            "worker_pool_specs": [{"replica_count": 1, "container_spec": {"image_uri": "x"}}],
            "scheduling": {"strategy": 4, "timeout": "7200s", "disable_retries": "true"},
        },
    }
    _, checked = VERTEX.check_request(CREATE, [("$alt", "json;enum-encoding=int")], body)
    assert checked == {
        "displayName": "a",
        "jobSpec": {
            "workerPoolSpecs": [{"replicaCount": "1", "containerSpec": {"imageUri": "x"}}],
            "scheduling": {"strategy": "SPOT", "timeout": "7200s", "disableRetries": True},
        },
    }


def test_a_patch_demands_nothing() -> None:
    """A partial update may leave out what creating requires."""
    params, checked = VERTEX.check_request(ENDPOINT, [("updateMask", "trafficSplit")], {"trafficSplit": {"1": 100}})
    assert params == {"updateMask": "trafficSplit"}
    assert checked == {"trafficSplit": {"1": 100}}


def test_null_deletes_in_the_older_apis() -> None:
    """Storage keeps null, where it means "delete this field"."""
    _, checked = STORAGE.check_request(PATCH_OBJECT, [], {"metadata": {"a": None}, "contentType": None})
    assert checked == {"metadata": {"a": None}, "contentType": None}


def test_any_json_stays_as_it_is() -> None:
    """Instances of a prediction are any JSON at all."""
    instances = [{"deep_field": [1, None, {"x": 1.5}]}, "text", None, 3]
    _, checked = VERTEX.check_request(PREDICT, [], {"instances": instances})
    assert checked == {"instances": instances}


def test_query_parameters_are_typed() -> None:
    """Numbers and booleans of a query arrive as such, in either spelling; the front end's own are left out."""
    query = [("page_size", "5"), ("filter", "2"), ("key", "k"), ("$prettyPrint", "false")]
    params, _ = DATAFLOW.check_request(JOBS, query)
    assert params == {"pageSize": 5, "filter": "TERMINATED"}
    params, _ = STORAGE.check_request(OBJECTS, {"maxResults": "10", "versions": "true", "startOffset": "1"})
    assert params == {"maxResults": 10, "versions": True, "startOffset": "1"}


@pytest.mark.parametrize(
    ("query", "fragment"),
    [
        ([("bogus", "1")], "Cannot bind query parameter. Field 'bogus'"),
        ([("pageSize", "five")], "Invalid value at 'pageSize' (TYPE_INT32)"),
        ([("filter", "SOME")], "Invalid value at 'filter'"),
        ([("name", "a"), ("name", "b")], "Proto field is not repeating"),
        ([("createTimeRange.startTime", "yesterday")], "createTimeRange.startTime"),
        ([("createTimeRange.startTime", "2026-02-30T00:00:00Z")], "createTimeRange.startTime"),
    ],
)
def test_query_violations(query: list[tuple[str, str]], fragment: str) -> None:
    """A wrong query parameter is named."""
    ((_, text),) = problems(DATAFLOW, JOBS, None, query)
    assert fragment in text


def test_an_answer_that_drifts_is_caught() -> None:
    """Our own answers are held to the document too."""
    DATAFLOW.check_response(LAUNCH, {"job": {"id": "1", "currentState": "JOB_STATE_DONE"}})
    for wrong in ({"job": {"state": "x"}}, {"job": {"currentState": "DONE"}}, {"job": {"createTime": 5}}):
        with pytest.raises(ContractViolation):
            DATAFLOW.check_response(LAUNCH, wrong)


def test_details_carry_the_field_violations() -> None:
    """An error's details are a google.rpc.BadRequest."""
    with pytest.raises(ContractViolation) as caught:
        DATAFLOW.check_request(LAUNCH, [], {"launchParameter": {"jobName": "a", "x": 1}})
    (detail,) = caught.value.details()
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == "launch_parameter"


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("google-datetime", ["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.123456789+01:00"], ["2026-11-21", "now", ""]),
        ("google-duration", ["3s", "3.5s", "-1s"], ["3", "3m", "s", "1e3s"]),
        ("google-fieldmask", ["a,b.c", "trafficSplit", ""], ["a b", ","]),
        ("byte", ["", "aGk=", "aGk", "-_-_"], ["a", "a b", "%%"]),
        ("int64", ["9223372036854775807", "-1"], ["9223372036854775808", "1.5", "", "0x1"]),
        ("uint64", ["18446744073709551615"], ["-1"]),
        ("date", ["2026-01-31"], ["31.1.2026"]),
    ],
)
def test_formats(form: str, good: list[str], bad: list[str]) -> None:
    """Each format of a string is checked."""
    book = Discovery({"name": "t", "version": "v1", "schemas": {"T": _holding(form)}})
    for value in good:
        assert book.check_schema("T", {"f": value}) == {"f": value}
    for value in bad:
        with pytest.raises(ContractViolation):
            book.check_schema("T", {"f": value})


def _holding(form: str) -> dict[str, Any]:
    return {"id": "T", "type": "object", "properties": {"f": {"type": "string", "format": form}}}


def test_deep_nesting_is_refused_not_crashed() -> None:
    """A body nested past any sense is a violation, not a crash."""
    schema = {"id": "T", "type": "object", "properties": {"t": {"$ref": "T"}}}
    book = Discovery({"name": "t", "version": "v1", "schemas": {"T": schema}})
    body: dict[str, Any] = {}
    for _ in range(500):
        body = {"t": body}
    with pytest.raises(ContractViolation, match="Message too deep"):
        book.check_schema("T", body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
_NAMES = st.sampled_from(["displayName", "jobSpec", "workerPoolSpecs", "scheduling", "timeout", "labels", "strategy"])


@given(st.dictionaries(_NAMES, st.dictionaries(_NAMES, _JSON, max_size=3) | _JSON, max_size=4))
def test_any_body_is_judged(body: dict[str, Any]) -> None:
    """Whatever JSON arrives, it is canonical afterwards or refused, and canonical JSON passes unchanged."""
    try:
        _, checked = VERTEX.check_request(CREATE, [], body)
    except ContractViolation:
        return
    assert VERTEX.check_request(CREATE, [], checked)[1] == checked
