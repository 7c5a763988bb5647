"""Read the exported files from the model directory, on a disk or in a bucket."""

import os
from collections.abc import Callable
from pathlib import Path

from serving.errors import StartError

_MEND = "set AIP_STORAGE_URI to the directory that the training job exported to"


def read_files(storage_uri: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of each file.

    Raises:
        StartError: the directory's kind is not supported, or a file is missing or unreadable.
    """
    read = _reader(storage_uri)
    files = {}
    for name in names:
        try:
            files[name] = read(name)
        except OSError as error:
            raise StartError(
                "a file of the model cannot be read",
                value=f"{type(error).__name__}: {error}",
                place=f"{storage_uri}/{name}",
                mend=_MEND,
            ) from error
    return files


def _reader(storage_uri: str) -> Callable[[str], bytes]:
    if storage_uri.startswith("gs://"):
        return _bucket_reader(storage_uri)
    if "://" in storage_uri:
        raise StartError(
            "this kind of address is not supported",
            value=storage_uri,
            place="AIP_STORAGE_URI",
            mend="use gs:// or a local path",
        )
    return lambda name: (Path(storage_uri) / name).read_bytes()


def _bucket_reader(storage_uri: str) -> Callable[[str], bytes]:
    # Imported here: a server on a local directory starts without it.
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import storage

    bucket_name, _, path = storage_uri.removeprefix("gs://").partition("/")
    if not bucket_name:
        raise StartError("the URI names no bucket", value=storage_uri, place="AIP_STORAGE_URI", mend=_MEND)
    prefix = path.rstrip("/") + "/" if path.strip("/") else ""
    try:
        bucket = storage.Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT")).bucket(bucket_name)
    except GoogleAuthError as error:
        raise StartError(
            "there are no credentials to read the bucket with",
            value=str(error),
            place=storage_uri,
            mend="run as a service account, or log in with: gcloud auth application-default login",
        ) from error

    def read(name: str) -> bytes:
        try:
            data: bytes = bucket.blob(prefix + name).download_as_bytes()
        except (exceptions.GoogleAPIError, GoogleAuthError) as error:
            raise OSError(str(error)) from error
        return data

    return read
