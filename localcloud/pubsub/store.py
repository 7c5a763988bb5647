"""The one file on disk: SQLite with a write-ahead log, and one commit for many concurrent requests.

Statements are collected on the event loop; a flush runs them in one transaction. On a slow disk its COMMIT is handed to a
thread. (Not the whole transaction: each SQLite step gives up the interpreter's lock, and a busy event loop takes
milliseconds to hand it back.) What arrives during a commit makes up the next one.

Row ids of messages are `topic number << 40 | sequence number`: a topic's log is one contiguous range of the table.
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from localcloud.pubsub.errors import Unavailable
from localcloud.pubsub.tables import FORMAT, TABLES

Durability = Literal["full", "normal", "memory"]

SEQUENCE_BITS = 40
MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1

_LOG = logging.getLogger(__name__)
_PAGE_BYTES = 8192  # measured: 177k messages of 1 KB a second, against 131k with 4096
_WORTH_RECLAIMING_BYTES = 64 << 20
_RECLAIM_PAGES = 500
_RECLAIM_PAUSE_S = 0.05
_CHECKPOINT_BYTES = 16 << 20
_CHECKPOINT_LOOK = 16  # commits between two looks at the log's length
# A disk that answers this fast is waited for on the event loop: handing the wait to a thread takes longer, above all on
# a busy machine, where each change of thread may wait for its turn.
_SWIFT_S = 0.0005
_COMMIT_WEIGHT = 0.1
_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL", "memory": "OFF"}


class _Batch:
    """What one commit makes durable, and who waits for it."""

    __slots__ = ("after", "statements", "waiters")

    def __init__(self) -> None:
        self.statements: list[tuple[str, list[Any]]] = []
        self.after: list[Callable[[], None]] = []
        self.waiters: list[asyncio.Future[None]] = []

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to write or anybody waiting."""
        return bool(self.statements or self.after or self.waiters)

    def succeed(self) -> None:
        for callback in self.after:
            callback()
        for waiter in self.waiters:
            if not waiter.done():  # a caller may have gone
                waiter.set_result(None)

    def fail(self, error: Unavailable) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)


