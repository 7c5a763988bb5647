"""Query jobs: SELECT into a table of results (named, or an anonymous one for a day), DML in the job's own commit."""

from __future__ import annotations

import hashlib
from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.catalog import Table
from localcloud.bigquery.engine import rows, scalar
from localcloud.bigquery.errors import BigQueryError, Invalid, InvalidQuery, Unsupported
from localcloud.bigquery.googlesql.errors import explain
from localcloud.bigquery.googlesql.scope import Resolver
from localcloud.bigquery.googlesql.translate import Statement, Translated, parse, translate
from localcloud.bigquery.jobs import ddl
from localcloud.bigquery.jobs.publish import Destination, publish
from localcloud.bigquery.jobs.task import Outcome, Task
from localcloud.bigquery.names import ANONYMOUS_DATASET, TableRef, quote
from localcloud.bigquery.resources import table_doc
from localcloud.bigquery.schema import Field, cast_sql, columns_ddl, field_of

_RESULT_LIFETIME_MS = 24 * 3600 * 1000
_DML = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE_TABLE"))
_REFUSED_OPTIONS = (
    "tableDefinitions",
    "userDefinedFunctionResources",
    "scriptOptions",
    "connectionProperties",
    "createSession",
    "continuous",
    "destinationEncryptionConfiguration",
)


def run_query(task: Task) -> Outcome:
    """Run one statement.

    Raises:
        InvalidQuery, NotFound, Unsupported, Invalid: as BigQuery would, with the place in the query.
    """
    options = task.configuration("query")
    check_options(options)
    statement = parse(_text(options))
    if statement.kind == "SELECT":
        return select(task, options, statement, _destination(task, options))
    if options.get("destinationTable"):
        raise Invalid(f"A {statement.kind} statement takes no destinationTable; leave it out.")
    if statement.kind in _DML:
        return _modify(task, options, statement)
    return ddl.run_ddl(task, options, statement)


def dry_run(task: Task) -> dict[str, Any]:
    """The statistics of a query that is only checked: its schema and the bytes that it would read."""
    options = task.configuration("query")
    check_options(options)
    statement = parse(_text(options))
    with task.read() as cursor:
        resolver = resolver_of(task, options, cursor)
        query: dict[str, Any] = {"statementType": statement.kind}
        if statement.kind == "SELECT":
            translated = _translate(options, statement, resolver)
            query["schema"] = {"fields": describe(cursor, translated, statement.text)}
            read = list(translated.tables.values())
        elif statement.kind in _DML:
            read = list(_translate(options, statement, resolver).tables.values())
        else:
            query["statementType"] = ddl.statement_type(statement)
            read = []
        size = sum(task.sizes.of(cursor, catalog.get_table(cursor, ref, task.now_ms))[1] for ref in set(read))
    query |= {"totalBytesProcessed": str(size), "totalBytesBilled": "0", "cacheHit": False}
    query["referencedTables"] = [ref.to_json() for ref in set(read)]
    return {"query": query, "totalBytesProcessed": str(size)}


def select(task: Task, options: dict[str, Any], statement: Statement, destination: Destination | None) -> Outcome:
    """Run a SELECT into a staged table; the commit makes it the destination's content, or an anonymous result."""
    staged = task.stage()
    existing: Table | None = None
    with task.read() as cursor:
        if destination is not None:
            existing = destination.check(cursor, task.now_ms)
        translated = _translate(options, statement, resolver_of(task, options, cursor))
        fields = describe(cursor, translated, statement.text)
        if destination is not None and existing is not None and destination.write == "WRITE_APPEND":
            fields = _same_columns(existing, fields)
        count = _materialise(cursor, translated, fields, staged, statement.text)
        size = sum(
            task.sizes.of(cursor, catalog.get_table(cursor, ref, task.now_ms))[1]
            for ref in set(translated.tables.values())
        )
    target = destination.ref if destination is not None else anonymous_table(task)

    def commit(cursor: Any) -> dict[str, Any]:
        if destination is not None:
            publish(cursor, destination, staged, fields, existing, task.now_ms)
        else:
            doc = table_doc(target, fields, {}, task.location, task.now_ms)
            doc["expirationTime"] = str(task.now_ms + _RESULT_LIFETIME_MS)
            catalog.put_table(cursor, Table(target, staged, doc))
        return {}

    query = {
        "statementType": "SELECT",
        "totalBytesProcessed": str(size),
        "totalBytesBilled": "0",
        "cacheHit": False,
        "referencedTables": [ref.to_json() for ref in sorted(set(translated.tables.values()), key=str)],
        "totalSlotMs": "0",
    }
    return Outcome({"query": query, "totalBytesProcessed": str(size)}, commit, result=target, row_count=count)


def anonymous_table(task: Task) -> TableRef:
    """Where a query without a destination leaves its rows; the name follows from the job."""
    digest = hashlib.sha256(f"{task.project}/{task.job_id}".encode()).hexdigest()
    return TableRef(task.project, ANONYMOUS_DATASET, f"anon{digest[:40]}")


