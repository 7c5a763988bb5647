"""Batch requests: up to a hundred calls in one `multipart/mixed` body, answered alike.

Parts are answered by the same API as single requests, checks and faults included. Uploads and downloads are not
allowed in a batch, as in the cloud. Source: "Batch requests" in Cloud Storage's documentation.
"""

import asyncio
import email.message
import email.policy
import http
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from urllib.parse import parse_qsl, urlsplit

from localcloud.rest import ApiError, Response, RestApi
from localcloud.storage import errors

MAX_BATCH_BYTES = 10 * 1024 * 1024  # Google's limit for the whole body
_MAX_PARTS = 100


@dataclass(frozen=True, slots=True)
class _Part:
    """One call of a batch."""

    content_id: str
    http_method: str
    target: str
    headers: dict[str, str]
    body: bytes


async def answer_batch(api: RestApi, headers: Mapping[str, str], body: bytes) -> Response:
    """Answer every part, in the order sent.

    Raises:
        ApiError: 400 if the batch itself can't be read; a part's own failure is that part's answer.
    """
    parts = _parse(headers.get("content-type", ""), body)
    answers = await asyncio.gather(*(_answer_part(api, part, headers) for part in parts))
    boundary = f"batch_{uuid.uuid4().hex}"
    rendered = b"".join(
        b"--%s\r\n%s\r\n" % (boundary.encode(), _render(part, answer))
        for part, answer in zip(parts, answers, strict=True)
    )
    return Response(
        200, rendered + f"--{boundary}--\r\n".encode(), content_type=f"multipart/mixed; boundary={boundary}"
    )


async def _answer_part(api: RestApi, part: _Part, outer_headers: Mapping[str, str]) -> Response:
    url = urlsplit(part.target)
    query = parse_qsl(url.query, keep_blank_values=True)
    match = api.discovery.match(part.http_method, url.path)
    if match is None or match.media or dict(query).get("alt") == "media":
        text = f"A batch cannot carry {part.http_method} {url.path}; send it on its own."
        return error_response(errors.invalid(text))
    headers = {"host": outer_headers.get("host", "localhost"), **part.headers}
    answer = await api.answer(match, part.http_method, url.path, query, headers, _once(part.body))
    if answer is None:  # a fault that cuts the connection: a part has none of its own
        return error_response(ApiError(503, "UNAVAILABLE", "The answer to this part was lost.", "backendError"))
    return answer


def error_response(error: ApiError) -> Response:
    """An error as `RestApi` would answer it."""
    response = Response(error.code, content_type="application/json; charset=UTF-8")
    response.body = json.dumps(error.body()).encode()
    return response


def _parse(content_type: str, body: bytes) -> list[_Part]:
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode("latin-1")
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    if not message.is_multipart():
        raise errors.invalid(f"A batch must be multipart/mixed with a boundary, found {content_type!r}.")
    parts = [_parse_part(part) for part in message.iter_parts()]
    if not 1 <= len(parts) <= _MAX_PARTS:
        raise errors.invalid(f"The batch has {len(parts)} calls; send 1 to {_MAX_PARTS}.")
    return parts


def _parse_part(part: email.message.Message) -> _Part:
    payload = part.get_payload(decode=True)
    head, _, body = (payload if isinstance(payload, bytes) else b"").replace(b"\r\n", b"\n").partition(b"\n\n")
    request_line, *header_lines = head.decode("latin-1").strip().split("\n")
    words = request_line.split(" ")
    if len(words) not in (2, 3):
        raise errors.invalid(f"Malformed call in the batch: {request_line!r}; write METHOD PATH HTTP/1.1.")
    pairs = (line.partition(":") for line in header_lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return _Part(str(part.get("Content-ID", "")).strip("<>"), words[0], words[1], headers, body.strip())


def _render(part: _Part, answer: Response) -> bytes:
    body = answer.body if isinstance(answer.body, bytes) else b""
    lines = [
        "Content-Type: application/http",
        f"Content-ID: <response-{part.content_id}>",
        "",
        f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}",
        *([f"Content-Type: {answer.content_type}"] if body else []),
        *(f"{name}: {value}" for name, value in answer.headers.items()),
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
