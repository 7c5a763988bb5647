"""Web pages are kept out of every REST part; programs are not."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from localcloud.browsers import KeepBrowsersOut


def status(bound_host: str, **headers: str) -> int:
    """What a request with these headers is answered."""
    sent: list[MutableMapping[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("a refusal reads no body")

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(KeepBrowsersOut(app, bound_host)(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize("host", ["127.0.0.1:4443", "localhost:4443", "[::1]:4443", "jobs.localhost", "127.0.0.1"])
def test_programs_are_welcome(host: str) -> None:
    """Requests by loopback's names pass, with no Origin or that of a page on this machine."""
    assert status("127.0.0.1", host=host) == 200
    assert status("127.0.0.1", host=host, origin="http://localhost:8000") == 200


@pytest.mark.parametrize(
    "origin", ["https://example.com", "http://127.0.0.1.example.com", "null", "file://", "http://[broken"]
)
def test_a_strangers_page_is_refused(origin: str) -> None:
    """A request that a page of another site sends is refused with 403, wherever we listen."""
    assert status("127.0.0.1", host="127.0.0.1:4443", origin=origin) == 403
    assert status("0.0.0.0", host="storage:4443", origin=origin) == 403


@pytest.mark.parametrize("host", ["example.com:4443", "localhost.example.com", "192.168.1.2:4443", ""])
def test_a_name_made_to_resolve_to_loopback_is_refused(host: str) -> None:
    """DNS rebinding: a foreign Host on a loopback server is refused; a server for containers may have any name."""
    assert status("127.0.0.1", host=host) == 403
    assert status("0.0.0.0", host=host) == 200
