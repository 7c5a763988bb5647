"""Newline-delimited JSON: each line is read as text, then taken apart by DuckDB's JSON functions field by field."""

from __future__ import annotations

import gzip
import itertools
import json
from typing import Any

from localcloud.bigquery.convert import json_complaint, json_unknown, json_value
from localcloud.bigquery.engine import rows
from localcloud.bigquery.errors import Invalid
from localcloud.bigquery.names import literal, mend_column, quote
from localcloud.bigquery.schema import Field
from localcloud.bigquery.sources.base import COMPLAINT, MAX_LINE_BYTES, LocalFile, Rejects, compression
from localcloud.bigquery.sources.guess import SAMPLE_ROWS, guess_type

# Never inside valid JSON (a control character must be escaped there), so a line stays one column.
_NO_DELIMITER = "\x01"


class JsonSource:
    """The NDJSON files of a load job."""

    tolerates_bad_rows = True

    def __init__(self, files: list[LocalFile], options: dict[str, Any]) -> None:
        self._files = files
        self._extra = bool(options.get("ignoreUnknownValues"))

    def detect(self, cursor: Any) -> list[Field]:
        """The union of the fields of the first 500 rows."""
        records = []
        with _open(self._files[0]) as stream:
            for line in itertools.islice(stream, SAMPLE_ROWS):
                if line.strip():
                    records.append(_object(line))
        fields = _guess_fields(records)
        if not fields:
            raise Invalid("Schema has no fields: the JSON data is empty, so nothing can be detected; give a schema.")
        return fields

    def query(self, fields: list[Field]) -> str:
        """See `Source.query`."""
        files = ", ".join(literal(str(one.path)) for one in self._files)
        reader = (
            f"read_csv([{files}], auto_detect = false, header = false, delim = {literal(_NO_DELIMITER)}, quote = '', "
            f"escape = '', columns = {{'line': 'VARCHAR'}}, ignore_errors = true, store_rejects = true, "
            f"compression = {literal(compression(self._files))}, max_line_size = {MAX_LINE_BYTES})"
        )
        lines = f"(SELECT line, TRY_CAST(line AS JSON) AS j FROM {reader} WHERE trim(line) <> '')"  # noqa: S608
        return query_over(lines, fields, ignore_unknown=self._extra)

    def rejects(self, cursor: Any) -> Rejects:
        """Lines that the reader itself refused: longer than 16 MiB, or not UTF-8."""
        found = rows(cursor, "SELECT line, min(error_message) FROM reject_errors GROUP BY file_id, line ORDER BY line")
        return Rejects(
            len(found), False, [f"Row at line {line}: {message.splitlines()[0]}" for line, message in found[:5]]
        )


def query_over(lines: str, fields: list[Field], *, ignore_unknown: bool) -> str:
    """SQL over a relation with a column `j` of type JSON (NULL where the text was no JSON)."""
    values, complaints = [], ["CASE WHEN j IS NULL OR json_type(j) <> 'OBJECT' THEN 'Row is not a JSON object' END"]
    if not ignore_unknown:
        complaints.append(f"'no such field: ' || {json_unknown('j', fields)} || '.'")
    for field in fields:
        pointer = '$."' + field["name"] + '"'
        cell = f"json_extract(j, {literal(pointer)})"
        values.append(f"{json_value(cell, field)} AS {quote(field['name'])}")
        complaints.append(json_complaint(cell, field))
    return f"SELECT {', '.join(values)}, coalesce({', '.join(complaints)}) AS {COMPLAINT} FROM {lines}"  # noqa: S608


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _guess_fields(records: list[dict[str, Any]]) -> list[Field]:
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(record))
    fields = []
    for at, name in enumerate(names):
        values = [record[name] for record in records if record.get(name) is not None]
        if mend_column(name, at) != name:
            raise Invalid(f'Invalid field name "{name}": use letters, digits and underscores.')
        fields.append(_guess_field(name, values))
    return fields


def _guess_field(name: str, values: list[Any]) -> Field:
    mode = "NULLABLE"
    if values and all(isinstance(one, list) for one in values):
        mode = "REPEATED"
        values = [item for one in values for item in one if item is not None]
    if values and all(isinstance(one, dict) for one in values):
        return {"name": name, "type": "RECORD", "mode": mode, "fields": _guess_fields(values)}
    if any(isinstance(one, dict | list) for one in values):
        raise Invalid(f'Field "{name}" is sometimes a record or an array and sometimes not; give a schema.')
    texts = (json.dumps(one) if not isinstance(one, str) else one for one in values)
    return {"name": name, "type": guess_type(texts), "mode": mode}


def _open(file: LocalFile) -> Any:
    if compression([file]) == "gzip":
        return gzip.open(file.path, "rt", encoding="utf-8", errors="replace")
    return file.path.open(encoding="utf-8", errors="replace")
