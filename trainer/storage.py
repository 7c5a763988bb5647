"""Read and write the files of one directory, on a disk or in a bucket, without TensorFlow.

TensorFlow's own gs:// support has Google's host compiled in and cannot be pointed at a local bucket, so every file goes
through google-cloud-storage, which honours STORAGE_EMULATOR_HOST. A write is atomic in both places: another reader sees
the whole file or the one before it, also when this process is killed half-way.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from trainer.errors import StorageError


class Directory(Protocol):
    """A flat name space of files; names may contain slashes."""

    uri: str

    def read(self, name: str) -> bytes:
        """The file's bytes.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a file, atomically."""

    def names(self, prefix: str) -> list[str]:
        """The names that start with `prefix`, sorted."""

    def delete(self, name: str) -> None:
        """Remove a file; one that is already gone is no error."""


def open_directory(uri: str) -> Directory:
    """The directory at a local path or gs:// URI; it need not exist yet.

    Raises:
        StorageError: the URI has another scheme, or no bucket.
    """
    if uri.startswith("gs://"):
        return BucketDirectory(uri)
    if "://" in uri:
        raise StorageError(
            "this kind of address is not supported", value=uri, place="directory", mend="use gs:// or a local path"
        )
    return LocalDirectory(Path(uri))


def write_tree(source: Path, target: Directory) -> list[str]:
    """Copy every file below a local directory; returns their names."""
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    for name in names:
        target.write(name, (source / name).read_bytes())
    return names


class LocalDirectory:
    """A directory on this machine's disk."""

    def __init__(self, root: Path) -> None:
        self.uri = str(root)
        self._root = root

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            # mkstemp makes files private; artifacts are read by other users' processes (a serving container).
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def names(self, prefix: str) -> list[str]:
        if not self._root.is_dir():
            return []
        found = (path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file())
        return sorted(name for name in found if name.startswith(prefix))

    def delete(self, name: str) -> None:
        (self._root / name).unlink(missing_ok=True)


class BucketDirectory:
    """A prefix of a Cloud Storage bucket."""

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        if not bucket:
            raise StorageError("the URI names no bucket", value=uri, place="directory", mend="give gs://bucket/path")
        self.uri = uri.rstrip("/")
        self._prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        self._bucket = _client().bucket(bucket)

    def read(self, name: str) -> bytes:
        from google.api_core.exceptions import NotFound

        with _explained(f"{self.uri}/{name}", "read"):
            try:
                data: bytes = self._bucket.blob(self._prefix + name).download_as_bytes()
            except NotFound as error:
                raise FileNotFoundError(f"{self.uri}/{name}") from error
        return data

    def write(self, name: str, data: bytes) -> None:
        with _explained(f"{self.uri}/{name}", "written"):
            self._bucket.blob(self._prefix + name).upload_from_string(data, content_type=_content_type(name))

    def names(self, prefix: str) -> list[str]:
        with _explained(f"{self.uri}/{prefix}", "listed"):
            blobs = list(self._bucket.list_blobs(prefix=self._prefix + prefix))
        return sorted(blob.name.removeprefix(self._prefix) for blob in blobs)

    def delete(self, name: str) -> None:
        from google.api_core.exceptions import NotFound

        with _explained(f"{self.uri}/{name}", "deleted"):
            try:
                self._bucket.blob(self._prefix + name).delete()
            except NotFound:
                return  # gone already, which is what was asked for


@contextlib.contextmanager
def _explained(uri: str, verb: str) -> Iterator[None]:
    """Say what was tried where, when the bucket refuses; the client has repeated by then what was worth repeating."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except (GoogleAPIError, GoogleAuthError) as error:
        raise StorageError(
            f"an object cannot be {verb}",
            value=f"{type(error).__name__}: {error}",
            place=uri,
            mend="check that the bucket exists and that the job's service account may use its objects",
        ) from error


def _client() -> Any:
    """A storage client; imported here because a job on local directories needs none."""
    from google.cloud import storage

    with _explained("gs://", "reached"):
        return storage.Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT"))


def _content_type(name: str) -> str:
    return "application/json" if name.endswith(".json") else "application/octet-stream"
