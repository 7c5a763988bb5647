"""Services by path: methods are registered by name over plain message classes."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from localcloud.pubsub import wire
from localcloud.pubsub.transport import Call
from localcloud.pubsub.transport.status import Method

Unary = Callable[[Any, Any], Awaitable[Any]]
Stream = Callable[[Call], Awaitable[None]]


class Methods:
    """All methods of one service.

    Args:
        service: full name, such as `google.pubsub.v1.Publisher`.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._methods: dict[str, Method] = {}

    def __iter__(self) -> Iterator[tuple[str, Method]]:
        return iter(self._methods.items())

    def unary(self, name: str, request: str, method: Unary) -> None:
        """Register a method that answers a message, or its serialised bytes."""
        self.unary_as(name, wire.message_class(request), method)

    def unary_as(self, name: str, request_class: Any, method: Unary) -> None:
        """Register a method whose request is not of google.pubsub.v1."""

        async def call(request: Any, context: Call) -> bytes:
            response = await method(request, context)
            return response if isinstance(response, bytes) else bytes(response.SerializeToString())

        self._add(name, Method(f"{self._service}.{name}", False, request_class.FromString, call))

    def stream(self, name: str, method: Stream) -> None:
        """Register a method that reads from and writes to its call."""

        async def call(request: None, context: Call) -> bytes:
            await method(context)
            return b""

        self._add(name, Method(f"{self._service}.{name}", True, bytes, call))

    def _add(self, name: str, method: Method) -> None:
        self._methods[f"/{self._service}/{name}"] = method
