"""What can happen to an object: each a function of one transaction, so each happens wholly or not at all.

Every function checks its preconditions against what the transaction sees and puts its events into the outbox.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from localcloud.storage import contents, errors, notifications, rows
from localcloud.storage.contents import Content
from localcloud.storage.database import Transaction
from localcloud.storage.names import check_object_name
from localcloud.storage.preconditions import NO_PRECONDITIONS, Preconditions

DEFAULT_CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a new generation goes, what it is to say of itself, and what must hold for that.

    Attributes:
        base_url: where this server answers; for the links in the event's payload.
    """

    bucket: str
    name: str
    fields: dict[str, Any]
    preconditions: Preconditions
    base_url: str


def create(transaction: Transaction, target: Target, content: Content) -> rows.Object:
    """Make `content` the live generation of its object.

    Raises:
        ApiError: 404 no such bucket; 412 a precondition did not hold; 400 a name that is not allowed; 403 a hold.
    """
    bucket, replaced = _clear_the_way(transaction, target)
    contents.hold(transaction, content)
    return _install(transaction, target, content, bucket, replaced)


def copy(transaction: Transaction, source: rows.Object, source_must: Preconditions, target: Target) -> rows.Object:
    """Make the source's content the live generation of the target; the bytes are shared, not copied.

    Raises:
        ApiError: as `create`, also for the source's preconditions; 404 if the source went meanwhile.
    """
    found = rows.get_object(transaction.db, source.bucket, source.name, source.generation)
    source_must.check(found.generation, found.metageneration)
    contents.share(transaction, found.content_id)  # first: the target may be the very row that holds it
    bucket, replaced = _clear_the_way(transaction, target)
    shared = Content(found.content_id, found.size_bytes, found.md5, found.crc32c, component_count=found.component_count)
    return _install(transaction, target, shared, bucket, replaced)


def compose(
    transaction: Transaction, sources: Sequence[rows.Object], target: Target, content: Content, *, is_move: bool
) -> rows.Object:
    """Make `content`, read from `sources`, the live generation of the target.

    Args:
        is_move: delete the sources in the same transaction.

    Raises:
        ApiError: as `create`; 404 if a source went meanwhile.
    """
    for source in sources:
        rows.get_object(transaction.db, source.bucket, source.name, source.generation)
    created = create(transaction, target, content)
    if is_move:
        for source in {source.name: source for source in sources}.values():
            # A source that the target replaced is gone already.
            if rows.find_object(transaction.db, source.bucket, source.name, source.generation) is not None:
                delete(transaction, source.bucket, source.name, source.generation, NO_PRECONDITIONS, target.base_url)
    return created


def delete(
    transaction: Transaction,
    bucket: str,
    name: str,
    generation: int | None,
    preconditions: Preconditions,
    base_url: str,
) -> None:
    """Delete the live object (archive it, in a versioned bucket), or one generation for good.

    Raises:
        ApiError: 404, 412, or 403 under a hold.
    """
    found = rows.get_object(transaction.db, bucket, name, generation)
    preconditions.check(found.generation, found.metageneration)
    is_archived = generation is None and rows.find_bucket(transaction.db, bucket).is_versioned
    _remove(transaction, found, base_url, is_archived=is_archived)


def update(
    transaction: Transaction, found: rows.Object, fields: dict[str, Any], preconditions: Preconditions, base_url: str
) -> rows.Object:
    """Replace an object's client-set fields; its metageneration grows by one.

    Args:
        found: the row as read in this transaction.

    Raises:
        ApiError: 412.
    """
    preconditions.check(found.generation, found.metageneration)
    changed = replace(
        found,
        fields={**fields, "storageClass": found.fields.get("storageClass", "STANDARD")},
        metageneration=found.metageneration + 1,
        updated_us=max(transaction.now_us, found.updated_us),
    )
    _replace_row(transaction, changed)
    notifications.announce(transaction, notifications.METADATA_UPDATE, changed, base_url)
    return changed


# -- the steps -----------------------------------------------------------------------------------------------------


def _clear_the_way(transaction: Transaction, target: Target) -> tuple[rows.Bucket, rows.Object | None]:
    """Check that the target may be written; remove the live object. Returns its bucket, and what was live."""
    check_object_name(target.name)
    bucket = rows.find_bucket(transaction.db, target.bucket)
    live = rows.find_object(transaction.db, target.bucket, target.name)
    found = (live.generation, live.metageneration) if live else (0, 0)
    target.preconditions.check(*found)
    if live is None:
        return bucket, None
    if not bucket.is_versioned:
        _check_holds(live)
        _drop_row(transaction, live)
    else:
        _replace_row(transaction, replace(live, deleted_us=transaction.now_us))
    return bucket, live


def _install(
    transaction: Transaction, target: Target, content: Content, bucket: rows.Bucket, replaced: rows.Object | None
) -> rows.Object:
    """Insert the new row; announce it, and then the end of the one it replaced."""
    generation = transaction.next_generation()
    created = rows.Object(
        bucket=target.bucket,
        name=target.name,
        generation=generation,
        metageneration=1,
        content_id=content.id,
        size_bytes=content.size_bytes,
        md5=content.md5,
        crc32c=content.crc32c,
        component_count=content.component_count,
        created_us=transaction.now_us,
        updated_us=transaction.now_us,
        fields={"contentType": DEFAULT_CONTENT_TYPE, **target.fields},
    )
    rows.insert_object(transaction.db, created)
    overwrote = {"overwroteGeneration": str(replaced.generation)} if replaced else {}
    notifications.announce(transaction, notifications.FINALIZE, created, target.base_url, **overwrote)
    if replaced is not None:
        notifications.announce(
            transaction,
            notifications.ARCHIVE if bucket.is_versioned else notifications.DELETE,
            replace(replaced, deleted_us=transaction.now_us),
            target.base_url,
            overwrittenByGeneration=str(generation),
        )
    return created


def _remove(transaction: Transaction, found: rows.Object, base_url: str, *, is_archived: bool) -> None:
    ended = replace(found, deleted_us=transaction.now_us)
    if is_archived:
        _replace_row(transaction, ended)
    else:
        _check_holds(found)
        _drop_row(transaction, found)
    event_type = notifications.ARCHIVE if is_archived else notifications.DELETE
    notifications.announce(transaction, event_type, ended, base_url)


def _check_holds(found: rows.Object) -> None:
    for hold in ("temporaryHold", "eventBasedHold"):
        if found.fields.get(hold):
            raise errors.forbidden(
                f"Object '{found.bucket}/{found.name}' is under active {hold} and cannot be deleted or overwritten; "
                f"set {hold} to false first."
            )


def _replace_row(transaction: Transaction, row: rows.Object) -> None:
    transaction.db.execute(
        "DELETE FROM objects WHERE bucket = ? AND name = ? AND generation = ?", (row.bucket, row.name, row.generation)
    )
    rows.insert_object(transaction.db, row)


def _drop_row(transaction: Transaction, row: rows.Object) -> None:
    transaction.db.execute(
        "DELETE FROM objects WHERE bucket = ? AND name = ? AND generation = ?", (row.bucket, row.name, row.generation)
    )
    contents.release(transaction, row.content_id)
