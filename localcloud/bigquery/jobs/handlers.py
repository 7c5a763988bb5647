"""The REST methods of jobs: insert (with its uploads), get, list, cancel, delete."""

from __future__ import annotations

import json
import uuid
from typing import Any

from localcloud.bigquery.calls import Threads
from localcloud.bigquery.errors import AlreadyExists, Invalid
from localcloud.bigquery.jobs.service import JobService
from localcloud.bigquery.uploads import Uploads
from localcloud.discovery import Discovery
from localcloud.rest import Call, Handler, Response

# How long an insert holds its answer back for a job that is about to finish: spares the caller's first poll, which the stock
# client makes only after a second.
_INSERT_PATIENCE_S = 1.5
_PAGE_ROWS = 50
_MAX_PAGE_ROWS = 1000


class JobHandlers:
    """Handlers by discovery method id."""

    def __init__(self, service: JobService, uploads: Uploads, discovery: Discovery, threads: Threads) -> None:
        self._service = service
        self._uploads = uploads
        self._discovery = discovery
        self._threads = threads

    def table(self) -> dict[str, Handler]:
        """Method id → handler."""
        return {
            "bigquery.jobs.insert": self._threads.guard(self.insert),
            "bigquery.jobs.get": self._threads.guard(self.get),
            "bigquery.jobs.list": self._threads.guard(self.list),
            "bigquery.jobs.cancel": self._threads.guard(self.cancel),
            "bigquery.jobs.delete": self._threads.guard(self.delete),
        }

    async def insert(self, call: Call) -> dict[str, Any] | Response:
        """Accept a job; with an upload, once its last byte is here."""
        project = call.params["projectId"]
        kind = call.raw_query.get("uploadType", "")
        if not call.match.media:
            return await self._accept(project, call.body or {})
        if call.http_method == "PUT":
            return await self._continue(call, project)
        if call.http_method != "POST":
            raise Invalid("A resumable upload cannot be deleted here; it is forgotten after a week.")
        if kind == "multipart":
            metadata, name = await self._uploads.multipart(call.chunks, call.headers.get("content-type", ""))
            return await self._accept(project, self._checked(call, metadata), upload=name)
        if kind == "resumable":
            return await self._open(call, project)
        raise Invalid(
            f"uploadType is {kind!r}; use multipart or resumable: a load job's file comes with its configuration."
        )

    async def get(self, call: Call) -> dict[str, Any]:
        """One job."""
        return await self._job(call.params["projectId"], call.params["jobId"], call.params.get("location"))

    async def list(self, call: Call) -> dict[str, Any]:
        """Jobs, newest first."""
        params = call.params
        offset = _offset(params.get("pageToken"))
        most = min(int(params.get("maxResults") or _PAGE_ROWS), _MAX_PAGE_ROWS)
        states = [str(one).upper() for one in params.get("stateFilter") or []]
        low, high = (params.get(name) for name in ("minCreationTime", "maxCreationTime"))
        found = await self._threads.call(
            self._service.page,
            params["projectId"],
            states,
            None if low is None else int(low),
            None if high is None else int(high),
            most + 1,
            offset,
        )
        full = str(params.get("projection") or "MINIMAL").upper() == "FULL"
        jobs = [_entry(stored.doc, full=full) for stored in found[:most]]
        answer: dict[str, Any] = {"kind": "bigquery#jobList", "jobs": jobs}
        if len(found) > most:
            answer["nextPageToken"] = str(offset + most)
        return answer

    async def cancel(self, call: Call) -> dict[str, Any]:
        """Ask a job to end."""
        project, job_id, location = call.params["projectId"], call.params["jobId"], call.params.get("location")
        await self._threads.call(self._service.cancel, project, job_id, location)
        await self._service.wait(project, job_id, _INSERT_PATIENCE_S)
        return {"kind": "bigquery#jobCancelResponse", "job": await self._job(project, job_id, location)}

    async def delete(self, call: Call) -> None:
        """Forget a finished job."""
        await self._threads.call(
            self._service.delete, call.params["projectId"], call.params["jobId"], call.params.get("location")
        )

    async def _accept(self, project: str, body: dict[str, Any], *, upload: str = "") -> dict[str, Any]:
        configuration = body.get("configuration") or {}
        if upload and configuration.get("load") is None:
            self._discard(upload)
            raise Invalid("An upload goes with configuration.load only.")
        if configuration.get("dryRun"):
            if upload:
                self._discard(upload)
            return _with_etag(await self._threads.call(self._service.dry_run, project, body))
        try:
            job_id = await self._threads.call(self._service.accept, project, body, upload=upload)
        except Exception:
            if upload:
                self._discard(upload)
            raise
        await self._service.wait(project, job_id, _INSERT_PATIENCE_S)
        return await self._job(project, job_id, None)

    async def _job(self, project: str, job_id: str, location: str | None) -> dict[str, Any]:
        stored = await self._threads.call(self._service.get, project, job_id, location)
        return _with_etag(stored.doc)

    async def _open(self, call: Call, project: str) -> Response:
        raw = await call.read()
        try:
            metadata = json.loads(raw or b"{}")
        except ValueError as error:
            raise Invalid(f"The upload's metadata is no JSON: {error}") from error
        body = self._checked(call, metadata)
        # The id is settled now, so that the last piece can be sent twice and still means one job.
        body["jobReference"] = {"jobId": f"job_{uuid.uuid4().hex}", **(body.get("jobReference") or {})}
        session = await self._uploads.start({"project": project, "body": body})
        path = f"{call.raw_path}?uploadType=resumable&upload_id={session}"
        headers = {"location": f"{call.base_url}{path}", "x-guploader-uploadid": session}
        return Response(200, b"", headers)

    async def _continue(self, call: Call, project: str) -> dict[str, Any] | Response:
        session = call.raw_query.get("upload_id", "")
        progress = await self._uploads.resume(session, call.headers.get("content-range", ""), call.chunks)
        if progress.request["project"] != project:
            raise Invalid(f"Upload {session} was started for project {progress.request['project']}, not {project}.")
        whole = not call.headers.get("content-range")
        if not (progress.is_complete or whole):
            headers = {"range": f"bytes=0-{progress.received - 1}"} if progress.received else {}
            return Response(308, b"", headers)
        name = await self._threads.call(self._uploads.finish, session)
        body = progress.request["body"]
        try:
            return await self._accept(project, body, upload=name)
        except AlreadyExists:
            # The last piece, sent again because its answer was lost: the job is this very session's.
            job_id = body["jobReference"]["jobId"]
            stored = await self._threads.call(self._service.get, project, job_id)
            if stored.internal.get("upload") != name:
                raise
            return await self._job(project, job_id, None)

    def _checked(self, call: Call, metadata: Any) -> dict[str, Any]:
        body: dict[str, Any] = self._discovery.check_body(call.match, metadata)
        return body

    def _discard(self, upload: str) -> None:
        (self._service.engine.incoming / upload).unlink(missing_ok=True)


def _entry(doc: dict[str, Any], *, full: bool) -> dict[str, Any]:
    entry = {key: doc[key] for key in ("kind", "id", "jobReference", "statistics", "status", "user_email")}
    entry["state"] = doc["status"]["state"]
    if "errorResult" in doc["status"]:
        entry["errorResult"] = doc["status"]["errorResult"]
    if full:
        entry["configuration"] = doc["configuration"]
    return entry


def _offset(token: str | None) -> int:
    if not token:
        return 0
    if not token.isdigit():
        raise Invalid(f"Invalid pageToken {token!r}; list from the start.")
    return int(token)


def _with_etag(doc: dict[str, Any]) -> dict[str, Any]:
    from localcloud.bigquery.catalog import with_etag

    return with_etag(doc)
