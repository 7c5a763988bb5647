"""The little the jobs service needs of Cloud Storage: read one object, copy a directory of objects.

Plain JSON API calls to `STORAGE_EMULATOR_HOST`: the client library would block the event loop and costs 0.3 s to import.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

from localcloud.jobs.upstream import Answer, Upstream, UpstreamError

_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)
_TIMEOUT_S = 30.0
# A store that restarts is back by then; whoever called us has a time-out of a minute.
_PAUSES_S = (0.1, 0.3, 1.0, 2.0, 4.0)
_NOT_NOW = (408, 429)


class ObjectsError(Exception):
    """A Cloud Storage URI that cannot be read or copied.

    Attributes:
        is_missing: there is nothing there.
        is_away: the store did not answer, or not to the question: later it may.
    """

    def __init__(self, message: str, *, is_missing: bool = False, is_away: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing
        self.is_away = is_away


class Objects:
    """A client of one Cloud Storage address; without an address every call explains what to set."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        self._address = address
        self._upstream = Upstream(parts.hostname or "", parts.port or 80)

    def close(self) -> None:
        """Close pooled connections."""
        self._upstream.close()

    async def read(self, uri: str) -> bytes:
        """Return an object's bytes; raises ObjectsError."""
        bucket, name = split_uri(uri)
        if not name:
            raise ObjectsError(f"{uri!r} names a bucket, not an object; expected gs://bucket/object.")
        answer = await self._call("GET", f"/b/{bucket}/o/{quote(name, safe='')}", uri, params={"alt": "media"})
        return answer.body

    async def copy_directory(self, source: str, destination: str, project: str) -> int:
        """Copy every object below `source` to below `destination`, creating its bucket; returns how many.

        Safe to repeat. Raises ObjectsError; a source without objects is missing.
        """
        target_bucket, target_prefix = split_uri(destination.rstrip("/") + "/")
        bucket, prefix = split_uri(source.rstrip("/") + "/")
        await self._ensure_bucket(target_bucket, project)
        await self.delete_directory(destination)  # what an earlier try left, killed in its middle
        copied = 0
        async for name in self._names(bucket, prefix, source):
            target = target_prefix + name.removeprefix(prefix)
            path = f"/b/{bucket}/o/{quote(name, safe='')}/rewriteTo/b/{target_bucket}/o/{quote(target, safe='')}"
            token = ""
            while True:
                params = {"rewriteToken": token} if token else {}
                answer: dict[str, Any] = json.loads((await self._call("POST", path, source, params=params)).body)
                if answer.get("done"):
                    break
                token = answer["rewriteToken"]
            copied += 1
        if copied == 0:
            raise ObjectsError(f"There are no objects below {source!r}.", is_missing=True)
        return copied

    async def delete_directory(self, uri: str) -> None:
        """Delete every object below `uri`; what is gone already is no error."""
        bucket, prefix = split_uri(uri.rstrip("/") + "/")
        names = [name async for name in self._names(bucket, prefix, uri)]
        for name in names:
            await self._call("DELETE", f"/b/{bucket}/o/{quote(name, safe='')}", uri, tolerated=404)

    async def _names(self, bucket: str, prefix: str, uri: str) -> AsyncIterator[str]:
        token = ""
        while True:
            params = {"prefix": prefix, "fields": "items(name),nextPageToken"}
            if token:
                params["pageToken"] = token
            page: dict[str, Any] = json.loads((await self._call("GET", f"/b/{bucket}/o", uri, params=params)).body)
            for item in page.get("items", []):
                yield item["name"]
            token = page.get("nextPageToken", "")
            if not token:
                return

    async def _ensure_bucket(self, bucket: str, project: str) -> None:
        body = json.dumps({"name": bucket}).encode()
        await self._call("POST", "/b", f"gs://{bucket}", params={"project": project}, body=body, tolerated=409)

    async def _call(
        self,
        method: str,
        path: str,
        uri: str,
        *,
        params: dict[str, str] | None = None,
        body: bytes = b"",
        tolerated: int = 0,
    ) -> Answer:
        """Ask once more, and again, while the store is away: every call made here is safe to repeat."""
        if not self._address:
            raise ObjectsError(f"cannot reach {uri!r}: no Cloud Storage address; set STORAGE_EMULATOR_HOST.")
        for pause_s in _PAUSES_S:
            try:
                return await self._call_once(method, path, uri, params, body, tolerated)
            except ObjectsError as error:
                if not error.is_away:
                    raise
            await asyncio.sleep(pause_s)
        return await self._call_once(method, path, uri, params, body, tolerated)

    async def _call_once(
        self, method: str, path: str, uri: str, params: dict[str, str] | None, body: bytes, tolerated: int
    ) -> Answer:
        try:
            answer = await self._upstream.request(
                method,
                "/storage/v1" + path,
                params=params,
                body=body,
                content_type="application/json" if body else "",
                timeout_s=_TIMEOUT_S,
            )
        except (UpstreamError, TimeoutError) as error:
            text = f"cannot reach {uri!r} at {self._address}: {error or 'no answer in time'}"
            raise ObjectsError(text, is_away=True) from error
        if answer.status == 404 and tolerated != 404:
            raise ObjectsError(f"{uri!r} does not exist.", is_missing=True)
        if answer.status >= 400 and answer.status != tolerated:
            text = answer.body[:200].decode("utf-8", "replace")
            is_away = answer.status >= 500 or answer.status in _NOT_NOW
            raise ObjectsError(f"Cloud Storage answered {answer.status} for {uri!r}: {text}", is_away=is_away)
        return answer


def split_uri(uri: str) -> tuple[str, str]:
    """`gs://bucket/a/b` -> ("bucket", "a/b"); raises ObjectsError on anything else."""
    found = _URI.fullmatch(uri)
    if found is None:
        raise ObjectsError(f"{uri!r} is not a Cloud Storage URI; expected gs://bucket/object.")
    return found[1], found[2] or ""
