"""Resource names: `projects/P/topics/T` and its kin."""

import re

from localcloud.pubsub.errors import InvalidArgument

DELETED_TOPIC = "_deleted-topic_"

_PROJECT = re.compile(r"projects/[^/\s]+")
_RESOURCE = re.compile(r"projects/([^/\s]+)/([a-z]+)/([A-Za-z][A-Za-z0-9\-_.~+%]{2,254})")


def check(name: str, collection: str, field: str = "name") -> str:
    """The name itself, if it is a well-formed name in the collection (`topics`, `subscriptions`, `snapshots`, `schemas`).

    Raises:
        InvalidArgument: it is not.
    """
    match = _RESOURCE.fullmatch(name)
    if match is None or match[2] != collection or match[3].startswith("goog"):
        raise InvalidArgument(
            f"{field}={name[:300]!r} is not a name of the form projects/PROJECT/{collection}/ID; the ID has 3 to 255 of "
            "the characters A-Za-z0-9-_.~+%, begins with a letter and not with 'goog'."
        )
    return name


def check_project(name: str) -> str:
    """The project itself, if it reads `projects/P`.

    Raises:
        InvalidArgument: it does not.
    """
    if _PROJECT.fullmatch(name) is None:
        raise InvalidArgument(f"project={name[:300]!r} is not of the form projects/PROJECT.")
    return name


def project_of(name: str) -> str:
    """`projects/P` of a checked resource name."""
    return name[: name.index("/", len("projects/"))]
