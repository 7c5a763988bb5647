"""Google's REST APIs without HTTP: the discovery client's shape in front of simulated services.

`service.projects().locations().jobs().list(name=…)` builds a `Request`, `TaskRest.send` carries it over the worker's
network, and the service's handler of that method answers or raises `Refused`.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import httplib2
from googleapiclient.errors import HttpError

from tests.simulation.faults import READ, WRITE
from tests.simulation.network import Network, NoAnswer, Refused
from tests.simulation.scheduler import Scheduler
from workers.errors import TransientError
from workers.google_rest import GoogleRest, _translate

_RETRY_FOR_S = 20.0  # as `workers.google_rest` repeats reads
_READS = ("get", "list", "listVersions", "predict")
Handler = Callable[..., dict[str, Any]]


class Request:
    """A call that was built and not yet sent."""

    __slots__ = ("handler", "is_read", "method", "params")

    def __init__(self, method: str, handler: Handler, params: dict[str, Any]) -> None:
        self.method = method
        self.handler = handler
        self.params = params
        self.is_read = method.rsplit(".", 1)[-1] in _READS


class Resource:
    """One step of the chain that the discovery client offers; its children are made when first asked for."""

    def __init__(self, handlers: dict[str, Handler], path: str = "") -> None:
        self._handlers = handlers
        self._path = path

    def __getattr__(self, name: str) -> Callable[..., Any]:
        path = f"{self._path}.{name}".removeprefix("projects.locations.").removeprefix(".")
        answer: Callable[..., Any]
        if name.endswith("_next"):
            method = path.removesuffix("_next")
            answer = lambda request, page: self._next(method, request, page)  # noqa: E731
        elif path in self._handlers:
            handler = self._handlers[path]
            answer = lambda **params: Request(path, handler, params)  # noqa: E731
        else:
            child = Resource(self._handlers, path)
            answer = lambda: child  # noqa: E731
        self.__dict__[name] = answer
        return answer

    def _next(self, method: str, request: Request, page: dict[str, Any]) -> Request | None:
        token = page.get("nextPageToken")
        return None if token is None else Request(method, request.handler, {**request.params, "pageToken": token})


class TaskRest(GoogleRest):
    """`workers.google_rest.GoogleRest` over a simulated network: `pages` and the errors are the real ones."""

    def __init__(
        self, name: str, service: Resource, network: Network, scheduler: Scheduler, rng: random.Random
    ) -> None:
        super().__init__(name, "")
        self._resource = service
        self._network = network
        self._scheduler = scheduler
        self._random = rng

    @property
    def service(self) -> Any:
        return self._resource

    def read(self, request: Request) -> dict[str, Any]:
        started, wait_s = self._scheduler.now, 0.2
        while True:
            try:
                return self.send(request)
            except TransientError:
                if self._scheduler.now - started > _RETRY_FOR_S:
                    raise
            self._scheduler.sleep(self._random.uniform(0, wait_s))
            wait_s = min(wait_s * 2, 5.0)

    def send(self, request: Request) -> dict[str, Any]:
        try:
            return self._network.call(
                f"{self._name}.{request.method}",
                lambda: request.handler(**request.params),
                READ if request.is_read else WRITE,
            )
        except Refused as fault:
            content = json.dumps({"error": {"code": fault.code, "message": fault.message, "status": fault.status}})
            response = httplib2.Response({"status": fault.code})
            raise _translate(HttpError(response, content.encode(), uri=f"sim:/{request.method}")) from fault
        except NoAnswer as fault:
            raise TransientError(f"{request.method}: no answer", ambiguous=True) from fault


def pages(items: list[dict[str, Any]], key: str, page_token: str | None, page_size: int) -> dict[str, Any]:
    """Return one page of a list, as Google's services do: an empty list is an answer without the key."""
    start = int(page_token or 0)
    answer: dict[str, Any] = {}
    if items[start : start + page_size]:
        answer[key] = items[start : start + page_size]
    if start + page_size < len(items):
        answer["nextPageToken"] = str(start + page_size)
    return answer
