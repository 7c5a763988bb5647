"""Listings against a plain model: sort the names, fold them, cut them into pages."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.storage import buckets, contents, objects
from localcloud.storage.database import SCHEMA, Transaction
from localcloud.storage.globs import compile_glob
from localcloud.storage.listing import Page, Query, list_objects
from localcloud.storage.preconditions import NO_PRECONDITIONS

T = TypeVar("T")
BUCKET = "bucket"
names = st.text(st.sampled_from("ab/é\U0001f3c3"), min_size=1, max_size=5).filter(lambda name: name not in (".", ".."))


class Store:
    """A bucket in memory."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(SCHEMA)
        self._generation = 0
        self.do(lambda tx: buckets.create(tx, "project", {"name": BUCKET}))

    def do(self, operation: Callable[[Transaction], T]) -> T:
        return operation(Transaction(self.db, self._generation, self._next))

    def put(self, name: str) -> None:
        target = objects.Target(BUCKET, name, {}, NO_PRECONDITIONS, "http://localhost")
        self.do(lambda tx: objects.create(tx, target, contents.inline_content(b"")))

    def pages(self, query: Query) -> list[Page]:
        found = [list_objects(self.db, query)]
        while found[-1].next_page_token:
            found.append(list_objects(self.db, Query(**{**as_dict(query), "page_token": found[-1].next_page_token})))
            assert len(found) < 200, "the listing does not end"
        return found

    def _next(self) -> int:
        self._generation += 1
        return self._generation


def as_dict(query: Query) -> dict[str, object]:
    return {name: getattr(query, name) for name in query.__slots__}


def model(present: set[str], query: Query) -> tuple[list[str], list[str]]:
    """What a listing should give: objects and folded prefixes."""
    items, prefixes = [], []
    for name in sorted(present, key=str.encode):
        key = name.encode()
        if not name.startswith(query.prefix) or key < query.start_offset.encode():
            continue
        if query.end_offset and key >= query.end_offset.encode():
            continue
        at = name.find(query.delimiter, len(query.prefix)) if query.delimiter else -1
        folded = name[: at + len(query.delimiter)] if at >= 0 else ""
        if folded and folded not in prefixes:
            prefixes.append(folded)
        if not folded or (query.is_trailing_delimiter_included and name == folded):
            items.append(name)
    return items, prefixes


@given(
    st.sets(names, max_size=12),
    st.builds(
        Query,
        st.just(BUCKET),
        prefix=st.sampled_from(["", "a", "a/", "b", "é"]),
        delimiter=st.sampled_from(["", "/", "b"]),
        start_offset=st.sampled_from(["", "a", "b/"]),
        end_offset=st.sampled_from(["", "b", "é"]),
        max_results=st.integers(0, 4),
        is_trailing_delimiter_included=st.booleans(),
    ),
)
def test_pages_together_are_the_listing(present: set[str], query: Query) -> None:
    """Whatever the names and the query: every object and prefix once, in order, in pages that are not too long."""
    store = Store()
    for name in present:
        store.put(name)
    pages = store.pages(query)
    items = [row.name for page in pages for row in page.objects]
    prefixes = [prefix for page in pages for prefix in page.prefixes]
    assert (items, prefixes) == model(present, query)
    for page in pages:
        # An object and the prefix it stands for are never parted, so a page may have one more than asked.
        assert len(page) <= max(query.max_results or 1000, 1) + query.is_trailing_delimiter_included
    store.db.close()


def test_a_folder_is_folded_without_being_read() -> None:
    """Folding a folder of thousands reads one row of it."""
    store = Store()
    for number in range(3000):
        store.put(f"folder/{number:04d}")
    store.put("last")
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    store.db.set_progress_handler(count, 1000)  # called once per thousand of SQLite's own instructions
    (page,) = store.pages(Query(BUCKET, delimiter="/"))
    assert (page.prefixes, [row.name for row in page.objects]) == (["folder/"], ["last"])
    assert steps < 5
    store.db.close()


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("*.csv", ["a.csv", ".csv"], ["a/b.csv", "a.csv2", "acsv"]),
        ("**.csv", ["a.csv", "a/b.csv"], ["a.csv/x"]),
        ("a/?", ["a/b"], ["a/", "a//", "a/bc"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[!a-c]x", ["dx"], ["ax", "/x"]),
        ("{a,b/**}/c", ["a/c", "b/x/y/c"], ["b/c", "c"]),
        (r"a\*b", ["a*b"], ["axb"]),
        ("a+(b)", ["a+(b)"], ["aab"]),
        ("line*", ["line\nbreak"], []),
        ("a,b", ["a,b"], ["a"]),
        ("}", ["}"], [""]),
    ],
)
def test_globs(glob: str, yes: list[str], no: list[str]) -> None:
    """Stars stay within a segment unless doubled; everything else is taken as it stands."""
    compiled = compile_glob(glob)
    assert [name for name in yes + no if compiled.fullmatch(name)] == yes
