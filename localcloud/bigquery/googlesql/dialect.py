"""Functions whose DuckDB namesake means something else, rewritten so that they answer as BigQuery's do.

sqlglot translates the bulk. What `rules.py` lists is where its output runs but answers differently (the dangerous kind), or
where BigQuery has a function that DuckDB spells in another way. A function that is in no list and that sqlglot does not
know is refused as BigQuery refuses it: `Function not found`.
"""

from __future__ import annotations

from typing import Any

from localcloud.bigquery.errors import InvalidQuery
from localcloud.bigquery.googlesql.literals import rewrite_literals, rewrite_unnest
from localcloud.bigquery.googlesql.place import place_of
from localcloud.bigquery.googlesql.rules import RULES

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
}
# Functions that DuckDB has about itself (current_database, read_csv, …), which sqlglot knows by class, begin like these.
_OWN_PREFIXES = ("Current", "Read")
_NOT_OWN = frozenset(("CurrentDate", "CurrentTime", "CurrentTimestamp", "CurrentDatetime", "CurrentUser"))


def rewrite_functions(tree: Any, text: str) -> Any:
    """Give every function in the tree BigQuery's meaning; the tree back (its root may be another node).

    Raises:
        InvalidQuery: a function that BigQuery does not have.
        Unsupported: one that it has and the stand-in cannot do.
    """
    _refuse_unknown(tree, text)
    rewrite_unnest(tree)
    tree = rewrite_literals(tree)
    # Children first, so that what a rule wraps is not met again.
    for node in reversed(list(tree.bfs())):
        rule = RULES.get(type(node).__name__)
        done = node if rule is None else rule(node, text)
        if done is node:
            continue
        if node is tree:
            tree = done
        else:
            node.replace(done)
    return tree


def _refuse_unknown(tree: Any, text: str) -> None:
    from sqlglot import exp

    for node in list(tree.find_all(exp.Func)):
        name = type(node).__name__
        if name.startswith(_OWN_PREFIXES) and name not in _NOT_OWN:
            raise InvalidQuery(f"Function not found: {node.sql_name()}{place_of(node, text)}")
    for node in list(tree.find_all(exp.Anonymous)):
        name = node.name.upper()
        if name not in _CALLS:
            raise InvalidQuery(f"Function not found: {node.name}{place_of(node, text)}")
        node.set("this", _CALLS[name])
