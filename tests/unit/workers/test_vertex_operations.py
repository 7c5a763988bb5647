"""Requests about long-running operations are built by Google's own discovery client, which refuses what the API lacks."""

from typing import Any

import pytest

from workers.google_rest import GoogleRest
from workers.record import JobRef
from workers.vertex import Operations, Vertex

PLACE = "projects/p/locations/us-central1"


@pytest.mark.parametrize("owner", ["", "/models/quick", "/endpoints/quick"], ids=["location", "model", "endpoint"])
def test_an_operation_is_cancelled_where_it_belongs(monkeypatch: pytest.MonkeyPatch, owner: str) -> None:
    """An upload, a deployment and an endpoint's creation are stopped through their own collection."""
    sent: list[Any] = []
    monkeypatch.setattr(GoogleRest, "send", lambda _rest, request: sent.append(request) or {})
    name = f"{PLACE}{owner}/operations/1"
    operations = Operations(Vertex("p", "http://127.0.0.1:1"))
    operations.cancel(JobRef(id=name, name="n", kind=Operations.KIND, location="us-central1"))
    assert [(request.method, request.uri.partition("?")[0]) for request in sent] == [
        ("POST", f"http://127.0.0.1:1/v1/{name}:cancel")
    ]
