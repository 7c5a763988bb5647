"""The REST methods of tables and of the rows in them (tabledata)."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.calls import Threads
from localcloud.bigquery.catalog import Table
from localcloud.bigquery.datasets import merge
from localcloud.bigquery.engine import Engine, rows
from localcloud.bigquery.errors import AlreadyExists, Invalid, Unsupported
from localcloud.bigquery.jobs.publish import widen
from localcloud.bigquery.jobs.service import JobService
from localcloud.bigquery.names import TableRef, check_dataset, check_project, check_table, new_physical
from localcloud.bigquery.resources import TABLE_SETTINGS, Sizes, empty_table_sql, full_table, short_table, table_doc
from localcloud.bigquery.rows import answer_rows, page_token, read_page, read_token, timestamp_format
from localcloud.bigquery.schema import Field, canonical, columns_ddl, find
from localcloud.discovery import Discovery
from localcloud.rest import Call, Handler, Response

_PAGE = 50
_MAX_PAGE = 1000
_REFUSED = (
    "externalDataConfiguration",
    "materializedView",
    "snapshotDefinition",
    "cloneDefinition",
    "biglakeConfiguration",
)


class TableHandlers:
    """Handlers by discovery method id."""

    def __init__(
        self, engine: Engine, service: JobService, sizes: Sizes, discovery: Discovery, threads: Threads
    ) -> None:
        self._discovery = discovery
        self._engine = engine
        self._service = service
        self._sizes = sizes
        self._threads = threads

    def table(self) -> dict[str, Handler]:
        """Method id → handler."""
        run = self._threads.run
        return {
            "bigquery.tables.insert": run(self.insert),
            "bigquery.tables.get": run(self.get),
            "bigquery.tables.list": run(self.list),
            "bigquery.tables.patch": run(self.patch),
            "bigquery.tables.update": run(self.update),
            "bigquery.tables.delete": run(self.delete),
            "bigquery.tabledata.list": run(self.list_rows),
        }

    def insert(self, call: Call) -> dict[str, Any]:
        """Create an empty table, or a view."""
        project = check_project(call.params["projectId"])
        given = {"datasetId": call.params["datasetId"], **(call.body.get("tableReference") or {})}
        ref = TableRef.from_json(given, project=project, what="tableReference")
        if (ref.project, ref.dataset) != (project, call.params["datasetId"]):
            raise Invalid(
                f"tableReference is {ref}, the path says {project}:{call.params['datasetId']}; make them equal."
            )
        present = [one for one in _REFUSED if call.body.get(one)]
        if present:
            raise Unsupported(f"Table property {', '.join(present)} is not offered locally; make a table or a view.")
        if call.body.get("view"):
            return self._insert_view(ref, call.body)
        given_fields = (call.body.get("schema") or {}).get("fields") or []
        fields = canonical(given_fields) if given_fields else []
        physical = new_physical()
        with self._engine.write() as cursor:
            dataset = catalog.get_dataset(cursor, ref.project, ref.dataset)
            self._refuse_existing(cursor, ref)
            rows(cursor, empty_table_sql(physical, columns_ddl(fields) if fields else ""))
            now_ms = self._service.now_ms()
            settings = dict(call.body)
            if dataset.get("defaultTableExpirationMs") and not settings.get("expirationTime"):
                settings["expirationTime"] = str(now_ms + int(dataset["defaultTableExpirationMs"]))
            doc = table_doc(ref, fields, settings, dataset["location"], now_ms)
            return full_table(cursor, catalog.put_table(cursor, Table(ref, physical, doc)), self._sizes)

    def get(self, call: Call) -> dict[str, Any]:
        """One table with its schema, row count and size."""
        with self._engine.read() as cursor:
            table = catalog.get_table(cursor, _ref(call), self._service.now_ms())
            return full_table(cursor, table, self._sizes)

    def list(self, call: Call) -> dict[str, Any]:
        """Tables of a dataset by name."""
        project, dataset = call.params["projectId"], call.params["datasetId"]
        with self._engine.read() as cursor:
            catalog.get_dataset(cursor, project, dataset)
            found = catalog.list_tables(cursor, project, dataset, self._service.now_ms())
        after = call.params.get("pageToken") or ""
        rest = [one for one in found if one.ref.table > after]
        most = min(int(call.params.get("maxResults") or _PAGE), _MAX_PAGE)
        answer: dict[str, Any] = {
            "kind": "bigquery#tableList",
            "tables": [short_table(one) for one in rest[:most]],
            "totalItems": len(found),
        }
        if len(rest) > most:
            answer["nextPageToken"] = rest[most - 1].ref.table
        return answer

    def patch(self, call: Call) -> dict[str, Any]:
        """Change what the body names; null removes a setting."""
        return self._change(call, {key: call.body[key] for key in TABLE_SETTINGS if key in call.body})

    def update(self, call: Call) -> dict[str, Any]:
        """Replace all settings by the body's."""
        return self._change(call, {key: call.body.get(key) for key in TABLE_SETTINGS})

    def delete(self, call: Call) -> None:
        """Remove a table and its rows."""
        ref = _ref(call)
        with self._engine.write() as cursor:
            catalog.get_table(cursor, ref, self._service.now_ms())
            catalog.remove_table(cursor, ref)

    def list_rows(self, call: Call) -> dict[str, Any] | Response:
        """A page of a table's rows."""
        params = call.params
        with self._engine.read() as cursor:
            table = catalog.get_table(cursor, _ref(call), self._service.now_ms())
            source, physical = table.source, str(table.physical)
            total, _ = self._sizes.of(cursor, table)
            fields = _selected(table, params.get("selectedFields"))
            answer: dict[str, Any] = {
                "kind": "bigquery#tableDataList",
                "etag": table.doc["etag"],
                "totalRows": str(total),
            }
            most = params.get("maxResults")
            if not fields or (most is not None and int(most) == 0):
                return answer
            token = params.get("pageToken")
            offset = read_token(token, physical) if token else int(params.get("startIndex") or 0)
            limit = None if most is None else int(most)
            page = read_page(cursor, source, fields, offset, limit, total, timestamp_format(params))
        if page.next_offset is not None:
            answer["pageToken"] = page_token(physical, page.next_offset)
        return answer_rows(self._discovery, call, answer, page.texts)

    def _insert_view(self, ref: TableRef, body: dict[str, Any]) -> dict[str, Any]:
        from localcloud.bigquery.jobs.views import view_table

        with self._engine.read() as cursor:
            doc = view_table(cursor, ref, body, self._service.now_ms())
        with self._engine.write() as cursor:
            catalog.get_dataset(cursor, ref.project, ref.dataset)
            self._refuse_existing(cursor, ref)
            return catalog.put_table(cursor, Table(ref, None, doc)).doc

    def _refuse_existing(self, cursor: Any, ref: TableRef) -> None:
        if catalog.find_table(cursor, ref, self._service.now_ms()) is not None:
            raise AlreadyExists(f"Already Exists: Table {ref}")

    def _change(self, call: Call, settings: dict[str, Any]) -> dict[str, Any]:
        ref = _ref(call)
        now_ms = self._service.now_ms()
        if call.body.get("view"):
            raise Unsupported("Changing a view's query is not offered locally; use CREATE OR REPLACE VIEW.")
        with self._engine.write() as cursor:
            table = catalog.get_table(cursor, ref, now_ms)
            catalog.check_etag(table.doc, call.headers.get("if-match"), f"Table {ref}")
            doc = merge(table.doc, settings)
            if (call.body.get("schema") or {}).get("fields"):
                fields = _in_order(table, canonical(call.body["schema"]["fields"]))
                table = _evolve(cursor, table, fields)
                doc["schema"] = {"fields": fields}
            doc["lastModifiedTime"] = str(now_ms)
            changed = catalog.put_table(cursor, Table(ref, table.physical, doc))
            return full_table(cursor, changed, self._sizes)


