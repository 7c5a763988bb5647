"""The little the jobs service needs of Cloud Storage: read one object, copy a directory of objects.

Plain JSON API calls to `STORAGE_EMULATOR_HOST`: the client library would block the event loop and costs 0.3 s to import.
"""

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx

_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)
_TIMEOUT_S = 30.0


class ObjectsError(Exception):
    """A Cloud Storage URI that cannot be read or copied; `is_missing` when there is nothing there."""

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class Objects:
    """A client of one Cloud Storage address; without an address every call explains what to set."""

    def __init__(self, address: str) -> None:
        if address and not address.startswith(("http://", "https://")):
            address = "http://" + address
        self._address = address.rstrip("/")
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close pooled connections."""
        if self._client is not None:
            await self._client.aclose()

    async def read(self, uri: str) -> bytes:
        """Return an object's bytes; raises ObjectsError."""
        bucket, name = split_uri(uri)
        if not name:
            raise ObjectsError(f"{uri!r} names a bucket, not an object; expected gs://bucket/object.")
        response = await self._call("GET", f"/b/{bucket}/o/{quote(name, safe='')}", uri, params={"alt": "media"})
        return response.content

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
                answer = (await self._call("POST", path, source, params=params)).json()
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
            page = (await self._call("GET", f"/b/{bucket}/o", uri, params=params)).json()
            for item in page.get("items", []):
                yield item["name"]
            token = page.get("nextPageToken", "")
            if not token:
                return

    async def _ensure_bucket(self, bucket: str, project: str) -> None:
        params = {"project": project}
        await self._call("POST", "/b", f"gs://{bucket}", params=params, json={"name": bucket}, tolerated=409)

    async def _call(
        self,
        method: str,
        path: str,
        uri: str,
        *,
        params: dict[str, str] | None = None,
        json: dict[str, str] | None = None,
        tolerated: int = 0,
    ) -> httpx.Response:
        if not self._address:
            raise ObjectsError(f"cannot reach {uri!r}: no Cloud Storage address; set STORAGE_EMULATOR_HOST.")
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S)
        try:
            url = f"{self._address}/storage/v1{path}"
            response = await self._client.request(method, url, params=params or {}, json=json)
        except httpx.HTTPError as error:
            raise ObjectsError(f"cannot reach {uri!r} at {self._address}: {error!r}") from error
        if response.status_code == 404 and tolerated != 404:
            raise ObjectsError(f"{uri!r} does not exist.", is_missing=True)
        if response.is_error and response.status_code != tolerated:
            text = response.text[:200]
            raise ObjectsError(f"Cloud Storage answered {response.status_code} for {uri!r}: {text}")
        return response


def split_uri(uri: str) -> tuple[str, str]:
    """`gs://bucket/a/b` -> ("bucket", "a/b"); raises ObjectsError on anything else."""
    found = _URI.fullmatch(uri)
    if found is None:
        raise ObjectsError(f"{uri!r} is not a Cloud Storage URI; expected gs://bucket/object.")
    return found[1], found[2] or ""
