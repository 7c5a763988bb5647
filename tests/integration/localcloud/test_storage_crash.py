"""The storage server as a process under kill -9: nothing answered is lost, nothing half-done is seen."""

import json
import os
import random
import sqlite3
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from localcloud.storage import StorageServer
from tests.support.loop_thread import LoopThread
from tests.support.part_process import PartProcess
from tests.support.waiting import wait_until

STEP_BYTES = 256 * 1024
UPLOAD = "/upload/storage/v1/b/bucket/o?uploadType="


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def server(data_dir: Path) -> Iterator[PartProcess]:
    with PartProcess("storage", data_dir) as process:
        assert send(process, "POST", "/storage/v1/b?project=baton-local", b'{"name": "bucket"}')[0] == 200
        yield process


def connect(server: PartProcess) -> HTTPConnection:
    address = urlsplit(server.output()["STORAGE_EMULATOR_HOST"])
    assert address.hostname is not None
    return HTTPConnection(address.hostname, address.port, timeout=20)


def send(
    server: PartProcess, method: str, url: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, HTTPResponse]:
    connection = connect(server)
    try:
        connection.request(method, url, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read(), response
    finally:
        connection.close()


def read(server: PartProcess, name: str, query: str = "") -> tuple[int, bytes]:
    return send(server, "GET", f"/storage/v1/b/bucket/o/{name}?alt=media{query}")[:2]


def test_kill_during_writes_loses_no_answered_one(server: PartProcess) -> None:
    """Four writers, killed at a random moment, five times: what was answered is there, whole, at its generation."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    randomness = random.Random(seed)
    answered: dict[str, tuple[str, bytes]] = {}
    for round_number in range(5):
        seen = threading.Event()
        threads = [
            threading.Thread(target=_write_until_killed, args=(server, f"{round_number}-{number}", answered, seen))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        assert seen.wait(20)
        before = len(answered)
        wanted = randomness.randrange(5, 60)
        wait_until(lambda goal=before + wanted: len(answered) >= goal, what="more writes")
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
    for name, (generation, data) in answered.items():
        status, body = read(server, name, f"&generation={generation}")
        assert (status, body) == (200, data), name
    listed = json.loads(send(server, "GET", "/storage/v1/b/bucket/o?fields=items(name,size)")[1])
    for item in listed["items"]:  # those that committed unanswered are whole too
        status, body = read(server, item["name"])
        assert (status, str(len(body))) == (200, item["size"])


def _write_until_killed(
    server: PartProcess, writer: str, answered: dict[str, tuple[str, bytes]], seen: threading.Event
) -> None:
    connection = connect(server)
    number = 0
    while True:
        name = f"{writer}-{number}"
        data = os.urandom(100 if number % 5 else 200_000)  # most inside SQLite, some as files
        try:
            connection.request("POST", f"{UPLOAD}media&name={name}&ifGenerationMatch=0", data)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError):
            connection.close()
            return
        assert response.status == 200, answer
        answered[name] = (answer["generation"], data)
        seen.set()
        number += 1


def test_kill_during_an_upload_leaves_nothing(server: PartProcess, data_dir: Path) -> None:
    """Half an upload is never seen: not before, not after the crash, and its bytes are cleaned away."""
    assert send(server, "POST", f"{UPLOAD}media&name=data", b"old")[0] == 200
    connection = connect(server)
    connection.putrequest("POST", f"{UPLOAD}media&name=data")
    connection.putheader("Content-Length", "50000000")
    connection.endheaders(os.urandom(5_000_000))
    wait_until(lambda: list((data_dir / "incoming").iterdir()), what="the first bytes on disk")
    server.kill()
    connection.close()
    server.start()
    assert read(server, "data") == (200, b"old")
    assert list((data_dir / "incoming").iterdir()) == []
    assert list((data_dir / "contents").glob("*/*")) == []


def test_a_content_without_a_row_is_cleaned_at_start(server: PartProcess, data_dir: Path) -> None:
    """A crash between file and row leaves an orphan; the next start removes it, and only it."""
    data = os.urandom(100_000)
    assert send(server, "POST", f"{UPLOAD}media&name=data", data)[0] == 200
    server.kill()
    (kept,) = (data_dir / "contents").glob("*/*")
    orphan = kept.with_name("f" * 32)
    orphan.write_bytes(b"orphan")
    server.start()
    assert list((data_dir / "contents").glob("*/*")) == [kept]
    assert read(server, "data") == (200, data)


def test_a_resumable_session_goes_on_after_kill(server: PartProcess, data_dir: Path) -> None:
    """What a session acknowledged survives; bytes beyond that are cut off; the upload finishes and agrees."""
    data = os.urandom(3 * STEP_BYTES + 100)
    _, _, begun = send(server, "POST", f"{UPLOAD}resumable&name=data", b"{}")
    location = urlsplit(begun.headers["Location"])
    session = f"{location.path}?{location.query}"
    first = send(server, "PUT", session, data[: 2 * STEP_BYTES], content_range=f"bytes 0-{2 * STEP_BYTES - 1}/*")
    assert first[0] == 308
    server.kill()
    (file,) = (data_dir / "uploads").iterdir()
    with file.open("ab") as torn:
        torn.write(b"never acknowledged")
    server.start()
    status, _, asked = send(server, "PUT", session, b"", content_range="bytes */*")
    assert (status, asked.headers["Range"]) == (308, f"bytes=0-{2 * STEP_BYTES - 1}")
    last_range = f"bytes {2 * STEP_BYTES}-{len(data) - 1}/{len(data)}"
    status, done, _ = send(server, "PUT", session, data[2 * STEP_BYTES :], content_range=last_range)
    assert status == 200
    assert read(server, "data") == (200, data)
    server.kill()
    server.start()
    status, again, _ = send(server, "PUT", session, b"", content_range="bytes */*")
    assert json.loads(again)["generation"] == json.loads(done)["generation"]
    assert list((data_dir / "uploads").iterdir()) == []


def test_events_survive_kill(server: PartProcess, data_dir: Path) -> None:
    """An event whose object was answered is delivered, although the server died before it could."""
    topic = "projects/baton-local/topics/data-ready"
    config = {"topic": f"//pubsub.googleapis.com/{topic}", "payload_format": "JSON_API_V1"}
    made = send(server, "POST", "/storage/v1/b/bucket/notificationConfigs", json.dumps(config).encode())
    assert made[0] == 200
    for number in range(20):
        assert send(server, "POST", f"{UPLOAD}media&name={number}", b"x")[0] == 200
    server.kill()  # no PUBSUB_EMULATOR_HOST was set, so nothing was delivered
    assert "PUBSUB_EMULATOR_HOST is not set" in server.log()
    received: list[str] = []

    async def publish(topic: str, data: bytes, attributes: dict[str, str]) -> str:
        received.append(attributes["objectId"])
        return "id"

    with LoopThread() as loop:
        loop.start(StorageServer(data_dir=data_dir, publish=publish))
        wait_until(lambda: len(received) == 20, what="every event")
        assert sorted(received, key=int) == [str(number) for number in range(20)]
    with sqlite3.connect(data_dir / "storage.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    database.close()