def _evolve(cursor: Any, table: Table, fields: list[Field]) -> Table:
    """Bring a table to a new schema: columns may be added and relaxed, nothing else."""
    if table.physical is None:
        raise Invalid(f"{table.ref} is a view; its schema follows from its query.")
    if not table.fields:
        physical = new_physical()
        rows(cursor, empty_table_sql(physical, columns_ddl(fields)))
        return Table(table.ref, physical, table.doc)
    for old in table.fields:
        new = find(fields, old["name"])
        if new is None:
            raise Invalid(
                f"Provided Schema does not match Table {table.ref}. Field {old['name']} is missing in new schema."
            )
        tightened = new["mode"] != old["mode"] and (old["mode"], new["mode"]) != ("REQUIRED", "NULLABLE")
        if new["type"] != old["type"] or tightened or _shape(new) != _shape(old):
            raise Invalid(
                f"Provided Schema does not match Table {table.ref}. Field {old['name']} has changed from {old['mode']} "
                f"{old['type']} to {new['mode']} {new['type']}; only new columns and REQUIRED to NULLABLE are allowed here."
            )
    for new in fields:
        if find(table.fields, new["name"]) is None and new["mode"] == "REQUIRED":
            raise Invalid(
                f"Provided Schema does not match Table {table.ref}. Cannot add required fields to an existing schema. "
                f"(field: {new['name']})"
            )
    widen(cursor, table, fields)
    return table


def _in_order(table: Table, fields: list[Field]) -> list[Field]:
    """The fields in the table's own order, new ones last: where DuckDB puts a new column."""
    old = [one["name"].lower() for one in table.fields]
    return sorted(fields, key=lambda one: old.index(one["name"].lower()) if one["name"].lower() in old else len(old))


def _shape(field: Field) -> Any:
    return [(one["name"].lower(), one["type"], one["mode"], _shape(one)) for one in field.get("fields", [])]


def _selected(table: Table, selected: str | None) -> list[Field]:
    if not selected:
        return table.fields
    chosen = []
    for name in selected.split(","):
        field = find(table.fields, name.strip())
        if field is None:
            raise Invalid(
                f"Field {name!r} is not in {table.ref}; top-level columns can be selected locally, no nested ones."
            )
        chosen.append(field)
    wanted = {one["name"] for one in chosen}
    # In the table's order, as Google answers.
    return [one for one in table.fields if one["name"] in wanted]


def _ref(call: Call) -> TableRef:
    params = call.params
    return TableRef(
        check_project(params["projectId"]), check_dataset(params["datasetId"]), check_table(params["tableId"])
    )
