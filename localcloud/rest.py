"""Google's REST front end: an ASGI app that routes by discovery method id and checks each request and each answer.

A part hands over `{method_id: async handler}`. The front end matches the raw path, refuses what the discovery document
does not allow (in Google's words), runs the faults that are switched on, calls the handler and checks its answer: a part
that drifts from the contract answers 500 and says where. A method that the part does not offer answers 501 with its name.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from localcloud.discovery import ContractViolation, Discovery, Match
from localcloud.faults import Fault, FaultError, Faults, parse_rules
from localcloud.http import Receive, Scope, Send, abort
from localcloud.partial import FieldsError, parse_fields, select

log = logging.getLogger(__name__)

STATUS_OF_CODE = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED", 409: "ALREADY_EXISTS", 412: "FAILED_PRECONDITION", 413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED",
    502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
_REASON_OF_CODE = {
    400: "badRequest", 401: "authError", 403: "forbidden", 404: "notFound", 409: "alreadyExists", 412: "conditionNotMet",
    413: "uploadTooLarge", 416: "requestedRangeNotSatisfiable", 429: "rateLimitExceeded", 500: "backendError",
    501: "notImplemented", 503: "backendError",
}  # fmt: skip
MAX_JSON_BYTES = 64 * 1024 * 1024  # far above any real request; a guard, not a promise


class ApiError(Exception):
    """An error answer in Google's form: HTTP code, canonical status, message, and the older APIs' reason."""

    def __init__(
        self, code: int, status: str, message: str, reason: str = "", details: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or STATUS_OF_CODE.get(code, "UNKNOWN")
        self.message = message
        self.reason = reason or _REASON_OF_CODE.get(code, "")
        self.details = details or []

    def body(self) -> dict[str, Any]:
        """The JSON that Google's clients read."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        error["errors"] = [{"message": self.message, "domain": "global", "reason": self.reason}]
        if self.details:
            error["details"] = self.details
        return {"error": error}


@dataclass(slots=True)
class Response:
    """An answer that is not plain JSON with status 200: bytes or a stream, with its own status and headers.

    `json` instead of `body` is checked like a dict answer.
    """

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    json: dict[str, Any] | None = None


@dataclass(slots=True)
class Call:
    """One checked request. `params` holds path and query parameters, typed; `body` is canonical JSON or None."""

    method_id: str
    params: dict[str, Any]
    body: Any
    headers: Mapping[str, str]
    match: Match
    query: list[tuple[str, str]]
    http_method: str
    raw_path: str
    chunks: AsyncIterator[bytes]
    list_lag_s: float = 0.0

    async def read(self, limit_bytes: int = MAX_JSON_BYTES) -> bytes:
        """Read the whole body of an upload; raises ApiError 413 past the limit."""
        return await _read(self.chunks, limit_bytes)

    @property
    def base_url(self) -> str:
        """The address the caller used, for links in answers."""
        return f"http://{self.headers.get('host', 'localhost')}"

    @property
    def raw_query(self) -> dict[str, str]:
        """The query as sent, the last value of each name: for parameters no document lists (`upload_id`)."""
        return dict(self.query)


Handler = Callable[[Call], Awaitable[dict[str, Any] | Response | None]]


class RestApi:
    """One API as an ASGI app."""

    def __init__(self, discovery: Discovery, handlers: Mapping[str, Handler], faults: Faults | None = None) -> None:
        unknown = sorted(set(handlers) - set(discovery.methods))
        if unknown:
            raise ValueError(
                f"{discovery.name} {discovery.version} has no method {unknown}; see its discovery document"
            )
        self.discovery = discovery
        self.handlers = dict(handlers)
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await combine(self, faults=self.faults)(scope, receive, send)

    async def answer(
        self,
        match: Match,
        http_method: str,
        raw_path: str,
        query: list[tuple[str, str]],
        headers: Mapping[str, str],
        chunks: AsyncIterator[bytes],
    ) -> Response | None:
        """Answer one request; None means: cut the connection. Never raises for what a caller did."""
        try:
            return await self._answer(match, http_method, raw_path, query, headers, chunks)
        except ApiError as error:
            return _error_response(error)
        except ContractViolation as error:
            details = error.details()
            return _error_response(ApiError(400, "INVALID_ARGUMENT", error.message, "badRequest", details))
        except Exception:
            log.exception("handler failed", extra={"action": "handler_failed", "method_id": match.method_id})
            text = f"Internal error encountered in the local cloud's {match.method_id}; its log has the traceback."
            return _error_response(ApiError(500, "INTERNAL", text))

    async def _answer(
        self,
        match: Match,
        http_method: str,
        raw_path: str,
        query: list[tuple[str, str]],
        headers: Mapping[str, str],
        chunks: AsyncIterator[bytes],
    ) -> Response | None:
        faults = {fault.kind: fault for fault in self.faults.take(match.method_id)} if self.faults else {}
        if "delay" in faults:
            await asyncio.sleep(faults["delay"].delay_s)
        if "drop" in faults:
            return None
        if "error" in faults:
            raise _injected(faults["error"])
        handler = self.handlers.get(match.method_id)
        if handler is None:
            raise ApiError(501, "UNIMPLEMENTED", f"The local cloud does not implement {match.method_id}.")
        body = None if match.media else _decode(await _read(chunks, MAX_JSON_BYTES))
        params, checked = self.discovery.check_request(match, query, body)
        call = Call(
            match.method_id,
            {**match.path_params, **params},
            checked,
            headers,
            match,
            query,
            http_method,
            raw_path,
            chunks,
        )
        call.list_lag_s = faults["stale"].lag_s if "stale" in faults else 0.0
        answer = self._checked(match, await handler(call), query)
        if "lost_answer" in faults:
            return None if faults["lost_answer"].code == 0 else _error_response(_injected(faults["lost_answer"]))
        return answer

    def _checked(
        self, match: Match, answer: dict[str, Any] | Response | None, query: list[tuple[str, str]]
    ) -> Response:
        response = answer if isinstance(answer, Response) else Response(json=answer)
        if response.json is None and not isinstance(answer, Response):
            if match.method.response is None:
                return Response(status=204)
            response.json = {}
        if response.json is None:
            return response
        by_name = dict(query)
        response.json = _selected(response.json, by_name)
        try:
            self.discovery.check_response(match, response.json)
        except ContractViolation as error:
            text = f"The local cloud's answer to {match.method_id} breaks the discovery document: {error.message}"
            log.error(text, extra={"action": "answer_refused", "method_id": match.method_id})
            raise ApiError(500, "INTERNAL", text) from error
        _render(response, by_name)
        return response


