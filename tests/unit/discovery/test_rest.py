"""The REST front end, over a real socket."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from localcloud.discovery import Discovery
from localcloud.faults import Fault, Faults
from localcloud.http import HttpServer
from localcloud.rest import ApiError, Call, Response, RestApi, combine
from tests.support.loop_thread import LoopThread

DATAFLOW = Discovery.load("dataflow", "v1b3")
STORAGE = Discovery.load("storage", "v1")
_JOBS = "/v1b3/projects/p/locations/l/jobs"
_LAUNCH = "/v1b3/projects/p/locations/l/flexTemplates:launch"
# A connection that is cut before its request was read is reset; one cut after it just ends.
_CUT = (httpx.RemoteProtocolError, httpx.NetworkError)
launched: list[str] = []


async def launch(call: Call) -> dict[str, Any]:
    name = call.body["launchParameter"]["jobName"]
    launched.append(name)
    if name == "taken":
        raise ApiError(409, "ALREADY_EXISTS", "There is already an active job.", "alreadyExists")
    if name == "bug":
        raise ZeroDivisionError
    return {"job": {"id": "1", "name": name} | ({"colour": "red"} if name == "drift" else {})}


async def jobs(call: Call) -> dict[str, Any]:
    return {"jobs": [{"id": "1", "name": str(call.list_lag_s)}], "nextPageToken": call.params.get("name", "none")}


async def download(call: Call) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    return Response(body=stream(), headers={"X-Goog-Hash": "h"}, content_type="text/plain")


async def upload(call: Call) -> dict[str, Any]:
    return {"name": call.params["name"], "size": str(len(await call.read(limit_bytes=1000)))}


async def delete(call: Call) -> None:
    return None


FAULTS = Faults()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    prefix = "dataflow.projects.locations."
    dataflow = RestApi(DATAFLOW, {prefix + "flexTemplates.launch": launch, prefix + "jobs.list": jobs}, FAULTS)
    storage = RestApi(
        STORAGE, {"storage.objects.get": download, "storage.objects.insert": upload, "storage.objects.delete": delete}
    )
    with LoopThread() as loop:
        yield f"http://127.0.0.1:{loop.start(HttpServer(combine(dataflow, storage, faults=FAULTS)))}"


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, trust_env=False) as client:
        yield client
    FAULTS.replace([])


def test_an_answer(http: httpx.Client) -> None:
    """A good request reaches its handler, and its answer is JSON."""
    answer = http.post(_LAUNCH, json={"launch_parameter": {"job_name": "a"}})
    assert answer.status_code == 200
    assert answer.json() == {"job": {"id": "1", "name": "a"}}
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"


@pytest.mark.parametrize(
    ("content", "code", "status", "fragment"),
    [
        (b'{"launchParameter": {"jobName": "taken"}}', 409, "ALREADY_EXISTS", "already an active job"),
        (b'{"launchParameter": {"jobName": "bug"}}', 500, "INTERNAL", "flexTemplates.launch"),
        (b'{"launchParameter": {"jobName": "drift"}}', 500, "INTERNAL", "breaks the discovery document"),
        (b'{"launchParameter": {}}', 400, "INVALID_ARGUMENT", "job_name"),
        (b'{"launchParameter"', 400, "INVALID_ARGUMENT", "Invalid JSON payload received"),
        (b"\xff\xfe", 400, "INVALID_ARGUMENT", "Invalid JSON payload received"),
        (b'{"launchParameter": NaN}', 400, "INVALID_ARGUMENT", "NaN"),
        (b'{"launchParameter": {"jobName": "\\ud800"}}', 400, "INVALID_ARGUMENT", "surrogates"),
        (b"[" * 100_000, 400, "INVALID_ARGUMENT", "Invalid JSON payload received"),
    ],
)
def test_errors_have_googles_form(http: httpx.Client, content: bytes, code: int, status: str, fragment: str) -> None:
    """Every error is Google's JSON with code, status, message and reason; a drifting answer is one too."""
    answer = http.post(_LAUNCH, content=content)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (code, code, status)
    assert fragment in error["message"]
    assert error["errors"][0]["reason"]


def test_unknown_paths_and_methods(http: httpx.Client) -> None:
    """A path of no API is 404; a method nobody implements is 501 with its name."""
    assert http.get("/v9/nothing").json()["error"]["code"] == 404
    answer = http.get(_JOBS + "/7").json()["error"]
    assert answer["code"] == 501
    assert "dataflow.projects.locations.jobs.get" in answer["message"]


