"""One GoogleSQL statement in, one DuckDB statement out, every table name bound to the catalogue.

This is the first wall against hostile SQL (the second is in `engine.py`): only the statement kinds listed here pass, a
FROM may hold nothing but tables of the catalogue, CTEs, subqueries and UNNEST, and a function that BigQuery does not have is
refused. What sqlglot cannot express in DuckDB is an error, never an approximation.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from localcloud.bigquery.errors import InvalidQuery, Unsupported
from localcloud.bigquery.googlesql.dialect import rewrite_functions
from localcloud.bigquery.googlesql.parameters import bind_parameters
from localcloud.bigquery.googlesql.scope import Resolver, bind_tables
from localcloud.bigquery.names import TableRef

_MAX_QUERY_CHARACTERS = 1024 * 1024
# Root nodes that are a query; every other statement has its own name.
_QUERIES = frozenset(("Select", "Union", "Intersect", "Except", "SetOperation", "Subquery", "Table"))
_STATEMENTS = {
    "Insert": "INSERT",
    "Update": "UPDATE",
    "Delete": "DELETE",
    "Merge": "MERGE",
    "TruncateTable": "TRUNCATE_TABLE",
    "Create": "CREATE",
    "Drop": "DROP",
}
# What sqlglot makes of text that begins like no statement at all.
_NO_STATEMENTS = frozenset(("Alias", "Column", "Dot", "Literal", "Paren", "Anonymous"))
# DuckDB's own ways to the file system and to settings; sqlglot reads some of them in any dialect.
_FORBIDDEN_NODES = frozenset(
    [
        "Attach",
        "Detach",
        "Command",
        "Copy",
        "Pragma",
        "Set",
        "Use",
        "Export",
        "LoadData",
        "Install",
        "Into",
        "Kill",
        "Cache",
    ]
)


@dataclass(slots=True)
class Statement:
    """A parsed statement. `kind` is BigQuery's statementType, CREATE and DROP being told apart by `jobs/ddl.py`."""

    tree: Any
    text: str
    kind: str


@dataclass(slots=True)
class Translated:
    """DuckDB's SQL, and the catalogue tables it reads (`physical` name → reference, for error texts)."""

    sql: str
    tables: dict[str, TableRef] = field(default_factory=dict)


def parse(text: str) -> Statement:
    """Parse one statement.

    Raises:
        InvalidQuery: it does not parse; the message ends with `at [line:column]`.
        Unsupported: a statement, or a script of several, that the stand-in does not run.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError

    if len(text) > _MAX_QUERY_CHARACTERS:
        raise InvalidQuery(f"The query has {len(text)} characters; the most is {_MAX_QUERY_CHARACTERS}.")
    try:
        with _quiet():
            trees = [one for one in sqlglot.parse(text, read="bigquery") if one is not None]
    except SqlglotError as error:
        raise _syntax_error(error) from error
    except RecursionError as error:
        raise InvalidQuery("The query nests too deeply; flatten it.") from error
    if not trees:
        raise InvalidQuery("Syntax error: Unexpected end of statement at [1:1]")
    if len(trees) > 1:
        raise Unsupported(
            f"A script of {len(trees)} statements; the local BigQuery runs one per job, so send them apart."
        )
    tree = trees[0]
    name = type(tree).__name__
    if name in _NO_STATEMENTS:
        raise InvalidQuery(f'Syntax error: Unexpected "{_shorten(text.split()[0], 40)}" at [1:1]')
    if name not in _QUERIES and name not in _STATEMENTS:
        raise Unsupported(
            f"{tree.key.upper()} statements are not offered by the local BigQuery; it runs SELECT, INSERT, UPDATE, DELETE, "
            "MERGE, TRUNCATE TABLE, CREATE TABLE, CREATE VIEW, DROP TABLE and DROP VIEW."
        )
    for node in tree.walk():
        if type(node).__name__ in _FORBIDDEN_NODES:
            raise InvalidQuery(f'Syntax error: Unexpected keyword {node.key.upper()} in "{_shorten(text)}"')
    return Statement(tree, text, _STATEMENTS.get(name, "SELECT"))


def translate(
    statement: Statement, resolver: Resolver, parameters: list[dict[str, Any]], parameter_mode: str = ""
) -> Translated:
    """Bind names and parameters, and write DuckDB's SQL.

    Raises:
        InvalidQuery, NotFound, Unsupported: see `scope`, `parameters` and `dialect`.
    """
    from sqlglot import ErrorLevel
    from sqlglot.errors import SqlglotError

    tree = statement.tree.copy()
    if statement.kind == "SELECT":
        name_columns(tree)
    tables = bind_tables(tree, resolver, statement.text)
    tree = rewrite_functions(tree, statement.text)
    # Last, so that the constants, which are DuckDB's own syntax, are not translated again.
    bind_parameters(tree, parameters, parameter_mode, statement.text)
    try:
        with _quiet():
            sql = tree.sql("duckdb", unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise Unsupported(f"The local BigQuery cannot run this query: {error}.") from error
    except RecursionError as error:
        raise InvalidQuery("The query nests too deeply; flatten it.") from error
    return Translated(sql, tables)


def translate_condition(text: str) -> str:
    """Translate the row restriction of a read session: an expression over the table's own columns.

    Raises:
        InvalidQuery: it does not parse, or holds a subquery.
    """
    import sqlglot
    from sqlglot import ErrorLevel, exp
    from sqlglot.errors import SqlglotError

    try:
        with _quiet():
            tree = sqlglot.parse_one(text, read="bigquery", into=exp.Condition)
            if tree.find(exp.Query, exp.Table, exp.Subquery) is not None:
                raise InvalidQuery(
                    f'The row restriction "{_shorten(text)}" holds a subquery; compare columns with constants.'
                )
            return str(rewrite_functions(tree, text).sql("duckdb", unsupported_level=ErrorLevel.RAISE))
    except SqlglotError as error:
        raise InvalidQuery(f'request failed: row filter "{_shorten(text)}" does not parse: {error}') from error
    except RecursionError as error:
        raise InvalidQuery("The row restriction nests too deeply; flatten it.") from error


def name_columns(tree: Any) -> None:
    """Give unnamed columns BigQuery's names: f0_, f1_, …"""
    from sqlglot import exp

    select = tree
    while not isinstance(select, exp.Select):
        if not isinstance(select, exp.SetOperation | exp.Subquery):
            return
        select = select.this
    named = (exp.Alias, exp.Column, exp.Star)
    unnamed = 0
    done: list[Any] = []
    for one in select.expressions:
        if isinstance(one, named):
            done.append(one)
            continue
        if isinstance(one, exp.Dot) and isinstance(one.expression, exp.Identifier):
            done.append(exp.alias_(one, one.expression.name, quoted=True))
            continue
        done.append(exp.alias_(one, f"f{unnamed}_", quoted=True))
        unnamed += 1
    select.set("expressions", done)


def _syntax_error(error: Any) -> InvalidQuery:
    details = getattr(error, "errors", None) or []
    if not details:
        return InvalidQuery(f"Syntax error: {str(error).splitlines()[0]}")
    first = details[0]
    found = str(first.get("highlight") or "").strip()
    what = f'Unexpected "{_shorten(found, 60)}"' if found else "Unexpected end of statement"
    line, column = first.get("line") or 1, first.get("col") or 1
    return InvalidQuery(f"Syntax error: {what} at [{line}:{max(1, column - max(0, len(found) - 1))}]")


def _shorten(text: str, most: int = 120) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """sqlglot warns on stderr about syntax that it keeps as text; we refuse such statements by name instead."""
    logger = logging.getLogger("sqlglot")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
