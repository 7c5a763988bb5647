"""CSV, as BigQuery reads it: every cell is text first, then converted column by column; the reader is DuckDB's.

An unquoted empty cell is NULL, a quoted one an empty string. Without `allowQuotedNewlines` a line break inside quotes is a
bad row; without `allowJaggedRows` a short row is one; without `ignoreUnknownValues` a long row is one.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
from typing import Any

from localcloud.bigquery.convert import text_complaint, text_value
from localcloud.bigquery.engine import rows
from localcloud.bigquery.errors import Invalid, Unsupported
from localcloud.bigquery.names import literal, mend_column, quote
from localcloud.bigquery.schema import Field
from localcloud.bigquery.sources.base import COMPLAINT, MAX_LINE_BYTES, LocalFile, Rejects, compression
from localcloud.bigquery.sources.guess import SAMPLE_ROWS, guess_type

_DELIMITERS = (",", "|", "\t", ";")
_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "pipe": "|"}
_ENCODINGS = {"UTF-8": "utf-8", "UTF8": "utf-8", "ISO-8859-1": "latin-1"}
_GUESSED_NAMES = {"INTEGER": "int64", "FLOAT": "double", "BOOLEAN": "bool"}
# Characters looked at to tell the delimiter and the types: 500 rows of a wide table.
_SAMPLE_CHARACTERS = 4 * 1024 * 1024
_SHOWN_REJECTS = 5
# Past the limit the load fails anyway; a file with a wrong delimiter must not fill the memory with its own lines.
_MAX_KEPT_REJECTS = 10_000


class CsvSource:
    """The CSV files of a load job."""

    tolerates_bad_rows = True

    def __init__(self, files: list[LocalFile], options: dict[str, Any]) -> None:
        self._files = files
        self._quote = options.get("quote", '"')
        if len(self._quote) > 1:
            raise Invalid(f"quote is {self._quote!r}; it must be one character, or empty for none.")
        given = options.get("fieldDelimiter") or ""
        self._delimiter = _NAMED_DELIMITERS.get(given, given)
        self._autodetect = bool(options.get("autodetect"))
        encoding = str(options.get("encoding") or "UTF-8").upper()
        if encoding not in _ENCODINGS:
            raise Unsupported(f"encoding {encoding} is not offered locally; use one of {sorted(_ENCODINGS)}.")
        self._encoding = _ENCODINGS[encoding]
        skip = options.get("skipLeadingRows")
        self._skip = None if skip is None else int(skip)
        self._null_markers = options.get("nullMarkers") or [options.get("nullMarker") or ""]
        self._jagged = bool(options.get("allowJaggedRows"))
        self._newlines = bool(options.get("allowQuotedNewlines"))
        self._extra = bool(options.get("ignoreUnknownValues"))
        self._most_bad = int(options.get("maxBadRecords") or 0)
        self._sample: list[list[str]] | None = None

    def detect(self, cursor: Any) -> list[Field]:
        """Column names from the header, if there is one, and the narrowest types that fit the first 500 rows."""
        sample, header = self._look(), self._header()
        width = max((len(row) for row in sample), default=0) or len(header or [])
        if not width:
            raise Invalid("Schema has no fields: the CSV data is empty, so nothing can be detected; give a schema.")
        fields: list[Field] = []
        seen: set[str] = set()
        for at in range(width):
            kind = guess_type(row[at] for row in sample if at < len(row) and row[at] not in self._null_markers)
            guessed = f"{_GUESSED_NAMES.get(kind, kind.lower())}_field_{at}"
            name = mend_column(header[at], at) if header and at < len(header) else guessed
            while name.lower() in seen:
                name = f"{name}_{at}"
            seen.add(name.lower())
            fields.append({"name": name, "type": kind, "mode": "NULLABLE"})
        return fields

    def query(self, fields: list[Field]) -> str:
        """See `Source.query`."""
        for field in fields:
            if field["mode"] == "REPEATED" or field["type"] == "RECORD":
                raise Invalid(
                    f"Field {field['name']} is {field['mode']} {field['type']}: CSV holds no nested data; use NDJSON."
                )
        cells = [quote(f"c{at}") for at in range(len(fields))]
        cleaned = [self._null_out(cell) for cell in cells]
        values = [f"{text_value(cell, one)} AS {quote(one['name'])}" for cell, one in zip(cleaned, fields, strict=True)]
        complaints = [text_complaint(cell, one, at) for at, (cell, one) in enumerate(zip(cleaned, fields, strict=True))]
        if not self._newlines:
            complaints += [
                f"CASE WHEN contains({cell}, chr(10)) THEN {literal(_line_break(one))} END"
                for cell, one in zip(cells, fields, strict=True)
                if one["type"] == "STRING"
            ]
        told = [one for one in complaints if one != "NULL"]
        complaint = f"coalesce({', '.join([*told, 'NULL'])})"
        return f"SELECT {', '.join(values)}, CAST({complaint} AS VARCHAR) AS {COMPLAINT} FROM {self._reader(cells)}"  # noqa: S608

    def rejects(self, cursor: Any) -> Rejects:
        """Rows with too few or too many columns, or broken quoting."""
        found = rows(
            cursor,
            "SELECT line, min(error_message), min(column_idx) FROM reject_errors GROUP BY file_id, line ORDER BY line",
        )
        told = [f"Row at line {line}: {message.splitlines()[0]}" for line, message, _ in found[:_SHOWN_REJECTS]]
        return Rejects(len(found), len(found) >= self._most_bad + _MAX_KEPT_REJECTS, told)

    def _reader(self, cells: list[str]) -> str:
        columns = ", ".join(f"{literal(cell.strip(chr(34)))}: 'VARCHAR'" for cell in cells)
        files = ", ".join(literal(str(one.path)) for one in self._files)
        options = {
            "auto_detect": "false",
            "header": "false",
            "skip": str(self._rows_to_skip()),
            "delim": literal(self._delimiter or self._guess_delimiter()),
            "quote": literal(self._quote),
            "escape": literal(self._quote),
            "columns": f"{{{columns}}}",
            "nullstr": literal(self._null_markers[0]),
            "allow_quoted_nulls": "false",
            "ignore_errors": "true",
            "store_rejects": "true",
            "max_line_size": str(MAX_LINE_BYTES),
            "rejects_limit": str(self._most_bad + _MAX_KEPT_REJECTS),
            "encoding": literal(self._encoding),
            "compression": literal(compression(self._files)),
            # A long row is cut, not refused, only in the tolerant mode.
            "strict_mode": "false" if self._extra else "true",
        }
        if self._jagged:
            options |= {"null_padding": "true", "parallel": "false"}
        listed = ", ".join(f"{key} = {value}" for key, value in options.items())
        return f"read_csv([{files}], {listed})"

    def _null_out(self, cell: str) -> str:
        for marker in self._null_markers[1:]:
            cell = f"nullif({cell}, {literal(marker)})"
        return cell

    def _rows_to_skip(self) -> int:
        if self._autodetect and self._skip is None:
            return 1 if self._header() else 0
        return self._skip or 0

    def _guess_delimiter(self) -> str:
        if not self._autodetect:
            return ","
        lines = self._text(self._files[0])[:64_000].splitlines()[:20]
        counts = {one: [line.count(one) for line in lines if line] for one in _DELIMITERS}
        # The delimiter occurs in every line, equally often; the comma wins a tie.
        return max(_DELIMITERS, key=lambda one: min(counts[one], default=0) if len(set(counts[one])) == 1 else 0)

    def _records(self) -> list[list[str]]:
        if self._sample is None:
            reader = csv.reader(
                io.StringIO(self._text(self._files[0]), newline=""),
                delimiter=self._delimiter or self._guess_delimiter(),
                quotechar=self._quote or None,
                quoting=csv.QUOTE_MINIMAL if self._quote else csv.QUOTE_NONE,
            )
            try:
                self._sample = list(itertools.islice(reader, SAMPLE_ROWS + (self._skip or 0) + 1))
            except csv.Error as error:
                raise Invalid(f"{self._files[0].shown} is not CSV: {error}; check fieldDelimiter and quote.") from error
        return self._sample

    def _header(self) -> list[str] | None:
        """The header row: the first one (or the last of those skipped), when it is all text and the data is not."""
        records = self._records()
        if self._skip == 0:
            return None
        at = (self._skip or 1) - 1
        if at >= len(records) or any(guess_type([cell]) != "STRING" for cell in records[at] if cell):
            return None
        if self._skip:
            return records[at]
        width = len(records[at])
        body = records[at + 1 :]
        typed = any(guess_type(row[i] for row in body if i < len(row) and row[i]) != "STRING" for i in range(width))
        return records[at] if typed else None

    def _look(self) -> list[list[str]]:
        return [row for row in self._records()[self._rows_to_skip() :] if row][:SAMPLE_ROWS]

    def _text(self, file: LocalFile) -> str:
        opener: Any = gzip.open if compression([file]) == "gzip" else open
        with opener(file.path, "rb") as stream:
            raw: bytes = stream.read(_SAMPLE_CHARACTERS)
        text = raw.decode(self._encoding, errors="replace").removeprefix("\ufeff")
        # A record cut by the end of the sample is no record.
        return text if len(raw) < _SAMPLE_CHARACTERS else text[: text.rfind("\n") + 1]


def _line_break(field: Field) -> str:
    return f"Quoted line break in field {field['name']}; set allowQuotedNewlines"
