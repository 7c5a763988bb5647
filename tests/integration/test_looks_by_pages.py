"""What a look at many jobs costs over HTTP: Google's own client, and answers checked against its discovery documents."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.waiting import wait_until
from workers.dataflow import Dataflow
from workers.google_rest import GoogleRest
from workers.record import JobRef
from workers.stage import JobState
from workers.vertex import CustomJobs, Vertex

ROOT = Path(__file__).parents[2]
REGION = "us-central1"


class Service:
    """The jobs service that the bench uses: it holds running jobs without processes, and counts calls."""

    def __init__(self, address: str) -> None:
        self.address = address

    def page(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        place = urlsplit(self.address)
        connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=20)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            assert answer.status == 200
            return dict(json.loads(answer.read()))
        finally:
            connection.close()

    def taken(self) -> dict[str, int]:
        return dict(self.page("GET", "/-/counts")["calls"])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    file = tmp_path / "jobs.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.inflight.jobs", str(file)],
        cwd=ROOT,
        env={**os.environ, "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"},  # nothing is stored here
    )
    try:
        wait_until(file.exists, 30, "the jobs service")
        yield Service(json.loads(file.read_text())["jobs"])
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def vertex(service: Service) -> Iterator[Any]:
    here = Vertex("p", service.address)
    yield CustomJobs(here)
    here.close()


@contextmanager
def dataflow(service: Service) -> Iterator[Any]:
    rest = GoogleRest("dataflow", "v1b3", service.address)
    yield Dataflow(rest, "p")
    rest.close()


@pytest.mark.parametrize(
    ("kind", "provider", "method", "count", "pages"),
    [("vertex", vertex, "customJobs", 250, 3), ("dataflow", dataflow, "jobs", 2500, 3)],
)
def test_a_look_costs_its_pages(
    service: Service, kind: str, provider: Any, method: str, count: int, pages: int
) -> None:
    """However many jobs run: so many calls as the list has pages, and one more for each that has ended."""
    name = "projects/p/locations/us-central1/customJobs/{}" if kind == "vertex" else "2026-01-01_00_00_00-{}"
    refs = [JobRef(id=name.format(n), name=f"p-train-r{n}-a1", kind=kind, location=REGION) for n in range(count)]
    labels = {"baton-run": "r", "baton-stage": "train"}
    service.page(
        "POST", "/-/seed", {"kind": kind, "jobs": [{"id": r.id, "name": r.name, "labels": labels} for r in refs]}
    )
    with provider(service) as jobs:
        statuses = jobs.statuses(refs)
        assert service.taken() == {f"{method}.list": pages}
        assert {status.state for status in statuses.values()} == {JobState.ACTIVE}
        service.page("POST", "/-/end", {"ids": [refs[7].id, refs[100].id]})
        again = jobs.statuses(refs)
    assert service.taken() == {f"{method}.list": 2 * pages, f"{method}.get": 2}
    assert len(again) == count
    ended = {job_id for job_id, status in again.items() if status.state is JobState.SUCCEEDED}
    assert ended == {refs[7].id, refs[100].id}
