"""The DuckDB file: opened at the first call that needs it, one transaction per call, sealed against user SQL.

Three rules keep it sound:

- *Everything durable is in one file*, catalogue and jobs beside the rows, so one commit moves all of them and a kill -9
  leaves either the state before or the state after.
- *One writer at a time* (`write`). Long work (parsing a file, running a query) happens before, into tables that the
  catalogue does not know yet (`read` may create such); they become visible in a short commit. What a dead process left
  of them is dropped at the next opening.
- *User SQL reaches nothing but tables.* The translator (`sql.py`) is the first wall. The second one is here: no
  extensions, no Python variables, no files but `incoming`, and a configuration that can't be changed any more.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from localcloud.bigquery.errors import BackendFailed
from localcloud.bigquery.names import literal

log = logging.getLogger(__name__)

# The cache of a laptop that runs other things too; sorts and joins of more spill to the data directory.
_MEMORY_LIMIT = "512MB"
_THREADS = 2

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS meta;
CREATE SCHEMA IF NOT EXISTS data;
CREATE TABLE IF NOT EXISTS meta.datasets (project VARCHAR, dataset VARCHAR, doc VARCHAR);
CREATE TABLE IF NOT EXISTS meta.tables (
    project VARCHAR, dataset VARCHAR, table_id VARCHAR, physical VARCHAR, expires_ms BIGINT,
    version VARCHAR, doc VARCHAR);
CREATE TABLE IF NOT EXISTS meta.jobs (
    project VARCHAR, job VARCHAR, created_ms BIGINT, state VARCHAR, request VARCHAR, internal VARCHAR, doc VARCHAR);
"""

OnCursor = Callable[[Any], None]


class Engine:
    """The one DuckDB instance of a data directory. Methods may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self._path = root / "bigquery.duckdb"
        self._spill = root / "spill"
        self._open_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._connection: Any = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """True once DuckDB is imported and holds the file."""
        return self._connection is not None

    @contextlib.contextmanager
    def write(self) -> Iterator[Any]:
        """One transaction that changes what others see; commits at the end, rolls back on an exception."""
        with self._write_lock, self.read() as cursor:
            yield cursor

    @contextlib.contextmanager
    def read(self, on_cursor: OnCursor | None = None) -> Iterator[Any]:
        """One transaction on a snapshot. May create tables under `names.new_physical`; must change nothing else.

        Args:
            on_cursor: receives the cursor, so that another thread can call `interrupt()` on it.
        """
        cursor = self._connect().cursor()
        try:
            if on_cursor is not None:
                on_cursor(cursor)
            cursor.execute("BEGIN TRANSACTION")
            try:
                yield cursor
            except BaseException:
                _roll_back(cursor)
                raise
            cursor.execute("COMMIT")
        finally:
            cursor.close()

    def discard(self, physical: str) -> None:
        """Drop a table that never became visible; a failure is logged, the next opening drops it."""
        try:
            with self.write() as cursor:
                cursor.execute(f'DROP TABLE IF EXISTS data."{physical}"')
        except Exception:
            log.exception("could not drop a staged table", extra={"action": "discard_failed"})

    def close(self) -> None:
        """Write a checkpoint and let go of the file. Calls that come later are refused."""
        with self._open_lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            with self._write_lock:
                connection.close()

    def _connect(self) -> Any:
        connection = self._connection
        if connection is not None:
            return connection
        with self._open_lock:
            if self._closed:
                raise BackendFailed("The local BigQuery is stopping; send the call again after its restart.")
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _open(self) -> Any:
        import duckdb

        for folder in (self.root, self.incoming):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._spill, ignore_errors=True)
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": _THREADS,
            "memory_limit": _MEMORY_LIMIT,
            "temp_directory": str(self._spill),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        }
        try:
            connection = duckdb.connect(str(self._path), config=config)
        except duckdb.IOException as error:
            raise BackendFailed(
                f"Cannot open {self._path}: {error}. If another local BigQuery runs on this data directory, stop it or "
                "choose another --data-dir."
            ) from error
        try:
            self._seal(connection)
            connection.execute(_SCHEMA)
            _drop_orphans(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _seal(self, connection: Any) -> None:
        from localcloud.bigquery.functions import install

        install(connection)
        allowed = literal(str(self.incoming.resolve()) + "/")
        for statement in (
            "SET GLOBAL TimeZone = 'UTC'",
            "SET GLOBAL error_on_division_by_zero = true",
            "SET GLOBAL ieee_floating_point_ops = false",
            "SET python_enable_replacements = false",
            f"SET allowed_directories = [{allowed}]",
            "SET enable_external_access = false",
            "SET lock_configuration = true",
        ):
            connection.execute(statement)


def rows(cursor: Any, sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    """Run a statement of our own to its end and return every row."""
    found: list[tuple[Any, ...]] = cursor.execute(sql, parameters or []).fetchall()
    return found


def scalar(cursor: Any, sql: str, parameters: list[Any] | None = None) -> Any:
    """Run a statement of our own that answers one value."""
    return rows(cursor, sql, parameters)[0][0]


def _roll_back(cursor: Any) -> None:
    try:
        cursor.execute("ROLLBACK")
    except Exception:
        # A transaction that DuckDB already gave up has nothing to roll back; the first error is the one to tell.
        log.debug("rollback refused", exc_info=True)


def _drop_orphans(connection: Any) -> None:
    """Drop tables that no catalogue row names: staged by a process which died before its commit."""
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'data' AND table_name NOT IN "
        "(SELECT physical FROM meta.tables WHERE physical IS NOT NULL)"
    ).fetchall()
    for (name,) in found:
        connection.execute(f'DROP TABLE data."{name}"')
    if found:
        log.info("dropped tables of unfinished jobs", extra={"action": "orphans_dropped", "tables": len(found)})
