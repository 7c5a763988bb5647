"""A project of Vertex AI in memory: the phases' requests are calls of a service that a test writes."""

from collections.abc import Callable, Iterator
from typing import Any

from workers.vertex import Vertex

Call = Callable[[], Any]


class _Rest:
    """`GoogleRest` whose requests are calls."""

    def send(self, request: Call) -> Any:
        return request()

    read = send

    def pages(self, request: Call, _next: Any, _items: str) -> Iterator[dict[str, Any]]:
        yield from request()


class _Collection:
    """`endpoints.patch(...)` becomes the call `service.endpoints_patch(...)`; a list comes whole, on one page."""

    def __init__(self, service: object, name: str) -> None:
        self._service, self._name = service, name

    def __getattr__(self, method: str) -> Any:
        if method.endswith("_next"):
            return None
        if method == "operations":
            return lambda: _Collection(self._service, f"{self._name}_operations")
        return lambda **params: lambda: getattr(self._service, f"{self._name}_{method}")(**params)


class _Locations:
    def __init__(self, service: object) -> None:
        self._service = service

    def __getattr__(self, collection: str) -> Any:
        return lambda: _Collection(self._service, collection)


class Project(Vertex):
    """`Vertex` on the service, an object with a method `<collection>_<method>` for each call."""

    def __init__(self, service: object) -> None:
        super().__init__("p")
        self.service = service

    def rest(self, location: str) -> Any:
        return _Rest()

    def locations(self, location: str) -> Any:
        return _Locations(self.service)
