"""A jobs service to test, asked by the stock discovery client; its images are tiny shell and Python programs."""

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from googleapiclient.discovery import build

from localcloud.faults import Faults
from localcloud.jobs import JobsServer
from localcloud.jobs.images import Image, Images
from localcloud.storage import StorageServer
from tests.support.loop_thread import LoopThread
from tests.support.waiting import wait_until

PROJECT = "baton-local"
REGION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
TERMINAL = ("DONE", "SUCCEEDED", "FAILED", "CANCELLED")
_count = itertools.count()

# A model server that says who it is; it dies of a POST whose body is "die", and refuses instances it is told to refuse.
SERVER = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def answer(self, status, body):
        self.send_response(status); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        self.answer(200 if self.path == os.environ["AIP_HEALTH_ROUTE"] else 404, b"{}")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if b"die" in body: os._exit(9)
        if b"refuse" in body: return self.answer(400, b'{"error": "mother_age is missing"}')
        if b"nonsense" in body: return self.answer(200, b"nonsense")
        if self.path != os.environ["AIP_PREDICT_ROUTE"]: return self.answer(404, b"{}")
        aip = {k: v for k, v in os.environ.items() if k.startswith("AIP_") or k == "GREETING"}; aip["PID"] = os.getpid()
        self.answer(200, json.dumps({"predictions": [aip] * body.count(b"x")}).encode())
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""
# Prints its arguments and environment as one line of JSON.
SHOW = "import json, os, sys; print(json.dumps({'argv': sys.argv[1:], 'env': dict(os.environ), 'cwd': os.getcwd()}))"


def images(folder: Path) -> Images:
    """Images of the tests: `shell` runs its first argument as a script."""
    (folder / "server.py").write_text(SERVER, encoding="utf-8")
    python = sys.executable
    return Images(
        {
            "noop": Image(("/bin/true",)),
            "shell": Image(("/bin/sh", "-c")),
            "fail": Image(("/bin/sh", "-c", "echo it broke at row 7; exit 3")),
            "sleep": Image(("/bin/sh", "-c", "sleep 600")),
            "show": Image((python, "-c", SHOW), env={"FROM_IMAGE": "yes"}),
            "server": Image((python, "-S", str(folder / "server.py"))),
        },
        "images.toml",
    )


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def storage_address(loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> str:
    async def publish(topic: str, data: bytes, attributes: dict[str, str]) -> str:
        raise AssertionError(f"nothing is published here, but {topic} was")

    port = loop.start(StorageServer(data_dir=tmp_path_factory.mktemp("storage"), publish=publish))
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def bucket(storage_address: str) -> storage.Bucket:
    client = storage.Client(
        project=PROJECT, credentials=AnonymousCredentials(), client_options={"api_endpoint": storage_address}
    )
    return client.create_bucket("job-tests")


@pytest.fixture(scope="module")
def faults() -> Faults:
    return Faults()


@pytest.fixture(scope="module")
def port(
    loop: LoopThread, storage_address: str, faults: Faults, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    server = JobsServer(
        data_dir=tmp_path_factory.mktemp("jobs"),
        images=images(tmp_path_factory.mktemp("images")),
        endpoints={"STORAGE_EMULATOR_HOST": storage_address, "GOOGLE_CLOUD_PROJECT": PROJECT},
        max_parallel_jobs=8,
        kill_grace_s=0.3,
        faults=faults,
    )
    yield loop.start(server)
    loop.stop(server)


@contextlib.contextmanager
def client(api: str, version: str, port: int) -> Iterator[Any]:
    """The stock client of an API, at our address."""
    service = build(
        api,
        version,
        static_discovery=True,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": f"http://127.0.0.1:{port}"},
    )
    with contextlib.closing(service):
        yield service


@pytest.fixture
def dataflow(port: int) -> Iterator[Any]:
    with client("dataflow", "v1b3", port) as service:
        yield service.projects().locations()


@pytest.fixture
def vertex(port: int) -> Iterator[Any]:
    with client("aiplatform", "v1", port) as service:
        yield service.projects().locations()


@pytest.fixture
def cloud_logging(port: int) -> Iterator[Any]:
    with client("logging", "v2", port) as service:
        yield service.entries()


@pytest.fixture
def name() -> str:
    """A name no other test uses."""
    return f"job-{next(_count)}"


def custom_job(name: str, *script: str, **container: Any) -> dict[str, Any]:
    """A custom job that runs a shell script."""
    spec = {"imageUri": "us-docker.pkg.dev/p/r/shell:v1", "args": list(script), **container}
    pool = {"machineSpec": {"machineType": "n1-standard-4"}, "replicaCount": "1", "containerSpec": spec}
    return {"displayName": name, "labels": {"run": name}, "jobSpec": {"workerPoolSpecs": [pool]}}


def finished(get: Callable[[], dict[str, Any]], timeout_s: float = 15.0) -> dict[str, Any]:
    """Wait for a job's terminal state and return the job."""

    def look() -> dict[str, Any] | None:
        job = get()
        state = job.get("state") or job.get("currentState", "")
        return job if state.endswith(TERMINAL) else None

    found = wait_until(look, timeout_s=timeout_s, what="the job's end")
    assert found is not None
    return found
