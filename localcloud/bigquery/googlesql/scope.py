"""Bind every table name of a statement: to a CTE in scope, or to a table of the catalogue. A FROM holds nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from localcloud.bigquery.catalog import Table
from localcloud.bigquery.errors import InvalidQuery, NotFound, Unsupported
from localcloud.bigquery.googlesql.place import place_of
from localcloud.bigquery.names import TableRef, check_dataset, check_project, check_table

# A view may read a view, up to BigQuery's own depth.
_MAX_VIEW_DEPTH = 16


class Resolver:
    """What a statement may name: the default project and dataset, and the catalogue's look-up."""

    def __init__(self, project: str, default_dataset: dict[str, str] | None, find: Callable[[TableRef], Table]) -> None:
        self.project = project
        self.default = default_dataset or {}
        self._find = find

    def reference(self, node: Any, text: str) -> TableRef:
        """The reference that a table node means.

        Raises:
            InvalidQuery: no dataset is named and none is the default.
        """
        project, dataset, table = node.catalog, node.db, node.name
        if not dataset:
            dataset = self.default.get("datasetId", "")
            project = self.default.get("projectId") or self.project
            if not dataset:
                raise InvalidQuery(
                    f'Table "{table}" must be qualified with a dataset (e.g. dataset.table){place_of(node, text)}; '
                    "write the dataset, or set defaultDataset."
                )
        return TableRef(check_project(project or self.project), check_dataset(dataset), check_table(table))

    def find(self, node: Any, text: str) -> Table:
        """The catalogue's table for a node; a missing one is told with its place."""
        ref = self.reference(node, text)
        try:
            return self._find(ref)
        except NotFound as error:
            raise NotFound(f"{error.message} was not found in location US{place_of(node, text)}") from error


def bind_tables(tree: Any, resolver: Resolver, text: str, depth: int = 0) -> dict[str, TableRef]:
    """Replace each table node by its DuckDB table, in place.

    Returns:
        The DuckDB tables named, with their references.

    Raises:
        NotFound: a table or dataset that is not there.
        InvalidQuery: something in a FROM that is no table.
        Unsupported: time travel, wildcard tables, INFORMATION_SCHEMA.
    """
    from sqlglot import exp

    bound: dict[str, TableRef] = {}
    for node in list(tree.find_all(exp.Table)):
        if not isinstance(node.this, exp.Identifier):
            what = node.this.sql("bigquery") if node.this is not None else node.sql("bigquery")
            raise InvalidQuery(f"Table-valued function not found: {what[:100]}{place_of(node, text)}")
        _refuse_extras(node, text)
        if not node.db and is_cte(node):
            continue
        table = resolver.find(node, text)
        if table.physical is not None and not table.fields:
            raise InvalidQuery(
                f"Table {table.ref} does not have a schema{place_of(node, text)}; set one with tables.patch."
            )
        if table.physical is None:
            _expand_view(node, table, resolver, depth, bound)
            continue
        bound[table.physical] = table.ref
        if not node.args.get("alias"):
            node.set("alias", exp.TableAlias(this=exp.to_identifier(table.ref.table, quoted=True)))
        node.set("this", exp.to_identifier(table.physical, quoted=True))
        node.set("db", exp.to_identifier("data"))
        node.set("catalog", None)
    return bound


def _refuse_extras(node: Any, text: str) -> None:
    if node.args.get("version") or node.args.get("when"):
        raise Unsupported(
            f"FOR SYSTEM_TIME AS OF{place_of(node, text)} is not offered locally; copy the table before you change it."
        )
    if "*" in node.name:
        raise Unsupported(
            f'Wildcard table "{node.name}"{place_of(node, text)} is not offered locally; write UNION ALL.'
        )
    if "INFORMATION_SCHEMA" in f"{node.db}.{node.name}".upper():
        raise Unsupported(
            f"INFORMATION_SCHEMA{place_of(node, text)} is not offered locally; use tables.list and tables.get."
        )


def is_cte(node: Any) -> bool:
    """Tell whether an unqualified name means a CTE that is in scope here.

    A CTE sees those before it, and itself only under RECURSIVE: otherwise `WITH t AS (SELECT * FROM t)` means a table.
    """
    from sqlglot import exp

    wanted = node.name.lower()
    child, parent = node, node.parent
    while parent is not None:
        if isinstance(parent, exp.With):
            for one in parent.expressions:
                if one is child and not parent.recursive:
                    break
                if one.alias.lower() == wanted:
                    return True
        else:
            clause = parent.args.get("with_") or parent.args.get("with")
            if (
                clause is not None
                and clause is not child
                and any(one.alias.lower() == wanted for one in clause.expressions)
            ):
                return True
        child, parent = parent, parent.parent
    return False


def _expand_view(node: Any, table: Table, resolver: Resolver, depth: int, bound: dict[str, TableRef]) -> None:
    from sqlglot import exp

    from localcloud.bigquery.googlesql.translate import name_columns, parse

    if depth >= _MAX_VIEW_DEPTH:
        raise InvalidQuery(f"View {table.ref} nests deeper than {_MAX_VIEW_DEPTH} views; flatten it.")
    statement = parse(table.doc["view"]["query"])
    inner = Resolver(table.ref.project, None, resolver._find)
    name_columns(statement.tree)
    bound.update(bind_tables(statement.tree, inner, statement.text, depth + 1))
    alias = node.alias or table.ref.table
    query = exp.Subquery(this=statement.tree, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    for key in ("joins", "laterals", "pivots", "sample"):
        if node.args.get(key):
            query.set(key, node.args[key])
    node.replace(query)
