"""gRPC by path: methods are registered by name over plain message classes, for the client ships no servicer of its own."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from localcloud.pubsub import wire
from localcloud.pubsub.errors import PubSubError, Unimplemented

_LOG = logging.getLogger(__name__)

Unary = Callable[[Any, Any], Awaitable[Any]]
Stream = Callable[[Any, Any], Awaitable[None]]


def _serialise(response: Any) -> bytes:
    return response if isinstance(response, bytes) else bytes(response.SerializeToString())


class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """All methods of one service.

    Args:
        service: full name, such as `google.pubsub.v1.Publisher`.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._handlers: dict[str, Any] = {}

    def unary(self, name: str, request: str, method: Unary) -> None:
        """Register a method that answers a message, or its serialised bytes."""
        self.unary_as(name, wire.message_class(request), method)

    def unary_as(self, name: str, request_class: Any, method: Unary) -> None:
        """Register a method whose request is not of google.pubsub.v1."""
        self._handlers[f"/{self._service}/{name}"] = grpc.unary_unary_rpc_method_handler(
            _guarded(f"{self._service}.{name}", method),
            request_deserializer=request_class.FromString,
            response_serializer=_serialise,
        )

    def stream(self, name: str, request: str, method: Stream) -> None:
        """Register a method that reads from and writes to its context."""
        self._handlers[f"/{self._service}/{name}"] = grpc.stream_stream_rpc_method_handler(
            _guarded(f"{self._service}.{name}", method),
            request_deserializer=wire.message_class(request).FromString,
            response_serializer=_serialise,
        )

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a path; for unknown methods of this service, one that says so."""
        path = handler_call_details.method
        handler = self._handlers.get(path)
        if handler is None and path.startswith(f"/{self._service}/"):
            return grpc.unary_unary_rpc_method_handler(_refusal(path.removeprefix("/").replace("/", ".")))
        return handler


class Refused(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A service of which nothing is offered: every method answers UNIMPLEMENTED and names itself."""

    def __init__(self, service: str) -> None:
        self._prefix = f"/{service}/"

    def service(self, handler_call_details: Any) -> Any:
        """The refusing handler, for this service's paths only."""
        path = handler_call_details.method
        if not path.startswith(self._prefix):
            return None
        return grpc.unary_unary_rpc_method_handler(_refusal(path.removeprefix("/").replace("/", ".")))


def _refusal(name: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def refuse(request: bytes, context: Any) -> bytes:
        raise Unimplemented(f"{name} is not offered by this local Pub/Sub.")

    return _guarded(name, refuse)


def _guarded(name: str, method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """The method with its refusals turned into gRPC statuses."""

    async def call(request: Any, context: Any) -> Any:
        try:
            return await method(request, context)
        except PubSubError as error:
            await context.abort(error.code, str(error), error.trailing_metadata())
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001 - the last line of defence: logged with its traceback, answered INTERNAL
            _LOG.exception("a request failed", extra={"action": "request_failed", "method": name})
            await context.abort(
                grpc.StatusCode.INTERNAL, f"{name} failed inside the broker; its log has the traceback."
            )

    return call