class Store:
    """The database of one broker.

    Args:
        data_dir: folder of `pubsub.sqlite`; made if missing. Not used with durability `memory`.
        durability: `full` waits for the disk before a commit counts; `normal` survives the death of the process but may
            lose the last moments when the machine loses power; `memory` keeps nothing.
    """

    def __init__(self, data_dir: Path, durability: Durability = "full") -> None:
        self._durability = durability
        self._path = data_dir / "pubsub.sqlite"
        self._batch = _Batch()
        self._collectors: list[Callable[[], None]] = []
        self._failure_hooks: list[Callable[[], None]] = []
        self._is_committing = False
        self._is_scheduled = False
        self._is_due_again = False
        self._is_closed = False
        self._commit_s = 1.0  # unknown yet: the first ones wait on the thread
        self._later: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.commits = 0

    def open(self) -> None:
        """Open or create the file. Blocks; the event loop has nothing to do yet.

        Raises:
            RuntimeError: another broker has the folder open, or a later version wrote it.
        """
        if self._durability == "memory":
            self._writer = self._reader = _connect(":memory:", "OFF")
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(self._path.with_suffix(".lock"))
            self._writer = _connect(str(self._path), _SYNCHRONOUS[self._durability])
        self._writer.executescript(TABLES)
        if self._durability != "memory":
            self._reader = _connect(str(self._path), "OFF")
        if self.meta("format", FORMAT) != FORMAT:
            raise RuntimeError(f"{self._path} was written by another version of the broker; use a new --data-dir.")
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))
        if self._durability == "full":
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="pubsub-commit")

    def meta(self, key: str, default: int) -> int:
        """A number kept under a name, as last committed."""
        row = self._writer.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else int(row[0])

    def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """Rows as last committed."""
        return self._reader.execute(sql, tuple(parameters)).fetchall()

    async def read_aside(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """Rows as last committed, read in a thread: a count over many messages must not hold up the event loop."""
        if self._durability == "memory":
            return self.read(sql, parameters)
        return await asyncio.to_thread(self._read_aside, sql, tuple(parameters))

    def _read_aside(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        connection = _connect(str(self._path), "OFF")
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def rows(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        """An open cursor over rows as last committed; the caller closes it before it gives up the event loop."""
        return self._reader.execute(sql, tuple(parameters))

    def write(self, sql: str, rows: list[Any]) -> None:
        """Add a statement to the batch in hand, run once for each row. Nothing is written before a flush."""
        statements = self._batch.statements
        if statements and statements[-1][0] is sql:
            statements[-1][1].extend(rows)
        else:
            statements.append((sql, list(rows)))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run the callback once the batch in hand is committed, before anybody who waits for it; never if it fails."""
        self._batch.after.append(callback)
        self._schedule()

    def add_collector(self, collect: Callable[[], None], failed: Callable[[], None]) -> None:
        """Have `collect` add its statements whenever a batch closes.

        `failed` runs when a batch could not be committed: memory is ahead of the disk then, and must read it again.
        """
        self._collectors.append(collect)
        self._failure_hooks.append(failed)

    async def settle(self) -> None:
        """Wait until everything written until now is on disk.

        Raises:
            Unavailable: the disk refused; nothing of the batch was kept.
        """
        waiter = asyncio.get_running_loop().create_future()
        self._batch.waiters.append(waiter)
        self._schedule()
        await waiter

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def flush_within(self, delay_s: float) -> None:
        """Commit soon, for what nobody waits for (an ack without exactly-once)."""
        if self._later is None and not self._is_scheduled:
            self._later = asyncio.get_running_loop().call_later(delay_s, self._flush_later)

    def _flush_later(self) -> None:
        self._later = None
        self._schedule()

    def _flush(self) -> None:
        self._is_scheduled = False
        if self._is_committing:
            self._is_due_again = True  # _finish sees to it
            return
        self._is_due_again = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for collect in self._collectors:
            collect()
        batch, self._batch = self._batch, _Batch()
        if not batch.statements:
            batch.succeed()
            return
        is_swift = self._thread is None or self._commit_s < _SWIFT_S
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for sql, rows in batch.statements:
                self._writer.executemany(sql, rows)
            if is_swift:
                self._commit()
        except sqlite3.Error as error:
            self._fail(batch, error)
            return
        if is_swift:
            self._committed(batch)
            return
        self._is_committing = True
        commit = asyncio.get_running_loop().run_in_executor(self._thread, self._commit)
        commit.add_done_callback(lambda done: self._finish(batch, done))

    def _commit(self) -> None:
        """Wait for the disk. How long it took decides who waits next: the loop itself, or a thread for it."""
        began_s = time.perf_counter()
        self._writer.execute("COMMIT")
        self._commit_s += (time.perf_counter() - began_s - self._commit_s) * _COMMIT_WEIGHT

    def _committed(self, batch: _Batch) -> None:
        self.commits += 1
        batch.succeed()
        if self.commits % _CHECKPOINT_LOOK == 0 and self._is_log_long():
            self._checkpoint()

    def _finish(self, batch: _Batch, done: asyncio.Future[Any]) -> None:
        self._is_committing = False
        error = done.exception()
        if error is None:
            self._committed(batch)
        else:
            self._fail(batch, error)
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_committing and (self._batch.is_wanted or self._is_due_again):
            self._schedule()

    def _is_log_long(self) -> bool:
        if self._durability == "memory":
            return False
        return self._path.with_name(self._path.name + "-wal").stat().st_size > _CHECKPOINT_BYTES

    def _checkpoint(self) -> None:
        """Take the write-ahead log into the file, on a thread; commits wait meanwhile, the event loop does not."""
        self._aside("PRAGMA wal_checkpoint(PASSIVE)", self._go_on)

    def _aside(self, sql: str, then: Callable[[], None]) -> None:
        """Run a statement of the writer on a thread, while no batch is written."""
        self._is_committing = True

        def finished(done: asyncio.Future[Any]) -> None:
            self._is_committing = False
            if not done.cancelled() and done.exception() is not None:
                _LOG.warning("upkeep failed", extra={"action": "upkeep_failed", "sql": sql}, exc_info=done.exception())
            then()

        work = asyncio.to_thread(lambda: self._writer.execute(sql).fetchall())
        asyncio.get_running_loop().create_task(work, name=sql).add_done_callback(finished)

    def _fail(self, batch: _Batch, error: BaseException) -> None:
        """The batch is lost, and with it the one in hand, for that may build on it (a message to a topic that is gone)."""
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        _LOG.error("commit failed", extra={"action": "commit_failed", "path": str(self._path), "error": str(error)})
        in_hand, self._batch = self._batch, _Batch()
        refusal = Unavailable(
            f"{self._path} refused the write ({error}); free disk space or mend the folder, then try again."
        )
        in_hand.fail(refusal)
        batch.fail(refusal)
        for failed in self._failure_hooks:
            failed()

    def reclaim(self) -> None:
        """Give free pages back to the file system, bit by bit while nobody waits, if they are many."""
        free_pages = self._reader.execute("PRAGMA freelist_count").fetchone()[0]
        if self._durability == "memory" or free_pages * _PAGE_BYTES < _WORTH_RECLAIMING_BYTES:
            return
        asyncio.get_running_loop().call_later(_RECLAIM_PAUSE_S, self._reclaim_some)

    def _reclaim_some(self) -> None:
        if self._is_closed:
            return
        if self._is_committing or self._is_scheduled:
            asyncio.get_running_loop().call_later(_RECLAIM_PAUSE_S, self._reclaim_some)
            return
        self._aside(f"PRAGMA incremental_vacuum({_RECLAIM_PAGES})", self._reclaimed)

    def _reclaimed(self) -> None:
        self._go_on()
        if not self._is_closed:
            self.reclaim()

    async def close(self) -> None:
        """Commit what is in hand and close the file."""
        self._is_closed = True
        try:
            while self._is_committing or self._collect_pending():
                await self.settle()
                await asyncio.sleep(0)
        finally:
            if self._later is not None:
                self._later.cancel()
            if self._thread is not None:
                self._thread.shutdown()
            self._reader.close()
            self._writer.close()
            if self._durability != "memory":
                os.close(self._lock_fd)

    def _collect_pending(self) -> bool:
        for collect in self._collectors:
            collect()
        return self._batch.is_wanted


def _connect(path: str, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA journal_size_limit=0")
    connection.execute("PRAGMA busy_timeout=5000")
    return connection


def _lock(path: Path) -> int:
    """Hold the folder for this process; the operating system lets go when the process ends, however it ends."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise RuntimeError(
            f"{path.parent} is in use by another broker; stop that one or give another --data-dir."
        ) from None
    return descriptor
