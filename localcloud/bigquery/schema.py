"""Three ways to say what a column is: BigQuery's JSON schema (the truth, kept in the catalog), DuckDB's types, Arrow's.

BigQuery stores no null arrays and no arrays of arrays; a REPEATED column is an empty list where nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.bigquery.errors import Invalid, Unsupported
from localcloud.bigquery.names import check_column, quote

if TYPE_CHECKING:
    import pyarrow as pa

Field = dict[str, Any]

_MAX_DEPTH = 15
# GoogleSQL's names beside the REST API's older ones, which answers use.
_ALIASES = {
    "INT64": "INTEGER",
    "FLOAT64": "FLOAT",
    "BOOL": "BOOLEAN",
    "STRUCT": "RECORD",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
}
_DUCK = {
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "DATETIME": "TIMESTAMP",
    "DATE": "DATE",
    "TIME": "TIME",
    "NUMERIC": "DECIMAL(38,9)",
    "JSON": "JSON",
}
_FROM_DUCK = {
    "varchar": "STRING",
    "enum": "STRING",
    "uuid": "STRING",
    "blob": "BYTES",
    "boolean": "BOOLEAN",
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint", "hugeint"), "INTEGER"),
    **dict.fromkeys(("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"), "INTEGER"),
    "float": "FLOAT",
    "double": "FLOAT",
    "decimal": "NUMERIC",
    "timestamp with time zone": "TIMESTAMP",
    "timestamp": "DATETIME",
    "timestamp_s": "DATETIME",
    "timestamp_ms": "DATETIME",
    "timestamp_ns": "DATETIME",
    "date": "DATE",
    "time": "TIME",
    "json": "JSON",
    # A bare NULL column: BigQuery calls it INT64.
    '"null"': "INTEGER",
    "sqlnull": "INTEGER",
}
_MODES = ("NULLABLE", "REQUIRED", "REPEATED")
# Names for what BigQuery has and DuckDB cannot hold without loss.
_REFUSED = {
    "BIGNUMERIC": "DuckDB's decimals end at 38 digits; use NUMERIC or STRING",
    "GEOGRAPHY": "the spatial extension is not bundled; use STRING with well-known text",
    "INTERVAL": "use INTEGER seconds",
    "RANGE": "use two columns",
}


def canonical(fields: list[Field], place: str = "schema", depth: int = 1) -> list[Field]:
    """Check a REST schema and bring it to the form that answers use (INTEGER not INT64, every mode written).

    Raises:
        Invalid: no fields, a bad name, type or mode, or a name twice.
        Unsupported: a type that the stand-in cannot hold.
    """
    if not fields:
        raise Invalid(f"{place} has no fields; give at least one.")
    if depth > _MAX_DEPTH:
        raise Invalid(f"{place} nests deeper than {_MAX_DEPTH} records; flatten it.")
    seen: set[str] = set()
    done = []
    for field in fields:
        name = check_column(field.get("name", ""), place)
        if name.lower() in seen:
            raise Invalid(f'Duplicate field name "{name}" in {place} (names differ by more than case); rename one.')
        seen.add(name.lower())
        done.append(_canonical_field(field, name, place, depth))
    return done


def _canonical_field(field: Field, name: str, place: str, depth: int) -> Field:
    raw_type = str(field.get("type", "")).upper()
    kind = _ALIASES.get(raw_type, raw_type)
    if kind in _REFUSED:
        raise Unsupported(f"Field {name} in {place} is {kind}, which the local BigQuery lacks: {_REFUSED[kind]}.")
    if kind != "RECORD" and kind not in _DUCK:
        raise Invalid(
            f'Field {name} in {place} has the unknown type "{raw_type}"; use one of {sorted(_DUCK)} or RECORD.'
        )
    mode = str(field.get("mode") or "NULLABLE").upper()
    if mode not in _MODES:
        raise Invalid(f'Field {name} in {place} has the unknown mode "{mode}"; use one of {_MODES}.')
    if field.get("defaultValueExpression"):
        raise Unsupported(f"Field {name} in {place} has a default value, which the local BigQuery lacks; give values.")
    done = {**field, "name": name, "type": kind, "mode": mode}
    if kind == "RECORD":
        done["fields"] = canonical(field.get("fields", []), f"{place}.{name}", depth + 1)
    elif field.get("fields"):
        raise Invalid(f"Field {name} in {place} is {kind} and has fields; only a RECORD has.")
    return done


def duck_type(field: Field) -> str:
    """The DuckDB type that stores this field."""
    if field["type"] == "RECORD":
        inner = ", ".join(f"{quote(one['name'])} {duck_type(one)}" for one in field["fields"])
        scalar = f"STRUCT({inner})"
    else:
        scalar = _DUCK[field["type"]]
    return f"{scalar}[]" if field["mode"] == "REPEATED" else scalar


def columns_ddl(fields: list[Field]) -> str:
    """The column list of CREATE TABLE."""
    return ", ".join(
        f"{quote(one['name'])} {duck_type(one)}{' NOT NULL' if one['mode'] == 'REQUIRED' else ''}" for one in fields
    )


def field_of(name: str, duck: Any, place: str = "the query's result") -> Field:
    """The BigQuery field for a DuckDB column type (`duckdb.DuckDBPyType`).

    Raises:
        Unsupported: a type without a BigQuery twin (INTERVAL, MAP, list of lists).
    """
    kind = str(duck.id).lower()
    if kind in ("list", "array"):
        element = field_of(name, duck.children[0][1], place)
        if element["mode"] == "REPEATED":
            raise Invalid(f"Column {name} of {place} is an array of arrays, which BigQuery does not allow.")
        return {**element, "mode": "REPEATED"}
    if kind == "struct":
        inner = [field_of(child, child_type, place) for child, child_type in duck.children]
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": inner}
    # JSON is an alias of VARCHAR in DuckDB: its id says varchar, only its text says JSON.
    known = _FROM_DUCK.get(str(duck).lower()) or _FROM_DUCK.get(kind)
    if known is None:
        raise Unsupported(f"Column {name} of {place} is {duck}, which has no BigQuery type here; cast it in the query.")
    return {"name": name, "type": known, "mode": "NULLABLE"}


def cast_sql(expression: str, field: Field) -> str:
    """SQL that turns a query's column into the stored type; a null array becomes an empty one."""
    cast = f"CAST({expression} AS {duck_type(field)})"
    return f"coalesce({cast}, [])" if field["mode"] == "REPEATED" else cast


