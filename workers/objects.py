"""The one primitive of the ledger: an object store with compare-and-set on an object's generation.

Source: Cloud Storage "request preconditions": `ifGenerationMatch=0` creates only if absent, `=G` replaces only
generation G; the loser gets 412. Cloud Storage also takes about one write a second to one object before it answers 429:
the official client's own retries wait for that, and a retried write with a precondition is safe.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from google.api_core import exceptions as google_errors
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from workers.errors import Conflict, TransientError

ABSENT = 0
# A request that takes longer is a fault of its own: the message is given back and comes again.
_RETRY = DEFAULT_RETRY.with_timeout(30.0)
_TRANSIENT = (google_errors.GoogleAPICallError, google_errors.RetryError, ConnectionError, OSError)


class Versioned(NamedTuple):
    """An object's bytes and the generation they were read at."""

    content: bytes
    generation: int


class Objects(Protocol):
    """What the ledger needs of a store; the simulator has one of its own."""

    def read(self, name: str) -> Versioned | None: ...

    def write(self, name: str, content: bytes, *, if_generation: int) -> int: ...

    def delete(self, name: str) -> None: ...

    def list(self, prefix: str) -> Iterator[str]: ...


class StorageObjects:
    """`Objects` on one bucket of Cloud Storage.

    Args:
        client: a `google.cloud.storage.Client`.
        bucket: the bucket's name.
    """

    def __init__(self, client: storage.Client, bucket: str) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)

    def read(self, name: str) -> Versioned | None:
        """Return the object, or None where there is none.

        Raises:
            TransientError: the store did not answer.
        """
        blob = self._bucket.blob(name)
        try:
            content: bytes = blob.download_as_bytes(retry=_RETRY, timeout=20, raw_download=True, checksum=None)
        except google_errors.NotFound:
            return None
        except _TRANSIENT as fault:
            raise TransientError(f"cannot read {self._place(name)}: {fault}") from fault
        # The download's own header names the generation of just these bytes; asking separately could name a later one.
        return Versioned(content, int(blob.generation or 0))

    def write(self, name: str, content: bytes, *, if_generation: int) -> int:
        """Write the object if it is at `if_generation` (`ABSENT` = must not exist); return the new generation.

        Raises:
            Conflict: it is at another generation.
            TransientError: the store did not answer; the write may have happened.
        """
        blob = self._bucket.blob(name)
        try:
            blob.upload_from_string(
                content,
                content_type="application/json",
                if_generation_match=if_generation,
                retry=_RETRY,
                timeout=20,
                checksum=None,
            )
        except google_errors.PreconditionFailed as fault:
            raise Conflict(name, if_generation) from fault
        except _TRANSIENT as fault:
            raise TransientError(f"cannot write {self._place(name)}: {fault}", ambiguous=True) from fault
        return int(blob.generation or 0)

    def delete(self, name: str) -> None:
        """Delete the object; that it is gone already is as good."""
        try:
            self._bucket.blob(name).delete(retry=_RETRY, timeout=20)
        except google_errors.NotFound:
            return
        except _TRANSIENT as fault:
            raise TransientError(f"cannot delete {self._place(name)}: {fault}") from fault

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the names of all objects under `prefix`."""
        try:
            pages: Any = self._client.list_blobs(
                self._bucket, prefix=prefix, fields="items(name),nextPageToken", retry=_RETRY
            )
            for blob in pages:
                yield blob.name
        except _TRANSIENT as fault:
            raise TransientError(f"cannot list {self._place(prefix)}: {fault}") from fault

    def _place(self, name: str) -> str:
        return f"gs://{self._bucket.name}/{name}"
