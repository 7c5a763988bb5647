"""Text and JSON values into typed columns, in SQL, with every bad value told by name: loads and streaming inserts share it.

Two expressions come from each field: the converted value (NULL where it could not be converted) and the complaint (NULL
where all is well). So one pass over a file yields the good rows and says what is wrong with the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from localcloud.bigquery.names import literal, quote
from localcloud.bigquery.schema import Field, duck_type

# A bad value is quoted in the complaint, but not a megabyte of it.
_SHOWN_CHARACTERS = 60
_GOOGLESQL_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}


def text_value(text: str, field: Field) -> str:
    """SQL for the value of a scalar field out of a VARCHAR expression; NULL when it cannot be read."""
    kind = field["type"]
    if kind == "STRING":
        return text
    if kind == "INTEGER":
        # DuckDB also reads 1.0, 1e3, 0x10 and 1_000 as integers; BigQuery refuses them.
        return f"CASE WHEN regexp_full_match({text}, '\\s*[+-]?[0-9]+\\s*') THEN TRY_CAST({text} AS BIGINT) END"
    if kind == "FLOAT":
        return f"CASE WHEN NOT contains({text}, '_') THEN TRY_CAST({text} AS DOUBLE) END"
    if kind == "BOOLEAN":
        return (
            f"CASE WHEN lower(trim({text})) IN ('true', 't', 'yes', 'y', '1') THEN true "
            f"WHEN lower(trim({text})) IN ('false', 'f', 'no', 'n', '0') THEN false END"
        )
    if kind == "BYTES":
        return f"TRY(from_base64({text}))"
    if kind == "JSON":
        return f"CASE WHEN json_valid({text}) THEN CAST({text} AS JSON) END"
    if kind == "TIMESTAMP":
        # A bare number is seconds since 1970, as the streaming API sends it.
        return (
            f"coalesce(TRY_CAST({text} AS TIMESTAMP WITH TIME ZONE), "
            f"TRY(make_timestamptz(CAST(round(TRY_CAST({text} AS DOUBLE) * 1000000) AS BIGINT))))"
        )
    if kind == "DATE":
        return f"CASE WHEN strlen({text}) <= 10 THEN TRY_CAST({text} AS DATE) END"
    return f"TRY_CAST({text} AS {duck_type({**field, 'mode': 'NULLABLE'})})"


def text_complaint(text: str, field: Field, position: int) -> str:
    """SQL for what is wrong with a CSV cell, or NULL."""
    where = f" for field {field['name']} (position {position})"
    cases = []
    if field["mode"] == "REQUIRED":
        cases.append(f"WHEN {text} IS NULL THEN {literal(f'Required column value is missing{where}')}")
    if field["type"] != "STRING":
        cases.append(
            f"WHEN {text} IS NOT NULL AND ({text_value(text, field)}) IS NULL THEN {_could_not_parse(text, field, where)}"
        )
    return f"CASE {' '.join(cases)} END" if cases else "NULL"


def json_value(value: str, field: Field, names: Iterator[int] | None = None) -> str:
    """SQL for the value of a field out of a JSON expression; NULL (or an empty list) when it cannot be read."""
    names = names or count()
    if field["mode"] == "REPEATED":
        one = f"x{next(names)}"
        element = {**field, "mode": "NULLABLE"}
        return f"coalesce(list_transform(TRY_CAST({value} AS JSON[]), lambda {one}: {json_value(one, element, names)}), [])"
    if field["type"] == "RECORD":
        inner = ", ".join(
            f"{quote(one['name'])} := {json_value(_child(value, one), one, names)}" for one in field["fields"]
        )
        return f"CASE WHEN json_type({value}) = 'OBJECT' THEN struct_pack({inner}) END"
    if field["type"] == "JSON":
        # A string that holds JSON is that JSON (the streaming client sends it so); anything else is itself.
        text = f"({value} ->> '$')"
        return (
            f"CASE WHEN json_type({value}) = 'VARCHAR' AND json_valid({text}) THEN CAST({text} AS JSON) "
            f"WHEN json_type({value}) <> 'NULL' THEN {value} END"
        )
    return text_value(_text(value, field), field)


def json_complaint(value: str, field: Field, path: str = "", names: Iterator[int] | None = None) -> str:
    """SQL for what is wrong with a field's JSON value, or NULL; nested fields are told by their path."""
    names = names or count()
    name = f"{path}{field['name']}"
    missing = f"({value} IS NULL OR json_type({value}) = 'NULL')"
    if field["mode"] == "REPEATED":
        one = f"y{next(names)}"
        element = {**field, "mode": "NULLABLE"}
        inner = json_complaint(one, element, path, names)
        null_element = (
            f"CASE WHEN {one} IS NULL THEN {literal(f'Only non-null values are allowed in array {name}')} END"
        )
        found = (
            f"list_filter(list_transform(TRY_CAST({value} AS JSON[]), lambda {one}: coalesce({null_element}, {inner})), "
            f"lambda z: z IS NOT NULL)[1]"
        )
        not_array = literal(f"Array specified for non-repeated field or no array given: field {name} is REPEATED")
        return f"CASE WHEN {missing} THEN NULL WHEN json_type({value}) <> 'ARRAY' THEN {not_array} ELSE {found} END"
    required = ""
    if field["mode"] == "REQUIRED":
        required = f"WHEN {missing} THEN {literal(f'Missing required field: {name}')} "
    if field["type"] == "RECORD":
        children = [json_complaint(_child(value, one), one, f"{name}.", names) for one in field["fields"]]
        not_record = literal(f"This field: {name} is a record.")
        return (
            f"CASE {required}WHEN {missing} THEN NULL WHEN json_type({value}) <> 'OBJECT' THEN {not_record} "
            f"ELSE coalesce({', '.join(children)}) END"
        )
    return f"CASE {required}WHEN {missing} THEN NULL {_scalar_case(value, field, name)}END"


