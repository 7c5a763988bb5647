"""Listing objects: prefix, delimiter, offsets, glob and pages.

A page walks the index by seeking: once a common prefix is found, the scan goes on behind it, so that a folder of a
hundred thousand objects costs one step when only its name is asked for.
"""

import base64
import binascii
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

from localcloud.storage import errors, rows
from localcloud.storage.globs import compile_glob
from localcloud.storage.names import after_prefix

MAX_PAGE = 1000
_LAST_GENERATION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Query:
    """What to list; the fields are named after the request's parameters."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    start_offset: str = ""
    end_offset: str = ""
    match_glob: str = ""
    page_token: str = ""
    max_results: int = MAX_PAGE
    is_all_versions: bool = False
    is_trailing_delimiter_included: bool = False


@dataclass(slots=True)
class Page:
    """One page: objects and common prefixes together are at most `max_results`."""

    objects: list[rows.Object] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_page_token: str = ""

    def __len__(self) -> int:
        return len(self.objects) + len(self.prefixes)


def list_objects(db: sqlite3.Connection, query: Query) -> Page:
    """One page of a bucket's objects, in order of their names' UTF-8 bytes.

    Raises:
        ApiError: 404 for the bucket; 400 for a page token or a glob that cannot be read.
    """
    rows.find_bucket(db, query.bucket)
    glob = compile_glob(query.match_glob) if query.match_glob else None
    end = _end(query)
    page = Page()
    position: tuple[str, int] | None = _start(query)
    while position is not None:
        found = rows.scan_objects(db, query.bucket, position, end, query.is_all_versions)
        position = _fill(page, found, query, glob)
    return page


def _fill(
    page: Page, found: Iterator[rows.Object], query: Query, glob: re.Pattern[str] | None
) -> tuple[str, int] | None:
    """Add to the page until it is full or a common prefix is met; return where to seek next, if anywhere."""
    limit = min(query.max_results or MAX_PAGE, MAX_PAGE)
    for row in found:
        common = _common_prefix(row.name, query)
        is_item = not common or (query.is_trailing_delimiter_included and row.name == common)
        is_item = is_item and (glob is None or glob.fullmatch(row.name) is not None)
        is_prefix = bool(common) and (glob is None or _matches_folder(glob, common))
        if len(page) and len(page) + is_item + is_prefix > limit:
            page.next_page_token = _encode((row.name, row.generation - 1))
            return None
        if is_item:
            page.objects.append(row)
        if is_prefix:
            page.prefixes.append(common)
        if common:
            behind = after_prefix(common)
            return (behind, -1) if behind is not None else None
    return None


def _matches_folder(glob: re.Pattern[str], common: str) -> bool:
    return any(glob.fullmatch(text) for text in (common, common.removesuffix("/")))


def _common_prefix(name: str, query: Query) -> str:
    """The name up to and with the first delimiter behind the prefix; empty if there is none."""
    if not query.delimiter:
        return ""
    at = name.find(query.delimiter, len(query.prefix))
    return name[: at + len(query.delimiter)] if at >= 0 else ""


def _start(query: Query) -> tuple[str, int]:
    start = (max(query.prefix, query.start_offset, key=str.encode), -1)
    if not query.page_token:
        return start
    return max(start, _decode(query.page_token), key=lambda position: (position[0].encode(), position[1]))


def _end(query: Query) -> str | None:
    ends = [end for end in (after_prefix(query.prefix), query.end_offset) if end]
    return min(ends, key=str.encode) if ends else None


def _encode(position: tuple[str, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _decode(token: str) -> tuple[str, int]:
    try:
        name, generation = json.loads(base64.urlsafe_b64decode(token))
        name.encode()
        if isinstance(generation, int) and abs(generation) <= _LAST_GENERATION:
            return name, generation
    except (ValueError, TypeError, AttributeError, binascii.Error):
        pass
    raise errors.invalid(f"Invalid page token {token!r}: pass the nextPageToken of the page before, unchanged.")
