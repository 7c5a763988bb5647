"""Names, ids, labels and times as Google's job services write them, and the checks the discovery documents leave out."""

import re
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from localcloud.rest import ApiError

Clock = Callable[[], int]  # microseconds since 1970, UTC

MAX_LABELS = 64
MAX_DISPLAY_NAME = 128
_DATAFLOW_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
_ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}|0")
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_DEPLOYED_ID = re.compile(r"[0-9]{1,10}")
_ALIAS = re.compile(r"[a-z]([a-zA-Z0-9-]{0,126}[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RESOURCE = re.compile(r"projects/([^/]+)/locations/([^/]+)(?:/(.+))?")
_BASE_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def wall_clock() -> Clock:
    """Return a clock that never gives the same microsecond twice, so that create times order what was created."""
    last = 0

    def now() -> int:
        nonlocal last
        last = max(time.time_ns() // 1000, last + 1)
        return last

    return now


def timestamp(microseconds: int) -> str:
    """RFC 3339 in UTC with microseconds, as the services answer it."""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06d}Z"


def parse_timestamp(text: str) -> int:
    """Microseconds of an RFC 3339 text, already checked for its form; digits past microseconds are cut."""
    cut = re.sub(r"(\.\d{6})\d+", r"\1", text.upper().replace("Z", "+00:00"))
    delta = datetime.fromisoformat(cut) - _BASE_TIME
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def duration_s(text: str) -> float:
    """Seconds of a JSON Duration, already checked for its form: "3.5s" -> 3.5."""
    return float(text[:-1])


def new_number() -> str:
    """A fresh 19-digit id, as Vertex AI gives to jobs, models and operations."""
    return str(10**18 + secrets.randbelow(8 * 10**18))


def dataflow_job_id(microseconds: int) -> str:
    """`2026-11-21_01_02_03-1234567890123456789`: the time of creation and a random number."""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{moment:%Y-%m-%d_%H_%M_%S}-{new_number()}"


def location_of(resource: str) -> str:
    """`projects/p/locations/l` of a resource name that matched its pattern."""
    found = _RESOURCE.fullmatch(resource)
    if found is None:
        raise ApiError(400, "INVALID_ARGUMENT", f"Invalid resource name: {resource!r}.")
    return f"projects/{found[1]}/locations/{found[2]}"


def project_of(resource: str) -> str:
    """The project of a resource name."""
    return resource.split("/")[1]


def last_of(resource: str) -> str:
    """The last segment of a resource name."""
    return resource.rpartition("/")[2]


def check_dataflow_name(name: str) -> None:
    """Refuse a Dataflow job name the service would refuse."""
    if _DATAFLOW_NAME.fullmatch(name) is None:
        raise invalid(
            f"Invalid job name {name!r}: the name must consist of only the characters [-a-z0-9], starting with a letter "
            "and ending with a letter or number, at most 1024 of them."
        )


def check_display_name(name: str, place: str) -> None:
    """Refuse a display name past 128 characters."""
    if len(name) > MAX_DISPLAY_NAME:
        raise invalid(f"{place}: the display name has {len(name)} characters; at most {MAX_DISPLAY_NAME} are allowed.")


def check_labels(labels: Mapping[str, str], place: str) -> None:
    """Refuse labels the services would refuse: at most 64; keys start with a letter; lower case, digits, _ and -."""
    if len(labels) > MAX_LABELS:
        raise invalid(f"{place}: {len(labels)} labels are too many; at most {MAX_LABELS} are allowed.")
    for key, value in labels.items():
        if not (0 < len(key) <= 63 and key[0].isalpha() and _is_label(key)):
            raise invalid(
                f"{place}: label key {key!r} is invalid; use 1 to 63 lower-case letters, digits, _ or -, "
                "beginning with a letter."
            )
        if not (len(value) <= 63 and _is_label(value)):
            raise invalid(
                f"{place}: the value {value!r} of label {key!r} is invalid; use at most 63 lower-case letters, digits, "
                "_ or -."
            )


def check_endpoint_id(endpoint_id: str) -> None:
    """Refuse an endpoint id that is neither letters-first (63) nor a number of at most 9 digits."""
    if _ENDPOINT_ID.fullmatch(endpoint_id) is None:
        raise invalid(
            f"Invalid endpoint_id {endpoint_id!r}: use up to 63 of [a-z0-9-] beginning with a letter and ending with a "
            "letter or digit, or up to 9 digits without leading zeros."
        )


def check_model_id(model_id: str) -> None:
    """Refuse a model id outside [a-z0-9_-]{1,63}, or one beginning with a digit or hyphen."""
    if _MODEL_ID.fullmatch(model_id) is None:
        raise invalid(
            f"Invalid model_id {model_id!r}: use up to 63 of [a-z0-9_-]; the first may not be a number or a hyphen."
        )


def check_deployed_id(deployed_id: str) -> None:
    """Refuse a chosen DeployedModel id that is not 1 to 10 digits."""
    if _DEPLOYED_ID.fullmatch(deployed_id) is None or deployed_id == "0":
        raise invalid(
            f"Invalid deployed_model.id {deployed_id!r}: use 1 to 10 digits, and not 0, which a traffic split reads as "
            "the model being deployed."
        )


def check_alias(alias: str) -> None:
    """Refuse a version alias that could be taken for a version id."""
    if _ALIAS.fullmatch(alias) is None:
        raise invalid(f"Invalid version alias {alias!r}: it must match [a-z][a-zA-Z0-9-]{{0,126}}[a-z0-9].")


def check_env(items: list[dict[str, Any]], place: str, limit: int) -> dict[str, str]:
    """Turn `[{name, value}]` into a mapping; refuse what no process environment can hold, and Vertex's own names."""
    if len(items) > limit:
        raise invalid(f"{place}: {len(items)} variables are too many; at most {limit} are allowed.")
    env: dict[str, str] = {}
    for item in items:
        name = item["name"]
        if _ENV_NAME.fullmatch(name) is None:
            raise invalid(f"{place}: {name!r} is no name for an environment variable; use [A-Za-z_][A-Za-z0-9_.-]*.")
        if name.startswith("AIP_"):
            raise invalid(f"{place}: {name!r} is reserved; names that begin with AIP_ are set by Vertex AI.")
        env[name] = item.get("value", "")
    return env


def check_text(values: list[str], place: str) -> None:
    """Refuse arguments no process can be given."""
    for value in values:
        if "\0" in value:
            raise invalid(f"{place}: {value[:40]!r} contains a NUL character.")


def invalid(message: str) -> ApiError:
    """400 INVALID_ARGUMENT."""
    return ApiError(400, "INVALID_ARGUMENT", message, "badRequest")


def not_found(resource: str) -> ApiError:
    """404 NOT_FOUND, naming the resource."""
    return ApiError(404, "NOT_FOUND", f"The resource {resource!r} was not found.", "notFound")


def precondition(message: str) -> ApiError:
    """400 FAILED_PRECONDITION, as Vertex AI maps it."""
    return ApiError(400, "FAILED_PRECONDITION", message, "failedPrecondition")


def _is_label(text: str) -> bool:
    # "International characters are allowed": any letter without an upper case.
    return all((c.isalpha() and c == c.lower()) or c.isdecimal() or c in "_-" for c in text)
