"""Endpoints on record."""

from pathlib import Path

from localcloud.jobs.endpoint_registry import EndpointRegistry, view
from localcloud.jobs.store import Store

NAME = "projects/p/locations/l/endpoints/served"


def test_an_etag_never_comes_again(tmp_path: Path) -> None:
    """Two changes within a microsecond, or a clock that is set back: who read before the change is told apart."""
    times = iter([1_000, 1_000, 1_000, 400, 2_000])
    store = Store(tmp_path)
    registry = EndpointRegistry(store, lambda: next(times))
    endpoint = registry.add(NAME, {"displayName": "served"})
    etags = [view(endpoint)["etag"]]
    for _ in range(4):
        endpoint = registry.change(endpoint, trafficSplit={})
        etags.append(view(registry.find(NAME))["etag"])
    assert etags == ["1000", "1001", "1002", "1003", "2000"]
    store.close()
