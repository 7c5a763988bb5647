"""The rows of buckets and objects, and their JSON resources as Google shows them."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from localcloud.storage import errors
from localcloud.storage.contents import encode_crc32c, encode_md5

# What a client may set on an object; all else in a resource is the server's, and ignored when sent, as in the cloud.
OBJECT_FIELDS = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "contexts",
    "customTime",
    "eventBasedHold",
    "metadata",
    "retention",
    "storageClass",
    "temporaryHold",
)
SERVER_BUCKET_FIELDS = frozenset(
    {
        *("acl", "defaultObjectAcl", "etag", "generation", "hardDeleteTime", "id", "kind", "locationType"),
        *("metageneration", "name", "owner", "projectNumber", "selfLink", "softDeleteTime", "timeCreated", "updated"),
    }
)
_PROJECT_NUMBER = "1"  # the laptop has one project; a number is demanded by the resource
_COLUMNS = (
    "bucket, name, generation, metageneration, content_id, size_bytes, md5, crc32c, component_count, "
    "created_us, updated_us, deleted_us, fields"
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket; `fields` holds what clients may set."""

    name: str
    project: str
    metageneration: int
    created_us: int
    updated_us: int
    fields: dict[str, Any]

    @property
    def is_versioned(self) -> bool:
        """Whether replaced objects are kept as noncurrent generations."""
        return bool(self.fields.get("versioning", {}).get("enabled"))


@dataclass(frozen=True, slots=True)
class Object:
    """One generation of an object; `deleted_us` is None for the live one."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    content_id: str
    size_bytes: int
    md5: bytes | None
    crc32c: int
    component_count: int | None
    created_us: int
    updated_us: int
    deleted_us: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """Changes with every generation and metageneration."""
        return f"{self.generation:x}/{self.metageneration}"


# -- reading -------------------------------------------------------------------------------------------------------


def find_bucket(db: sqlite3.Connection, name: str) -> Bucket:
    """The bucket.

    Raises:
        ApiError: 404.
    """
    row = db.execute(
        "SELECT name, project, metageneration, created_us, updated_us, fields FROM buckets WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise errors.bucket_not_found(name)
    return Bucket(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]))


def find_object(db: sqlite3.Connection, bucket: str, name: str, generation: int | None = None) -> Object | None:
    """The live object, or the asked generation whether live or not; None if there is none."""
    where = "deleted_us IS NULL" if generation is None else "generation = ?"
    arguments = (bucket, name) if generation is None else (bucket, name, generation)
    row = db.execute(
        f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND name = ? AND {where}",  # noqa: S608  (constants)
        arguments,
    ).fetchone()
    return _object(row) if row else None


def get_object(db: sqlite3.Connection, bucket: str, name: str, generation: int | None = None) -> Object:
    """As `find_object`.

    Raises:
        ApiError: 404, for the bucket if that is what is missing.
    """
    found = find_object(db, bucket, name, generation)
    if found is None:
        find_bucket(db, bucket)
        raise errors.object_not_found(bucket, name, generation)
    return found


def scan_objects(
    db: sqlite3.Connection, bucket: str, start: tuple[str, int], end: str | None, is_all_versions: bool
) -> Iterator[Object]:
    """Objects in order of (name, generation), from after `start` to before the name `end`, read as they are asked for."""
    where = ["bucket = ?", "(name, generation) > (?, ?)"]
    arguments: list[Any] = [bucket, *start]
    if end is not None:
        where.append("name < ?")
        arguments.append(end)
    if not is_all_versions:
        where.append("deleted_us IS NULL")
    sql = f"SELECT {_COLUMNS} FROM objects WHERE {' AND '.join(where)} ORDER BY name, generation"  # noqa: S608
    return map(_object, db.execute(sql, arguments))


def insert_object(db: sqlite3.Connection, row: Object) -> None:
    """Store a new generation."""
    db.execute(
        f"INSERT INTO objects ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608  (constants)
        (
            *(row.bucket, row.name, row.generation, row.metageneration, row.content_id, row.size_bytes, row.md5),
            *(row.crc32c, row.component_count, row.created_us, row.updated_us, row.deleted_us),
            json.dumps(row.fields),
        ),
    )


def _object(row: Sequence[Any]) -> Object:
    values: Sequence[Any] = (*row[:-1], json.loads(row[-1]))
    return Object(*values)


# -- showing -------------------------------------------------------------------------------------------------------


def timestamp(at_us: int) -> str:
    """RFC 3339 with milliseconds, as in Google's resources."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def bucket_resource(row: Bucket, base_url: str) -> dict[str, Any]:
    """The bucket as JSON; `base_url` is where this server answers."""
    return {
        "location": "US",
        "storageClass": "STANDARD",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
        **row.fields,
        "kind": "storage#bucket",
        "id": row.name,
        "name": row.name,
        "selfLink": f"{base_url}/storage/v1/b/{row.name}",
        "projectNumber": _PROJECT_NUMBER,
        "locationType": "region" if "-" in row.fields.get("location", "") else "multi-region",
        "metageneration": str(row.metageneration),
        "etag": f"{row.created_us:x}/{row.metageneration}",
        "timeCreated": timestamp(row.created_us),
        "updated": timestamp(row.updated_us),
    }


def object_resource(row: Object, base_url: str) -> dict[str, Any]:
    """The object as JSON; its links lead to this server."""
    path = f"storage/v1/b/{row.bucket}/o/{quote(row.name, safe='')}"
    created = timestamp(row.created_us)
    resource = {
        "kind": "storage#object",
        "id": f"{row.bucket}/{row.name}/{row.generation}",
        "selfLink": f"{base_url}/{path}",
        "mediaLink": f"{base_url}/download/{path}?generation={row.generation}&alt=media",
        "name": row.name,
        "bucket": row.bucket,
        "generation": str(row.generation),
        "metageneration": str(row.metageneration),
        "storageClass": "STANDARD",
        **row.fields,
        "size": str(row.size_bytes),
        "crc32c": encode_crc32c(row.crc32c),
        "etag": row.etag,
        "timeCreated": created,
        "updated": timestamp(row.updated_us),
        "timeStorageClassUpdated": created,
        "timeFinalized": created,
    }
    if row.md5 is not None:
        resource["md5Hash"] = encode_md5(row.md5)
    if row.component_count is not None:
        resource["componentCount"] = row.component_count
    if row.deleted_us is not None:
        resource["timeDeleted"] = timestamp(row.deleted_us)
    return resource


def object_fields(resource: dict[str, Any]) -> dict[str, Any]:
    """What of a sent resource is the client's to set."""
    return {name: resource[name] for name in OBJECT_FIELDS if resource.get(name) is not None}


def merge_patch(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396): null removes, objects merge, all else replaces."""
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = merge_patch(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged
