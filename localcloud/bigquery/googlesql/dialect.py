"""Functions whose DuckDB namesake means something else, rewritten so that they answer as BigQuery's do.

sqlglot translates the bulk. What is listed here is where its output runs but answers differently (the dangerous kind), or
where BigQuery has a function that DuckDB spells in another way. A function that is in neither list and that sqlglot does not
know is refused as BigQuery refuses it: `Function not found`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.bigquery.errors import InvalidQuery, Unsupported
from localcloud.bigquery.googlesql.literals import rewrite_literals, rewrite_unnest
from localcloud.bigquery.googlesql.place import place_of

# BigQuery functions that sqlglot keeps as plain calls, and what they are called in DuckDB.
_CALLS = {
    "IEEE_DIVIDE": "BQ_IEEE_DIVIDE",
    "ERROR": "ERROR",
    "PI": "PI",
    "CBRT": "CBRT",
    "COSH": "COSH",
    "SINH": "SINH",
    "TANH": "TANH",
    "ACOSH": "ACOSH",
    "ASINH": "ASINH",
    "ATANH": "ATANH",
    "SHA1": "SHA1",
}
# DuckDB's functions about itself, which sqlglot knows by class.
_CLOCKS = frozenset(("CurrentDate", "CurrentTime", "CurrentTimestamp", "CurrentDatetime"))
_USER = "local@localhost"
_DATE_UNITS = frozenset(("DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR"))


def rewrite_functions(tree: Any, text: str) -> Any:
    """Give every function in the tree BigQuery's meaning.

    Raises:
        InvalidQuery: a function that BigQuery does not have.
        Unsupported: one that it has and the stand-in cannot do.
    """
    from sqlglot import exp

    for node in list(tree.find_all(exp.Func)):
        name = type(node).__name__
        if name.startswith(("Current", "Read")) and name not in (*_CLOCKS, "CurrentUser"):
            raise InvalidQuery(f"Function not found: {node.sql_name()}{place_of(node, text)}")
    for node in list(tree.find_all(exp.Anonymous)):
        name = node.name.upper()
        if name in _CALLS:
            node.set("this", _CALLS[name])
        else:
            raise InvalidQuery(f"Function not found: {node.name}{place_of(node, text)}")
    rewrite_unnest(tree)
    tree = rewrite_literals(tree)
    rules = _rules(text)

    def rewrite(node: Any) -> Any:
        rule = rules.get(type(node).__name__)
        return node if rule is None else rule(node)

    # Children first, so that what a rule wraps is not met again.
    for node in reversed(list(tree.bfs())):
        done = rewrite(node)
        if done is node:
            continue
        if node is tree:
            tree = done
        else:
            node.replace(done)
    return tree


def _rules(text: str) -> dict[str, Callable[[Any], Any]]:
    from sqlglot import exp

    def call(name: str, *arguments: Any) -> Any:
        return exp.Anonymous(this=name, expressions=list(arguments))

    def cast(node: Any, kind: str) -> Any:
        return exp.Cast(this=node, to=exp.DataType.build(kind, dialect="duckdb"))

    def attempt(kind: Any) -> Callable[[Any], Any]:
        return lambda node: call(
            "TRY", exp.paren(kind(this=exp.paren(node.this), expression=exp.paren(node.expression)))
        )

    def as_date(node: Any) -> Any:
        return cast(node.copy(), "DATE")

    def date_trunc(node: Any) -> Any:
        unit = str(node.args["unit"].name).upper()
        return as_date(node) if unit.split("(")[0] in _DATE_UNITS else node

    def as_timestamp(node: Any) -> Any:
        return cast(node.copy(), "TIMESTAMPTZ")

    def unix_time(node: Any) -> Any:
        return as_timestamp(node) if node.args.get("scale") is not None else node

    def difference(node: Any) -> Any:
        # TIMESTAMP_DIFF counts whole units that have passed; DuckDB's date_diff counts the boundaries crossed.
        unit = exp.Literal.string(str(node.args["unit"].name).lower())
        return call("DATE_SUB", unit, node.expression.copy(), node.this.copy())

    def unix_seconds(node: Any) -> Any:
        micros = exp.paren(call("EPOCH_US", node.this.copy()))
        return exp.Floor(this=exp.Div(this=micros, expression=exp.Literal.number(1000000), typed=False))

    def extract(node: Any) -> Any:
        part = str(node.this.name).upper()
        if part == "DAYOFWEEK":
            return exp.paren(exp.Add(this=node.copy(), expression=exp.Literal.number(1)))
        if part in ("DATE", "TIME", "DATETIME"):
            return cast(node.expression.copy(), "TIMESTAMP" if part == "DATETIME" else part)
        if part == "ISOWEEK":
            node.this.set("this", "WEEK")
        elif part.startswith("WEEK"):
            raise Unsupported(f"EXTRACT({part} …) is not offered locally{place_of(node, text)}; use ISOWEEK.")
        return node

    def data_type(node: Any) -> Any:
        kind = node.this.name if hasattr(node.this, "name") else str(node.this)
        if kind == "DECIMAL" and not node.expressions:
            return exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb")
        if kind in ("BIGDECIMAL", "GEOGRAPHY", "INTERVAL", "RANGE"):
            raise Unsupported(f"Type {kind} is not offered locally{place_of(node, text)}; see docs/bigquery.md.")
        return node

    def cast_rule(node: Any) -> Any:
        if node.args.get("format") is not None:
            raise Unsupported(
                f"CAST with FORMAT is not offered locally{place_of(node, text)}; use FORMAT_DATE or PARSE_DATE."
            )
        if node.to.is_type("binary", "varbinary") and not isinstance(node.this, exp.ByteString):
            return call("ENCODE", node.this.copy())
        return node

    def bracket(node: Any) -> Any:
        index = node.expressions[0] if len(node.expressions) == 1 else None
        if node.args.get("safe") or index is None or isinstance(index, exp.Slice) or index.is_string:
            return node
        return call("BQ_OFFSET", node.this.copy(), index.copy(), exp.Literal.number(node.args.get("offset") or 0))

    def array_agg(node: Any) -> Any:
        limit = node.this
        if not isinstance(limit, exp.Limit):
            return node
        count = limit.expression.copy()
        limit.replace(limit.this.copy())
        return exp.Bracket(
            this=exp.paren(node.copy()),
            expressions=[exp.Slice(this=exp.Literal.number(1), expression=count)],
            safe=True,
        )

    return {
        "SessionUser": lambda node: exp.Literal.string(_USER),
        "CurrentUser": lambda node: exp.Literal.string(_USER),
        "SafeFunc": lambda node: call("TRY", node.this.copy()),
        "SafeAdd": attempt(exp.Add),
        "SafeSubtract": attempt(exp.Sub),
        "SafeMultiply": attempt(exp.Mul),
        "SafeNegate": lambda node: call("TRY", exp.Neg(this=exp.paren(node.this.copy()))),
        "Format": lambda node: call("PRINTF", node.this.copy(), *(one.copy() for one in node.expressions)),
        "ByteLength": lambda node: call("STRLEN", node.this.copy()),
        "DateAdd": as_date,
        "DateSub": as_date,
        "DateTrunc": date_trunc,
        "UnixToTime": unix_time,
        "StrToTime": as_timestamp,
        "TimestampDiff": difference,
        "UnixSeconds": unix_seconds,
        "Extract": extract,
        "DataType": data_type,
        "Cast": cast_rule,
        "TryCast": cast_rule,
        "Bracket": bracket,
        "ArrayAgg": array_agg,
    }
