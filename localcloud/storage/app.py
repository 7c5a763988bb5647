"""The storage server's ASGI app: Google's JSON API, its upload sessions and batches, and plain GET of an object.

Routes are matched on the raw path: `%2F` in an object's name is no separator.
"""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, unquote

from localcloud.discovery import Match
from localcloud.faults import Faults
from localcloud.http import Receive, Scope, Send, abort
from localcloud.rest import ApiError, Response, RestApi, combine
from localcloud.storage.batch import MAX_BATCH_BYTES, answer_batch, error_response
from localcloud.storage.downloads import Downloads, Wanted
from localcloud.storage.preconditions import Preconditions

_OWN_FOLDERS = frozenset({"storage", "upload", "resumable", "download", "batch", "-", ""})

_WITHOUT_BODY = (204, 304)


class StorageApp:
    """Finds the door for a request."""

    def __init__(self, api: RestApi, downloads: Downloads, faults: Faults | None) -> None:
        self._api = api
        self._downloads = downloads
        self._service_pages = combine(api, faults=faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw_path = scope["raw_path"].decode("latin-1")
        if raw_path.startswith("/-/"):
            await self._service_pages(scope, receive, send)
            return
        try:
            response = await self._answer(scope, raw_path, _chunks(receive))
        except ApiError as error:
            response = error_response(error)
        if response is None:
            await abort(scope)
        else:
            await _send(response, send)

    async def _answer(self, scope: Scope, raw_path: str, chunks: AsyncIterator[bytes]) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        http_method: str = headers.get("x-http-method-override") or scope["method"]
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        # A session's PUT and DELETE belong to the POST that began it; the discovery document knows only that one.
        is_session = raw_path.startswith(("/upload/", "/resumable/")) and http_method in ("PUT", "DELETE")
        match = self._api.discovery.match("POST" if is_session else http_method, raw_path)
        if match is not None:
            query = [(key, _as_google_reads(match, key, value)) for key, value in query]
        if match is not None and (not is_session or dict(query).get("upload_id")):
            return await self._api.answer(match, http_method, raw_path, query, headers, chunks)
        if raw_path.startswith("/batch") and http_method == "POST":
            return await answer_batch(self._api, headers, await _read(chunks))
        bucket, _, name = raw_path.lstrip("/").partition("/")
        if http_method in ("GET", "HEAD") and name and bucket not in _OWN_FOLDERS:
            return await self._plain_get(bucket, name, dict(query), headers)
        text = f"The requested URL {raw_path} was not found on this server ({http_method})."
        raise ApiError(404, "NOT_FOUND", text)

    async def _plain_get(self, bucket: str, name: str, query: dict[str, str], headers: dict[str, str]) -> Response:
        """`GET /BUCKET/OBJECT`, as in the XML API: public links and Google's C++ client read this way."""
        conditions = {
            "ifGenerationMatch": headers.get("x-goog-if-generation-match"),
            "ifMetagenerationMatch": headers.get("x-goog-if-metageneration-match"),
        }
        generation = query.get("generation", "")
        wanted = Wanted(
            unquote(bucket),
            unquote(name),
            int(generation) if generation.isdecimal() else None,
            Preconditions.of(conditions),
        )
        return await self._downloads.answer(wanted, headers)


def _as_google_reads(match: Match, key: str, value: str) -> str:
    """Python's clients send `versions=True`, which the cloud takes; the document knows only `true`."""
    is_boolean = match.method.parameters.get(key, {}).get("type") == "boolean"
    return value.lower() if is_boolean else value


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the caller went away in the middle of its request")
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


async def _read(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_BATCH_BYTES:
            raise ApiError(413, "INVALID_ARGUMENT", f"The batch exceeds {MAX_BATCH_BYTES} bytes; split it.")
    return bytes(body)


async def _send(response: Response, send: Send) -> None:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if response.status in _WITHOUT_BODY:
        response.body = b""
    else:
        headers.setdefault("content-type", response.content_type)
        if isinstance(response.body, bytes):
            headers.setdefault("content-length", str(len(response.body)))
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    if isinstance(response.body, bytes):
        await send({"type": "http.response.body", "body": response.body})
        return
    async for chunk in response.body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
