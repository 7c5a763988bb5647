"""Keeps web pages out: a browser must not be the way by which a stranger's page reaches the local cloud.

A page on the internet may send requests to 127.0.0.1 from the reader's browser. Two headers give it away, and no Google
client sends them so: `Origin` with another site's name, and, when the page's own name was made to resolve to loopback
(DNS rebinding), a `Host` that is not loopback.
"""

import functools
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REFUSAL = (
    b'{"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "The local cloud answers programs on this machine, '
    b"not web pages: the request's Origin or Host is not loopback.\"}}"
)


class KeepBrowsersOut:
    """Wraps an ASGI app.

    Args:
        bound_host: where the server listens. Bound to loopback it is reached by loopback's names only; bound to another
            address (in a container) it may have any name.
    """

    def __init__(self, app: App, bound_host: str) -> None:
        self._app = app
        self._is_any_host_allowed = not is_loopback(bound_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_welcome(scope):
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_REFUSAL)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})
            return
        await self._app(scope, receive, send)

    def _is_welcome(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name == b"origin":
                if not is_loopback(_hostname(value)):
                    return False
            elif name == b"host" and not self._is_any_host_allowed and not is_loopback(_hostname(b"//" + value)):
                return False
        return True


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@functools.lru_cache(maxsize=256)  # every request names the same host
def _hostname(url: bytes) -> str:
    try:
        return urlsplit(url.decode("latin-1")).hostname or ""
    except ValueError:
        return ""
