"""Calls to Google's REST APIs: what is sent, and to whom."""

import json
import threading
from collections.abc import Callable, Iterator
from http.client import BadStatusLine
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httplib2
import pytest
from google.auth.exceptions import RefreshError
from googleapiclient.errors import HttpError

from workers import google_rest
from workers.dataflow import Dataflow
from workers.errors import AlreadyExists, LaunchRefused, NotFound, TransientError
from workers.google_rest import GoogleRest, instant
from workers.record import JobRef


class Listener(ThreadingHTTPServer):
    """An API that remembers the headers of what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answer = b"{}"
        self.promised: int | None = None  # bytes that the headers speak of; None = as many as there are


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Listener)
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
        self.server.paths.append(self.path)
        answer, promised = self.server.answer, self.server.promised
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer) if promised is None else promised))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_no_token_travels_over_plain_http(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local server is asked without credentials, so nobody's own are looked for, let alone sent."""

    def never() -> None:
        raise AssertionError("credentials were looked for")

    monkeypatch.setattr(google_rest, "credentials", never)
    rest = GoogleRest("dataflow", "v1b3", f"http://127.0.0.1:{listener.server_port}")
    jobs = rest.service.projects().locations().jobs()
    assert rest.read(jobs.list(projectId="p", location="us-central1")) == {}
    assert len(listener.asked) == 1
    assert "authorization" not in listener.asked[0]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (409, "ALREADY_EXISTS", AlreadyExists),
        (409, "ABORTED", TransientError),  # an etag that is no longer right: nothing happened, read again
        (404, "NOT_FOUND", NotFound),
        (429, "RESOURCE_EXHAUSTED", TransientError),
        (400, "INVALID_ARGUMENT", LaunchRefused),
    ],
)
def test_answers_are_told_apart(code: int, status: str, expected: type[Exception]) -> None:
    """Whether the same request makes sense again is decided here, once."""
    content = json.dumps({"error": {"code": code, "status": status, "message": "why"}}).encode()
    fault = google_rest._translate(HttpError(httplib2.Response({"status": code}), content, uri="http://api/v1/x?key=1"))
    assert type(fault) is expected
    assert not getattr(fault, "ambiguous", False)
    assert "why" in str(fault)


@pytest.mark.parametrize(("status", "retry"), [("FAILED_PRECONDITION", True), ("INVALID_ARGUMENT", False)])
def test_what_is_in_the_way_now_may_be_gone_at_the_next_attempt(status: str, retry: bool) -> None:
    """Another operation on the same endpoint, for example; a wrong request stays wrong."""
    content = json.dumps({"error": {"code": 400, "status": status, "message": "why"}}).encode()
    fault = google_rest._translate(HttpError(httplib2.Response({"status": 400}), content, uri="http://api/v1/x"))
    assert isinstance(fault, LaunchRefused)
    assert fault.retry is retry


def forbidden(**error: object) -> Exception:
    content = json.dumps({"error": {"code": 403, **error}}).encode()
    return google_rest._translate(HttpError(httplib2.Response({"status": 403}), content, uri="http://api/v1/x"))


@pytest.mark.parametrize(
    "error",
    [
        {"message": "slower, please", "errors": [{"reason": "rateLimitExceeded"}]},
        {"message": "slower, please", "errors": [{"reason": "userRateLimitExceeded"}]},
        {"message": "no more today", "errors": [{"reason": "quotaExceeded"}]},
        {"message": "slower, please", "status": "RESOURCE_EXHAUSTED"},
        {"message": "slower, please", "status": "PERMISSION_DENIED", "details": [{"reason": "RATE_LIMIT_EXCEEDED"}]},
        {"message": "Rate Limit Exceeded", "status": "PERMISSION_DENIED"},
        {"message": "Quota exceeded for quota metric 'Create requests'"},
    ],
)
def test_403_for_being_too_fast_is_tried_again(error: dict[str, object]) -> None:
    """Google's APIs answer 403 as well as 429 to too many requests."""
    assert type(forbidden(**error)) is TransientError


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Permission 'dataflow.jobs.create' denied on projects/corporate-ml", "status": "PERMISSION_DENIED"},
        {"message": "the service account operates elsewhere"},
        {"message": "see what the rate limit page says", "errors": [{"reason": "forbidden"}]},
        {"message": "denied", "details": [{"reason": "IAM_PERMISSION_DENIED"}, {"links": []}], "errors": "none"},
    ],
)
def test_403_for_not_being_allowed_is_a_refusal(error: dict[str, object]) -> None:
    """Letters of a name that happen to be there say nothing."""
    assert type(forbidden(**error)) is LaunchRefused


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"error": "denied"}'])
def test_a_403_in_no_form_that_we_know_is_a_refusal(content: bytes) -> None:
    """A proxy may answer in Google's place."""
    fault = HttpError(httplib2.Response({"status": 403}), content, uri="http://api/v1/x")
    assert type(google_rest._translate(fault)) is LaunchRefused


