"""Number literals and UNNEST, which GoogleSQL reads in another way than DuckDB.

`1.5` is a FLOAT64 (DuckDB: a decimal), `1` an INT64 (DuckDB: 32 bits, which overflow). UNNEST of an array of structs gives
their fields as columns, and WITH OFFSET counts from 0 (DuckDB: one struct column, counted from 1).
"""

from __future__ import annotations

from typing import Any

from localcloud.bigquery.names import quote

# Under these a whole number is a value; elsewhere (LIMIT, GROUP BY 1, ROUND's second argument) DuckDB wants it plain.
_VALUE_PLACES = frozenset(
    ("Alias", "Select", "Mul", "Array", "Struct", "PropertyEQ", "Tuple", "If", "Case", "Coalesce", "Paren")
)
_LEFT_PLACES = frozenset(("Add", "Sub"))
_INT64_MAX = 2**63 - 1


def rewrite_literals(tree: Any) -> Any:
    """Give each number literal its GoogleSQL type; the tree back (its root may be a literal itself)."""
    from sqlglot import exp

    for node in list(tree.find_all(exp.Literal)):
        if node.is_string:
            continue
        # The sign belongs to the number: -9223372036854775808 has no positive twin.
        whole = node.parent if isinstance(node.parent, exp.Neg) else node
        kind = _type_of(node, whole)
        if kind is None:
            continue
        done = exp.Cast(this=whole.copy(), to=exp.DataType.build(kind, dialect="duckdb"))
        if whole is tree:
            tree = done
        else:
            whole.replace(done)
    return tree


def rewrite_unnest(tree: Any) -> None:
    """Turn UNNEST of struct literals, and UNNEST WITH OFFSET, into subqueries that answer as BigQuery's do."""
    from sqlglot import exp

    for node in list(tree.find_all(exp.Unnest)):
        if not node.expressions or not isinstance(node.parent, exp.From | exp.Join):
            continue
        array = node.expressions[0]
        _name_tuples(array)
        is_struct = (
            isinstance(array, exp.Array) and bool(array.expressions) and isinstance(array.expressions[0], exp.Struct)
        )
        offset = node.args.get("offset")
        if not (is_struct or offset):
            continue
        alias = node.args.get("alias")
        columns = [one.name for one in alias.columns] if alias is not None else []
        name = columns[0] if columns else (node.alias or "")
        node.replace(_subquery(array, name, offset, is_struct=is_struct))


def _type_of(node: Any, whole: Any) -> str | None:
    text = node.name.lower()
    parent = whole.parent
    place = type(parent).__name__
    if place in ("Cast", "TryCast"):
        return None
    if not text.isdigit():
        return "DOUBLE"
    if int(text) > _INT64_MAX + (whole is not node):
        return None
    is_left = place in _LEFT_PLACES and parent.this is whole
    return "BIGINT" if place in _VALUE_PLACES or is_left else None


def _name_tuples(array: Any) -> None:
    """`[STRUCT(1 AS a), (2)]`: the later elements take the names of the first."""
    from sqlglot import exp

    if not isinstance(array, exp.Array) or not array.expressions or not isinstance(array.expressions[0], exp.Struct):
        return
    names = [one.this.copy() for one in array.expressions[0].expressions if isinstance(one, exp.PropertyEQ)]
    for element in array.expressions[1:]:
        values = [one.expression if isinstance(one, exp.PropertyEQ) else one for one in element.expressions]
        if isinstance(element, exp.Tuple | exp.Struct) and len(values) == len(names):
            pairs = zip(names, values, strict=True)
            named = [exp.PropertyEQ(this=name.copy(), expression=value.copy()) for name, value in pairs]
            element.replace(exp.Struct(expressions=named))


def _subquery(array: Any, name: str, offset: Any, *, is_struct: bool) -> Any:
    from sqlglot import exp

    depth = [exp.PropertyEQ(this=exp.to_identifier("max_depth"), expression=exp.Literal.number(2))] if is_struct else []
    values: Any = exp.Anonymous(this="UNNEST", expressions=[array.copy(), *depth])
    if not is_struct:
        values = exp.alias_(values, name or "value", quoted=True)
    columns = [values]
    if offset:
        label = offset.name if isinstance(offset, exp.Identifier) else "offset"
        counted = f"UNNEST(RANGE(LEN(x))) AS {quote(label)}"
        from sqlglot import parse_one

        count = parse_one(f"SELECT {counted}", read="duckdb").expressions[0]
        for column in list(count.find_all(exp.Column)):
            column.replace(array.copy())
        columns.append(count)
    alias = exp.TableAlias(this=exp.to_identifier(name or "_unnested", quoted=True))
    return exp.Subquery(this=exp.Select(expressions=columns), alias=alias)
