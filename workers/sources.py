"""Reads small objects that events point to: trigger files, manifests, metrics."""

import json
from typing import Any, Protocol
from urllib.parse import urlsplit

from workers.errors import BadOutput
from workers.storage_rest import StorageRest

MAX_BYTES = 8_000_000  # manifests and metrics are kilobytes; nothing an event names may fill a worker's memory


class Sources(Protocol):
    """Objects anywhere in Cloud Storage; the simulator has one of its own."""

    def read(self, bucket: str, name: str, generation: int | None = None) -> bytes | None: ...


class StorageSources:
    """`Sources` on Google's client."""

    def __init__(self, storage: StorageRest) -> None:
        self._storage = storage

    def read(self, bucket: str, name: str, generation: int | None = None) -> bytes | None:
        """Return the object's first `MAX_BYTES`, or None where it (or its bucket) is not there.

        Raises:
            TransientError: the store did not answer.
        """
        found = self._storage.read(bucket, name, generation=generation, limit_bytes=MAX_BYTES)
        return None if found is None else found.content


def read_json(sources: Sources, uri: str, *, wrote: str) -> dict[str, Any]:
    """Read the JSON object at `uri`, which the job `wrote` should have left.

    Raises:
        BadOutput: it is not there or no JSON object.
    """
    bucket, name = split_uri(uri)
    content = sources.read(bucket, name)
    if content is None:
        raise BadOutput(f"{uri} is not there although {wrote} succeeded", "look into the job's log", retry=True)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as fault:  # brackets in thousands are JSON, but nobody can read them
        raise BadOutput(f"{uri} is not JSON ({fault})", f"mend what {wrote} writes", retry=True) from fault
    if not isinstance(body, dict):
        raise BadOutput(f"{uri} holds {type(body).__name__}, not an object", f"mend what {wrote} writes")
    return body


def split_uri(uri: str) -> tuple[str, str]:
    """Split `gs://bucket/name`.

    Raises:
        BadOutput: it is no such URI.
    """
    parts = urlsplit(uri, allow_fragments=False)
    if parts.scheme != "gs" or not parts.netloc or not parts.path.strip("/"):
        raise BadOutput(f"{uri!r} names no object in Cloud Storage", "give a URI like gs://bucket/path")
    return parts.netloc, parts.path.lstrip("/")