def json_unknown(value: str, fields: list[Field], path: str = "", names: Iterator[int] | None = None) -> str:
    """SQL for the first name in a JSON object that the schema does not have, or NULL."""
    names = names or count()
    one = f"k{next(names)}"
    known = ", ".join(literal(field["name"]) for field in fields)
    here = (
        f"CASE WHEN json_type({value}) = 'OBJECT' THEN {literal(path)} || list_filter(json_keys({value}), "
        f"lambda {one}: {one} NOT IN ({known}))[1] END"
    )
    deeper = [
        json_unknown(_child(value, field), field["fields"], f"{path}{field['name']}.", names)
        for field in fields
        if field["type"] == "RECORD" and field["mode"] != "REPEATED"
    ]
    return f"coalesce({', '.join([here, *deeper])})" if deeper else here


def _scalar_case(value: str, field: Field, name: str) -> str:
    kind = field["type"]
    if kind == "JSON":
        return ""
    not_scalar = literal(f"Array or record specified for the scalar field: {name}.")
    case = f"WHEN json_type({value}) IN ('ARRAY', 'OBJECT') THEN {not_scalar} "
    if kind == "STRING":
        return case
    text = _text(value, field)
    return f"{case}WHEN ({text_value(text, field)}) IS NULL THEN {_could_not_parse(text, field, f' for field {name}')} "


def _text(value: str, field: Field) -> str:
    if field["type"] == "NUMERIC":
        # The JSON text itself: going through a double would lose digits.
        return f"trim(CAST({value} AS VARCHAR), '\"')"
    return f"({value} ->> '$')"


def _child(value: str, field: Field) -> str:
    pointer = '$."' + field["name"].replace('"', '\\"') + '"'
    return f"json_extract({value}, {literal(pointer)})"


def _could_not_parse(text: str, field: Field, where: str) -> str:
    kind = _GOOGLESQL_NAMES.get(field["type"], field["type"])
    tail = literal(f"' as {kind}{where}")
    return f"'Could not parse ''' || left({text}, {_SHOWN_CHARACTERS}) || {tail}"
