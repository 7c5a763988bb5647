"""Query parameters (`@name` and `?`) become typed constants of the syntax tree; no text is ever pasted into SQL."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery.errors import Invalid, InvalidQuery
from localcloud.bigquery.googlesql.place import place_of, place_of_word
from localcloud.bigquery.names import literal, quote
from localcloud.bigquery.schema import canonical, duck_type


def bind_parameters(tree: Any, parameters: list[dict[str, Any]], mode: str, text: str) -> None:
    """Replace each parameter node in place.

    Raises:
        InvalidQuery: a parameter that the query names and the request lacks.
        Invalid: a parameter without type or value.
    """
    from sqlglot import exp

    if not parameters and tree.find(exp.Parameter, exp.Placeholder) is None:
        return
    named = {one["name"].lower(): one for one in parameters if one.get("name")}
    positional = [one for one in parameters if not one.get("name")]
    if (mode == "NAMED" and positional) or (mode == "POSITIONAL" and named):
        raise Invalid(f"parameterMode {mode} does not go with the parameters given; name all of them or none.")
    nodes = [node for node in tree.dfs() if isinstance(node, exp.Parameter | exp.Placeholder)]
    used = 0
    for node in nodes:
        if isinstance(node, exp.Parameter):
            if isinstance(node.this, exp.Parameter):
                raise InvalidQuery(
                    f"System variable {node.sql('bigquery')} is not offered locally{place_of(node, text)}"
                )
            found = named.get(node.name.lower())
            if found is None:
                raise InvalidQuery(f"Query parameter '{node.name}' not found{place_of_word(text, '@' + node.name)}")
        else:
            if used >= len(positional):
                raise InvalidQuery(
                    f"Query parameters do not match: the query has more than {len(positional)} '?', give as many parameters."
                )
            found = positional[used]
            used += 1
        node.replace(_constant(found))
    if used < len(positional):
        raise InvalidQuery(f"Query parameters do not match: {len(positional)} given, {used} '?' in the query.")


def _constant(parameter: dict[str, Any]) -> Any:
    import sqlglot

    kind = parameter.get("parameterType") or {}
    sql = _value_sql(_field("p", kind, parameter.get("name") or "?"), parameter.get("parameterValue") or {})
    return sqlglot.parse_one(sql, read="duckdb")


def _field(name: str, kind: dict[str, Any], parameter: str) -> dict[str, Any]:
    """A parameter's type as a schema field."""
    type_name = str(kind.get("type", "")).upper()
    if type_name == "ARRAY":
        return {**_field(name, kind.get("arrayType") or {}, parameter), "mode": "REPEATED"}
    if type_name in ("STRUCT", "RECORD"):
        inner = [
            _field(one.get("name") or f"_field_{at + 1}", one.get("type") or {}, parameter)
            for at, one in enumerate(kind.get("structTypes") or [])
        ]
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": inner}
    if not type_name:
        raise Invalid(f"Query parameter {parameter} has no type; give parameterType.type.")
    return canonical([{"name": name, "type": type_name}], f"query parameter {parameter}")[0]


def _value_sql(field: dict[str, Any], value: dict[str, Any]) -> str:
    if field["mode"] == "REPEATED":
        one = {**field, "mode": "NULLABLE"}
        inner = ", ".join(_value_sql(one, item) for item in value.get("arrayValues") or [])
        return f"CAST([{inner}] AS {duck_type(field)})"
    if field["type"] == "RECORD":
        given = value.get("structValues") or {}
        inner = ", ".join(
            f"{quote(one['name'])} := {_value_sql(one, given.get(one['name']) or {})}" for one in field["fields"]
        )
        return f"STRUCT_PACK({inner})"
    text = value.get("value")
    if text is None:
        return f"CAST(NULL AS {duck_type(field)})"
    if field["type"] == "BYTES":
        return f"FROM_BASE64({literal(str(text))})"
    return f"CAST({literal(str(text))} AS {duck_type(field)})"