def combine(*apis: RestApi, faults: Faults | None = None) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Serve several APIs, and the service pages `/-/healthz` and `/-/faults`, on one port."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the local cloud speaks HTTP only, not {scope['type']!r}")
        raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        chunks = _chunks(receive)
        response = await _dispatch(apis, faults, scope, raw_path, chunks)
        if response is None:
            await abort(scope)
            return
        await _send(response, send)

    return app


async def _dispatch(
    apis: tuple[RestApi, ...], faults: Faults | None, scope: Scope, raw_path: str, chunks: AsyncIterator[bytes]
) -> Response | None:
    if raw_path.startswith("/-/"):
        return await _service_page(scope["method"], raw_path, chunks, faults)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    http_method, query_text = scope["method"], scope["query_string"].decode("latin-1")
    if http_method == "POST" and headers.get("x-http-method-override") == "GET":
        # How googleapiclient sends a GET whose address is too long: the query is the body.
        http_method = "GET"
        query_text = "&".join(filter(None, [query_text, (await _read(chunks, MAX_JSON_BYTES)).decode("latin-1")]))
    for api in apis:
        match = api.discovery.match(http_method, raw_path)
        if match is not None:
            query = parse_qsl(query_text, keep_blank_values=True)
            return await api.answer(match, http_method, raw_path, query, headers, chunks)
    text = f"The requested URL {raw_path} was not found on this server ({http_method})."
    return _error_response(ApiError(404, "NOT_FOUND", text))


async def _service_page(
    http_method: str, raw_path: str, chunks: AsyncIterator[bytes], faults: Faults | None
) -> Response:
    if raw_path == "/-/healthz" and http_method == "GET":
        return _json_response(200, {"status": "ok"})
    if raw_path == "/-/faults" and faults is not None:
        try:
            if http_method in ("PUT", "POST"):
                rules = parse_rules(_decode(await _read(chunks, MAX_JSON_BYTES)))
                faults.replace(rules) if http_method == "PUT" else faults.add(rules)
            elif http_method == "DELETE":
                faults.replace([])
            return _json_response(200, faults.view())
        except FaultError as error:
            return _error_response(ApiError(400, "INVALID_ARGUMENT", str(error)))
        except ApiError as error:
            return _error_response(error)
    return _error_response(ApiError(404, "NOT_FOUND", f"The requested URL {raw_path} was not found on this server."))


def _injected(fault: Fault) -> ApiError:
    text = fault.message or f"Injected fault: {fault.kind} on {fault.method}."
    return ApiError(fault.code, "", text)


def _decode(raw: bytes) -> Any:
    if not raw.strip():
        return None
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # refuses half a surrogate pair, which no text can hold
        return value
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}", "parseError") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"Unexpected token: {text}")


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the caller went away in the middle of its request")
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]


async def _read(chunks: AsyncIterator[bytes], limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit_bytes:
            raise ApiError(413, "INVALID_ARGUMENT", f"Request payload size exceeds the limit: {limit_bytes} bytes.")
        parts.append(chunk)
    return b"".join(parts)


def _selected(value: dict[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """Return what `fields` asks for of an answer."""
    selector = query.get("fields") or query.get("$fields")
    if not selector:
        return value
    try:
        selected: dict[str, Any] = select(parse_fields(selector), value)
    except FieldsError as error:
        raise ApiError(400, "INVALID_ARGUMENT", str(error), "invalidParameter") from error
    return selected


def _render(response: Response, query: Mapping[str, str]) -> None:
    """Turn the JSON answer into bytes, honouring `prettyPrint`."""
    # Google prints prettily unless told not to; compact is the same JSON and four times faster to write.
    pretty = (query.get("prettyPrint") or query.get("$prettyPrint")) == "true"
    response.body = _dump(response.json, pretty=pretty)
    response.content_type = "application/json; charset=UTF-8"


def _dump(value: Any, *, pretty: bool = False) -> bytes:
    if pretty:
        return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "replace")
    # Half a surrogate pair (from a job's log) has no UTF-8; it must not cost the whole answer.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _json_response(status: int, value: dict[str, Any]) -> Response:
    return Response(status, _dump(value), content_type="application/json; charset=UTF-8")


def _error_response(error: ApiError) -> Response:
    return _json_response(error.code, error.body())


async def _send(response: Response, send: Send) -> None:
    headers = {"content-type": response.content_type, **{k.lower(): v for k, v in response.headers.items()}}
    if response.status == 204:
        headers.pop("content-type")
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
