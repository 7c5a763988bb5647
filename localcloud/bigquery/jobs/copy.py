"""Copy jobs: one or several tables into another, from one snapshot."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.engine import rows, scalar
from localcloud.bigquery.errors import Invalid, Unsupported
from localcloud.bigquery.jobs.publish import Destination, publish
from localcloud.bigquery.jobs.task import Outcome, Task
from localcloud.bigquery.names import TableRef, quote
from localcloud.bigquery.schema import columns_ddl


def run_copy(task: Task) -> Outcome:
    """Copy the sources' rows into a staged table; the commit puts it into place.

    Raises:
        NotFound: a source or the dataset is missing.
        Invalid: the sources' schemas differ.
        Unsupported: snapshots, clones and restores.
    """
    options = task.configuration("copy")
    operation = options.get("operationType") or "COPY"
    if operation not in ("COPY", "OPERATION_TYPE_UNSPECIFIED"):
        raise Unsupported(f"operationType {operation} is not offered locally; use COPY.")
    given = options.get("sourceTables") or ([options["sourceTable"]] if options.get("sourceTable") else [])
    sources = [TableRef.from_json(one, project=task.project, what="copy.sourceTables") for one in given]
    if not sources:
        raise Invalid("A copy job needs sourceTable or sourceTables; it has neither.")
    ref = TableRef.from_json(options.get("destinationTable") or {}, project=task.project, what="copy.destinationTable")
    destination = Destination.of(options, ref, "WRITE_EMPTY")
    staged = task.stage()
    with task.read() as cursor:
        existing = destination.check(cursor, task.now_ms)
        tables = [catalog.get_table(cursor, one, task.now_ms) for one in sources]
        fields = tables[0].fields
        shape = [(one["name"].lower(), one["type"], one["mode"] == "REPEATED") for one in fields]
        compared = [*tables[1:], *([existing] if existing is not None and destination.write == "WRITE_APPEND" else [])]
        for other in compared:
            if [(one["name"].lower(), one["type"], one["mode"] == "REPEATED") for one in other.fields] != shape:
                raise Invalid(f"{tables[0].ref} and {other.ref} have different schemas; copy tables of one schema.")
        rows(cursor, f"CREATE TABLE data.{quote(staged)} ({columns_ddl(fields)})")
        for table in tables:
            rows(cursor, f"INSERT INTO data.{quote(staged)} SELECT * FROM {table.source}")  # noqa: S608 - our names
        count = int(scalar(cursor, f"SELECT count(*) FROM data.{quote(staged)}"))  # noqa: S608
        size = sum(task.sizes.of(cursor, one)[1] for one in tables)
    final = existing.fields if existing is not None and destination.write == "WRITE_APPEND" else fields

    def commit(cursor: Any) -> dict[str, Any]:
        publish(cursor, destination, staged, final, existing, task.now_ms)
        return {}

    return Outcome({"copy": {"copiedRows": str(count), "copiedLogicalBytes": str(size)}}, commit)
