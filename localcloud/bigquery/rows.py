"""Rows as the REST API writes them: `{"f": [{"v": "1"}, …]}`, every scalar a string, built by DuckDB in one pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from localcloud.bigquery.engine import rows
from localcloud.bigquery.errors import Invalid
from localcloud.bigquery.names import quote
from localcloud.bigquery.schema import Field
from localcloud.discovery import Discovery
from localcloud.partial import FieldsError, parse_fields, select
from localcloud.rest import Call, Response

# Google's own bounds: a page holds at most 10 MB, however many rows were asked for.
_MAX_PAGE_BYTES = 10_000_000
_DEFAULT_PAGE_ROWS = 50_000
_FIRST_LOOK_ROWS = 10_000

_TIMESTAMP_FORMATS = ("FLOAT64", "INT64", "ISO8601_STRING")


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a table, each as JSON text, and the offset of the next page (None at the end)."""

    texts: list[str]
    next_offset: int | None


def timestamp_format(params: dict[str, Any]) -> str:
    """How the caller wants timestamps, from `formatOptions.*`."""
    wanted = params.get("formatOptions.timestampOutputFormat")
    if wanted in _TIMESTAMP_FORMATS:
        return str(wanted)
    return "INT64" if params.get("formatOptions.useInt64Timestamp") else "FLOAT64"


def read_page(
    cursor: Any, source: str, fields: list[Field], offset: int, most: int | None, total: int, timestamps: str
) -> Page:
    """Read rows from `offset` on, in the table's own order.

    Args:
        cursor: a transaction.
        source: the DuckDB table.
        fields: the columns wanted.
        offset: of the first row, from 0.
        most: rows at most; None for as many as fit.
        total: rows in the table.
        timestamps: see `timestamp_format`.
    """
    wanted = _DEFAULT_PAGE_ROWS if most is None else min(most, _DEFAULT_PAGE_ROWS)
    expression = _row_sql(fields, timestamps)
    done: list[str] = []
    size = 0
    while len(done) < wanted:
        chunk = min(_FIRST_LOOK_ROWS, wanted - len(done))
        sql = f"SELECT {expression} FROM {source} LIMIT {chunk:d} OFFSET {offset + len(done):d}"  # noqa: S608 - our names
        found = [row for (row,) in rows(cursor, sql)]
        for row in found:
            size += len(row)
            # One row always goes out, however big.
            if size > _MAX_PAGE_BYTES and done:
                return _page(done, offset, total)
            done.append(row)
        if len(found) < chunk:
            break
    return _page(done, offset, total)


def _page(texts: list[str], offset: int, total: int) -> Page:
    end = offset + len(texts)
    return Page(texts, end if end < total and texts else None)


def answer_rows(discovery: Discovery, call: Call, answer: dict[str, Any], texts: list[str]) -> Response:
    """An answer with its rows spliced in as the text that DuckDB made.

    The rest of the answer and the first row go through the contract's check like any other answer. All rows would take a
    hundred times as long as reading them.
    """
    first = [json.loads(text) for text in texts[:1]]
    checked = {**answer, "rows": first} if texts else answer
    discovery.check_response(call.match, checked)
    wanted = call.raw_query.get("fields") or ""
    if "(" in wanted or "/" in wanted:
        return Response(json={**answer, "rows": [json.loads(text) for text in texts]})
    if wanted:
        try:
            checked = select(parse_fields(wanted), checked)
        except FieldsError as error:
            raise Invalid(str(error), location="fields") from error
        answer = {key: value for key, value in checked.items() if key != "rows"}
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    if texts and "rows" in checked:
        body = f'{body[:-1]}{"," if answer else ""}"rows":[{",".join(texts)}]}}'
    return Response(body=body.encode(), content_type="application/json; charset=UTF-8")


def page_token(physical: str, offset: int) -> str:
    """A token for the rows from `offset` of this very table."""
    return f"{physical.removeprefix('t_')}.{offset}"


def read_token(token: str, physical: str) -> int:
    """The offset of a token.

    Raises:
        Invalid: no token of ours, or the table was replaced since.
    """
    owner, _, offset = token.rpartition(".")
    if not offset.isdigit() or owner != physical.removeprefix("t_"):
        raise Invalid(
            f"Invalid pageToken {token!r}: the table was replaced since, or no page gave it; list from the start."
        )
    return int(offset)


def _row_sql(fields: list[Field], timestamps: str) -> str:
    cells = ", ".join(_cell(quote(one["name"]), one, timestamps, count()) for one in fields)
    return f"CAST(json_object('f', json_array({cells})) AS VARCHAR)"


def _cell(expression: str, field: Field, timestamps: str, names: Iterator[int]) -> str:
    return f"json_object('v', {_value(expression, field, timestamps, names)})"


def _value(expression: str, field: Field, timestamps: str, names: Iterator[int]) -> str:
    if field["mode"] == "REPEATED":
        one = f"x{next(names)}"
        element = _cell(one, {**field, "mode": "NULLABLE"}, timestamps, names)
        return f"to_json(list_transform({expression}, lambda {one}: {element}))"
    if field["type"] == "RECORD":
        cells = ", ".join(
            _cell(f"{expression}.{quote(one['name'])}", one, timestamps, names) for one in field["fields"]
        )
        return f"CASE WHEN {expression} IS NOT NULL THEN json_object('f', json_array({cells})) END"
    return _scalar(expression, field["type"], timestamps)


def _scalar(expression: str, kind: str, timestamps: str) -> str:
    text = f"CAST({expression} AS VARCHAR)"
    if kind == "BYTES":
        return f"base64({expression})"
    if kind == "FLOAT":
        return (
            f"CASE WHEN isnan({expression}) THEN 'NaN' WHEN isinf({expression}) "
            f"THEN if({expression} > 0, 'Infinity', '-Infinity') ELSE {text} END"
        )
    if kind == "NUMERIC":
        return f"rtrim(rtrim({text}, '0'), '.')"
    if kind == "DATETIME":
        return f"replace({text}, ' ', 'T')"
    if kind == "TIMESTAMP":
        micros = f"epoch_us({expression})"
        if timestamps == "INT64":
            return f"CAST({micros} AS VARCHAR)"
        if timestamps == "ISO8601_STRING":
            return f"strftime(CAST({expression} AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%fZ')"
        return f"CAST(CAST({micros} AS DOUBLE) / 1000000 AS VARCHAR)"
    return text