def arrow_schema(fields: list[Field]) -> pa.Schema:
    """The Arrow schema in which BigQuery's Storage Read API sends these fields."""
    import pyarrow as pa

    return pa.schema([_arrow_field(one) for one in fields])


def _arrow_field(field: Field) -> pa.Field:
    import pyarrow as pa

    kind = field["type"]
    if kind == "RECORD":
        scalar = pa.struct([_arrow_field(one) for one in field["fields"]])
    else:
        scalar = {
            "STRING": pa.string(),
            "JSON": pa.string(),
            "BYTES": pa.binary(),
            "INTEGER": pa.int64(),
            "FLOAT": pa.float64(),
            "BOOLEAN": pa.bool_(),
            "TIMESTAMP": pa.timestamp("us", tz="UTC"),
            "DATETIME": pa.timestamp("us"),
            "DATE": pa.date32(),
            "TIME": pa.time64("us"),
            "NUMERIC": pa.decimal128(38, 9),
        }[kind]
    if field["mode"] == "REPEATED":
        return pa.field(field["name"], pa.list_(pa.field("item", scalar)), nullable=False)
    return pa.field(field["name"], scalar, nullable=field["mode"] != "REQUIRED")


def find(fields: list[Field], name: str) -> Field | None:
    """The field of this name; BigQuery's names do not mind case."""
    return next((one for one in fields if one["name"].lower() == name.lower()), None)


def row_bytes_sql(fields: list[Field]) -> str:
    """SQL for the logical size of one row, as BigQuery bills it: 8 bytes a number, 1 a boolean, 2 + UTF-8 bytes a string."""
    return " + ".join(_bytes_sql(quote(one["name"]), one) for one in fields)


def _bytes_sql(expression: str, field: Field) -> str:
    if field["mode"] == "REPEATED" or field["type"] in ("RECORD", "JSON"):
        return f"coalesce(strlen(CAST({expression} AS VARCHAR)), 0)"
    if field["type"] == "STRING":
        return f"coalesce(strlen({expression}) + 2, 0)"
    if field["type"] == "BYTES":
        return f"coalesce(octet_length({expression}) + 2, 0)"
    size = {"BOOLEAN": 1, "NUMERIC": 16}.get(field["type"], 8)
    return f"if({expression} IS NULL, 0, {size})"
