"""Load jobs: files (an upload, or gs:// objects) into a table; all rows at once, or none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from localcloud.bigquery.catalog import Table
from localcloud.bigquery.engine import rows, scalar
from localcloud.bigquery.errors import BigQueryError, Invalid, Unsupported
from localcloud.bigquery.jobs.publish import Destination, publish
from localcloud.bigquery.jobs.schemas import LoadSchema, decide
from localcloud.bigquery.jobs.task import Outcome, Task
from localcloud.bigquery.names import TableRef, new_physical, quote
from localcloud.bigquery.schema import columns_ddl, row_bytes_sql
from localcloud.bigquery.sources.base import COMPLAINT, LocalFile, Source, numbered_complaints
from localcloud.bigquery.sources.csv_files import CsvSource
from localcloud.bigquery.sources.json_files import JsonSource
from localcloud.bigquery.sources.parquet_files import ParquetSource

log = logging.getLogger(__name__)

_SOURCES: dict[str, Callable[[list[LocalFile], dict[str, Any]], Source]] = {
    "CSV": CsvSource,
    "NEWLINE_DELIMITED_JSON": JsonSource,
    "PARQUET": ParquetSource,
}
_SHOWN_COMPLAINTS = 5
# Options that would change what lands in the table, and that we do not have: refused, not ignored.
_REFUSED_OPTIONS = (
    "hivePartitioningOptions",
    "fileSetSpecType",
    "projectionFields",
    "decimalTargetTypes",
    "connectionProperties",
    "jsonExtension",
    "timeZone",
    "dateFormat",
    "datetimeFormat",
    "timeFormat",
    "timestampFormat",
    "columnNameCharacterMap",
    "referenceFileSchemaUri",
    "sourceColumnMatch",
)


def run_load(task: Task) -> Outcome:
    """Parse the files into a staged table; the commit puts it into place.

    Raises:
        Invalid: more bad rows than maxBadRecords, or options that do not go together.
        NotFound: a file or the dataset is missing.
        Unsupported: a format or an option that the stand-in lacks.
    """
    options = task.configuration("load")
    _check_options(options)
    ref = TableRef.from_json(options.get("destinationTable") or {}, project=task.project, what="load.destinationTable")
    destination = Destination.of(options, ref, "WRITE_APPEND")
    with task.read() as cursor:
        destination.check(cursor, task.now_ms)
    files = _fetch(task, options)
    try:
        return _stage(task, options, destination, files)
    finally:
        if "upload" not in task.internal:
            for one in files:
                one.path.unlink(missing_ok=True)


def _stage(task: Task, options: dict[str, Any], destination: Destination, files: list[LocalFile]) -> Outcome:
    format_name = str(options.get("sourceFormat") or "CSV").upper()
    source = _SOURCES[format_name](files, options)
    staged = task.stage()
    with task.read() as cursor:
        existing = destination.check(cursor, task.now_ms)
        try:
            schema = decide(cursor, options, existing, source, is_self_describing=format_name == "PARQUET")
            count, warnings = _fill(cursor, source, schema, staged, int(options.get("maxBadRecords") or 0))
        except BigQueryError:
            raise
        except Exception as error:
            raise _unreadable(error, files) from error
        size = f"SELECT coalesce(sum({row_bytes_sql(schema.table)}), 0) FROM data.{quote(staged)}"  # noqa: S608
        output_bytes = int(scalar(cursor, size))
    return _outcome(task, destination, staged, schema, existing, files, count, output_bytes, warnings)


def _outcome(
    task: Task,
    destination: Destination,
    staged: str,
    schema: LoadSchema,
    existing: Table | None,
    files: list[LocalFile],
    count: int,
    output_bytes: int,
    warnings: list[dict[str, str]],
) -> Outcome:
    def commit(cursor: Any) -> dict[str, Any]:
        publish(cursor, destination, staged, schema.table, existing, task.now_ms)
        return {}

    statistics = {
        "inputFiles": str(len(files)),
        "inputFileBytes": str(sum(one.path.stat().st_size for one in files)),
        "outputRows": str(count),
        "outputBytes": str(output_bytes),
        "badRecords": str(len(warnings) and int(warnings[0].pop("count"))),
    }
    return Outcome({"load": statistics}, commit, warnings)


def _fill(
    cursor: Any, source: Source, schema: LoadSchema, staged: str, most_bad: int
) -> tuple[int, list[dict[str, str]]]:
    """Create and fill the staged table; the rows in it, and what was wrong with the ones that are not."""
    rows(cursor, f"CREATE TABLE data.{quote(staged)} ({columns_ddl(schema.table)})")
    if not source.tolerates_bad_rows:
        return _insert(cursor, schema, staged, f"({source.query(schema.input)})"), []
    parsed = new_physical()
    rows(cursor, f"CREATE TEMP TABLE {parsed} AS {source.query(schema.input)}")
    complaints = _complaints(cursor, source, parsed, most_bad)
    count = _insert(cursor, schema, staged, parsed)
    rows(cursor, f"DROP TABLE {parsed}")
    return count, complaints


def _insert(cursor: Any, schema: LoadSchema, staged: str, relation: str) -> int:
    given = {one["name"].lower() for one in schema.input}
    names = [quote(one["name"]) for one in schema.table]
    values = [
        quote(one["name"]) if one["name"].lower() in given else ("[]" if one["mode"] == "REPEATED" else "NULL")
        for one in schema.table
    ]
    inserted = rows(
        cursor,
        f"INSERT INTO data.{quote(staged)} ({', '.join(names)}) SELECT {', '.join(values)} FROM {relation} "  # noqa: S608
        f"WHERE {COMPLAINT} IS NULL",
    )
    return int(inserted[0][0])


def _complaints(cursor: Any, source: Source, parsed: str, most_bad: int) -> list[dict[str, str]]:
    """What is wrong with the bad rows, as ErrorProtos; the first carries their `count`. Raises past `most_bad`."""
    rejects = source.rejects(cursor)
    total, bad = rows(cursor, f"SELECT count(*), count({COMPLAINT}) FROM {parsed}")[0]  # noqa: S608
    count = bad + rejects.count
    if not count:
        return []
    found = rows(cursor, f"{numbered_complaints(parsed)} LIMIT {_SHOWN_COMPLAINTS}")
    told = [f"Error while reading data, error message: {text} (data row {row})" for row, text in found]
    told += [f"Error while reading data, error message: {text}" for text in rejects.messages]
    details = [{"reason": "invalid", "message": one} for one in told]
    if count > most_bad:
        more = " and more" if rejects.is_cut else ""
        raise Invalid(
            f"Error while reading data, error message: too many errors, giving up. Rows: {total + rejects.count}{more}; "
            f"errors: {count}{more}; max bad: {most_bad}. {told[0]}. "
            f"Mend the rows, or set maxBadRecords to {count}{more or ' or more'}.",
            also=details,
        )
    details[0]["count"] = str(count)
    return details


def _fetch(task: Task, options: dict[str, Any]) -> list[LocalFile]:
    upload = task.internal.get("upload")
    if upload:
        path = task.engine.incoming / str(upload)
        if not path.is_file():
            raise Invalid("The uploaded file is gone from the data directory; upload it again under a new job id.")
        return [LocalFile(path, "the uploaded file")]
    uris = options.get("sourceUris") or []
    if not uris:
        raise Invalid("A load job needs sourceUris (gs://bucket/object) or an upload; it has neither.")
    files: list[LocalFile] = []
    try:
        for uri in (one for pattern in uris for one in task.storage.expand(pattern)):
            task.check()
            path = task.engine.incoming / new_physical()
            files.append(LocalFile(path, uri))
            task.storage.download(uri, path)
    except BaseException:
        for one in files:
            one.path.unlink(missing_ok=True)
        raise
    return files


def _check_options(options: dict[str, Any]) -> None:
    format_name = str(options.get("sourceFormat") or "CSV").upper()
    if format_name not in _SOURCES:
        raise Unsupported(f"sourceFormat {format_name} is not offered locally; use one of {sorted(_SOURCES)}.")
    present = [one for one in _REFUSED_OPTIONS if options.get(one)]
    if present:
        raise Unsupported(f"Load option {', '.join(present)} is not offered locally; leave it out.")


def _unreadable(error: Exception, files: list[LocalFile]) -> BigQueryError:
    """A file that DuckDB could not read, without our own file names."""
    name = type(error).__name__
    if name not in ("InvalidInputException", "IOException", "ConversionException", "Error", "SerializationException",
                    "OutOfRangeException", "BinderException", "ConstraintException", "InternalException"):  # fmt: skip
        from localcloud.bigquery.errors import classify

        return classify(error)
    message = str(error).split("\n")[0]
    for one in files:
        message = message.replace(str(one.path), one.shown)
    log.info("a file could not be read", extra={"action": "load_unreadable"}, exc_info=error)
    return Invalid(
        f"Error while reading data, error message: {message}. Check that {files[0].shown} has the sourceFormat given.",
        location=files[0].shown,
    )
