"""Routing by discovery document."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.discovery import Discovery, document_path

STORAGE = Discovery.load("storage", "v1")
BIGQUERY = Discovery.load("bigquery", "v2")
DATAFLOW = Discovery.load("dataflow", "v1b3")
VERTEX = Discovery.load("aiplatform", "v1")
_L = "/v1/projects/p/locations/l"


@pytest.mark.parametrize(
    ("api", "verb", "path", "method_id", "params", "media"),
    [
        (STORAGE, "GET", "/storage/v1/b/k/o/a%2Fb:c", "storage.objects.get", {"bucket": "k", "object": "a/b:c"}, ""),
        (STORAGE, "GET", "/storage/v1/b/k/o", "storage.objects.list", {"bucket": "k"}, ""),
        (STORAGE, "POST", "/upload/storage/v1/b/k/o", "storage.objects.insert", {"bucket": "k"}, "upload"),
        (STORAGE, "PUT", "/upload/storage/v1/b/k/o", "storage.objects.insert", {"bucket": "k"}, "upload"),
        (STORAGE, "POST", "/resumable/upload/storage/v1/b/k/o", "storage.objects.insert", {"bucket": "k"}, "resumable"),
        (
            STORAGE,
            "GET",
            "/download/storage/v1/b/k/o/x",
            "storage.objects.get",
            {"bucket": "k", "object": "x"},
            "download",
        ),
        (
            BIGQUERY,
            "GET",
            "/bigquery/v2/projects/p/datasets/d/tables/t",
            "bigquery.tables.get",
            {"projectId": "p", "datasetId": "d", "tableId": "t"},
            "",
        ),
        (BIGQUERY, "POST", "/upload/bigquery/v2/projects/p/jobs", "bigquery.jobs.insert", {"projectId": "p"}, "upload"),
        (
            DATAFLOW,
            "POST",
            "/v1b3/projects/p/locations/l/flexTemplates:launch",
            "dataflow.projects.locations.flexTemplates.launch",
            {"projectId": "p", "location": "l"},
            "",
        ),
        (
            VERTEX,
            "POST",
            _L + "/endpoints/7:predict",
            "aiplatform.projects.locations.endpoints.predict",
            {"endpoint": _L[4:] + "/endpoints/7"},
            "",
        ),
        (
            VERTEX,
            "POST",
            _L + "/endpoints/7:rawPredict",
            "aiplatform.projects.locations.endpoints.rawPredict",
            {"endpoint": _L[4:] + "/endpoints/7"},
            "raw",
        ),
        (
            VERTEX,
            "GET",
            _L + "/models/m@2",
            "aiplatform.projects.locations.models.get",
            {"name": _L[4:] + "/models/m@2"},
            "",
        ),
        (
            VERTEX,
            "GET",
            _L + "/models/m/operations/3",
            "aiplatform.projects.locations.models.operations.get",
            {"name": _L[4:] + "/models/m/operations/3"},
            "",
        ),
    ],
)
def test_a_path_means_its_method(
    api: Discovery, verb: str, path: str, method_id: str, params: dict[str, str], media: str
) -> None:
    """A raw path leads to its method, its parameters decoded."""
    match = api.match(verb, path)
    assert match is not None
    assert (match.method_id, match.path_params, match.media) == (method_id, params, media)


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/"),
        ("GET", ""),
        ("PATCH", "/v1b3/projects/p/locations/l/jobs/j"),
        ("GET", _L + "/models/m%2F..%2Fx"),
        ("GET", _L + "/models/"),
        ("POST", _L + "/endpoints/7:conquer"),
        ("GET", "//v1/projects/p/locations/l/models"),
    ],
)
def test_what_is_no_method_matches_nothing(verb: str, path: str) -> None:
    """A path of no method, or one whose decoded id leaves its pattern, matches nothing."""
    assert VERTEX.match(verb, path) is None
    assert DATAFLOW.match(verb, path) is None


@given(st.text(alphabet=string.printable, max_size=200))
def test_no_path_breaks_the_router(path: str) -> None:
    """Whatever the path, the router answers or says no."""
    for api in (STORAGE, VERTEX):
        match = api.match("GET", "/v1/projects/" + path)
        assert match is None or match.method_id in api.methods


@pytest.mark.parametrize("api", [STORAGE, BIGQUERY, DATAFLOW, VERTEX], ids=lambda api: api.name)
def test_every_method_is_reached_by_its_own_path(api: Discovery) -> None:
    """Filled with plain values, the path of each method leads to that method or to one of the same form."""
    prefix = {"storage": "/storage/v1/", "bigquery": "/bigquery/v2/"}.get(api.name, "/")
    lost = []
    for method in api.methods.values():
        path = prefix + method.path
        for name, spec in method.parameters.items():
            if spec["location"] != "path":
                continue
            value = spec.get("pattern", "^x$").strip("^$").replace("[^/]+", "x")
            path = path.replace("{+" + name + "}", value).replace("{" + name + "}", "x")
        match = api.match(method.http_method, path)
        if match is None or match.method.path.count("/") > method.path.count("/") + 20:
            lost.append(method.id)
    assert lost == []


def test_a_missing_document_says_where_it_looked() -> None:
    """An API without a document names the file."""
    with pytest.raises(FileNotFoundError, match=r"nosuchapi\.v9\.json"):
        document_path("nosuchapi", "v9")


def test_what_one_caller_is_told_no_other_can_change() -> None:
    """A path is read once for all its callers; the verb and every letter of it count."""
    first = STORAGE.match("GET", "/storage/v1/b/k/o/x")
    assert first is not None
    with pytest.raises(TypeError):
        first.path_params["object"] = "y"  # type: ignore[index]
    assert STORAGE.match("GET", "/storage/v1/b/k/o/x") == first
    for verb, path in (("DELETE", "/storage/v1/b/k/o/x"), ("GET", "/storage/v1/b/k/o/X")):
        other = STORAGE.match(verb, path)
        assert other is not None
        assert other != first
