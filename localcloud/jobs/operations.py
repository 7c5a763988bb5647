"""Long-running operations: recorded with what they were asked to do, carried on by the next service after a crash.

An operation's work must be safe to repeat: after a crash in its middle it is simply done again from the start.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from localcloud.jobs.job_book import KEPT_US
from localcloud.jobs.names import Clock, duration_s, location_of, new_number, not_found, timestamp
from localcloud.jobs.paging import page
from localcloud.jobs.store import Document, Store
from localcloud.rest import ApiError, Call, Handler

KIND = "operation"
_TYPE_PREFIX = "type.googleapis.com/"
_VERTEX = "google.cloud.aiplatform.v1."
_PREFIX = "aiplatform.projects.locations."
_OWNERS = ("", "models.", "endpoints.", "customJobs.")
_LONGEST_WAIT_S = 60.0
_RECORD_AGAIN_S = 1.0
_CODES = {
    "CANCELLED": 1, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "UNIMPLEMENTED": 12,
    "INTERNAL": 13, "UNAVAILABLE": 14,
}  # fmt: skip

# Does an operation's work, given its task; answers the response and its type. ApiError becomes the operation's error.
Worker = Callable[[Mapping[str, Any]], Awaitable[tuple[dict[str, Any], str]]]
Undo = Callable[[Mapping[str, Any]], None]

log = logging.getLogger(__name__)


class Operations:
    """The operations of one jobs service, and the handlers that show them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._undo: dict[str, Undo] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()

    def handlers(self) -> dict[str, Handler]:
        """get, list, wait, cancel and delete, under every resource that has operations."""
        handlers: dict[str, Handler] = {}
        for owner in _OWNERS:
            prefix = f"{_PREFIX}{owner}operations."
            handlers[prefix + "get"] = self.get
            handlers[prefix + "list"] = self.list_page
            handlers[prefix + "wait"] = self.wait
            handlers[prefix + "cancel"] = self.cancel
            handlers[prefix + "delete"] = self.delete
        return handlers

    def register(self, kind: str, worker: Worker, undo: Undo | None = None) -> None:
        """Say who does operations of a kind, and who takes back what a cancelled one had begun."""
        self._workers[kind] = worker
        if undo is not None:
            self._undo[kind] = undo

    def begin(self, owner: str, metadata_type: str, kind: str, task: Mapping[str, Any]) -> dict[str, Any]:
        """Record an operation and start its work; call it inside the transaction that records what it works on.

        Args:
            owner: the resource it belongs to (`projects/p/locations/l/models/m`).
            metadata_type: the short name of its metadata (`UploadModelOperationMetadata`).
            kind: which registered worker does it.
            task: all that the worker needs, as JSON.

        Returns:
            The operation as the API shows it.
        """
        document = self._new(owner, metadata_type, {"kind": kind, "task": dict(task)})
        asyncio.get_running_loop().call_soon(self._run, document["name"])
        return _view(document)

    def finished(self, owner: str, metadata_type: str, response: dict[str, Any], response_type: str) -> dict[str, Any]:
        """Record an operation that is done already."""
        document = self._new(owner, metadata_type, {"response": {"@type": _TYPE_PREFIX + response_type, **response}})
        return _view(document)

    def pending(self, kind: str) -> list[Mapping[str, Any]]:
        """The tasks of operations of a kind that are not done."""
        documents = self._store.documents(KIND)
        return [d["task"] for d in documents if d.get("kind") == kind and not _is_done(d)]

    def recover(self) -> None:
        """Do again what an earlier service had begun. Call once every worker is registered."""
        for document in self._store.documents(KIND):
            if not _is_done(document):
                self._run(document["name"])

    def purge(self) -> None:
        """Forget operations that ended more than 30 days ago."""
        limit = self._clock() - KEPT_US
        for document in self._store.documents(KIND):
            if _is_done(document) and document["updateUs"] < limit:
                self._store.delete(KIND, document["name"])

    async def stop(self) -> None:
        """Leave what is under way to the next service."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, call: Call) -> dict[str, Any]:
        """operations.get."""
        return _view(self._find(call))

    async def list_page(self, call: Call) -> dict[str, Any]:
        """operations.list of a resource or a whole location, newest first."""
        owner = call.params["name"]
        parent = location_of(owner)
        found, token = page(
            call,
            (
                document
                for document in self._store.documents(KIND, parent, newest_first=True)
                if document["name"].startswith(owner + "/")
            ),
            lambda document: int(document["createUs"]),
            now_us=self._clock(),
            default_size=100,
            largest_size=1000,
        )
        return ({"operations": [_view(document) for document in found]} if found else {}) | token

    async def wait(self, call: Call) -> dict[str, Any]:
        """operations.wait: until it is done, or its time-out, or a minute at most; then as get."""
        document = self._find(call)
        task = self._tasks.get(document["name"])
        limit_s = min(duration_s(call.params.get("timeout", "60s")), _LONGEST_WAIT_S)
        if task is not None:
            await asyncio.wait([task], timeout=max(0.0, limit_s))
        return _view(self._find(call))

    async def cancel(self, call: Call) -> dict[str, Any]:
        """operations.cancel: best effort; what is done stays done."""
        self.cancel_by_name(self._find(call)["name"])
        return {}

    def cancel_by_name(self, name: str) -> None:
        """End an operation's work; no effect on one that is done."""
        task = self._tasks.get(name)
        if task is not None:
            self._cancelled.add(name)
            task.cancel()

    async def delete(self, call: Call) -> dict[str, Any]:
        """operations.delete: forgets the operation, does not cancel it."""
        self._store.delete(KIND, self._find(call)["name"])
        return {}

    def _new(self, owner: str, metadata_type: str, extra: Mapping[str, Any]) -> Document:
        now = self._clock()
        document = {
            "name": f"{owner}/operations/{new_number()}",
            "metadataType": f"{_TYPE_PREFIX}{_VERTEX}{metadata_type}",
            "createUs": now,
            "updateUs": now,
            **extra,
        }
        self._store.put(KIND, str(document["name"]), document, location_of(owner))
        return document

    def _run(self, name: str) -> None:
        if name not in self._tasks and self._store.get(KIND, name) is not None:
            task = asyncio.get_running_loop().create_task(self._work(name), name=name)
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _work(self, name: str) -> None:
        """Do it and record the outcome; while the store refuses to write (a full disk), do it again."""
        document = self._store.get(KIND, name)
        while document is not None:
            try:
                outcome = await self._outcome(document)
                if self._store.get(KIND, name) is not None:
                    self._store.put(KIND, name, {**document, **outcome, "updateUs": self._clock()}, location_of(name))
            except sqlite3.Error:
                log.exception(
                    "cannot record a step, trying again", extra={"action": "record_failed", "operation": name}
                )
                await self._pause(name)
            else:
                self._cancelled.discard(name)
                return

    async def _pause(self, name: str) -> None:
        try:
            await asyncio.sleep(_RECORD_AGAIN_S)
        except asyncio.CancelledError:
            if name not in self._cancelled:
                raise  # the service is stopping: the next one carries on

    async def _outcome(self, document: Document) -> dict[str, Any]:
        name, kind, task = document["name"], document["kind"], document["task"]
        try:
            if name in self._cancelled:  # before a full disk kept it from being recorded
                return self._undone(kind, task)
            response, response_type = await self._workers[kind](task)
        except ApiError as error:
            return {"error": {"code": _CODES.get(error.status, 2), "message": error.message}}
        except asyncio.CancelledError:
            if name not in self._cancelled:
                raise  # the service is stopping: the next one carries on
            return self._undone(kind, task)
        except sqlite3.Error:
            raise
        except Exception as error:
            log.exception("operation failed", extra={"action": "operation_failed", "operation": name})
            return {"error": {"code": _CODES["INTERNAL"], "message": f"Internal error: {error!r}"}}
        return {"response": {"@type": _TYPE_PREFIX + _full(response_type), **response}}

    def _undone(self, kind: str, task: Mapping[str, Any]) -> dict[str, Any]:
        if kind in self._undo:
            self._undo[kind](task)
        return {"error": {"code": _CODES["CANCELLED"], "message": "The operation was cancelled."}}

    def _find(self, call: Call) -> Document:
        document = self._store.get(KIND, call.params["name"])
        if document is None:
            raise not_found(call.params["name"])
        return document


def _full(type_name: str) -> str:
    return type_name if type_name.startswith("google.") else _VERTEX + type_name


def _is_done(document: Document) -> bool:
    return "response" in document or "error" in document


def _view(document: Document) -> dict[str, Any]:
    times = {"createTime": timestamp(document["createUs"]), "updateTime": timestamp(document["updateUs"])}
    view: dict[str, Any] = {
        "name": document["name"],
        "metadata": {"@type": document["metadataType"], "genericMetadata": times},
    }
    for key in ("response", "error"):
        if key in document:
            view |= {"done": True, key: document[key]}
    return view
