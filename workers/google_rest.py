"""Calls Google's REST APIs through the official discovery client, and tells failures apart.

The client library can send a POST again by itself on any 5xx; for a create that would be a second job. So it never
retries here (`num_retries=0`): reads are repeated by tenacity, creates never, and a create that got no clear answer is
reported as ambiguous, so that the caller looks before it asks again.
"""

import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import google.auth
import google_auth_httplib2
import httplib2
from google.auth import exceptions as auth_errors
from google.auth.credentials import AnonymousCredentials
from googleapiclient import discovery
from googleapiclient.errors import HttpError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from workers.errors import AlreadyExists, LaunchRefused, NotFound, TransientError
from workers.logs import logger
from workers.transport import Transport

_TIMEOUT_S = 60
_RETRY_FOR_S = 20.0
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TRANSIENT_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})
# A token that is not to be had is no answer either, whatever the error's `retryable` says: it is False also where the
# metadata server did not respond, and whom nobody let in can be let in again.
LOST = (
    httplib2.HttpLib2Error,
    http.client.HTTPException,
    OSError,
    UnicodeDecodeError,  # an answer that is no text
    auth_errors.TransportError,
    auth_errors.RefreshError,
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED"})
_TOO_FAST_TEXT = re.compile(r"\brate ?limit|\bquota exceeded", re.IGNORECASE)


class _Kept:
    """The discovery client's service, or a collection of it, with the collections inside made once.

    The client library makes every method of a collection anew at each `projects().locations().jobs()`: milliseconds of a
    processor, more than all the rest of a call.
    """

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        if getattr(found, "__is_resource__", False):
            kept = _Kept(found())
            found = lambda: kept  # noqa: E731 - what the library's own attribute is: a function without arguments
        self.__dict__[name] = found  # two threads may make it twice; they are alike, and either may stay
        return found


class GoogleRest:
    """One API, at Google's address or at the one that is set.

    Args:
        name, version: as in Google's discovery, for example "dataflow", "v1b3".
        endpoint: where it answers; "" = Google's own.
    """

    def __init__(self, name: str, version: str, endpoint: str = "") -> None:
        self._name = name
        self._version = version
        self._endpoint = endpoint
        self._local = threading.local()
        self._lock = threading.Lock()
        self._service: Any = None
        self._transports: list[Any] = []  # one for each thread that has called

    @property
    def service(self) -> Any:
        """The discovery client's service: building requests on it is thread-safe, sending them is not."""
        with self._lock:
            if self._service is None:
                options = {"api_endpoint": self._endpoint} if self._endpoint else None
                service = discovery.build(
                    self._name,
                    self._version,
                    http=httplib2.Http(),  # never used to send: each call brings its own
                    static_discovery=True,
                    client_options=options,
                )
                self._service = _Kept(service)
            return self._service

    def read(self, request: Any) -> dict[str, Any]:
        """Send a request that changes nothing, again if need be.

        Raises:
            NotFound, LaunchRefused: refused.
            TransientError: no good answer within `_RETRY_FOR_S`.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(_RETRY_FOR_S),
            reraise=True,
        )
        return retrying(self.send, request)

    def send(self, request: Any) -> dict[str, Any]:
        """Send a request once.

        Raises:
            NotFound, AlreadyExists, LaunchRefused: refused, nothing happened.
            TransientError: no clear answer; it may have happened.
        """
        try:
            answer: Any = self.execute(request)
        except HttpError as fault:
            raise _translate(fault) from fault
        except LOST as fault:
            if isinstance(fault, auth_errors.RefreshError):
                logger().error("no-token", api=self._name, reason=str(fault))
            raise TransientError(f"{request.method} {request.uri}: {fault!r}", ambiguous=True) from fault
        if not isinstance(answer, dict):  # a proxy's page, say; what the service did is not known
            raise TransientError(
                f"{request.method} {request.uri} answered no JSON object: {answer!r:.200}", ambiguous=True
            )
        return answer

    def execute(self, request: Any) -> Any:
        """Send a request once; its failures are the client's own, HttpError or one of `LOST`."""
        return request.execute(http=self._http(), num_retries=0)

    def pages(self, request: Any, next_request: Any, items: str) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list; an empty list is an answer without the key.

        Raises:
            NotFound, LaunchRefused: refused.
            TransientError: no good answer, or one that says itself that it is not whole.
        """
        while request is not None:
            answer = self.read(request)
            if answer.get("failedLocation"):  # Dataflow's 200 for "that region did not answer": not an empty list
                failed = [place.get("name", "") for place in answer["failedLocation"]]
                raise TransientError(f"{self._name} lists no {items}: no answer from {failed}", ambiguous=True)
            yield from answer.get(items, [])
            request = next_request(request, answer)

    def _http(self) -> Any:
        http = getattr(self._local, "http", None)
        if http is None:
            plain = Transport(timeout=_TIMEOUT_S)
            plain.redirect_codes = plain.redirect_codes - {308}  # resumable uploads answer 308; not a redirect
            http = google_auth_httplib2.AuthorizedHttp(self._credentials(), http=plain)
            self._local.http = http
            with self._lock:
                self._transports.append(plain)
        return http

    def close(self) -> None:
        """Close every thread's connection; a later call opens a new one."""
        with self._lock:
            for plain in self._transports:
                plain.close()

    def _credentials(self) -> Any:
        """A token never travels over plain http: such an endpoint is a local server, which asks for none."""
        if self._endpoint.startswith("http://"):
            return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth types only a part of itself
        return credentials()


@lru_cache(maxsize=1)
def credentials() -> Any:
    """Return Application Default Credentials."""
    found, _ = google.auth.default(scopes=[_SCOPE])
    return found


def instant(text: str) -> tuple[int, int, str]:
    """Return an RFC 3339 time for comparison: seconds, nanoseconds; what is no such time comes first, by its text.

    The services leave out the digits of a fraction that are zero, and all of it for a full second: as text "…00Z" comes
    after "…00.5Z".
    """
    found = _TIME.fullmatch(text)
    try:
        whole = None if found is None else datetime.fromisoformat(found[1] + found[3])
    except ValueError:  # the 31st of February
        whole = None
    if found is None or whole is None:
        return 0, 0, text
    return int(whole.timestamp()), int((found[2] or "").ljust(9, "0")), ""


def _translate(fault: HttpError) -> Exception:
    code, message = int(fault.resp.status), _message(fault)
    place = f"{fault.uri.split('?')[0]} answered {code}: {message}"
    # 403 can mean "too fast" as well as "not allowed"
    if code in TRANSIENT_CODES or (code == 403 and _is_too_fast(_error(fault))):
        refused = code == 429
        return TransientError(place, ambiguous=not refused)
    if code == 404:
        return NotFound(place, "check the name, or create it")
    if code == 409 and _status_word(fault) == "ABORTED":  # somebody else changed it since we read it
        return TransientError(place, retry_after_s=0.0)
    if code == 409:
        return AlreadyExists(place, "use the one that is there")
    return LaunchRefused(
        place,
        "mend the request: the pipeline's TOML, the event's parameters, or the worker's permissions",
        retry=_status_word(fault) == "FAILED_PRECONDITION",  # what is in the way now may be gone at the next attempt
    )


def _is_too_fast(error: Mapping[str, Any]) -> bool:
    """Tell it by the reasons that the error gives; by its text only where it gives none."""
    if error.get("status") == "RESOURCE_EXHAUSTED":
        return True
    rows = [*_rows(error, "errors"), *_rows(error, "details")]
    reasons = {str(row["reason"]) for row in rows if "reason" in row}
    if reasons:
        return not reasons.isdisjoint(_TOO_FAST)
    return _TOO_FAST_TEXT.search(str(error.get("message", ""))) is not None


def _rows(error: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = error.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _message(fault: HttpError) -> str:
    return str(_error(fault).get("message", fault.reason))


def _status_word(fault: HttpError) -> str:
    return str(_error(fault).get("status", ""))


def _error(fault: HttpError) -> dict[str, Any]:
    try:
        found = json.loads(fault.content)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
