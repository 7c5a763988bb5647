"""Make a staged table the content of a destination: the write and create dispositions, decided inside the commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.catalog import Table
from localcloud.bigquery.engine import rows, scalar
from localcloud.bigquery.errors import AlreadyExists, BackendFailed, Invalid, NotFound, Unsupported
from localcloud.bigquery.names import TableRef, quote
from localcloud.bigquery.resources import TABLE_SETTINGS, table_doc
from localcloud.bigquery.schema import Field, duck_type, find

_WRITES = ("WRITE_TRUNCATE", "WRITE_APPEND", "WRITE_EMPTY")
_CREATES = ("CREATE_IF_NEEDED", "CREATE_NEVER")


@dataclass(slots=True)
class Destination:
    """Where a job's rows go, and how."""

    ref: TableRef
    write: str
    create: str = "CREATE_IF_NEEDED"
    settings: dict[str, Any] = field(default_factory=dict)
    # CREATE TABLE without OR REPLACE: even an empty table of this name is in the way.
    must_be_new: bool = False

    @classmethod
    def of(cls, configuration: dict[str, Any], ref: TableRef, default_write: str) -> Destination:
        """Read the dispositions of a load, query or copy configuration."""
        write = configuration.get("writeDisposition") or default_write
        create = configuration.get("createDisposition") or "CREATE_IF_NEEDED"
        if write not in _WRITES:
            raise Unsupported(f"writeDisposition {write} is not offered locally; use one of {_WRITES}.")
        if create not in _CREATES:
            raise Invalid(f"createDisposition {create} is unknown; use one of {_CREATES}.")
        settings = dict(configuration.get("destinationTableProperties") or {})
        settings |= {key: configuration[key] for key in TABLE_SETTINGS if configuration.get(key) is not None}
        return cls(ref, write, create, settings)

    def check(self, cursor: Any, now_ms: int) -> Table | None:
        """The table as it is, or None; raises for what the dispositions forbid. Early, and again in the commit."""
        dataset = catalog.get_dataset(cursor, self.ref.project, self.ref.dataset)
        existing = catalog.find_table(cursor, self.ref, now_ms)
        if existing is None:
            if self.create == "CREATE_NEVER":
                raise NotFound(f"Not found: Table {self.ref}")
            lifetime_ms = dataset.get("defaultTableExpirationMs")
            if lifetime_ms and "expirationTime" not in self.settings:
                self.settings["expirationTime"] = str(now_ms + int(lifetime_ms))
            return None
        if existing.physical is None:
            raise Invalid(f"{self.ref} is a {existing.doc.get('type')}, not a table; name another destination.")
        full = self.write == "WRITE_EMPTY" and scalar(cursor, f"SELECT count(*) FROM {existing.source}") > 0  # noqa: S608
        if self.must_be_new or full:
            raise AlreadyExists(f"Already Exists: Table {self.ref}")
        return existing


def publish(
    cursor: Any,
    destination: Destination,
    staged: str,
    fields: list[Field],
    seen: Table | None,
    now_ms: int,
) -> None:
    """Put the staged rows into place.

    Args:
        cursor: the job's write transaction.
        destination: where to.
        staged: the DuckDB table with all `fields` as its columns.
        fields: the schema that the table has afterwards.
        seen: the table as it was when `fields` was decided.
        now_ms: the commit's time.
    """
    existing = destination.check(cursor, now_ms)
    location = catalog.get_dataset(cursor, destination.ref.project, destination.ref.dataset)["location"]
    if existing is None:
        doc = table_doc(destination.ref, fields, destination.settings, location, now_ms)
        catalog.put_table(cursor, Table(destination.ref, staged, doc))
        return
    appends = destination.write == "WRITE_APPEND"
    if appends and (seen is None or seen.fields != existing.fields):
        raise BackendFailed(
            f"The schema of {destination.ref} changed while the job was reading its input; run the job again."
        )
    doc = {**existing.doc, "schema": {"fields": fields}, "lastModifiedTime": str(now_ms)}
    doc |= {key: value for key, value in destination.settings.items() if not appends}
    is_empty = scalar(cursor, f"SELECT count(*) FROM {existing.source}") == 0  # noqa: S608
    if not appends or is_empty:
        catalog.put_table(cursor, Table(destination.ref, staged, doc))
        return
    widen(cursor, existing, fields)
    columns = ", ".join(quote(one["name"]) for one in fields)
    rows(cursor, f"INSERT INTO {existing.source} ({columns}) SELECT {columns} FROM data.{quote(staged)}")  # noqa: S608
    rows(cursor, f"DROP TABLE data.{quote(staged)}")
    catalog.put_table(cursor, Table(destination.ref, existing.physical, doc))


def widen(cursor: Any, table: Table, fields: list[Field]) -> None:
    """Add the columns that are new in `fields`, and let those be null that no longer are REQUIRED."""
    for one in fields:
        column = quote(one["name"])
        old = find(table.fields, one["name"])
        if old is None:
            default = " DEFAULT []" if one["mode"] == "REPEATED" else ""
            rows(cursor, f"ALTER TABLE {table.source} ADD COLUMN {column} {duck_type(one)}{default}")
        elif old["mode"] == "REQUIRED" and one["mode"] == "NULLABLE":
            rows(cursor, f"ALTER TABLE {table.source} ALTER COLUMN {column} DROP NOT NULL")
