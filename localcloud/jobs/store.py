"""The jobs service's memory: documents in one SQLite file (WAL), all of them also held in this process.

Every change goes through a transaction and is in the file before anybody is told of it, so that killing the service
loses nothing (WAL without a sync per commit survives the death of the process; only a power cut may take the last
moments). Reads come from memory: a list over ten thousand jobs parses no JSON. One process at a time: a lock file.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]
_Key = tuple[str, str]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, name TEXT NOT NULL, parent TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (kind, name)
)
"""


class StoreLocked(OSError):
    """Another service works on the same data directory."""


class Store:
    """Documents by kind and name, listed by parent in the order of their creation. Used from one thread only."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(directory / "lock")
        # Job specs may hold secrets in their environment: only the owner reads the file.
        path = directory / "jobs.sqlite"
        path.touch(mode=0o600)
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(_SCHEMA)
        self._documents: dict[str, dict[str, Document]] = {}
        self._children: dict[_Key, dict[str, None]] = {}
        self._pending: dict[_Key, tuple[str, Document | None]] | None = None
        self._afterwards: list[Callable[[], None]] = []
        for kind, name, parent, data in self._database.execute("SELECT * FROM documents ORDER BY rowid"):
            self._keep(kind, name, parent, json.loads(data))

    def close(self) -> None:
        """Close the file and give the lock back."""
        self._database.close()
        os.close(self._lock)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside happen together or not at all. Must not be held over an await; a nested one joins."""
        if self._pending is not None:
            yield
            return
        self._pending, self._afterwards = {}, []
        try:
            yield
            self._commit(self._pending)
            afterwards = self._afterwards
        finally:
            self._pending, self._afterwards = None, []
        for action in afterwards:
            action()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do something once the present transaction has happened, and not if it does not (a full disk)."""
        assert self._pending is not None  # outside of a transaction there is nothing to wait for
        self._afterwards.append(action)

    def put(self, kind: str, name: str, document: Document, parent: str = "") -> None:
        """Write a document whole. Later changes to the mapping are the caller's mistake: hand over a new one."""
        with self.transaction():
            assert self._pending is not None
            self._pending[kind, name] = (parent, document)

    def delete(self, kind: str, name: str) -> None:
        """Remove a document; no error when there is none."""
        with self.transaction():
            assert self._pending is not None
            self._pending[kind, name] = ("", None)

    def get(self, kind: str, name: str) -> Document | None:
        """Return a document, or None."""
        if self._pending and (kind, name) in self._pending:
            return self._pending[kind, name][1]
        return self._documents.get(kind, {}).get(name)

    def documents(self, kind: str, parent: str = "", *, newest_first: bool = False) -> list[Document]:
        """Return the committed documents of a parent (of all parents when it is empty), oldest first."""
        documents = self._documents.get(kind, {})
        names = self._children.get((kind, parent), {}) if parent else documents
        ordered = reversed(names) if newest_first else iter(names)
        return [documents[name] for name in ordered]

    def _commit(self, pending: dict[_Key, tuple[str, Document | None]]) -> None:
        if not pending:
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for (kind, name), (parent, document) in pending.items():
                if document is None:
                    self._database.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name))
                    continue
                data = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
                self._database.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (kind, name) DO UPDATE SET data = excluded.data, parent = excluded.parent",
                    (kind, name, parent, data),
                )
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # after some errors of the disk SQLite has rolled back by itself
                self._database.execute("ROLLBACK")
            raise
        for (kind, name), (parent, document) in pending.items():
            if document is None:
                self._forget(kind, name)
            else:
                self._keep(kind, name, parent, document)

    def _keep(self, kind: str, name: str, parent: str, document: Document) -> None:
        self._documents.setdefault(kind, {})[name] = document
        if parent:
            self._children.setdefault((kind, parent), {})[name] = None

    def _forget(self, kind: str, name: str) -> None:
        self._documents.get(kind, {}).pop(name, None)
        for (child_kind, _), names in self._children.items():
            if child_kind == kind:
                names.pop(name, None)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreLocked(
            f"{path.parent} is in use by another jobs service; stop it or choose another --data-dir."
        ) from error
    return descriptor
