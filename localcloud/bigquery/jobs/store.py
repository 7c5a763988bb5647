"""The jobs in the database: accepted once per id, changed once when done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from localcloud.bigquery.engine import rows
from localcloud.bigquery.errors import AlreadyExists, NotFound

Doc = dict[str, Any]


@dataclass(slots=True)
class Stored:
    """A job: its REST resource, and what only we know (the upload, the table of its result)."""

    doc: Doc
    internal: Doc

    @property
    def is_done(self) -> bool:
        """True once nothing about it changes any more."""
        return bool(self.doc["status"]["state"] == "DONE")


def insert(cursor: Any, project: str, job_id: str, created_ms: int, request_id: str, stored: Stored) -> None:
    """Accept a job.

    Raises:
        AlreadyExists: the id is taken; nothing is changed, and nothing runs twice.
    """
    if rows(cursor, "SELECT 1 FROM meta.jobs WHERE project = ? AND job = ?", [project, job_id]):
        location = stored.doc["jobReference"].get("location")
        raise AlreadyExists(f"Already Exists: Job {project}:{location}.{job_id}")
    state = stored.doc["status"]["state"]
    values = [project, job_id, created_ms, state, request_id, json.dumps(stored.internal), json.dumps(stored.doc)]
    rows(cursor, "INSERT INTO meta.jobs VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def update(cursor: Any, project: str, job_id: str, stored: Stored) -> None:
    """Store a job's new state."""
    values = [stored.doc["status"]["state"], json.dumps(stored.internal), json.dumps(stored.doc), project, job_id]
    rows(cursor, "UPDATE meta.jobs SET state = ?, internal = ?, doc = ? WHERE project = ? AND job = ?", values)


def find(cursor: Any, project: str, job_id: str) -> Stored | None:
    """The job of this id, or None."""
    found = rows(cursor, "SELECT doc, internal FROM meta.jobs WHERE project = ? AND job = ?", [project, job_id])
    return Stored(json.loads(found[0][0]), json.loads(found[0][1])) if found else None


def get(cursor: Any, project: str, job_id: str, location: str | None) -> Stored:
    """The job, or raise NotFound in Google's words."""
    found = find(cursor, project, job_id)
    if found is None or (location and location.lower() != str(found.doc["jobReference"].get("location", "")).lower()):
        where = f"{location}." if location else ""
        raise NotFound(f"Not found: Job {project}:{where}{job_id}")
    return found


def find_request(cursor: Any, project: str, request_id: str, since_ms: int) -> Stored | None:
    """The job that an equal request made since then: `jobs.query` with a requestId runs once."""
    found = rows(
        cursor,
        "SELECT doc, internal FROM meta.jobs WHERE project = ? AND request = ? AND created_ms >= ?",
        [project, request_id, since_ms],
    )
    return Stored(json.loads(found[0][0]), json.loads(found[0][1])) if found else None


def unfinished(cursor: Any) -> list[Stored]:
    """Jobs that were accepted and have no end yet, oldest first."""
    found = rows(cursor, "SELECT doc, internal FROM meta.jobs WHERE state <> 'DONE' ORDER BY created_ms")
    return [Stored(json.loads(doc), json.loads(internal)) for doc, internal in found]


def page(
    cursor: Any, project: str, states: list[str], low_ms: int | None, high_ms: int | None, most: int, offset: int
) -> list[Stored]:
    """Jobs, newest first."""
    where, values = ["project = ?"], [project]
    if states:
        where.append(f"state IN ({', '.join('?' * len(states))})")
        values += states
    for bound, compare in ((low_ms, ">="), (high_ms, "<=")):
        if bound is not None:
            where.append(f"created_ms {compare} {int(bound)}")
    sql = (
        f"SELECT doc, internal FROM meta.jobs WHERE {' AND '.join(where)} ORDER BY created_ms DESC, job "  # noqa: S608
        f"LIMIT {int(most)} OFFSET {int(offset)}"
    )
    return [Stored(json.loads(doc), json.loads(internal)) for doc, internal in rows(cursor, sql, values)]


def delete(cursor: Any, project: str, job_id: str) -> None:
    """Forget a job's metadata."""
    rows(cursor, "DELETE FROM meta.jobs WHERE project = ? AND job = ?", [project, job_id])


def forget_before(cursor: Any, before_ms: int) -> None:
    """Forget finished jobs older than that."""
    rows(cursor, "DELETE FROM meta.jobs WHERE state = 'DONE' AND created_ms < ?", [before_ms])
