"""tabledata.insertAll: rows as JSON, checked one by one, visible at once when the call is answered."""

from __future__ import annotations

import json
import threading
from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.calls import Threads
from localcloud.bigquery.catalog import Table
from localcloud.bigquery.engine import Engine, rows
from localcloud.bigquery.errors import Invalid, Unsupported
from localcloud.bigquery.jobs.service import JobService
from localcloud.bigquery.names import TableRef, check_dataset, check_project, check_table, quote
from localcloud.bigquery.sources.base import COMPLAINT, numbered_complaints
from localcloud.bigquery.sources.json_files import query_over
from localcloud.rest import Call, Handler

# Google's own bounds.
_MAX_ROWS = 50_000
# How long an insertId keeps a second copy out; Google promises "at least one minute".
_DEDUPE_MS = 60_000
_MAX_REMEMBERED = 200_000


class StreamingHandlers:
    """Handlers by discovery method id."""

    def __init__(self, engine: Engine, service: JobService, threads: Threads) -> None:
        self._engine = engine
        self._service = service
        self._threads = threads
        self._seen: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def table(self) -> dict[str, Handler]:
        """Method id → handler."""
        return {"bigquery.tabledata.insertAll": self._threads.run(self.insert_all)}

    def insert_all(self, call: Call) -> dict[str, Any]:
        """Insert rows; all or none, unless skipInvalidRows."""
        params, body = call.params, call.body
        project, dataset = check_project(params["projectId"]), check_dataset(params["datasetId"])
        ref = TableRef(project, dataset, check_table(params["tableId"]))
        if body.get("templateSuffix"):
            raise Unsupported("templateSuffix is not offered locally; create the table first.")
        given = body.get("rows") or []
        if not given:
            raise Invalid("No rows present in the request.")
        if len(given) > _MAX_ROWS:
            raise Invalid(f"Too many rows present in the request, limit: {_MAX_ROWS} row count: {len(given)}.")
        # One lock, so that two equal requests at once can't both find their ids unseen.
        with self._lock:
            return self._insert(ref, given, body)

    def _insert(self, ref: TableRef, given: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
        now_ms = self._service.now_ms()
        fresh = self._fresh(ref, given, now_ms)
        skips = bool(body.get("skipInvalidRows"))
        ignores = bool(body.get("ignoreUnknownValues"))
        with self._engine.write() as cursor:
            table = catalog.get_table(cursor, ref, now_ms)
            if not table.fields:
                raise Invalid(f"The table {ref} has no schema; set one with tables.patch.")
            bad = self._stage(cursor, table, given, fresh, ignores)
            if not bad or skips:
                columns = ", ".join(quote(one["name"]) for one in table.fields)
                rows(
                    cursor,
                    f"INSERT INTO {table.source} ({columns}) SELECT {columns} FROM checked "  # noqa: S608 - our names
                    f"WHERE {COMPLAINT} IS NULL",
                )
                doc = {**table.doc, "lastModifiedTime": str(now_ms)}
                catalog.put_table(cursor, Table(ref, table.physical, doc))
        if not bad or skips:
            self._remember(ref, [one for at, one in enumerate(given) if at not in bad], now_ms)
        return _answer(given, bad, skips)

    def _stage(
        self, cursor: Any, table: Table, given: list[dict[str, Any]], fresh: list[int], ignores: bool
    ) -> dict[int, str]:
        """Convert the fresh rows into the temporary table `checked`; index → complaint of the bad ones."""
        rows(cursor, "CREATE TEMP TABLE lines (line VARCHAR)")
        if fresh:
            texts = [json.dumps(given[at].get("json") or {}) for at in fresh]
            rows(cursor, "INSERT INTO lines SELECT unnest(?)", [texts])
        relation = "(SELECT TRY_CAST(line AS JSON) AS j FROM lines)"
        rows(cursor, f"CREATE TEMP TABLE checked AS {query_over(relation, table.fields, ignore_unknown=ignores)}")
        found = rows(cursor, numbered_complaints("checked"))
        return {fresh[number - 1]: text for number, text in found}

    def _fresh(self, ref: TableRef, given: list[dict[str, Any]], now_ms: int) -> list[int]:
        """Which rows are no repetition: of an insertId inserted in the last minute, or within this request."""
        fresh: list[int] = []
        here: set[str] = set()
        for at, one in enumerate(given):
            insert_id = one.get("insertId")
            if insert_id:
                seen_ms = self._seen.get((str(ref), insert_id))
                if insert_id in here or (seen_ms is not None and now_ms - seen_ms < _DEDUPE_MS):
                    continue
                here.add(insert_id)
            fresh.append(at)
        return fresh

    def _remember(self, ref: TableRef, given: list[dict[str, Any]], now_ms: int) -> None:
        for one in given:
            if one.get("insertId"):
                self._seen[str(ref), one["insertId"]] = now_ms
        if len(self._seen) > _MAX_REMEMBERED:
            self._seen = {key: at for key, at in self._seen.items() if now_ms - at < _DEDUPE_MS}


def _answer(given: list[dict[str, Any]], bad: dict[int, str], skips: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"kind": "bigquery#tableDataInsertAllResponse"}
    errors = [
        {"index": at, "errors": [{"reason": "invalid", "location": _location(text), "debugInfo": "", "message": text}]}
        for at, text in sorted(bad.items())
    ]
    if bad and not skips:
        # The good ones were held back too, and are told so.
        stopped = {"reason": "stopped", "location": "", "debugInfo": "", "message": ""}
        errors += [{"index": at, "errors": [stopped]} for at in range(len(given)) if at not in bad]
    if errors:
        answer["insertErrors"] = errors
    return answer


def _location(text: str) -> str:
    """The field that a complaint names."""
    for marker in (
        "no such field: ",
        "for field ",
        "Missing required field: ",
        "scalar field: ",
        "This field: ",
        "in array ",
    ):
        if marker in text:
            return text.split(marker)[1].split(" ")[0].rstrip(".")
    return ""
