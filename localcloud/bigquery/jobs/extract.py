"""Extract jobs: a table into gs:// objects, as CSV, NDJSON or Parquet, in shards where the URI has a `*`."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.catalog import Table
from localcloud.bigquery.engine import rows
from localcloud.bigquery.errors import Invalid, Unsupported
from localcloud.bigquery.gcs import split_uri
from localcloud.bigquery.jobs.task import Outcome, Task
from localcloud.bigquery.names import TableRef, literal, new_physical, quote
from localcloud.bigquery.schema import Field

# Google cuts a shard at about this many logical bytes, and refuses a single file past 1 GB.
_SHARD_BYTES = 256 * 1024 * 1024
_SINGLE_FILE_BYTES = 1024 * 1024 * 1024
_DELIMITERS = {"": ",", "tab": "\t", "\\t": "\t"}
_CONTENT_TYPES = {
    "CSV": "text/csv",
    "NEWLINE_DELIMITED_JSON": "application/json",
    "PARQUET": "application/octet-stream",
}
_COMPRESSIONS = {
    "CSV": ("NONE", "GZIP"),
    "NEWLINE_DELIMITED_JSON": ("NONE", "GZIP"),
    "PARQUET": ("NONE", "SNAPPY", "GZIP", "ZSTD"),
}


def run_extract(task: Task) -> Outcome:
    """Write the table's rows to Cloud Storage; the objects are complete when the job is done.

    Raises:
        NotFound: the table or a bucket is missing.
        Invalid, Unsupported: a URI, format or compression that does not go.
    """
    options = task.configuration("extract")
    format_name, compression = _format(options)
    uris = options.get("destinationUris") or ([options["destinationUri"]] if options.get("destinationUri") else [])
    if not uris:
        raise Invalid("An extract job needs destinationUris; it has none.")
    for uri in uris:
        split_uri(uri)
    ref = TableRef.from_json(options.get("sourceTable") or {}, project=task.project, what="extract.sourceTable")
    with task.read() as cursor:
        table = catalog.get_table(cursor, ref, task.now_ms)
        count, size = task.sizes.of(cursor, table)
        written = [_write(task, cursor, table, one, options, format_name, compression, count, size) for one in uris]
    return Outcome({"extract": {"destinationUriFileCounts": [str(one) for one in written], "inputBytes": str(size)}})


def _format(options: dict[str, Any]) -> tuple[str, str]:
    format_name = str(options.get("destinationFormat") or "CSV").upper()
    if format_name not in _CONTENT_TYPES:
        raise Unsupported(
            f"destinationFormat {format_name} is not offered locally; use one of {sorted(_CONTENT_TYPES)}."
        )
    compression = str(options.get("compression") or "NONE").upper()
    if compression not in _COMPRESSIONS[format_name]:
        raise Unsupported(
            f"compression {compression} is not offered locally for {format_name}; use one of {_COMPRESSIONS[format_name]}."
        )
    return format_name, compression


def _write(
    task: Task,
    cursor: Any,
    table: Table,
    uri: str,
    options: dict[str, Any],
    format_name: str,
    compression: str,
    count: int,
    size: int,
) -> int:
    """Write one URI; the number of objects."""
    if "*" not in uri and size > _SINGLE_FILE_BYTES:
        raise Invalid(
            f"Table {table.ref} too large to be exported to a single file. Specify a uri including a * to shard export."
        )
    shards = max(1, -(-size // _SHARD_BYTES)) if "*" in uri else 1
    rows_per_shard = max(1, -(-count // shards))
    for shard in range(shards):
        task.check()
        path = task.engine.incoming / new_physical()
        select = f"SELECT {_columns(table.fields, format_name)} FROM {table.source}"  # noqa: S608 - our names
        if shards > 1:
            select += f" LIMIT {rows_per_shard} OFFSET {shard * rows_per_shard}"
        try:
            rows(
                cursor, f"COPY ({select}) TO {literal(str(path))} ({_copy_options(options, format_name, compression)})"
            )
            task.storage.upload(path, uri.replace("*", f"{shard:012d}"), _CONTENT_TYPES[format_name])
        finally:
            path.unlink(missing_ok=True)
    return shards


def _copy_options(options: dict[str, Any], format_name: str, compression: str) -> str:
    if format_name == "PARQUET":
        kind = "uncompressed" if compression == "NONE" else compression.lower()
        return f"FORMAT parquet, COMPRESSION {kind}"
    kind = compression.lower()
    if format_name == "NEWLINE_DELIMITED_JSON":
        return f"FORMAT json, COMPRESSION {kind}"
    given = options.get("fieldDelimiter") or ""
    header = "true" if options.get("printHeader", True) else "false"
    delimiter = _DELIMITERS.get(given, given)
    return f"FORMAT csv, HEADER {header}, DELIMITER {literal(delimiter)}, COMPRESSION {kind}"


def _columns(fields: list[Field], format_name: str) -> str:
    return ", ".join(f"{_value(one, format_name)} AS {quote(one['name'])}" for one in fields)


def _value(field: Field, format_name: str) -> str:
    name, kind = quote(field["name"]), field["type"]
    nested = field["mode"] == "REPEATED" or kind == "RECORD"
    if format_name == "PARQUET":
        return name
    if format_name == "CSV" and nested:
        raise Invalid(
            f"Operation cannot be performed on a nested schema. Field: {field['name']}; "
            "extract it as NEWLINE_DELIMITED_JSON."
        )
    if nested or kind in ("STRING", "BOOLEAN", "FLOAT", "JSON", "DATE"):
        return name
    if kind == "BYTES":
        return f"base64({name})"
    if kind == "TIMESTAMP":
        return f"CAST(CAST({name} AS TIMESTAMP) AS VARCHAR) || ' UTC'"
    if kind == "DATETIME" and format_name != "CSV":
        return f"replace(CAST({name} AS VARCHAR), ' ', 'T')"
    if kind == "NUMERIC":
        return f"rtrim(rtrim(CAST({name} AS VARCHAR), '0'), '.')"
    # NDJSON carries 64-bit integers as strings, as Google's does.
    return f"CAST({name} AS VARCHAR)"
