"""What a query answered: jobs.query and jobs.getQueryResults, page by page."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.calls import Threads
from localcloud.bigquery.errors import (
    AlreadyExists,
    BackendFailed,
    BigQueryError,
    Invalid,
    InvalidQuery,
    NotFound,
    Stopped,
    Unsupported,
)
from localcloud.bigquery.jobs.service import JobService
from localcloud.bigquery.jobs.store import Stored
from localcloud.bigquery.names import TableRef
from localcloud.bigquery.rows import answer_rows, page_token, read_page, read_token, timestamp_format
from localcloud.discovery import Discovery
from localcloud.rest import Call, Handler, Response

_DEFAULT_TIMEOUT_MS = 10_000
# Google answers after 200 s at the latest, whatever was asked for.
_MAX_TIMEOUT_S = 200.0
_BY_REASON: dict[str, type[BigQueryError]] = {
    one.reason: one for one in (Invalid, NotFound, AlreadyExists, Unsupported, BackendFailed)
}
# Which fields of a jobs.query request belong to the job's configuration.query.
_QUERY_FIELDS = (
    "query",
    "defaultDataset",
    "useQueryCache",
    "useLegacySql",
    "parameterMode",
    "queryParameters",
    "maximumBytesBilled",
    "connectionProperties",
    "createSession",
    "continuous",
    "destinationEncryptionConfiguration",
)


class ResultHandlers:
    """Handlers by discovery method id."""

    def __init__(self, service: JobService, discovery: Discovery, threads: Threads) -> None:
        self._service = service
        self._discovery = discovery
        self._threads = threads

    def table(self) -> dict[str, Handler]:
        """Method id → handler."""
        return {
            "bigquery.jobs.query": self._threads.guard(self.query),
            "bigquery.jobs.getQueryResults": self._threads.guard(self.get_query_results),
        }

    async def query(self, call: Call) -> dict[str, Any] | Response:
        """Run a query and answer its first page, if it is done in time."""
        project, body = call.params["projectId"], call.body
        job = _job_of(body)
        if body.get("dryRun"):
            doc = await self._threads.call(self._service.dry_run, project, job)
            return _dry_answer(doc)
        request_id = str(body.get("requestId") or "")
        job_id = await self._threads.call(self._service.accept, project, job, request_id=request_id)
        params = {
            "maxResults": body.get("maxResults"),
            "timeoutMs": body.get("timeoutMs"),
            **{f"formatOptions.{key}": value for key, value in (body.get("formatOptions") or {}).items()},
        }
        answer, texts = await self._answer(project, job_id, None, params)
        answer["kind"] = "bigquery#queryResponse"
        return await self._threads.call(answer_rows, self._discovery, call, answer, texts)

    async def get_query_results(self, call: Call) -> Response:
        """A page of a query's rows."""
        params = call.params
        answer, texts = await self._answer(params["projectId"], params["jobId"], params.get("location"), params)
        for key in (
            "statementType",
            "location",
            "creationTime",
            "startTime",
            "endTime",
            "totalBytesBilled",
            "totalSlotMs",
        ):
            answer.pop(key, None)
        answer["kind"] = "bigquery#getQueryResultsResponse"
        return await self._threads.call(answer_rows, self._discovery, call, answer, texts)

    async def _answer(
        self, project: str, job_id: str, location: str | None, params: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        stored = await self._threads.call(self._service.get, project, job_id, location)
        if not stored.is_done:
            timeout_ms = params.get("timeoutMs")
            timeout_s = int(_DEFAULT_TIMEOUT_MS if timeout_ms is None else timeout_ms) / 1000
            await self._service.wait(project, job_id, min(timeout_s, _MAX_TIMEOUT_S))
        return await self._threads.call(self._page, project, job_id, location, params)

    def _page(
        self, project: str, job_id: str, location: str | None, params: dict[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        stored = self._service.get(project, job_id, location)
        reference = stored.doc["jobReference"]
        if stored.doc["configuration"]["jobType"] != "QUERY":
            raise Invalid(
                f"Job {project}:{job_id} is a {stored.doc['configuration']['jobType']} job; only a query has results."
            )
        if not stored.is_done:
            return {"jobReference": reference, "jobComplete": False}, []
        _raise_failure(stored)
        statistics = stored.doc["statistics"]
        query = statistics.get("query", {})
        answer: dict[str, Any] = {
            "jobReference": reference,
            "jobComplete": True,
            "cacheHit": False,
            "totalBytesProcessed": query.get("totalBytesProcessed", "0"),
            "statementType": query.get("statementType", "SELECT"),
            "location": reference["location"],
            "creationTime": statistics["creationTime"],
            "startTime": statistics["startTime"],
            "endTime": statistics["endTime"],
        }
        if "numDmlAffectedRows" in query:
            answer["numDmlAffectedRows"] = query["numDmlAffectedRows"]
        more, texts = self._rows(stored, params)
        return answer | more, texts

    def _rows(self, stored: Stored, params: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        result = stored.internal.get("result")
        if result is None:
            return {}, []
        ref = TableRef(result["projectId"], result["datasetId"], result["tableId"])
        with self._service.engine.read() as cursor:
            table = catalog.get_table(cursor, ref, self._service.now_ms())
            total, _ = self._service.sizes.of(cursor, table)
            physical = str(table.physical)
            answer: dict[str, Any] = {"schema": {"fields": table.fields}, "totalRows": str(total)}
            most = params.get("maxResults")
            if most is not None and int(most) == 0:
                return answer, []
            token = params.get("pageToken")
            offset = read_token(token, physical) if token else int(params.get("startIndex") or 0)
            page = read_page(
                cursor,
                table.source,
                table.fields,
                offset,
                None if most is None else int(most),
                total,
                timestamp_format(params),
            )
        if page.next_offset is not None:
            answer["pageToken"] = page_token(physical, page.next_offset)
        return answer, page.texts


def _job_of(body: dict[str, Any]) -> dict[str, Any]:
    """The job that a jobs.query request asks for."""
    configuration: dict[str, Any] = {"query": {key: body[key] for key in _QUERY_FIELDS if key in body}}
    for key in ("labels", "jobTimeoutMs", "reservation", "maxSlots"):
        if key in body:
            configuration[key] = body[key]
    reference = {"location": body["location"]} if body.get("location") else {}
    return {"configuration": configuration, "jobReference": reference}


def _dry_answer(doc: dict[str, Any]) -> dict[str, Any]:
    query = doc["statistics"]["query"]
    answer: dict[str, Any] = {
        "kind": "bigquery#queryResponse",
        "jobComplete": True,
        "totalRows": "0",
        "totalBytesProcessed": query["totalBytesProcessed"],
        "cacheHit": False,
    }
    if "schema" in query:
        answer["schema"] = query["schema"]
    return answer


def _raise_failure(stored: Stored) -> None:
    failure = stored.doc["status"].get("errorResult")
    if failure is None:
        return
    message, location = failure["message"], failure.get("location", "")
    reason = failure["reason"]
    if reason in _BY_REASON:
        raise _BY_REASON[reason](message, location=location)
    error: BigQueryError = Stopped(message) if reason == "stopped" else InvalidQuery(message, location=location)
    error.reason = reason
    raise error
