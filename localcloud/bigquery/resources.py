"""REST resources built from what the catalogue keeps: the parts of a table or dataset that are computed, not stored."""

from __future__ import annotations

import threading
from typing import Any

from localcloud.bigquery.catalog import Table
from localcloud.bigquery.engine import rows
from localcloud.bigquery.names import TableRef, quote
from localcloud.bigquery.schema import Field, row_bytes_sql

LOCATION = "US"

# What a caller may set on a table; everything else in a Table resource is ours to say.
TABLE_SETTINGS = (
    "friendlyName",
    "description",
    "labels",
    "expirationTime",
    "timePartitioning",
    "rangePartitioning",
    "clustering",
    "requirePartitionFilter",
    "maxStaleness",
    "defaultCollation",
    "caseInsensitive",
    "tableConstraints",
    "resourceTags",
)
DATASET_SETTINGS = (
    "friendlyName",
    "description",
    "labels",
    "defaultTableExpirationMs",
    "defaultPartitionExpirationMs",
    "access",
    "isCaseInsensitive",
    "defaultCollation",
    "maxTimeTravelHours",
    "storageBillingModel",
    "resourceTags",
)


def dataset_doc(project: str, dataset: str, body: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """A new dataset's document."""
    return {
        "kind": "bigquery#dataset",
        "id": f"{project}:{dataset}",
        "selfLink": f"https://bigquery.googleapis.com/bigquery/v2/projects/{project}/datasets/{dataset}",
        "datasetReference": {"projectId": project, "datasetId": dataset},
        "location": body.get("location") or LOCATION,
        "type": "DEFAULT",
        "creationTime": str(now_ms),
        "lastModifiedTime": str(now_ms),
        **{key: body[key] for key in DATASET_SETTINGS if body.get(key) is not None},
    }


def table_doc(
    ref: TableRef, fields: list[Field], settings: dict[str, Any], location: str, now_ms: int
) -> dict[str, Any]:
    """A new table's document."""
    doc: dict[str, Any] = {
        "kind": "bigquery#table",
        "id": str(ref),
        "selfLink": f"https://bigquery.googleapis.com/bigquery/v2/projects/{ref.project}/datasets/{ref.dataset}/tables/{ref.table}",
        "tableReference": ref.to_json(),
        "type": "TABLE",
        "location": location,
        "creationTime": str(now_ms),
        "lastModifiedTime": str(now_ms),
        **{key: settings[key] for key in TABLE_SETTINGS if settings.get(key) is not None},
    }
    if fields:
        doc["schema"] = {"fields": fields}
    return doc


class Sizes:
    """Row counts and logical bytes of tables, asked of DuckDB once per version of a table."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, int]] = {}
        self._lock = threading.Lock()

    def of(self, cursor: Any, table: Table) -> tuple[int, int]:
        """(rows, bytes); (0, 0) for a view or a table without a schema."""
        if table.physical is None:
            return 0, 0
        key = (table.physical, table.version)
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        size = f"coalesce(sum({row_bytes_sql(table.fields)}), 0)" if table.fields else "0"
        found = rows(cursor, f"SELECT count(*), CAST({size} AS BIGINT) FROM {table.source}")  # noqa: S608 - our names
        with self._lock:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[key] = (found[0][0], found[0][1])
        return found[0][0], found[0][1]


def full_table(cursor: Any, table: Table, sizes: Sizes) -> dict[str, Any]:
    """The Table resource that `tables.get` answers."""
    count, size = sizes.of(cursor, table)
    doc = dict(table.doc)
    if table.physical is not None:
        doc |= {"numRows": str(count), "numBytes": str(size), "numLongTermBytes": "0"}
    return doc


def short_table(table: Table) -> dict[str, Any]:
    """The entry of a table in `tables.list`."""
    keep = ("kind", "id", "tableReference", "type", "creationTime", "expirationTime", "friendlyName", "labels")
    more = ("timePartitioning", "rangePartitioning", "clustering", "requirePartitionFilter")
    short = {key: table.doc[key] for key in (*keep, *more) if key in table.doc}
    if "view" in table.doc:
        short["view"] = {"useLegacySql": False}
    return short


def empty_table_sql(physical: str, ddl: str) -> str:
    """CREATE TABLE for a table of ours; one without a schema gets a column that nobody sees."""
    return f"CREATE TABLE data.{quote(physical)} ({ddl or '_none BOOLEAN'})"
