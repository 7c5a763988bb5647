"""What is in the database: datasets and tables, as rows whose `doc` is the REST resource.

Every function works inside a transaction of the caller's (`cursor`), so a table and the job that made it appear together.
Counts and sizes are not kept here: they are asked of the table when somebody wants to know.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

from localcloud.bigquery.engine import rows
from localcloud.bigquery.errors import AlreadyExists, ConditionFailed, NotFound
from localcloud.bigquery.names import TableRef, quote

Doc = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the catalogue. `physical` is its DuckDB table, None for a view; `version` changes with its rows."""

    ref: TableRef
    physical: str | None
    doc: Doc
    version: str = ""

    @property
    def fields(self) -> list[Doc]:
        """The columns, as REST fields; empty for a table without a schema yet."""
        found: list[Doc] = self.doc.get("schema", {}).get("fields", [])
        return found

    @property
    def source(self) -> str:
        """The DuckDB name to read from."""
        if self.physical is None:
            raise NotFound(f"{self.ref} is a {self.doc.get('type')} and has no rows of its own; query it instead.")
        return f"data.{quote(self.physical)}"


def find_dataset(cursor: Any, project: str, dataset: str) -> Doc | None:
    """The dataset's document, or None."""
    found = rows(cursor, "SELECT doc FROM meta.datasets WHERE project = ? AND dataset = ?", [project, dataset])
    return json.loads(found[0][0]) if found else None


def get_dataset(cursor: Any, project: str, dataset: str) -> Doc:
    """The dataset's document, or raise NotFound in Google's words."""
    doc = find_dataset(cursor, project, dataset)
    if doc is None:
        raise NotFound(f"Not found: Dataset {project}:{dataset}")
    return doc


def list_datasets(cursor: Any, project: str) -> list[Doc]:
    """All datasets of a project by name."""
    found = rows(cursor, "SELECT doc FROM meta.datasets WHERE project = ? ORDER BY dataset", [project])
    return [json.loads(doc) for (doc,) in found]


def create_dataset(cursor: Any, project: str, dataset: str, doc: Doc) -> Doc:
    """Store a new dataset; raises AlreadyExists."""
    if find_dataset(cursor, project, dataset) is not None:
        raise AlreadyExists(f"Already Exists: Dataset {project}:{dataset}")
    done = with_etag(doc)
    rows(cursor, "INSERT INTO meta.datasets VALUES (?, ?, ?)", [project, dataset, json.dumps(done)])
    return done


def update_dataset(cursor: Any, project: str, dataset: str, doc: Doc) -> Doc:
    """Store a changed dataset."""
    done = with_etag(doc)
    sql = "UPDATE meta.datasets SET doc = ? WHERE project = ? AND dataset = ?"
    rows(cursor, sql, [json.dumps(done), project, dataset])
    return done


def delete_dataset(cursor: Any, project: str, dataset: str) -> None:
    """Remove a dataset; its tables are removed by the caller."""
    rows(cursor, "DELETE FROM meta.datasets WHERE project = ? AND dataset = ?", [project, dataset])


def find_table(cursor: Any, ref: TableRef, now_ms: int) -> Table | None:
    """The table, or None when there is none or its expiration time has passed."""
    found = rows(
        cursor,
        "SELECT physical, doc, version FROM meta.tables WHERE project = ? AND dataset = ? AND table_id = ? "
        "AND (expires_ms IS NULL OR expires_ms > ?)",
        [ref.project, ref.dataset, ref.table, now_ms],
    )
    return Table(ref, found[0][0], json.loads(found[0][1]), found[0][2]) if found else None


def get_table(cursor: Any, ref: TableRef, now_ms: int) -> Table:
    """The table, or raise NotFound (of the dataset, if that is what is missing) in Google's words."""
    table = find_table(cursor, ref, now_ms)
    if table is not None:
        return table
    get_dataset(cursor, ref.project, ref.dataset)
    raise NotFound(f"Not found: Table {ref}")


def list_tables(cursor: Any, project: str, dataset: str, now_ms: int) -> list[Table]:
    """All tables of a dataset by name."""
    found = rows(
        cursor,
        "SELECT table_id, physical, doc, version FROM meta.tables WHERE project = ? AND dataset = ? "
        "AND (expires_ms IS NULL OR expires_ms > ?) ORDER BY table_id",
        [project, dataset, now_ms],
    )
    return [
        Table(TableRef(project, dataset, name), physical, json.loads(doc), version)
        for name, physical, doc, version in found
    ]


def put_table(cursor: Any, table: Table) -> Table:
    """Store a table, new or changed; the DuckDB table that it pointed to before is dropped when it is another one."""
    remove_table(cursor, table.ref, keep=table.physical)
    doc = with_etag(table.doc)
    expires = int(doc["expirationTime"]) if doc.get("expirationTime") else None
    version = uuid.uuid4().hex
    key = [table.ref.project, table.ref.dataset, table.ref.table]
    values = [*key, table.physical, expires, version, json.dumps(doc)]
    rows(cursor, "INSERT INTO meta.tables VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    return Table(table.ref, table.physical, doc, version)


def remove_table(cursor: Any, ref: TableRef, *, keep: str | None = None) -> None:
    """Remove a table and its rows; `keep` names a DuckDB table that stays."""
    where = "WHERE project = ? AND dataset = ? AND table_id = ?"
    key = [ref.project, ref.dataset, ref.table]
    for (physical,) in rows(cursor, f"SELECT physical FROM meta.tables {where}", key):  # noqa: S608 - constant text
        if physical is not None and physical != keep:
            rows(cursor, f"DROP TABLE IF EXISTS data.{quote(physical)}")
    rows(cursor, f"DELETE FROM meta.tables {where}", key)  # noqa: S608 - constant text


def remove_expired(cursor: Any, now_ms: int) -> None:
    """Drop every table whose expiration time has passed: anonymous results after a day, and what users gave a time."""
    sql = "SELECT project, dataset, table_id FROM meta.tables WHERE expires_ms <= ?"
    for project, dataset, table_id in rows(cursor, sql, [now_ms]):
        remove_table(cursor, TableRef(project, dataset, table_id))


def with_etag(doc: Doc) -> Doc:
    """The document with an etag that follows from its settings; new rows leave it as it is."""
    plain = {key: value for key, value in doc.items() if key != "etag"}
    settings = {key: value for key, value in plain.items() if key != "lastModifiedTime"}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return {**plain, "etag": digest[:24]}


def check_etag(doc: Doc, if_match: str | None, what: str) -> None:
    """Raise ConditionFailed when the caller's If-Match is not the stored etag."""
    if if_match not in (None, "", "*", doc.get("etag")):
        raise ConditionFailed(
            f"Precondition check failed: {what} has etag {doc.get('etag')}, If-Match asked for {if_match}; read it again."
        )