def test_standard_parameters(http: httpx.Client) -> None:
    """fields, prettyPrint, alt, key and quotaUser are understood everywhere."""
    query = "?fields=jobs(id),nextPageToken&prettyPrint=true&alt=json&key=k&quotaUser=u&name=x"
    answer = http.get(_JOBS + query)
    assert answer.json() == {"jobs": [{"id": "1"}], "nextPageToken": "x"}
    assert b"\n" in answer.content
    assert http.get(_JOBS + "?fields=jobs(").json()["error"]["code"] == 400


def test_a_get_sent_as_a_post(http: httpx.Client) -> None:
    """A GET too long for an address comes as a POST with its query in the body."""
    answer = http.post(_JOBS, content=b"name=long", headers={"x-http-method-override": "GET"})
    assert answer.json()["nextPageToken"] == "long"


def test_media(http: httpx.Client) -> None:
    """Uploads hand the raw body over, downloads stream bytes with headers, a method without an answer gives 204."""
    answer = http.get("/download/storage/v1/b/k/o/x?alt=media")
    assert (answer.text, answer.headers["x-goog-hash"]) == ("one two", "h")
    answer = http.post("/upload/storage/v1/b/k/o?uploadType=media&name=n", content=b"12345")
    assert answer.json() == {"name": "n", "size": "5"}
    answer = http.post("/upload/storage/v1/b/k/o?uploadType=media&name=n", content=b"x" * 1001)
    assert answer.json()["error"]["code"] == 413
    assert http.delete("/storage/v1/b/k/o/x").status_code == 204


def test_faults_at_run_time(http: httpx.Client) -> None:
    """Faults switched on over HTTP hit the next calls: refused before, lost after, cut, late."""
    rules = [
        {"method": "*.launch", "kind": "error", "code": 429, "count": 1},
        {"method": "*.launch", "kind": "drop", "count": 1},
        {"method": "*.launch", "kind": "lost_answer", "code": 0, "count": 1},
        {"method": "*.launch", "kind": "lost_answer", "code": 500, "count": 1},
        {"method": "*.jobs.list", "kind": "stale", "lag_s": 9, "count": 1},
    ]
    assert http.put("/-/faults", json={"rules": rules}).status_code == 200
    body = {"launchParameter": {"jobName": "f"}}
    launched.clear()
    assert http.post(_LAUNCH, json=body).json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    with pytest.raises(_CUT):
        http.post(_LAUNCH, json=body)
    assert launched == []
    with pytest.raises(_CUT):
        http.post(_LAUNCH, json=body)
    assert http.post(_LAUNCH, json=body).status_code == 500
    assert launched == ["f", "f"]
    assert http.post(_LAUNCH, json=body).status_code == 200
    assert http.get(_JOBS).json()["jobs"][0]["name"] == "9"
    assert [rule["fired"] for rule in http.get("/-/faults").json()["rules"]] == [1] * 5
    http.post("/-/faults", json={"rules": rules[:1]})
    assert len(http.get("/-/faults").json()["rules"]) == 6
    assert http.delete("/-/faults").json() == {"rules": []}
    assert http.post("/-/faults", json={"rules": [{"method": "x"}]}).json()["error"]["code"] == 400


def test_a_delay_delays_only_its_own_call(http: httpx.Client) -> None:
    """A delayed call holds up no other."""
    FAULTS.replace([Fault("*.launch", "delay", delay_s=30, count=1)])
    with pytest.raises(httpx.ReadTimeout):
        http.post(_LAUNCH, json={"launchParameter": {"jobName": "slow"}}, timeout=0.2)
    assert http.get(_JOBS).status_code == 200


def test_health(http: httpx.Client) -> None:
    """/-/healthz answers when the service does."""
    assert http.get("/-/healthz").json() == {"status": "ok"}


def test_handlers_must_exist() -> None:
    """A handler for a method that the document lacks is a mistake found at the start."""
    with pytest.raises(ValueError, match=r"storage\.objects\.conjure"):
        RestApi(STORAGE, {"storage.objects.conjure": delete})


def test_a_taken_port_is_named(address: str) -> None:
    """Listening on a taken port says which, and what to do."""
    server = HttpServer(combine(), port=int(address.rpartition(":")[2]))
    with LoopThread() as loop, pytest.raises(OSError, match="--port 0"):
        loop.run(server.start())


def test_json_is_utf8(http: httpx.Client) -> None:
    """Text beyond ASCII comes back as it went in."""
    answer = http.get(_JOBS, params={"name": "naïve – 数"})
    assert json.loads(answer.content)["nextPageToken"] == "naïve – 数"
