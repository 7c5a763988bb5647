"""Parquet: the file brings its own types, so rows are either all good or the file is refused."""

from __future__ import annotations

import re
from typing import Any

from localcloud.bigquery.errors import Invalid, Unsupported
from localcloud.bigquery.names import literal, quote
from localcloud.bigquery.schema import Field, cast_sql, field_of, find
from localcloud.bigquery.sources.base import COMPLAINT, LocalFile, Rejects

# NUMERIC holds 29 digits before the point and 9 behind it; more would be rounded in silence.
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_SCALE = 9
_WHOLE_DIGITS = 29


class ParquetSource:
    """The Parquet files of a load job."""

    tolerates_bad_rows = False

    def __init__(self, files: list[LocalFile], options: dict[str, Any]) -> None:
        self._files = files
        self._found: list[Field] = []

    def detect(self, cursor: Any) -> list[Field]:
        """The schema in the files (the union, when they differ)."""
        if not self._found:
            described = cursor.execute(f"SELECT * FROM {self._reader()} LIMIT 0")  # noqa: S608 - our own file names
            columns = list(described.description)
            described.fetchall()
            self._found = [self._field(name, kind) for name, kind, *_ in columns]
        return self._found

    def query(self, fields: list[Field]) -> str:
        """See `Source.query`; `detect` must have run in this transaction."""
        values = []
        for field in fields:
            found = find(self._found, field["name"])
            if found is None and field["mode"] == "REQUIRED":
                raise Invalid(f"{self._files[0].shown} has no column {field['name']}, which is REQUIRED.")
            source = "NULL" if found is None else quote(found["name"])
            values.append(f"{cast_sql(source, field)} AS {quote(field['name'])}")
        return f"SELECT {', '.join(values)}, CAST(NULL AS VARCHAR) AS {COMPLAINT} FROM {self._reader()}"  # noqa: S608

    def rejects(self, cursor: Any) -> Rejects:
        """A Parquet file has no rows that are refused one by one."""
        return Rejects()

    def _field(self, name: str, kind: Any) -> Field:
        shape = _DECIMAL.fullmatch(str(kind))
        if shape and (int(shape.group(2)) > _SCALE or int(shape.group(1)) - int(shape.group(2)) > _WHOLE_DIGITS):
            raise Unsupported(
                f"Column {name} of {self._files[0].shown} is {kind}: BigQuery would make it BIGNUMERIC, which the local one "
                f"lacks; write it with at most {_SCALE} decimal places."
            )
        return field_of(name, kind, self._files[0].shown)

    def _reader(self) -> str:
        files = ", ".join(literal(str(one.path)) for one in self._files)
        return f"read_parquet([{files}], union_by_name = true)"
