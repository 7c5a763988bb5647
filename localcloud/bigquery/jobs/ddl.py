"""CREATE and DROP of tables and views, as jobs."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.catalog import Table
from localcloud.bigquery.engine import rows
from localcloud.bigquery.errors import AlreadyExists, InvalidQuery, NotFound, Unsupported
from localcloud.bigquery.googlesql.scope import Resolver
from localcloud.bigquery.googlesql.translate import Statement
from localcloud.bigquery.jobs.publish import Destination
from localcloud.bigquery.jobs.task import Outcome, Task
from localcloud.bigquery.jobs.views import view_doc
from localcloud.bigquery.names import TableRef
from localcloud.bigquery.resources import empty_table_sql, table_doc
from localcloud.bigquery.schema import Field, canonical, columns_ddl

# GoogleSQL type (sqlglot's name for it) → the REST schema's.
_TYPES = {
    "BIGINT": "INTEGER",
    "DOUBLE": "FLOAT",
    "TEXT": "STRING",
    "VARCHAR": "STRING",
    "BOOLEAN": "BOOLEAN",
    "BINARY": "BYTES",
    "VARBINARY": "BYTES",
    "TIMESTAMPTZ": "TIMESTAMP",
    "TIMESTAMP": "DATETIME",
    "DATETIME": "DATETIME",
    "DATE": "DATE",
    "TIME": "TIME",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
    "JSON": "JSON",
}


def run_ddl(task: Task, options: dict[str, Any], statement: Statement) -> Outcome:
    """Run CREATE TABLE, CREATE VIEW, DROP TABLE or DROP VIEW."""
    kind = statement_type(statement)
    resolver = Resolver(task.project, options.get("defaultDataset"), _never)
    ref = resolver.reference(target_node(statement), statement.text)
    if kind in ("DROP_TABLE", "DROP_VIEW"):
        return _drop(task, statement, ref, kind)
    _refuse_properties(statement)
    if kind == "CREATE_VIEW":
        return _create_view(task, options, statement, ref)
    if kind == "CREATE_TABLE_AS_SELECT":
        return _create_as(task, options, statement, ref)
    return _create_table(task, statement, ref)


def statement_type(statement: Statement) -> str:
    """BigQuery's statementType for a CREATE or DROP; raises Unsupported for kinds not offered."""
    tree = statement.tree
    kind = str(tree.args.get("kind") or "").upper()
    if kind not in ("TABLE", "VIEW") or tree.find(_class("MaterializedProperty")):
        raise Unsupported(
            f"{statement.kind} {kind or 'of this kind'} is not offered by the local BigQuery; it knows TABLE and VIEW. "
            "Datasets are made and deleted over the API."
        )
    if statement.kind == "CREATE" and kind == "TABLE" and tree.expression is not None:
        return "CREATE_TABLE_AS_SELECT"
    return f"{statement.kind}_{kind}"


def target_node(statement: Statement) -> Any:
    """The table node that a statement changes."""
    tree = statement.tree
    # One name, or a list of them (DROP TABLE a, b); the parser says so in a different place for each kind.
    named = {"TRUNCATE_TABLE": tree.expressions, "DROP": tree.args.get("tables")}.get(statement.kind) or [tree.this]
    if len(named) > 1:
        raise Unsupported(f"{statement.kind} of {len(named)} tables at once is not offered locally; send one for each.")
    node = named[0]
    if isinstance(node, _class("Schema")):
        node = node.this
    if not isinstance(node, _class("Table")):
        raise InvalidQuery(f"{statement.kind} needs the name of a table.")
    return node


def _create_as(task: Task, options: dict[str, Any], statement: Statement, ref: TableRef) -> Outcome:
    from localcloud.bigquery.jobs.query import select

    tree = statement.tree
    if isinstance(tree.this, _class("Schema")) and tree.this.expressions:
        raise Unsupported("CREATE TABLE with both columns and AS SELECT is not offered locally; CAST in the SELECT.")
    if tree.args.get("exists") and _exists(task, ref):
        return _done("CREATE_TABLE_AS_SELECT", "SKIP", ref)
    replaces = bool(tree.args.get("replace"))
    write = "WRITE_TRUNCATE" if replaces else "WRITE_EMPTY"
    destination = Destination(ref, write, must_be_new=not replaces)
    inner = Statement(tree.expression, statement.text, "SELECT")
    outcome = select(task, options, inner, destination)
    outcome.statistics["query"] |= _ddl("CREATE_TABLE_AS_SELECT", "REPLACE" if replaces else "CREATE", ref)
    return outcome


