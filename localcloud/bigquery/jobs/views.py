"""Views: a query kept in the catalogue, checked when it is made and bound anew whenever it is read."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.errors import Invalid, Unsupported
from localcloud.bigquery.googlesql.scope import Resolver, is_cte
from localcloud.bigquery.googlesql.translate import Statement, parse, translate
from localcloud.bigquery.names import TableRef
from localcloud.bigquery.resources import table_doc


def view_table(cursor: Any, ref: TableRef, body: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """The document of a view that `tables.insert` asks for."""
    view = body["view"]
    if view.get("useLegacySql", True):
        raise Unsupported(
            "view.useLegacySql is not false, so BigQuery would read the view as legacy SQL, which the local BigQuery does "
            "not have; set view.useLegacySql to false."
        )
    statement = parse(str(view.get("query") or ""))
    if statement.kind != "SELECT":
        raise Invalid(f"A view's query must be a SELECT, it is {statement.kind}.")
    resolver = Resolver(ref.project, None, lambda one: catalog.get_table(cursor, one, now_ms))
    return view_doc(cursor, ref, statement, resolver, body, now_ms)


def view_doc(
    cursor: Any, ref: TableRef, statement: Statement, resolver: Resolver, settings: dict[str, Any], now_ms: int
) -> dict[str, Any]:
    """A view's document, its query checked and its names fully written, so that it reads the same for everybody."""
    from localcloud.bigquery.jobs.query import describe

    translated = translate(statement, resolver, [])
    fields = describe(cursor, translated, statement.text)
    location = catalog.get_dataset(cursor, ref.project, ref.dataset)["location"]
    doc = table_doc(ref, fields, settings, location, now_ms)
    text = _qualified(statement.tree.copy(), resolver, statement.text)
    return {**doc, "type": "VIEW", "view": {"query": text, "useLegacySql": False}}


def _qualified(body: Any, resolver: Resolver, text: str) -> str:
    from sqlglot import exp

    for node in list(body.find_all(exp.Table)):
        if not node.db and is_cte(node):
            continue
        ref = resolver.reference(node, text)
        if not node.args.get("alias"):
            node.set("alias", exp.TableAlias(this=exp.to_identifier(ref.table, quoted=True)))
        for key, value in (("this", ref.table), ("db", ref.dataset), ("catalog", ref.project)):
            node.set(key, exp.to_identifier(value, quoted=True))
    return str(body.sql("bigquery"))
