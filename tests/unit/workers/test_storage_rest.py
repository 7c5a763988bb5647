"""Requests to Cloud Storage: made by the discovery client once, and by every call given names of its own."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from googleapiclient.http import MediaInMemoryUpload
from tenacity import stop_after_attempt

from workers import storage_rest
from workers.errors import TransientError
from workers.google_rest import GoogleRest
from workers.storage_rest import Content, StorageRest

# The last ones are the words that stand in a prepared request for what each call has of its own.
NAMES = ("runs/r/train.json", "a b/ü+&=%2F?#", "../x", "bucket-of-a-call", "name-of-a-call", "generation-of-a-call")


class Requests(GoogleRest):
    """The real client, whose requests are kept instead of sent."""

    def __init__(self) -> None:
        super().__init__("storage", "v1", "http://127.0.0.1:9/storage/v1/")
        self.sent: list[Any] = []

    def execute(self, request: Any) -> Any:
        self.sent.append(request)
        return {"generation": "8"}


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def storage(requests: Requests) -> StorageRest:
    rest = StorageRest("http://127.0.0.1:9")
    rest._rest = requests
    return rest


def said(request: Any) -> tuple[Any, ...]:
    """What a request says, however its address is spelled."""
    uri = urlsplit(request.uri)
    query = sorted(parse_qsl(uri.query, keep_blank_values=True))
    headers = {name.lower(): value for name, value in request.headers.items()}
    # A slash inside a name must not become one of the path's.
    path = [unquote(part) for part in uri.path.split("/")]
    return request.method, uri.scheme, uri.netloc, path, query, headers, request.body or b"", request.body_size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bucket", ["led", "name-of-a-call", "generation-of-a-call"])
def test_a_prepared_request_is_the_clients_own(
    storage: StorageRest, requests: Requests, bucket: str, name: str
) -> None:
    """Whatever bucket and object are called, what goes out is what the client would have made for this call."""
    storage.read(bucket, name)
    storage.write(bucket, name, b"content", if_generation=7)
    storage.delete(bucket, name)

    objects = requests.service.objects()
    media = MediaInMemoryUpload(b"content", mimetype="application/json")
    written = objects.insert(bucket=bucket, name=name, ifGenerationMatch="7", fields="generation", media_body=media)
    written.uri = written.uri.replace("https://", "http://")
    own = [objects.get_media(bucket=bucket, object=name), written, objects.delete(bucket=bucket, object=name)]
    assert [said(request) for request in requests.sent] == [said(request) for request in own]


def test_the_client_warns_of_nothing(storage: StorageRest, caplog: pytest.LogCaptureFixture) -> None:
    """What its library says about how it is used would be in every worker's log."""
    storage.read("led", "first", limit_bytes=10)
    storage.write("led", "first", b"first", if_generation=0)
    storage.delete("led", "first")
    assert caplog.records == []


def test_a_call_leaves_nothing_for_the_next(storage: StorageRest, requests: Requests) -> None:
    """What is added to one request (a range, what sending adds) is not in another."""
    storage.read("led", "first", limit_bytes=10)
    requests.sent[0].headers["content-length"] = "3"
    storage.write("led", "first", b"first", if_generation=0)
    storage.read("led", "second")
    storage.write("led", "second", b"", if_generation=0)
    assert requests.sent[0].headers["range"] == "bytes=0-9"
    assert "range" not in requests.sent[2].headers
    assert "content-length" not in requests.sent[2].headers
    assert [request.body for request in requests.sent[1::2]] == [b"first", b""]


def test_one_generation_of_an_object_is_read_where_it_is_named(storage: StorageRest, requests: Requests) -> None:
    """What a notification names is read, not what came after it."""
    storage.read("led", "data.csv", generation=12)
    assert ("generation", "12") in said(requests.sent[0])[4]


def test_threads_do_not_mix_their_requests(storage: StorageRest, requests: Requests) -> None:
    """Sixteen threads write at once, from the first request on: each its own object and content."""

    def write(number: int) -> None:
        storage.write("led", f"object-{number}", f"content {number}".encode(), if_generation=number)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(500)))
    got = {
        (dict(parse_qsl(urlsplit(request.uri).query))["name"], request.body, request.body_size)
        for request in requests.sent
    }
    wanted = ((f"object-{number}", f"content {number}".encode()) for number in range(500))
    assert got == {(name, body, len(body)) for name, body in wanted}


def test_every_call_counts_its_own_tries(
    storage: StorageRest, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is away for two answers costs each of eight threads three tries; one that stays away is told."""
    monkeypatch.setattr(storage_rest, "_RETRYING", storage_rest._RETRYING.copy(sleep=lambda _pause_s: None))
    failures: dict[str, int] = {}

    def execute(request: Any) -> Any:
        failures[request.uri] = failures.get(request.uri, 0) + 1
        if failures[request.uri] < 3:
            raise ConnectionResetError("away")
        return Content(b"content", failures[request.uri])

    monkeypatch.setattr(requests, "execute", execute)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: storage.read("led", f"object-{number}"), range(64)))
    assert found == [Content(b"content", 3)] * 64

    monkeypatch.setattr(storage_rest, "_RETRYING", storage_rest._RETRYING.copy(stop=stop_after_attempt(4)))
    monkeypatch.setattr(requests, "execute", lambda _request: (_ for _ in ()).throw(ConnectionResetError("away")))
    with pytest.raises(TransientError, match="cannot read gs://led/object: ConnectionResetError"):
        storage.read("led", "object")
