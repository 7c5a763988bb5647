"""The HTTP application: health and predict, and one shape for every error."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import logs
from serving.errors import RequestError, invalid_argument, shown
from serving.model import LiteRtModel
from serving.settings import Settings

THREADS = 2
"""For large requests, so that they do not hold up health checks and small ones."""

INTERPRETERS = THREADS + 1
"""One for each thread and one for the event loop, so that the loop never waits for an interpreter."""

_SMALL_BODY_BYTES = 16_384  # about 150 instances, answered in less time than a change of threads is worth


class Service:
    """The model once it is loaded, and the two handlers around it.

    Attributes:
        model: None until it is loaded; health answers 503 until then.
    """

    def __init__(self, settings: Settings) -> None:
        self.model: LiteRtModel | None = None
        self._settings = settings
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="predict")

    async def health(self, request: Request) -> Response:
        """200 once the model is loaded, else 503."""
        if self.model is None:
            return _json({"status": "loading"}, 503)
        schema = self.model.schema
        return _json({"status": "ok", "model": schema.title, "predicts": schema.label, "unit": schema.unit}, 200)

    async def predict(self, request: Request) -> Response:
        """{"instances": [...]} to {"predictions": [...]}, numbers in the label's unit, in the order given."""
        if self.model is None:
            raise RequestError(503, "UNAVAILABLE", "the model is still loading; ask the health route, then try again")
        body = await _read_body(request, self._settings.max_body_bytes)
        if len(body) <= _SMALL_BODY_BYTES:
            answer = answer_predict(self.model, body)
        else:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._threads, answer_predict, self.model, body)
        return Response(answer, media_type="application/json")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)


def answer_predict(model: LiteRtModel, body: bytes) -> bytes:
    """From the bytes of a request to the bytes of its answer. Safe to call from any thread.

    Raises:
        RequestError: 400.
    """
    columns = model.schema.columns(parse_instances(body))
    predictions = model.predict(columns)
    return json.dumps({"predictions": readable_floats(predictions)}, allow_nan=False).encode()


def parse_instances(body: bytes) -> list[Any]:
    """The request's instances, still unchecked.

    Raises:
        RequestError: 400, the body is not JSON of the contract's shape.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: also bytes that are not UTF-8
        raise invalid_argument(f'the body is not JSON: {error}; send {{"instances": [...]}}') from error
    if not isinstance(document, dict):
        raise invalid_argument(f'the body is {shown(document)}, not an object; send {{"instances": [...]}}')
    unknown = sorted(document.keys() - {"instances", "parameters"})
    if unknown:
        raise invalid_argument(f"the body has unknown members {shown(unknown)}; send instances only")
    if document.get("parameters"):
        parameters = shown(document["parameters"])
        raise invalid_argument(f"parameters is {parameters}, and this model takes none; leave it out")
    instances = document.get("instances")
    if not isinstance(instances, list):
        found = shown(instances) if "instances" in document else "missing"
        raise invalid_argument(f"instances is {found}, not a list; send a list of objects")
    return instances


def readable_floats(values: npt.NDArray[np.float32]) -> list[float]:
    """The shortest decimals that still tell each float32 apart: 7.253788, not 7.253787994384766."""
    return [float(text) for text in values.astype(str)]


async def _read_body(request: Request, max_body_bytes: int) -> bytes:
    """The whole body; refused as soon as it is known to be too large, whatever the sender declared."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_body_bytes:
        raise _too_large(int(declared), max_body_bytes)
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_body_bytes:
            raise _too_large(size, max_body_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(size: int, limit: int) -> RequestError:
    message = f"the body has at least {size} bytes, the limit is {limit}; send fewer instances at a time"
    return RequestError(413, "INVALID_ARGUMENT", message)


def _json(document: dict[str, Any], status_code: int, headers: Mapping[str, str] | None = None) -> Response:
    """ASCII, because a refused value may hold lone surrogates, which UTF-8 cannot."""
    return Response(json.dumps(document).encode(), status_code, headers, "application/json")


async def _answer_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _json(error.as_json(), error.status_code)


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    logs.error("request.failed", cause=error, method=request.method, path=request.url.path)
    refusal = RequestError(500, "INTERNAL", "the server failed; its log has the cause under request.failed")
    return _json(refusal.as_json(), 500)


def build_app(settings: Settings, service: Service) -> Starlette:
    """Join routes and error answers."""

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        mend = f"use GET {settings.health_route} or POST {settings.predict_route}"
        status = "NOT_FOUND" if error.status_code == 404 else "INVALID_ARGUMENT"
        message = f"{request.method} {request.url.path}: {error.detail}; {mend}"
        refusal = RequestError(error.status_code, status, message)
        return _json(refusal.as_json(), error.status_code, error.headers)

    handlers: dict[Any, Callable[[Request, Exception], Any]] = {
        RequestError: _answer_request_error,
        HTTPException: answer_http,
        Exception: _answer_unexpected,
    }
    routes = [
        Route(settings.health_route, service.health, methods=["GET"]),
        Route(settings.predict_route, service.predict, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers=handlers)
