"""The storage server's refusals, in the words Cloud Storage uses where they are known."""

from localcloud.rest import ApiError


def invalid(message: str) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, "INVALID_ARGUMENT", message, "invalid")


def not_implemented(message: str) -> ApiError:
    """501: the cloud can do this, the local cloud can't."""
    return ApiError(501, "UNIMPLEMENTED", message, "notImplemented")


def bucket_not_found(bucket: str) -> ApiError:
    """404 for a bucket."""
    return ApiError(404, "NOT_FOUND", f"The specified bucket does not exist: {bucket}", "notFound")


def object_not_found(bucket: str, name: str, generation: int | None = None) -> ApiError:
    """404 for an object, or for one generation of it."""
    suffix = "" if generation is None else f"#{generation}"
    return ApiError(404, "NOT_FOUND", f"No such object: {bucket}/{name}{suffix}", "notFound")


def not_found(message: str) -> ApiError:
    """404 for anything else."""
    return ApiError(404, "NOT_FOUND", message, "notFound")


def conflict(message: str) -> ApiError:
    """409: it exists already, or is in use."""
    return ApiError(409, "ALREADY_EXISTS", message, "conflict")


def condition_not_met(condition: str) -> ApiError:
    """412: a precondition did not hold; `condition` says which, and what was found instead."""
    message = f"At least one of the pre-conditions you specified did not hold. {condition}"
    return ApiError(412, "FAILED_PRECONDITION", message, "conditionNotMet")


def not_modified(condition: str) -> ApiError:
    """304: a reader has it already, or a ...NotMatch precondition met what it was not to meet. It has no body."""
    return ApiError(304, "FAILED_PRECONDITION", f"Not modified: {condition}.", "notModified")


def range_not_satisfiable(size_bytes: int) -> ApiError:
    """416: the range begins behind the end."""
    message = f"The requested range cannot be satisfied: the object has {size_bytes} bytes."
    return ApiError(416, "OUT_OF_RANGE", message, "requestedRangeNotSatisfiable")


def forbidden(message: str) -> ApiError:
    """403: a hold or a policy forbids it."""
    return ApiError(403, "PERMISSION_DENIED", message, "forbidden")
