"""gRPC's status codes, and methods as the transport sees them."""

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any, NamedTuple


class Status(IntEnum):
    """Source: grpc/doc/statuscodes.md."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Refusal(Exception):
    """A call ends with a status other than OK."""

    code = Status.INTERNAL

    def details(self) -> bytes:
        """Serialised google.rpc.Status for `grpc-status-details-bin`; empty for none."""
        return b""


class Method(NamedTuple):
    """One method of a service."""

    name: str
    is_stream: bool
    """Whether both sides stream; else one request has one answer."""
    parse: Callable[[bytes], Any]
    """Reads a request message; raises google.protobuf.message.DecodeError."""
    call: Callable[[Any, Any], Awaitable[bytes]]
    """Takes (request, `Call`) and answers a serialised message; of a stream method, (None, `Call`) and nothing."""