def _create_table(task: Task, statement: Statement, ref: TableRef) -> Outcome:
    tree = statement.tree
    schema = tree.this
    columns = schema.expressions if isinstance(schema, _class("Schema")) else []
    if not columns:
        raise InvalidQuery(f"CREATE TABLE {ref} names no columns; list them, or add AS SELECT.")
    fields = canonical([_field(one) for one in columns], f"table {ref}")
    replaces = bool(tree.args.get("replace"))
    if tree.args.get("exists") and _exists(task, ref):
        return _done("CREATE_TABLE", "SKIP", ref)
    staged = task.stage()

    def commit(cursor: Any) -> dict[str, Any]:
        dataset = catalog.get_dataset(cursor, ref.project, ref.dataset)
        if not replaces and catalog.find_table(cursor, ref, task.now_ms) is not None:
            raise AlreadyExists(f"Already Exists: Table {ref}")
        rows(cursor, empty_table_sql(staged, columns_ddl(fields)))
        doc = table_doc(ref, fields, {}, dataset["location"], task.now_ms)
        catalog.put_table(cursor, Table(ref, staged, doc))
        return {}

    return _done("CREATE_TABLE", "REPLACE" if replaces else "CREATE", ref, commit)


def _create_view(task: Task, options: dict[str, Any], statement: Statement, ref: TableRef) -> Outcome:
    from localcloud.bigquery.jobs.query import resolver_of

    tree = statement.tree
    if isinstance(tree.this, _class("Schema")) and tree.this.expressions:
        raise Unsupported("CREATE VIEW with a column list is not offered locally; name the columns with AS.")
    if options.get("queryParameters"):
        raise InvalidQuery("A view takes no query parameters; write the values into it.")
    inner = Statement(tree.expression.copy(), statement.text, "SELECT")
    with task.read() as cursor:
        doc = view_doc(cursor, ref, inner, resolver_of(task, options, cursor), {}, task.now_ms)
    replaces, exists = bool(tree.args.get("replace")), bool(tree.args.get("exists"))
    if exists and _exists(task, ref):
        return _done("CREATE_VIEW", "SKIP", ref)

    def commit(cursor: Any) -> dict[str, Any]:
        catalog.get_dataset(cursor, ref.project, ref.dataset)
        found = catalog.find_table(cursor, ref, task.now_ms)
        if found is not None and (not replaces or found.physical is not None):
            raise AlreadyExists(f"Already Exists: Table {ref}")
        catalog.put_table(cursor, Table(ref, None, doc))
        return {}

    return _done("CREATE_VIEW", "REPLACE" if replaces else "CREATE", ref, commit)


def _drop(task: Task, statement: Statement, ref: TableRef, kind: str) -> Outcome:
    wants_view = kind == "DROP_VIEW"
    if statement.tree.args.get("exists") and not _exists(task, ref):
        return _done(kind, "SKIP", ref)

    def commit(cursor: Any) -> dict[str, Any]:
        found = catalog.get_table(cursor, ref, task.now_ms)
        if (found.physical is None) != wants_view:
            what = "VIEW" if found.physical is None else "TABLE"
            raise InvalidQuery(f"{ref} is a {what}; write DROP {what}.")
        catalog.remove_table(cursor, ref)
        return {}

    return _done(kind, "DROP", ref, commit)


def _field(column: Any) -> Field:
    constraints = [type(one.args.get("kind")).__name__ for one in column.args.get("constraints") or []]
    unknown = set(constraints) - {"NotNullColumnConstraint", "Properties"}
    if unknown:
        raise Unsupported(f"Column {column.name} has {sorted(unknown)}, which the local BigQuery lacks; leave it out.")
    field = _typed(column.name, column.args["kind"])
    if "NotNullColumnConstraint" in constraints:
        field["mode"] = "REQUIRED"
    return field


def _typed(name: str, kind: Any) -> Field:
    this = kind.this.name
    if this == "ARRAY":
        return {**_typed(name, kind.expressions[0]), "mode": "REPEATED"}
    if this == "STRUCT":
        return {"name": name, "type": "RECORD", "fields": [_field(one) for one in kind.expressions]}
    return {"name": name, "type": _TYPES.get(this, this)}


def _refuse_properties(statement: Statement) -> None:
    """Partitioning and clustering change speed, not answers; options change the table and are not skipped in silence."""
    properties = statement.tree.args.get("properties")
    for one in properties.expressions if properties else []:
        if type(one).__name__ == "Property":
            raise Unsupported(f"OPTIONS({one.name}) is not offered locally; set it with tables.patch.")


def _exists(task: Task, ref: TableRef) -> bool:
    with task.read() as cursor:
        return catalog.find_table(cursor, ref, task.now_ms) is not None


def _done(kind: str, operation: str, ref: TableRef, commit: Any = None) -> Outcome:
    query = {"totalBytesProcessed": "0", "cacheHit": False, **_ddl(kind, operation, ref)}
    return Outcome({"query": query}, commit)


def _ddl(kind: str, operation: str, ref: TableRef) -> dict[str, Any]:
    return {"statementType": kind, "ddlOperationPerformed": operation, "ddlTargetTable": ref.to_json()}


def _class(name: str) -> Any:
    from sqlglot import exp

    return getattr(exp, name)


def _never(ref: TableRef) -> Table:
    raise NotFound(f"Not found: Table {ref}")
