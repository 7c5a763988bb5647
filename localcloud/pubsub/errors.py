"""What the broker refuses, with the status code the service would use.

PubSubError
├── InvalidArgument      the request can never succeed as it stands
├── NotFound             the named resource is missing
├── AlreadyExists        the name is taken
├── FailedPrecondition   right request, wrong state of the resource
├── OutOfRange           a number outside what the service allows, where the service says so
├── Unavailable          try again: the disk refused, or the broker is stopping
├── Unimplemented        part of Google's surface that this broker does not offer
└── AckFailure           exactly-once: some ack ids failed, each with its reason
"""

from typing import Any

from localcloud.pubsub.transport.status import Refusal, Status

_DOMAIN = "pubsub.googleapis.com"
_ERROR_INFO_URL = "type.googleapis.com/google.rpc.ErrorInfo"


class PubSubError(Refusal):
    """A refusal with a gRPC status."""

    code = Status.INTERNAL


class InvalidArgument(PubSubError):
    """The request can never succeed as it stands."""

    code = Status.INVALID_ARGUMENT


class NotFound(PubSubError):
    """The named resource is missing."""

    code = Status.NOT_FOUND


class AlreadyExists(PubSubError):
    """The name is taken."""

    code = Status.ALREADY_EXISTS


class FailedPrecondition(PubSubError):
    """The resource is in the wrong state for this request."""

    code = Status.FAILED_PRECONDITION


class OutOfRange(PubSubError):
    """A number outside what the service allows."""

    code = Status.OUT_OF_RANGE


class Unavailable(PubSubError):
    """Nothing was kept; the same request may succeed later."""

    code = Status.UNAVAILABLE


class Unimplemented(PubSubError):
    """Part of Google's surface that this broker does not offer."""

    code = Status.UNIMPLEMENTED


class AckFailure(PubSubError):
    """Exactly-once: some ack ids of the request failed; the others took effect.

    Args:
        failures: reason by ack id: `PERMANENT_FAILURE_…` or `TRANSIENT_FAILURE_…` (the client retries the latter).
    """

    code = Status.INVALID_ARGUMENT

    def __init__(self, failures: dict[str, str]) -> None:
        super().__init__(
            f"{len(failures)} ack ids could not be processed, the first is {next(iter(failures))!r}; "
            "their reasons are in the ErrorInfo details."
        )
        self.failures = failures

    def details(self) -> bytes:
        """google.rpc.Status holding one ErrorInfo, the form which the clients read ack results from."""
        from google.rpc import error_details_pb2, status_pb2

        info = error_details_pb2.ErrorInfo(reason="EXACTLY_ONCE_ACKID_FAILURE", domain=_DOMAIN, metadata=self.failures)
        status: Any = status_pb2.Status(code=int(self.code), message=str(self))
        status.details.add(type_url=_ERROR_INFO_URL, value=info.SerializeToString())
        return bytes(status.SerializeToString())
