"""The storage server's SQLite file: one writer that commits in groups, and cheap readers.

Every change is a function of a `Transaction`. The writer takes whatever is queued, runs each function in a
savepoint of its own and commits them together: sixteen clients that write at once pay for one fsync, and a
function that raises (a precondition that did not hold) undoes only itself. A write is answered after its commit.
On a disk that answers at once the event loop waits for it; on a slow one, and with many to commit, a thread does.

Readers see committed data only (WAL), so a write that was answered is seen by every later read.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

_MAX_GROUP = 256  # operations in one commit: bounds how long the first of them waits for the last
# Handing a commit to a thread takes longer than a swift disk, above all on a busy machine, where each change of thread
# may wait for its turn. What a thread commits does not hold up the loop.
_SWIFT_S, _SWIFT_GROUP = 0.0008, 8
_COMMIT_WEIGHT = 0.1
_CHECKPOINT_OPERATIONS = 200  # a few MiB of log; at most sixteen, as larger contents are files
_READER_THREADS = 2  # long listings only; point reads run on the loop

SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
    name TEXT PRIMARY KEY, project TEXT NOT NULL, metageneration INTEGER NOT NULL, created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL, next_notification INTEGER NOT NULL DEFAULT 1, fields TEXT NOT NULL, policy TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, metageneration INTEGER NOT NULL,
    content_id TEXT NOT NULL, size_bytes INTEGER NOT NULL, md5 BLOB, crc32c INTEGER NOT NULL,
    component_count INTEGER, created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, deleted_us INTEGER,
    fields TEXT NOT NULL, PRIMARY KEY (bucket, name, generation)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS live_objects ON objects (bucket, name) WHERE deleted_us IS NULL;
CREATE TABLE IF NOT EXISTS contents (id TEXT PRIMARY KEY, holders INTEGER NOT NULL, data BLOB);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL, created_us INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL DEFAULT 0, finished TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notifications (
    bucket TEXT NOT NULL, id INTEGER NOT NULL, config TEXT NOT NULL, PRIMARY KEY (bucket, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, data BLOB NOT NULL, attributes TEXT NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Transaction:
    """One operation's view of the commit it is part of.

    Attributes:
        db: the writer's connection; the operation never commits by itself.
        now_us: when the operation began, microseconds since 1970.
        garbage: ids of contents that nothing refers to any more; their files go after the commit.
        has_events: whether the outbox grew, so that its delivery wakes up.
    """

    db: sqlite3.Connection
    now_us: int
    next_generation: Callable[[], int]
    garbage: list[str] = field(default_factory=list)
    has_events: bool = False


Operation = Callable[[Transaction], T]


@dataclass(slots=True)
class _Job:
    operation: Operation[Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


def wall_clock_us() -> int:
    """Microseconds since 1970, the unit of Google's generations."""
    return time.time_ns() // 1000


