"""Cloud Storage's JSON API for small objects, through the discovery client that also launches the jobs.

A stage makes eight calls to it. Here each takes a third to two thirds of the processor time that it takes through
google-cloud-storage, whose client looks up proxies, builds spans and prepares for uploads of any size at every call; a
worker then loads one HTTP library less. Objects are read and written whole, so none of that is missed.

Every call may be repeated: reads as they are, writes because each brings the generation that it replaces, deletions
because an object that is gone already is as good.
"""

import copy
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote

from googleapiclient.errors import HttpError
from googleapiclient.http import MediaInMemoryUpload
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from workers.errors import TransientError
from workers.google_rest import LOST, TRANSIENT_CODES, GoogleRest

_PATH = "/storage/v1/"
_RETRY_FOR_S = 30.0  # a request that takes longer is a fault of its own: the message is given back and comes again
_RETRYING = Retrying(
    retry=retry_if_exception_type(TransientError),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    stop=stop_after_delay(_RETRY_FOR_S),
    reraise=True,
)  # keeps what it knows of a call in its thread
_NOT_FOUND, _PRECONDITION_FAILED, _RANGE_NOT_SATISFIABLE = 404, 412, 416


class Content(NamedTuple):
    """An object's bytes and the generation they were read at."""

    content: bytes
    generation: int


class PreconditionFailed(Exception):
    """The object is not at the generation that the write named."""


class _Prepared:
    """A method's request as the discovery client makes it, made once: to make one takes as long as to send it.

    Args:
        request: made with the three words below in the place of what each call has of its own.
    """

    BUCKET, NAME, GENERATION = "bucket-of-a-call", "name-of-a-call", "generation-of-a-call"

    def __init__(self, request: Any) -> None:
        self._request = request
        self._uri = re.split(f"({self.BUCKET}|{self.NAME}|{self.GENERATION})", request.uri)

    def request(self, bucket: str, name: str, generation: int = 0) -> Any:
        """Return the request of one call, which may be changed and sent."""
        own = {self.BUCKET: quote(bucket, safe=""), self.NAME: quote(name, safe=""), self.GENERATION: str(generation)}
        request = copy.copy(self._request)
        request.headers = dict(request.headers)
        request.uri = "".join(own.get(part, part) for part in self._uri)
        return request


class StorageRest:
    """All buckets, at Google's address or at another.

    Args:
        endpoint: where Cloud Storage answers, as STORAGE_EMULATOR_HOST says it; "" = Google's own.
    """

    def __init__(self, endpoint: str = "") -> None:
        self._scheme = endpoint.partition("://")[0] if endpoint else "https"
        self._rest = GoogleRest("storage", "v1", f"{endpoint.rstrip('/')}{_PATH}" if endpoint else "")

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    def read(
        self, bucket: str, name: str, *, generation: int | None = None, limit_bytes: int | None = None
    ) -> Content | None:
        """Return the object, or its first `limit_bytes`; None where it, or its bucket, is not there.

        Raises:
            TransientError: no good answer.
        """
        if generation is None:
            request = self._reading.request(bucket, name)
        else:
            request = self._objects.get_media(bucket=bucket, object=name, generation=str(generation))
        if limit_bytes is not None:
            request.headers["range"] = f"bytes=0-{limit_bytes - 1}"
        # The answer's own header names the generation of just these bytes; asking separately could name a later one.
        request.postproc = lambda response, content: Content(content, int(response.get("x-goog-generation", 0)))
        try:
            found: Content = self._asked(request, f"read gs://{bucket}/{name}")
        except HttpError as fault:
            if fault.resp.status == _RANGE_NOT_SATISFIABLE:  # an empty object has no first byte
                return Content(b"", int(fault.resp.get("x-goog-generation", 0)))
            if fault.resp.status == _NOT_FOUND:
                return None
            raise _unclear(fault, f"read gs://{bucket}/{name}") from fault
        return found

    def write(self, bucket: str, name: str, content: bytes, *, if_generation: int) -> int:
        """Write the object if it is at `if_generation`, 0 = must not exist; return the new generation.

        Raises:
            PreconditionFailed: it is at another generation.
            TransientError: no good answer; the write may have happened.
        """
        request = self._writing.request(bucket, name, if_generation)
        request.body, request.body_size = content, len(content)
        try:
            return int(self._asked(request, f"write gs://{bucket}/{name}")["generation"])
        except HttpError as fault:
            if fault.resp.status == _PRECONDITION_FAILED:
                raise PreconditionFailed from fault
            raise _unclear(fault, f"write gs://{bucket}/{name}") from fault

    def delete(self, bucket: str, name: str) -> None:
        """Delete the object; that it is gone already is as good.

        Raises:
            TransientError: no good answer.
        """
        try:
            self._asked(self._deleting.request(bucket, name), f"delete gs://{bucket}/{name}")
        except HttpError as fault:
            if fault.resp.status != _NOT_FOUND:
                raise _unclear(fault, f"delete gs://{bucket}/{name}") from fault

    def list(self, bucket: str, prefix: str) -> Iterator[str]:
        """Yield the names of all objects under `prefix`.

        Raises:
            TransientError: no good answer.
        """
        objects, place = self._objects, f"list gs://{bucket}/{prefix}"
        request = objects.list(bucket=bucket, prefix=prefix, fields="items(name),nextPageToken")
        while request is not None:
            try:
                answer = self._asked(request, place)
            except HttpError as fault:
                raise _unclear(fault, place) from fault
            yield from (item["name"] for item in answer.get("items", []))
            request = objects.list_next(request, answer)

    @property
    def _objects(self) -> Any:
        return self._rest.service.objects()

    # Two threads may make one of these twice; they are alike.

    @cached_property
    def _reading(self) -> _Prepared:
        return _Prepared(self._objects.get_media(bucket=_Prepared.BUCKET, object=_Prepared.NAME))

    @cached_property
    def _writing(self) -> _Prepared:
        request = self._objects.insert(
            bucket=_Prepared.BUCKET,
            name=_Prepared.NAME,
            ifGenerationMatch=_Prepared.GENERATION,
            fields="generation",
            media_body=MediaInMemoryUpload(b"", mimetype="application/json"),
        )
        # The client takes the host from the endpoint, and the scheme of an upload from Google's document.
        request.uri = f"{self._scheme}://{request.uri.partition('://')[2]}"
        return _Prepared(request)

    @cached_property
    def _deleting(self) -> _Prepared:
        return _Prepared(self._objects.delete(bucket=_Prepared.BUCKET, object=_Prepared.NAME))

    def _asked(self, request: Any, place: str) -> Any:
        """Send a request, again while the service is away or too busy; any other refusal is raised as it is."""

        def once() -> Any:
            try:
                return self._rest.execute(request)
            except HttpError as fault:
                if int(fault.resp.status) in TRANSIENT_CODES:
                    raise _unclear(fault, place) from fault
                raise
            except LOST as fault:
                raise TransientError(f"cannot {place}: {fault!r}", ambiguous=True) from fault

        return _RETRYING(once)


def _unclear(fault: HttpError, place: str) -> TransientError:
    if int(fault.resp.status) == _NOT_FOUND:  # of a write or a list, this is the bucket
        mend = "mend BATON_BUCKET, or make the bucket with `baton setup`"
        return TransientError(f"cannot {place}: there is no such bucket; {mend}", ambiguous=True)
    return TransientError(f"cannot {place}: {fault}", ambiguous=True)
