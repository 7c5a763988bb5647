"""What can happen to a bucket: each a function of one transaction."""

import base64
import json
import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from localcloud.storage import errors, rows
from localcloud.storage.database import Transaction
from localcloud.storage.names import check_bucket_name
from localcloud.storage.preconditions import Preconditions

MAX_PAGE = 1000


def create(transaction: Transaction, project: str, resource: dict[str, Any]) -> rows.Bucket:
    """Make a bucket.

    Raises:
        ApiError: 409 if the name is taken, 400 if it is not allowed.
    """
    name = resource.get("name", "")
    check_bucket_name(name)
    if transaction.db.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone():
        raise errors.conflict(
            f"Your previous request to create the named bucket succeeded and you already own it: {name}"
        )
    row = rows.Bucket(name, project, 1, transaction.now_us, transaction.now_us, _client_fields(resource))
    transaction.db.execute(
        "INSERT INTO buckets (name, project, metageneration, created_us, updated_us, fields) VALUES (?, ?, ?, ?, ?, ?)",
        (row.name, row.project, row.metageneration, row.created_us, row.updated_us, json.dumps(row.fields)),
    )
    return row


def update(
    transaction: Transaction, name: str, resource: dict[str, Any], preconditions: Preconditions, *, is_patch: bool
) -> rows.Bucket:
    """Merge `resource` into the bucket, or replace what clients may set by it; location and name stay.

    Raises:
        ApiError: 404, 412.
    """
    found = rows.find_bucket(transaction.db, name)
    preconditions.check(0, found.metageneration)
    sent = {key: value for key, value in resource.items() if key not in rows.SERVER_BUCKET_FIELDS}
    fields = rows.merge_patch(found.fields, sent) if is_patch else _client_fields(resource)
    fields["location"] = found.fields.get("location", "US")
    changed = replace(
        found,
        fields=fields,
        metageneration=found.metageneration + 1,
        updated_us=max(transaction.now_us, found.updated_us),
    )
    transaction.db.execute(
        "UPDATE buckets SET metageneration = ?, updated_us = ?, fields = ? WHERE name = ?",
        (changed.metageneration, changed.updated_us, json.dumps(fields), name),
    )
    return changed


def delete(transaction: Transaction, name: str, preconditions: Preconditions) -> None:
    """Delete an empty bucket, with its notification configs and unfinished uploads.

    Raises:
        ApiError: 404, 412, or 409 while any generation of any object is left.
    """
    found = rows.find_bucket(transaction.db, name)
    preconditions.check(0, found.metageneration)
    if transaction.db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (name,)).fetchone():
        raise errors.conflict(f"The bucket you tried to delete is not empty: {name}; delete its objects first.")
    transaction.db.execute("DELETE FROM notifications WHERE bucket = ?", (name,))
    transaction.db.execute("DELETE FROM sessions WHERE bucket = ?", (name,))
    transaction.db.execute("DELETE FROM buckets WHERE name = ?", (name,))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of buckets."""

    buckets: list[rows.Bucket]
    next_page_token: str


def list_page(db: sqlite3.Connection, project: str, prefix: str, page_token: str, max_results: int) -> Page:
    """A project's buckets by name.

    Raises:
        ApiError: 400 for a page token that cannot be read.
    """
    limit = min(max_results or MAX_PAGE, MAX_PAGE)
    try:
        after = base64.urlsafe_b64decode(page_token).decode()
    except ValueError:
        raise errors.invalid(f"Invalid page token {page_token!r}: pass the nextPageToken of the page before.") from None
    found = db.execute(
        "SELECT name FROM buckets WHERE project = ? AND name > ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
        (project, after, len(prefix), prefix, limit + 1),
    ).fetchall()
    names = [row[0] for row in found[:limit]]
    token = base64.urlsafe_b64encode(names[-1].encode()).decode() if len(found) > limit else ""
    return Page([rows.find_bucket(db, name) for name in names], token)


def get_policy(db: sqlite3.Connection, name: str) -> dict[str, Any]:
    """The bucket's IAM policy, kept but never enforced: the laptop has one user.

    Raises:
        ApiError: 404.
    """
    rows.find_bucket(db, name)
    (policy,) = db.execute("SELECT policy FROM buckets WHERE name = ?", (name,)).fetchone()
    kept: dict[str, Any] = json.loads(policy) if policy else {"version": 1, "bindings": [], "etag": "CAE="}
    return {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{name}", **kept}


def set_policy(transaction: Transaction, name: str, policy: dict[str, Any]) -> dict[str, Any]:
    """Replace the IAM policy; a policy read before somebody else's change is refused by its etag.

    Raises:
        ApiError: 404, 412.
    """
    old = get_policy(transaction.db, name)
    if policy.get("etag") not in (None, "", old["etag"]):
        raise errors.condition_not_met(f"The policy's etag is {old['etag']}, not {policy['etag']}: read it again.")
    etag = base64.b64encode(transaction.next_generation().to_bytes(8, "big")).decode()
    kept = {key: policy[key] for key in ("version", "bindings") if key in policy} | {"etag": etag}
    transaction.db.execute("UPDATE buckets SET policy = ? WHERE name = ?", (json.dumps(kept), name))
    return get_policy(transaction.db, name)


def _client_fields(resource: dict[str, Any]) -> dict[str, Any]:
    fields = {
        key: value for key, value in resource.items() if key not in rows.SERVER_BUCKET_FIELDS and value is not None
    }
    fields["location"] = str(fields.get("location") or "US").upper()
    fields.setdefault("storageClass", "STANDARD")
    return fields
