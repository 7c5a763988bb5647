"""The one primitive of the ledger: an object store with compare-and-set on an object's generation.

Source: Cloud Storage "request preconditions": `ifGenerationMatch=0` creates only if absent, `=G` replaces only
generation G; the loser gets 412. Cloud Storage also takes about one write a second to one object before it answers 429:
the official client's own retries wait for that, and a retried write with a precondition is safe.
"""

from collections.abc import Iterator
from typing import Protocol

from workers.errors import Conflict
from workers.storage_rest import Content, PreconditionFailed, StorageRest

ABSENT = 0
Versioned = Content


class Objects(Protocol):
    """What the ledger needs of a store; the simulator has one of its own."""

    def read(self, name: str) -> Versioned | None: ...

    def write(self, name: str, content: bytes, *, if_generation: int) -> int: ...

    def delete(self, name: str) -> None: ...

    def list(self, prefix: str) -> Iterator[str]: ...


class StorageObjects:
    """`Objects` on one bucket of Cloud Storage."""

    def __init__(self, storage: StorageRest, bucket: str) -> None:
        self._storage = storage
        self._bucket = bucket

    def read(self, name: str) -> Versioned | None:
        """Return the object, or None where there is none.

        Raises:
            TransientError: the store did not answer.
        """
        return self._storage.read(self._bucket, name)

    def write(self, name: str, content: bytes, *, if_generation: int) -> int:
        """Write the object if it is at `if_generation` (`ABSENT` = must not exist); return the new generation.

        Raises:
            Conflict: it is at another generation.
            TransientError: the store did not answer; the write may have happened.
        """
        try:
            return self._storage.write(self._bucket, name, content, if_generation=if_generation)
        except PreconditionFailed as fault:
            raise Conflict(name, if_generation) from fault

    def delete(self, name: str) -> None:
        """Delete the object; that it is gone already is as good."""
        self._storage.delete(self._bucket, name)

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the names of all objects under `prefix`."""
        return self._storage.list(self._bucket, prefix)
