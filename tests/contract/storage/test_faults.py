"""Faults reach every storage call, and what they leave behind is what the cloud would leave."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest

from localcloud.faults import Fault, Faults
from localcloud.storage import StorageServer
from tests.contract.storage.conftest import Broker
from tests.support.loop_thread import LoopThread

UPLOAD = "/upload/storage/v1/b/bucket/o?uploadType=media&name=data&ifGenerationMatch=0"


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def port(loop: LoopThread, faults: Faults, tmp_path: Path) -> Iterator[int]:
    server = StorageServer(data_dir=tmp_path, publish=Broker().publish, faults=faults)
    port = loop.start(server)
    assert send(port, "POST", "/storage/v1/b?project=p", b'{"name": "bucket"}')[0] == 200
    yield port
    loop.stop(server)


def send(port: int, method: str, url: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, url, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_an_answer_that_is_lost_leaves_its_object(port: int, faults: Faults) -> None:
    """lost_answer: the connection is cut, yet the object is there, so a repeated create-if-absent is refused."""
    faults.add([Fault("storage.objects.insert", "lost_answer", code=0, count=1)])
    with pytest.raises(RemoteDisconnected):
        send(port, "POST", UPLOAD, b"x")
    assert send(port, "POST", UPLOAD, b"x")[0] == 412


@pytest.mark.parametrize("code", [429, 503])
def test_a_refused_call_changes_nothing(port: int, faults: Faults, code: int) -> None:
    """error: the code comes back in Google's shape and nothing was done."""
    faults.add([Fault("storage.objects.*", "error", code=code, count=1)])
    status, body = send(port, "POST", UPLOAD, b"x")
    assert (status, json.loads(body)["error"]["code"]) == (code, code)
    assert send(port, "POST", UPLOAD, b"x")[0] == 200


def test_a_chunk_of_a_session_can_fail_too(port: int, faults: Faults) -> None:
    """A session's PUT belongs to storage.objects.insert: after a drop the session stands where it was."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", UPLOAD.replace("media", "resumable"), b"{}")
    session = connection.getresponse().headers["Location"].partition(f":{port}")[2]
    connection.close()
    faults.add([Fault("storage.objects.insert", "drop", count=1)])
    with pytest.raises(RemoteDisconnected):
        send(port, "PUT", session, b"whole")
    assert send(port, "PUT", session, b"", content_range="bytes */*")[0] == 308
    assert send(port, "PUT", session, b"whole")[0] == 200


def test_faults_are_set_while_it_runs(port: int) -> None:
    """`/-/faults` takes rules and shows how often each fired."""
    rules = {"rules": [{"method": "storage.buckets.get", "kind": "error", "code": 503, "count": 1}]}
    assert send(port, "PUT", "/-/faults", json.dumps(rules).encode())[0] == 200
    assert [send(port, "GET", "/storage/v1/b/bucket")[0] for _ in range(2)] == [503, 200]
    assert json.loads(send(port, "GET", "/-/faults")[1])["rules"][0]["fired"] == 1
