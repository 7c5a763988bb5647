"""DuckDB's complaints in BigQuery's words: what was wrong, where in the query, and no name of ours."""

from __future__ import annotations

import re
from typing import Any

from localcloud.bigquery.errors import BigQueryError, InvalidQuery, Stopped, Unsupported
from localcloud.bigquery.googlesql.place import place_of_word
from localcloud.bigquery.names import TableRef

_TYPE_NAMES = {
    "BIGINT": "INT64",
    "INTEGER": "INT64",
    "INT64": "INT64",
    "HUGEINT": "INT64",
    "DOUBLE": "FLOAT64",
    "VARCHAR": "STRING",
    "BOOLEAN": "BOOL",
    "BLOB": "BYTES",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
    "INTEGER_LITERAL": "INT64",
    "STRING_LITERAL": "STRING",
}
_BAD_VALUE = re.compile(r"Could not convert string '(.*)' to (\w+)", re.DOTALL)
_NO_COLUMN = re.compile(r'Referenced column "([^"]*)" not found')
_NO_COLUMN_IN = re.compile(
    r'Table "([^"]*)" does not have a column (?:named|with name) "([^"]*)"|column "?([^"\s]+)"? (?:not found|does not exist)'
)
_NO_TABLE = re.compile(r'Referenced table "([^"]*)" not found')
_NO_FUNCTION = re.compile(r"Function with name \"?(\w+)\"? does not exist")
_NO_SIGNATURE = re.compile(r"No function matches the given name and argument types '(\w+)\((.*?)\)'", re.DOTALL)
_NO_GROUP = re.compile(r'column "([^"]*)" must appear in the GROUP BY clause')
_NOT_NULL = re.compile(r"NOT NULL constraint failed: .*\.\"?([^\".\n]+)")
_DIVISION = re.compile(r"Division by zero in expression \((.*?)\)\.")


def explain(error: Exception, text: str, tables: dict[str, TableRef] | None = None) -> BigQueryError:
    """Turn an exception of DuckDB's into the error that BigQuery's caller would see.

    Args:
        error: what the statement raised.
        text: the GoogleSQL, for the place.
        tables: DuckDB table → reference, so that no name of ours leaks.
    """
    if isinstance(error, BigQueryError):
        return error
    name = type(error).__name__
    message = str(error).split("\n\nLINE ")[0].strip()
    for physical, ref in (tables or {}).items():
        message = message.replace(physical, str(ref))
    if name == "InterruptException":
        return Stopped("Job execution was cancelled: User requested cancellation")
    if name == "OutOfMemoryException":
        failed = InvalidQuery(
            "Resources exceeded during query execution: the local BigQuery's memory limit. Read fewer rows or columns."
        )
        failed.reason = "resourcesExceeded"
        return failed
    if name == "NotImplementedException":
        return Unsupported(f"The local BigQuery cannot run this query: {_plain(message)}")
    return InvalidQuery(_known(message, text) or _plain(message))


def _known(message: str, text: str) -> str:
    """The BigQuery wording of the complaints that people meet, or nothing."""
    for pattern, say in _WORDINGS:
        found = pattern.search(message)
        if found:
            return str(say(found, text))
    return ""


def _type(name: str) -> str:
    return _TYPE_NAMES.get(name.strip().upper(), name.strip())


def _missing_column(found: re.Match[str], text: str) -> str:
    if found.group(1) is not None and found.lastindex == 2:
        place = place_of_word(text, found.group(2))
        return f"Name {found.group(2)} not found inside {found.group(1)}{place}"
    name = found.group(found.lastindex or 1)
    return f"Unrecognized name: {name}{place_of_word(text, name)}"


def _signature(found: re.Match[str], text: str) -> str:
    types = ", ".join(_type(one) for one in found.group(2).split(","))
    name = found.group(1).upper()
    return f"No matching signature for function {name} for argument types: {types}.{place_of_word(text, name)}"


_WORDINGS: tuple[tuple[re.Pattern[str], Any], ...] = (
    (_NO_COLUMN, lambda m, t: f"Unrecognized name: {m.group(1)}{place_of_word(t, m.group(1))}"),
    (_NO_COLUMN_IN, _missing_column),
    (_NO_TABLE, lambda m, t: f"Unrecognized name: {m.group(1)}{place_of_word(t, m.group(1))}"),
    (_NO_FUNCTION, lambda m, t: f"Function not found: {m.group(1)}{place_of_word(t, m.group(1))}"),
    (_NO_SIGNATURE, _signature),
    (
        _NO_GROUP,
        lambda m, t: f"SELECT list expression references column {m.group(1)} which is neither grouped nor aggregated"
        f"{place_of_word(t, m.group(1))}",
    ),
    (_BAD_VALUE, lambda m, t: f"Bad {_type(m.group(2)).lower()} value: {m.group(1)}"),
    (_NOT_NULL, lambda m, t: f"Required field {m.group(1)} cannot be null"),
    (_DIVISION, lambda m, t: f"division by zero: {m.group(1)}"),
    (
        re.compile(r"Overflow in (\w+) of (\w+) \((.*?)\)"),
        lambda m, t: f"{_type(m.group(2)).lower()} overflow: {m.group(3)}",
    ),
    (re.compile(r"aggregate function calls cannot be nested"), lambda m, t: "Aggregations of aggregations are not allowed"),
    (
        re.compile(r"Referenced update column (\S+) not found"),
        lambda m, t: f"Column {m.group(1)} is not present in the table{place_of_word(t, m.group(1))}",
    ),
    (
        re.compile(r"Cannot extract field '([^']*)' from expression \"([^\"]*)\""),
        lambda m, t: f"Cannot access field {m.group(1)} on {m.group(2)}, which is no STRUCT{place_of_word(t, m.group(1))}",
    ),
    (re.compile(r"(?:invalid|out of range)[^\"]*\"([^\"]*)\""), lambda m, t: f"Invalid value: '{m.group(1)}'"),
    (re.compile(r"GROUP BY clause cannot contain aggregates"), lambda m, t: "Aggregate function not allowed in GROUP BY"),
    (re.compile(r"Scalar subquery produced more than one element|More than one row returned by a subquery"),
     lambda m, t: "Scalar subquery produced more than one element"),
)  # fmt: skip


def _plain(message: str) -> str:
    """DuckDB's first sentence, without its class and its advice about its own settings."""
    first = message.split("\n")[0]
    first = re.sub(r"^[A-Z][\w ]*? Error: ", "", first)
    return re.sub(r"\s*(?:Use TRY\(|You can use|Candidate).*$", "", first).strip()
