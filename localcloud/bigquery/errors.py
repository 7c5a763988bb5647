"""The errors of the local BigQuery, each with the HTTP code and the `reason` that Google's clients switch on.

    BigQueryError
    ├── Invalid             400 invalid            a value that BigQuery does not take
    ├── InvalidQuery        400 invalidQuery       GoogleSQL that does not parse, bind or run
    ├── NotFound            404 notFound           a dataset, table or job that is not there
    ├── AlreadyExists       409 duplicate          the name is taken (a job id: the job was accepted before)
    ├── ConditionFailed     412 conditionNotMet    If-Match with an old etag
    ├── ResourceInUse       400 resourceInUse      a dataset that still holds tables
    ├── Stopped             499 stopped            the job was cancelled
    ├── Unsupported         501 notImplemented     BigQuery can, this stand-in cannot: said by name, never swallowed
    └── BackendFailed       503 backendError       our own trouble (disk, a gs:// address that does not answer)

The same error is an HTTP answer when it meets a request, and a job's `status.errorResult` when it meets a job.
"""

from __future__ import annotations

from typing import Any

from localcloud.rest import ApiError


class BigQueryError(Exception):
    """Base: `code` is HTTP's, `reason` is BigQuery's, `location` says where (a column, a file, `query`)."""

    code = 500
    reason = "internalError"

    def __init__(self, message: str, *, location: str = "", also: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.also = also or []

    def proto(self) -> dict[str, str]:
        """The `ErrorProto` of a job's status."""
        proto = {"reason": self.reason, "message": self.message}
        if self.location:
            proto["location"] = self.location
        return proto

    def protos(self) -> list[dict[str, str]]:
        """The `status.errors` of a job: this one first, then the details (one per bad row, say)."""
        return [self.proto(), *self.also]

    def api_error(self) -> ApiError:
        """The HTTP answer."""
        return _BigQueryApiError(self)


class Invalid(BigQueryError):
    """A value that BigQuery does not take."""

    code = 400
    reason = "invalid"


class InvalidQuery(BigQueryError):
    """GoogleSQL that does not parse, bind or run."""

    code = 400
    reason = "invalidQuery"

    def __init__(self, message: str, *, location: str = "query") -> None:
        super().__init__(message, location=location)


class NotFound(BigQueryError):
    """A dataset, table or job that is not there."""

    code = 404
    reason = "notFound"


class AlreadyExists(BigQueryError):
    """The name is taken."""

    code = 409
    reason = "duplicate"


class ConditionFailed(BigQueryError):
    """The resource changed since the caller read it."""

    code = 412
    reason = "conditionNotMet"


class ResourceInUse(BigQueryError):
    """The resource cannot go while others live in it."""

    code = 400
    reason = "resourceInUse"


class Stopped(BigQueryError):
    """The job was cancelled, or ran past its time."""

    code = 499
    reason = "stopped"


class Unsupported(BigQueryError):
    """BigQuery can do this; its local stand-in cannot, and says so."""

    code = 501
    reason = "notImplemented"


class BackendFailed(BigQueryError):
    """Trouble on our side."""

    code = 503
    reason = "backendError"


class _BigQueryApiError(ApiError):
    """`rest.ApiError` with the `location` that BigQuery adds to its errors."""

    def __init__(self, error: BigQueryError) -> None:
        super().__init__(error.code, "", error.message, error.reason)
        self._location = error.location

    def body(self) -> dict[str, Any]:
        body = super().body()
        if self._location:
            for one in body["error"]["errors"]:
                one["location"] = self._location
                one["locationType"] = "other"
        return body


def classify(error: Exception) -> BigQueryError:
    """Turn what a job's or a call's body raised into the error that the caller sees; unknown ones are ours."""
    if isinstance(error, BigQueryError):
        return error
    name = type(error).__name__
    if name == "InterruptException":
        return Stopped("Job execution was cancelled: User requested cancellation")
    return BackendFailed(
        f"The local BigQuery failed with {name}: {error}. This is its own fault, not the caller's; its log tells more."
    )