def describe(cursor: Any, translated: Translated, text: str) -> list[Field]:
    """The schema of a query's result."""
    try:
        found = cursor.execute(f"SELECT * FROM ({translated.sql}) LIMIT 0")  # noqa: S608 - the translator's SQL
        types = [kind for _, kind, *_ in found.description]
        found.fetchall()
        # The outer SELECT renames columns of the same name, so the names are asked of the query itself.
        named = cursor.execute(f"DESCRIBE {translated.sql}").fetchall()
    except Exception as error:
        raise explain(error, text, translated.tables) from error
    names = [str(row[0]) for row in named]
    lowered = [one.lower() for one in names]
    doubled = sorted({one for one in names if lowered.count(one.lower()) > 1})
    if doubled:
        raise InvalidQuery(
            f"Duplicate column names in the result are not supported. Found duplicate(s): {', '.join(doubled)}; "
            "name them with AS."
        )
    return [field_of(name, kind) for name, kind in zip(names, types, strict=True)]


def resolver_of(task: Task, options: dict[str, Any], cursor: Any) -> Resolver:
    """Names as this job sees them, in the snapshot of this transaction."""
    return Resolver(
        task.project, options.get("defaultDataset"), lambda ref: catalog.get_table(cursor, ref, task.now_ms)
    )


def check_options(options: dict[str, Any]) -> None:
    """Refuse what would be read differently, or ignored."""
    if options.get("useLegacySql", True):
        raise Unsupported(
            "useLegacySql is not false, so BigQuery would read this as legacy SQL, which the local BigQuery does not have; "
            "set useLegacySql to false."
        )
    present = [one for one in _REFUSED_OPTIONS if options.get(one)]
    if present:
        raise Unsupported(f"Query option {', '.join(present)} is not offered locally; leave it out.")


def _text(options: dict[str, Any]) -> str:
    text = str(options.get("query") or "")
    if not text.strip():
        raise Invalid("Required parameter is missing: query")
    return text


def _destination(task: Task, options: dict[str, Any]) -> Destination | None:
    given = options.get("destinationTable")
    if not given:
        return None
    if given.get("datasetId") == ANONYMOUS_DATASET:
        return None
    ref = TableRef.from_json(given, project=task.project, what="query.destinationTable")
    return Destination.of(options, ref, "WRITE_EMPTY")


def _translate(options: dict[str, Any], statement: Statement, resolver: Resolver) -> Translated:
    parameters = options.get("queryParameters") or []
    return translate(statement, resolver, parameters, options.get("parameterMode") or "")


def _materialise(cursor: Any, translated: Translated, fields: list[Field], staged: str, text: str) -> int:
    """Run the query into the staged table, in the query's own order; how many rows."""
    inner = [quote(f"c{at}") for at in range(len(fields))]
    values = ", ".join(cast_sql(one, field) for one, field in zip(inner, fields, strict=True))
    target = f"data.{quote(staged)}"
    try:
        rows(cursor, f"CREATE TABLE {target} ({columns_ddl(fields)})")
        sql = f"INSERT INTO {target} SELECT {values} FROM ({translated.sql}) AS q({', '.join(inner)})"  # noqa: S608
        return int(rows(cursor, sql)[0][0])
    except Exception as error:
        raise explain(error, text, translated.tables) from error


def _same_columns(existing: Table, fields: list[Field]) -> list[Field]:
    """The table's own fields, when the query's columns fit them by position and name."""
    names = [one["name"].lower() for one in existing.fields]
    if [one["name"].lower() for one in fields] != names:
        raise Invalid(
            f"Invalid schema update. The query gives {[one['name'] for one in fields]}, {existing.ref} has "
            f"{[one['name'] for one in existing.fields]}; select the same columns in the same order."
        )
    return existing.fields


def _modify(task: Task, options: dict[str, Any], statement: Statement) -> Outcome:
    """DML: checked now, run inside the commit, so that it and the job's end are one."""
    with task.read() as cursor:
        _translate(options, statement, resolver_of(task, options, cursor))

    def commit(cursor: Any) -> dict[str, Any]:
        task.hold(cursor)
        resolver = resolver_of(task, options, cursor)
        target = resolver.find(ddl.target_node(statement), statement.text)
        if target.physical is None:
            raise InvalidQuery(f"{target.ref} is a view; DML changes tables only.")
        translated = _translate(options, statement, resolver)
        try:
            if statement.kind == "TRUNCATE_TABLE":
                count = int(scalar(cursor, f"SELECT count(*) FROM {target.source}"))  # noqa: S608 - our name
                rows(cursor, f"DELETE FROM {target.source}")  # noqa: S608
            else:
                count = int(rows(cursor, translated.sql)[0][0])
        except BigQueryError:
            raise
        except Exception as error:
            raise explain(error, statement.text, translated.tables) from error
        doc = {**target.doc, "lastModifiedTime": str(task.now_ms)}
        catalog.put_table(cursor, Table(target.ref, target.physical, doc))
        return {"query": _dml_statistics(statement.kind, count, target.ref)}

    return Outcome({"query": {"statementType": statement.kind, "totalBytesProcessed": "0", "cacheHit": False}}, commit)


def _dml_statistics(kind: str, count: int, target: TableRef) -> dict[str, Any]:
    statistics: dict[str, Any] = {"numDmlAffectedRows": str(count), "referencedTables": [target.to_json()]}
    part = {"INSERT": "insertedRowCount", "UPDATE": "updatedRowCount"}.get(kind, "deletedRowCount")
    if kind != "MERGE":
        statistics["dmlStats"] = {part: str(count)}
    return statistics
