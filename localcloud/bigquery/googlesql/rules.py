"""The rules of `dialect.py`, one function each: a node of the syntax tree in, the node that answers as BigQuery does out.

A rule returns the node itself where nothing is to be changed. Rules run from the leaves to the root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.bigquery.errors import Unsupported
from localcloud.bigquery.googlesql.place import place_of

Rule = Callable[[Any, str], Any]

_USER = "local@localhost"
_DATE_UNITS = frozenset(("DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR"))
_REFUSED_TYPES = frozenset(("BIGDECIMAL", "GEOGRAPHY", "INTERVAL", "RANGE"))


def user(node: Any, text: str) -> Any:
    """SESSION_USER(): there is one user here."""
    from sqlglot import exp

    return exp.Literal.string(_USER)


def safe(node: Any, text: str) -> Any:
    """SAFE.f(x): NULL instead of an error."""
    return _call("TRY", node.this.copy())


def safe_arithmetic(node: Any, text: str) -> Any:
    """SAFE_ADD and its like."""
    from sqlglot import exp

    kinds = {"SafeAdd": exp.Add, "SafeSubtract": exp.Sub, "SafeMultiply": exp.Mul}
    kind = kinds[type(node).__name__]
    return _call("TRY", kind(this=exp.paren(node.this.copy()), expression=exp.paren(node.expression.copy())))


def safe_negate(node: Any, text: str) -> Any:
    """SAFE_NEGATE."""
    from sqlglot import exp

    return _call("TRY", exp.Neg(this=exp.paren(node.this.copy())))


def format_text(node: Any, text: str) -> Any:
    """FORMAT is C's printf; DuckDB's function of that name has another notation."""
    return _call("PRINTF", node.this.copy(), *(one.copy() for one in node.expressions))


def byte_length(node: Any, text: str) -> Any:
    """BYTE_LENGTH: strlen counts bytes in DuckDB."""
    return _call("STRLEN", node.this.copy())


def as_date(node: Any, text: str) -> Any:
    """DATE_ADD and DATE_SUB give a DATE; DuckDB makes a timestamp of it."""
    return _cast(node.copy(), "DATE")


def date_trunc(node: Any, text: str) -> Any:
    """DATE_TRUNC to a day or more gives a DATE."""
    unit = str(node.args["unit"].name).upper()
    return _cast(node.copy(), "DATE") if unit.split("(")[0] in _DATE_UNITS else node


def as_timestamp(node: Any, text: str) -> Any:
    """PARSE_TIMESTAMP gives a TIMESTAMP, not a DATETIME."""
    return _cast(node.copy(), "TIMESTAMPTZ")


def unix_to_time(node: Any, text: str) -> Any:
    """TIMESTAMP_MILLIS and TIMESTAMP_MICROS likewise."""
    return _cast(node.copy(), "TIMESTAMPTZ") if node.args.get("scale") is not None else node


def timestamp_diff(node: Any, text: str) -> Any:
    """TIMESTAMP_DIFF counts whole units that have passed; DuckDB's date_diff counts the boundaries crossed."""
    from sqlglot import exp

    unit = exp.Literal.string(str(node.args["unit"].name).lower())
    return _call("DATE_SUB", unit, node.expression.copy(), node.this.copy())


def unix_seconds(node: Any, text: str) -> Any:
    """UNIX_SECONDS rounds down; a cast of DuckDB's epoch would round to the nearest."""
    from sqlglot import exp

    seconds = exp.Div(this=_call("EPOCH_US", node.this.copy()), expression=exp.Literal.number(1000000), typed=False)
    return _cast(exp.Floor(this=seconds), "BIGINT")


def extract(node: Any, text: str) -> Any:
    """EXTRACT: weekdays count from 1, weeks from Sunday; whole dates and times can be extracted too."""
    from sqlglot import exp

    part = str(node.this.name).upper()
    if part == "DAYOFWEEK":
        return exp.paren(exp.Add(this=node.copy(), expression=exp.Literal.number(1)))
    if part in ("DATE", "TIME", "DATETIME"):
        return _cast(node.expression.copy(), "TIMESTAMP" if part == "DATETIME" else part)
    if part == "ISOWEEK":
        node.this.set("this", "WEEK")
    elif part.startswith("WEEK"):
        raise Unsupported(f"EXTRACT({part} …) is not offered locally{place_of(node, text)}; use ISOWEEK.")
    return node


def data_type(node: Any, text: str) -> Any:
    """NUMERIC is DECIMAL(38, 9), where DuckDB's bare DECIMAL keeps three places; types that DuckDB lacks are refused."""
    from sqlglot import exp

    kind = node.this.name if hasattr(node.this, "name") else str(node.this)
    if kind == "DECIMAL" and not node.expressions:
        return exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb")
    if kind in _REFUSED_TYPES:
        raise Unsupported(f"Type {kind} is not offered locally{place_of(node, text)}; see docs/bigquery.md.")
    return node


def cast(node: Any, text: str) -> Any:
    """CAST(x AS BYTES) is UTF-8; DuckDB would read escapes. FORMAT clauses are refused."""
    from sqlglot import exp

    if node.args.get("format") is not None:
        raise Unsupported(
            f"CAST with FORMAT is not offered locally{place_of(node, text)}; use FORMAT_DATE or PARSE_DATE."
        )
    if node.to.is_type("binary", "varbinary") and not isinstance(node.this, exp.ByteString):
        return _call("ENCODE", node.this.copy())
    return node


def bracket(node: Any, text: str) -> Any:
    """a[OFFSET(n)] past the end is an error; DuckDB answers NULL, as only SAFE_OFFSET should."""
    from sqlglot import exp

    index = node.expressions[0] if len(node.expressions) == 1 else None
    if node.args.get("safe") or index is None or isinstance(index, exp.Slice) or index.is_string:
        return node
    return _call("BQ_OFFSET", node.this.copy(), index.copy(), exp.Literal.number(node.args.get("offset") or 0))


def array_agg(node: Any, text: str) -> Any:
    """ARRAY_AGG(… LIMIT n): the first n of the whole."""
    from sqlglot import exp

    limit = node.this
    if not isinstance(limit, exp.Limit):
        return node
    count = limit.expression.copy()
    limit.replace(limit.this.copy())
    first = exp.Slice(this=exp.Literal.number(1), expression=count)
    return exp.Bracket(this=exp.paren(node.copy()), expressions=[first], safe=True)


# The class of sqlglot's node → its rule.
RULES: dict[str, Rule] = {
    "SessionUser": user,
    "CurrentUser": user,
    "SafeFunc": safe,
    "SafeAdd": safe_arithmetic,
    "SafeSubtract": safe_arithmetic,
    "SafeMultiply": safe_arithmetic,
    "SafeNegate": safe_negate,
    "Format": format_text,
    "ByteLength": byte_length,
    "DateAdd": as_date,
    "DateSub": as_date,
    "DateTrunc": date_trunc,
    "UnixToTime": unix_to_time,
    "StrToTime": as_timestamp,
    "TimestampDiff": timestamp_diff,
    "UnixSeconds": unix_seconds,
    "Extract": extract,
    "DataType": data_type,
    "Cast": cast,
    "TryCast": cast,
    "Bracket": bracket,
    "ArrayAgg": array_agg,
}


def _call(name: str, *arguments: Any) -> Any:
    from sqlglot import exp

    return exp.Anonymous(this=name, expressions=list(arguments))


def _cast(node: Any, kind: str) -> Any:
    from sqlglot import exp

    return exp.Cast(this=node, to=exp.DataType.build(kind, dialect="duckdb"))
