"""The four calls to Cloud Storage that load and extract jobs make, over its JSON API and plain urllib.

Local by construction: the address is the one given (STORAGE_EMULATOR_HOST), there is no default and no credential.
"""

from __future__ import annotations

import fnmatch
import http.client
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from localcloud.bigquery.errors import BackendFailed, BigQueryError, Invalid, NotFound

_TIMEOUT_S = 60.0
_CHUNK_BYTES = 1024 * 1024


class Storage:
    """A Cloud Storage server at a given address."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint.rstrip("/")

    def expand(self, uri: str) -> list[str]:
        """The objects that a URI means: itself, or all that a single `*` matches.

        Raises:
            NotFound: nothing is there.
            Invalid: no gs:// URI.
        """
        bucket, name = split_uri(uri)
        if "*" not in name:
            return [uri]
        prefix = name.split("*")[0]
        found = [one for one in self._list(bucket, prefix) if fnmatch.fnmatchcase(one, _only_stars(name))]
        if not found:
            raise NotFound(f"Not found: Uris {uri}", location=uri)
        return [f"gs://{bucket}/{one}" for one in found]

    def download(self, uri: str, path: Path) -> int:
        """Copy an object into a file; its size in bytes back."""
        bucket, name = split_uri(uri)
        address = f"/storage/v1/b/{_escape(bucket)}/o/{_escape(name)}?alt=media"
        with self._open("GET", address, uri) as answer, path.open("wb") as out:
            shutil.copyfileobj(answer, out, _CHUNK_BYTES)
        return path.stat().st_size

    def upload(self, path: Path, uri: str, content_type: str) -> None:
        """Copy a file into an object."""
        bucket, name = split_uri(uri)
        query = urlencode({"uploadType": "media", "name": name})
        size = str(path.stat().st_size)
        headers = {"Content-Type": content_type, "Content-Length": size}
        with path.open("rb") as stream:
            self._open("POST", f"/upload/storage/v1/b/{_escape(bucket)}/o?{query}", uri, stream, headers).close()

    def _list(self, bucket: str, prefix: str) -> Iterator[str]:
        token = ""
        while True:
            query = urlencode({"prefix": prefix, "fields": "items(name),nextPageToken", "pageToken": token})
            with self._open("GET", f"/storage/v1/b/{_escape(bucket)}/o?{query}", f"gs://{bucket}/{prefix}*") as answer:
                page = json.load(answer)
            yield from (one["name"] for one in page.get("items", []))
            token = page.get("nextPageToken", "")
            if not token:
                return

    def _open(self, method: str, path: str, uri: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        if not self._endpoint:
            raise Invalid(
                f"{uri} cannot be reached: this local BigQuery was not told where Cloud Storage is; set "
                "STORAGE_EMULATOR_HOST=http://127.0.0.1:PORT and start it again.",
                location=uri,
            )
        request = urllib.request.Request(self._endpoint + path, data=body, headers=headers or {}, method=method)  # noqa: S310
        try:
            # No proxy: the address is a loopback one, whatever the environment says about the web.
            return _OPENER.open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise _refused(error, uri) from error
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise BackendFailed(
                f"Cloud Storage at {self._endpoint} does not answer for {uri} ({reason}); is it running?", location=uri
            ) from error


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def split_uri(uri: str) -> tuple[str, str]:
    """`gs://bucket/name` in two; raises Invalid for anything else."""
    scheme, _, rest = uri.partition("://")
    bucket, _, name = rest.partition("/")
    if scheme != "gs" or not bucket or not name:
        raise Invalid(f"Source URI must be a Google Cloud Storage location (gs://bucket/object): {uri}", location=uri)
    if name.count("*") > 1:
        raise Invalid(f"Invalid URI {uri}: at most one '*' is allowed.", location=uri)
    return bucket, name


def _refused(error: urllib.error.HTTPError, uri: str) -> BigQueryError:
    with error:
        detail = error.read(2000).decode(errors="replace")
    if error.code == 404:
        return NotFound(f"Not found: URI {uri}", location=uri)
    return BackendFailed(f"Cloud Storage answered {error.code} for {uri}: {detail[:300]}", location=uri)


def _escape(value: str) -> str:
    return quote(value, safe="")


def _only_stars(pattern: str) -> str:
    """fnmatch knows ? and [ too; in a gs:// URI they are plain characters."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