@pytest.mark.parametrize(
    ("answer", "promised"),
    [(b'{"jobs": [', 99), (b"<html>Sign in</html>", None), (b"[]", None), (b'{"a": "\xff"}', None)],
    ids=str,
)
def test_an_answer_that_cannot_be_read_is_no_answer(listener: Listener, answer: bytes, promised: int | None) -> None:
    """One that was cut, or somebody else's page: what was asked for may have happened."""
    listener.answer, listener.promised = answer, promised
    rest = GoogleRest("dataflow", "v1b3", f"http://127.0.0.1:{listener.server_port}")
    request = rest.service.projects().locations().jobs().list(projectId="p", location="us-central1")
    with pytest.raises(TransientError) as caught:
        rest.send(request)
    assert caught.value.ambiguous
    listener.answer, listener.promised = b"{}", None
    assert rest.send(request) == {}, "the connection is good for the next request"
    rest.close()


@pytest.mark.parametrize(
    "fault", [BadStatusLine(""), RefreshError("metadata server"), RefreshError("revoked")], ids=str
)
def test_no_status_and_no_token_are_no_answer(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """The worker goes on when the service, or the key, is there again."""
    rest = GoogleRest("dataflow", "v1b3", "http://127.0.0.1:1")

    def fail(_request: object) -> None:
        raise fault

    monkeypatch.setattr(rest, "execute", fail)
    with pytest.raises(TransientError) as caught:
        rest.send(rest.service.projects().locations().jobs().list(projectId="p", location="us-central1"))
    assert caught.value.ambiguous


def test_a_collection_is_made_once() -> None:
    """To make a collection's methods takes the client library longer than the call itself."""
    service = GoogleRest("dataflow", "v1b3").service
    assert service.projects().locations().jobs() is service.projects().locations().jobs()
    request = service.projects().locations().jobs().get(projectId="p", location="us-central1", jobId="7")
    assert request.uri.endswith("/v1b3/projects/p/locations/us-central1/jobs/7?alt=json")


def test_a_list_that_lacks_a_region_is_no_list(listener: Listener) -> None:
    """Dataflow answers 200 and names the region that did not respond: taken for an empty list, a job is launched twice."""
    listener.answer = json.dumps({"failedLocation": [{"name": "us-central1"}]}).encode()
    rest = GoogleRest("dataflow", "v1b3", f"http://127.0.0.1:{listener.server_port}")
    dataflow = Dataflow(rest, "p")
    refs = [JobRef(id=f"j{n}", name="n", kind="dataflow", location="us-central1") for n in range(9)]
    looks: list[Callable[[], object]] = [
        lambda: dataflow.find("n", {}, "us-central1"),
        lambda: list(dataflow.active("us-central1", {"baton-stage": "preprocess"}, ())),
        lambda: dataflow.statuses(refs),
    ]
    for look in looks:
        with pytest.raises(TransientError, match="us-central1") as caught:
            look()
        assert "no answer from" in str(caught.value)
    fields = [parse_qs(urlsplit(path).query).get("fields", []) for path in listener.paths]
    assert all("failedLocation" in asked[0].split(",") for asked in fields if asked), "or it would be left out"
    assert sum(map(bool, fields)) == 1


def test_times_are_compared_as_times() -> None:
    """A fraction is left out where it is zero, and has as many digits as it needs."""
    ordered = [
        "",
        "2026-02-31T00:00:00Z",
        "yesterday",
        "2026-01-01T00:59:59.999999999+01:00",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.000000001Z",
        "2026-01-01T00:00:00.05Z",
        "2026-01-01T00:00:00.500000Z",
        "2026-01-01T00:00:01Z",
    ]
    assert sorted(reversed(ordered), key=instant) == ordered
    assert instant("2026-01-01T00:00:00Z") == instant("2026-01-01T01:00:00.000+01:00")
