"""Answers what Google's client libraries ask of `metadata.google.internal`.

Set `GCE_METADATA_HOST` and `GCE_METADATA_IP` to it: `google.auth.default()` then finds "the virtual machine's"
credentials at once, where it would otherwise retry for twenty seconds, or pick up a real person's.

The service account is called `local`, which is no e-mail address: google-auth asks
`iamcredentials.googleapis.com` about any account that is one. The token says of itself that it is none.
"""

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from localcloud.faults import Faults
from localcloud.http import HttpServer, Receive, Scope, Send

ACCOUNT = "local"
TOKEN = "local-cloud-token-not-a-secret"  # noqa: S105  (that is the point of it)
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LIFETIME_S = 3600
_ROOT = "/computeMetadata/v1/"
_FLAVOR = (b"metadata-flavor", b"Google")

Answer = tuple[int, str, str]  # status, content type, text


class MetadataServer:
    """The metadata server. It keeps nothing; `data_dir` is only part of every server's shape.

    Args:
        project: what `project/project-id` answers.
        clock: seconds since 1970, for the expiry of identity tokens.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        project: str = "baton-local",
        region: str = "us-central1",
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = HttpServer(MetadataApp(project, region, clock), host=host, port=port)

    async def start(self) -> int:
        """Serve; return the bound port.

        Raises:
            OSError: the port is taken.
        """
        return await self._http.start()

    async def stop(self, grace_s: float = 1.0) -> None:
        """Stop serving."""
        await self._http.stop(grace_s)


class MetadataApp:
    """The pages, as an ASGI app."""

    def __init__(self, project: str, region: str, clock: Callable[[], float]) -> None:
        self._project = project
        self._region = region
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        status, content_type, text = self._answer(scope["method"], scope["path"], query, headers)
        body = text.encode()
        start = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), _FLAVOR]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, http_method: str, path: str, query: dict[str, str], headers: dict[bytes, bytes]) -> Answer:
        if path == "/-/healthz":
            return _json({"status": "ok"})
        # As Google's: a browser, or a proxy led here by a web page, can't send this header by accident.
        if headers.get(b"metadata-flavor") != b"Google" or b"x-forwarded-for" in headers:
            return _text("Missing Metadata-Flavor:Google header, or the request came through a proxy.", 403)
        if http_method != "GET":
            return _text(f"{http_method} is not allowed on the metadata server; use GET.", 405)
        if path in ("/", "/computeMetadata", "/computeMetadata/"):
            return _text("computeMetadata/\n")
        found = self._value(path.removeprefix(_ROOT), query) if path.startswith(_ROOT) else None
        return found or _text(f"The local metadata server has no {path}.", 404)

    def _value(self, path: str, query: dict[str, str]) -> Answer | None:
        account = f"instance/service-accounts/{'default' if '/default/' in path else ACCOUNT}/"
        if path == account:
            return _json({"aliases": ["default"], "email": ACCOUNT, "scopes": list(SCOPES)})
        if path == f"{account}identity":
            return self._identity(query.get("audience", ""))
        if path == "instance/service-accounts/" and query.get("recursive") == "true":
            entry = {"aliases": ["default"], "email": ACCOUNT, "scopes": list(SCOPES)}
            return _json({"default": entry, ACCOUNT: entry})
        if path == f"{account}token":
            return _json({"access_token": TOKEN, "expires_in": _LIFETIME_S, "token_type": "Bearer"})
        texts = {
            "": "instance/\nproject/\nuniverse/\n",
            "project/project-id": self._project,
            "project/numeric-project-id": "1",
            "universe/universe-domain": "googleapis.com",
            "universe/universe_domain": "googleapis.com",
            "instance/id": "1",
            "instance/region": f"projects/1/regions/{self._region}",
            "instance/zone": f"projects/1/zones/{self._region}-a",
            "instance/service-accounts/": f"default/\n{ACCOUNT}/\n",
            f"{account}email": ACCOUNT,
            f"{account}aliases": "default\n",
            f"{account}scopes": "".join(f"{scope}\n" for scope in SCOPES),
        }
        return _text(texts[path]) if path in texts else None

    def _identity(self, audience: str) -> Answer:
        """An unsigned JWT: its signature is empty, so nobody who checks can take it for real."""
        if not audience:
            return _text("non-empty audience parameter required", 400)
        now = int(self._clock())
        claims = {"aud": audience, "sub": ACCOUNT, "iss": "local-cloud", "iat": now, "exp": now + _LIFETIME_S}
        return _text(f"{_base64({'alg': 'none', 'typ': 'JWT'})}.{_base64(claims)}.")


def _base64(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _json(value: dict[str, object]) -> Answer:
    return 200, "application/json", json.dumps(value)


def _text(text: str, status: int = 200) -> Answer:
    return status, "application/text", text
