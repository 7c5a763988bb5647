"""Which schema a load ends with: from the job, the table, or the files themselves; and whether they go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localcloud.bigquery.catalog import Table
from localcloud.bigquery.errors import Invalid
from localcloud.bigquery.schema import Field, canonical, find
from localcloud.bigquery.sources.base import Source


@dataclass(slots=True)
class LoadSchema:
    """`input`: the fields as the files hold them, in their order. `table`: the table's fields afterwards."""

    input: list[Field]
    table: list[Field]


def decide(
    cursor: Any, options: dict[str, Any], existing: Table | None, source: Source, *, is_self_describing: bool
) -> LoadSchema:
    """Decide the schema of a load.

    Raises:
        Invalid: nobody says what the columns are, or the job's schema does not fit the table's.
    """
    given = canonical(options["schema"].get("fields") or []) if options.get("schema") else None
    detects = bool(options.get("autodetect")) or is_self_describing
    found = source.detect(cursor) if detects else None
    appends = (options.get("writeDisposition") or "WRITE_APPEND") != "WRITE_TRUNCATE"
    if existing is not None and existing.fields and (appends or not (given or found)):
        return _onto(existing, given, found, options.get("schemaUpdateOptions") or [])
    if given:
        return LoadSchema(given, given)
    if found:
        return LoadSchema(found, found)
    raise Invalid("No schema specified on job or table. Give a schema, or set autodetect.")


def _onto(existing: Table, given: list[Field] | None, found: list[Field] | None, allowed: list[str]) -> LoadSchema:
    """Fit what the job says, or the files show, onto the table's own fields."""
    wanted = given or found or existing.fields
    table = [dict(one) for one in existing.fields]
    read: list[Field] = []
    for one in wanted:
        old = find(table, one["name"])
        if old is None:
            if "ALLOW_FIELD_ADDITION" not in allowed:
                raise _mismatch(
                    existing, f"Cannot add fields (field: {one['name']}); allow it with ALLOW_FIELD_ADDITION"
                )
            if one["mode"] == "REQUIRED":
                raise _mismatch(existing, f"Cannot add required fields to an existing schema (field: {one['name']})")
            table.append(one)
            read.append(one)
            continue
        if given:
            _check_same(existing, old, one, allowed)
            if old["mode"] == "REQUIRED" and one["mode"] == "NULLABLE":
                old["mode"] = "NULLABLE"
        # The table's own type reads the file: a detected INTEGER may well be a STRING column's.
        read.append(old)
    missing = [one["name"] for one in table if one["mode"] == "REQUIRED" and find(read, one["name"]) is None]
    if missing:
        raise _mismatch(existing, f"Missing required fields: {', '.join(missing)}")
    return LoadSchema(read, table)


def _check_same(existing: Table, old: Field, new: Field, allowed: list[str]) -> None:
    name = new["name"]
    if old["type"] != new["type"]:
        raise _mismatch(existing, f"Field {name} has changed type from {old['type']} to {new['type']}")
    relaxed = old["mode"] == "REQUIRED" and new["mode"] == "NULLABLE"
    if relaxed and "ALLOW_FIELD_RELAXATION" not in allowed:
        raise _mismatch(
            existing, f"Field {name} has changed mode from REQUIRED to NULLABLE; allow it with ALLOW_FIELD_RELAXATION"
        )
    if (old["mode"] == "REPEATED") != (new["mode"] == "REPEATED"):
        raise _mismatch(existing, f"Field {name} has changed mode from {old['mode']} to {new['mode']}")
    if old["type"] == "RECORD":
        names = [[one["name"].lower() for one in side["fields"]] for side in (old, new)]
        if names[0] != names[1]:
            raise _mismatch(
                existing, f"The fields inside the record {name} differ; the local BigQuery keeps records as they are"
            )
        for left, right in zip(old["fields"], new["fields"], strict=True):
            _check_same(existing, left, right, [])


def _mismatch(existing: Table, what: str) -> Invalid:
    return Invalid(f"Provided Schema does not match Table {existing.ref}. {what}.")