class Database:
    """Opens the file, owns the writer thread and the readers.

    Args:
        path: the SQLite file; its `-wal` and `-shm` live beside it.
        clock_us: microseconds since 1970. Generations never go back even when it does.
        on_garbage: called in the writer's thread after a commit, with ids of contents to delete.
        on_events: called on the loop after a commit that put events into the outbox.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock_us: Callable[[], int] = wall_clock_us,
        on_garbage: Callable[[list[str]], None],
        on_events: Callable[[], None],
    ) -> None:
        self._path = path
        self._clock_us = clock_us
        self._on_garbage = on_garbage
        self._on_events = on_events
        self._jobs: list[_Job] = []
        self._is_scheduled = False
        self._is_busy = False  # the thread has the writer
        self._commit_s = 0.0
        self._since_checkpoint = 0  # operations
        self._last_generation = 0
        self._local = threading.local()
        self._all_readers: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="storage-list")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storage-writer")

    def open(self) -> None:
        """Create what is missing, remember the last generation."""
        self._loop = asyncio.get_running_loop()
        self._writer = _connect(self._path)
        self._writer.execute("PRAGMA wal_autocheckpoint = 0")  # it would hold up a commit; see _tidy
        self._writer.executescript(SCHEMA)
        row = self._writer.execute("SELECT value FROM counters WHERE name = 'generation'").fetchone()
        self._last_generation = row[0] if row else 0
        self._reader = self._new_reader()
        self._idle = asyncio.Event()
        self._idle.set()

    async def close(self) -> None:
        """Commit what is queued, then close every connection."""
        await self._idle.wait()
        self._thread.shutdown()
        self._pool.shutdown()
        for reader in self._all_readers:
            reader.close()
        self._writer.close()

    async def write(self, operation: Operation[T]) -> T:
        """Run `operation` in the next commit; return its result once that is on disk.

        Raises:
            whatever `operation` raised; nothing of it was kept then.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.append(_Job(operation, future))
        self._idle.clear()
        self._schedule()
        return await future

    @property
    def reader(self) -> sqlite3.Connection:
        """For point reads on the loop's thread: microseconds each, so they need no thread of their own."""
        return self._reader

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a long read in a reader thread, so that the loop stays free."""
        return await self._loop.run_in_executor(self._pool, lambda: query(self._thread_reader()))

    def _thread_reader(self) -> sqlite3.Connection:
        if not hasattr(self._local, "reader"):
            self._local.reader = self._new_reader()
        connection: sqlite3.Connection = self._local.reader
        return connection

    def _new_reader(self) -> sqlite3.Connection:
        reader = _connect(self._path)
        reader.execute("PRAGMA query_only = ON")
        self._all_readers.append(reader)
        return reader

    # -- the writer ---------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Write in the loop's next turn, so that what comes in this one shares the commit."""
        if not self._is_scheduled and not self._is_busy:
            self._is_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        group, self._jobs = self._jobs[:_MAX_GROUP], self._jobs[_MAX_GROUP:]
        if len(group) <= _SWIFT_GROUP and self._commit_s < _SWIFT_S:
            garbage, has_events = self._commit(group)
            self._answer(group, has_events)
            if garbage or self._since_checkpoint >= _CHECKPOINT_OPERATIONS:
                self._aside(self._tidy, garbage)
            else:
                self._go_on()
        else:
            self._aside(self._commit_aside, group)

    def _aside(self, work: Callable[..., None], *arguments: Any) -> None:
        """Do something in the writer's thread; nothing is committed meanwhile."""
        self._is_busy = True
        done = self._loop.run_in_executor(self._thread, work, *arguments)
        done.add_done_callback(self._done_aside)

    def _done_aside(self, done: asyncio.Future[None]) -> None:
        self._is_busy = False
        if not done.cancelled() and done.exception() is not None:
            log.error("upkeep failed", extra={"action": "storage_upkeep_failed"}, exc_info=done.exception())
        self._go_on()

    def _go_on(self) -> None:
        if self._jobs:
            self._schedule()
        else:
            self._idle.set()

    def _commit_aside(self, group: list[_Job]) -> None:
        garbage, has_events = self._commit(group)
        self._loop.call_soon_threadsafe(self._answer, group, has_events)
        self._tidy(garbage)

    def _commit(self, group: list[_Job]) -> tuple[list[str], bool]:
        """Run the group's operations and commit them; a failed commit fails every one of them."""
        garbage: list[str] = []
        has_events = False
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for job in group:
                transaction = Transaction(self._writer, self._clock_us(), self._next_generation)
                self._run_one(job, transaction)
                if job.error is None:
                    garbage += transaction.garbage
                    has_events = has_events or transaction.has_events
            self._writer.execute("INSERT OR REPLACE INTO counters VALUES ('generation', ?)", (self._last_generation,))
            began_s = time.perf_counter()
            self._writer.execute("COMMIT")
            self._since_checkpoint += len(group)
            self._commit_s += (time.perf_counter() - began_s - self._commit_s) * _COMMIT_WEIGHT
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            for job in group:
                job.error = job.error or error
            garbage, has_events = [], False
        return garbage, has_events

    def _tidy(self, garbage: list[str]) -> None:
        """Give contents up that nothing refers to, and now and then take the write-ahead log into the file."""
        try:
            self._on_garbage(garbage)
        except OSError as error:  # the next start cleans up what is left; the writer must live on
            log.error("contents not deleted", extra={"action": "garbage_kept", "error": str(error)})
        if self._since_checkpoint >= _CHECKPOINT_OPERATIONS:
            self._since_checkpoint = 0
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the next commit then begins the log anew

    def _run_one(self, job: _Job, transaction: Transaction) -> None:
        self._writer.execute("SAVEPOINT operation")
        try:
            job.result = job.operation(transaction)
        except BaseException as error:  # noqa: BLE001  (it is handed to the caller, who awaits the future)
            job.error = error
            self._writer.execute("ROLLBACK TO operation")
        self._writer.execute("RELEASE operation")

    def _next_generation(self) -> int:
        self._last_generation = max(self._clock_us(), self._last_generation + 1)
        return self._last_generation

    def _answer(self, group: list[_Job], has_events: bool) -> None:
        if has_events:
            self._on_events()
        for job in group:
            if job.future.done():  # the caller was cancelled meanwhile; the commit stands
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)


def _connect(path: Path) -> sqlite3.Connection:
    """Open one connection; each is used by one thread at a time, and closed by whoever closes the database."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: the WAL is fsynced at each commit, so an answered write survives a power cut, not only kill -9.
    connection.execute("PRAGMA synchronous = FULL")
    return connection
