"""The writer: groups, savepoints, generations, failures."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from localcloud.storage.database import Database, Transaction


def use(path: Path, body: Callable[[Database], object], clock_us: Callable[[], int] = lambda: 1_000_000) -> list[str]:
    """Run an async `body` on an open database; return the contents it gave up."""
    garbage: list[str] = []

    async def run() -> None:
        database = Database(path, clock_us=clock_us, on_garbage=garbage.extend, on_events=lambda: None)
        database.open()
        try:
            await body(database)  # type: ignore[misc]
        finally:
            await database.close()

    asyncio.run(run())
    return garbage


def add(name: str) -> Callable[[Transaction], int]:
    def operation(transaction: Transaction) -> int:
        transaction.db.execute("INSERT INTO counters VALUES (?, 1)", (name,))
        return transaction.next_generation()

    return operation


def counters(database: Database) -> set[str]:
    return {row[0] for row in database.reader.execute("SELECT name FROM counters WHERE name != 'generation'")}


def test_an_answered_write_is_read_at_once(tmp_path: Path) -> None:
    """A read that begins after a write's answer sees it."""

    async def body(database: Database) -> None:
        for number in range(20):
            await database.write(add(str(number)))
            assert str(number) in counters(database)

    use(tmp_path / "db", body)


def test_a_failed_operation_undoes_only_itself(tmp_path: Path) -> None:
    """In one group, those before and after a failure are kept; what the failure did is not, nor its garbage."""

    def fail(transaction: Transaction) -> None:
        transaction.db.execute("INSERT INTO counters VALUES ('doomed', 1)")
        transaction.garbage.append("kept after all")
        raise LookupError("no")

    async def body(database: Database) -> None:
        results = await asyncio.gather(
            database.write(add("before")), database.write(fail), database.write(add("after")), return_exceptions=True
        )
        assert isinstance(results[1], LookupError)
        assert counters(database) == {"before", "after"}

    assert use(tmp_path / "db", body) == []


def test_many_writers_share_commits(tmp_path: Path) -> None:
    """A hundred writes that wait together need far fewer commits than a hundred."""

    async def body(database: Database) -> None:
        (before,) = database.reader.execute("PRAGMA data_version").fetchone()
        results = await asyncio.gather(*(database.write(add(str(number))) for number in range(100)))
        (after,) = database.reader.execute("PRAGMA data_version").fetchone()
        assert len(set(results)) == 100
        assert after > before
        assert len(counters(database)) == 100

    use(tmp_path / "db", body)


def test_generations_grow_whatever_the_clock_does(tmp_path: Path) -> None:
    """They never repeat or go back: within a microsecond, with a clock set back, or after a restart."""
    seen: list[int] = []
    now = 5_000_000

    async def body(database: Database) -> None:
        nonlocal now
        for step in (0, 0, 10, -1_000_000):
            now += step
            seen.append(await database.write(lambda transaction: transaction.next_generation()))

    use(tmp_path / "db", body, lambda: now)
    use(tmp_path / "db", body, lambda: now)
    assert seen == sorted(set(seen))
    assert seen[0] == 5_000_000


def test_garbage_goes_after_the_commit(tmp_path: Path) -> None:
    """Files are given up only once the transaction that dropped them is on disk."""

    def drop(transaction: Transaction) -> None:
        transaction.garbage.append("content")

    async def body(database: Database) -> None:
        await database.write(drop)

    assert use(tmp_path / "db", body) == ["content"]


def test_garbage_that_stays_does_not_stop_the_writer(tmp_path: Path) -> None:
    """A content that can't be deleted is said and left for the next start; writes go on."""

    def fail(content_ids: list[str]) -> None:
        raise PermissionError("read-only")

    async def run() -> None:
        database = Database(tmp_path / "db", on_garbage=fail, on_events=lambda: None)
        database.open()
        await database.write(add("one"))
        await database.write(add("two"))
        assert counters(database) == {"one", "two"}
        await database.close()

    asyncio.run(run())


def test_a_cancelled_caller_does_not_stop_the_writer(tmp_path: Path) -> None:
    """A caller that went away leaves its commit standing and the next one served."""

    async def body(database: Database) -> None:
        task = asyncio.create_task(database.write(add("orphan")))
        await asyncio.sleep(0)
        task.cancel()
        await database.write(add("next"))
        assert counters(database) == {"orphan", "next"}

    use(tmp_path / "db", body)


def test_a_failed_commit_fails_everybody_in_it(tmp_path: Path) -> None:
    """If the commit itself fails, nobody is told that a write was kept; the next write works."""

    def broken(transaction: Transaction) -> None:
        transaction.db.execute("PRAGMA defer_foreign_keys = ON")
        transaction.db.execute("INSERT INTO child VALUES (1)")

    async def body(database: Database) -> None:
        await database.write(lambda transaction: transaction.db.execute("PRAGMA user_version").fetchone())
        results = await asyncio.gather(database.write(add("together")), database.write(broken), return_exceptions=True)
        assert all(isinstance(result, sqlite3.IntegrityError) for result in results)
        assert counters(database) == set()
        await database.write(add("next"))
        assert counters(database) == {"next"}

    path = tmp_path / "db"
    with_foreign_key(path)
    use(path, body)


def with_foreign_key(path: Path) -> None:
    """A table whose constraint is checked at commit only."""
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
    )
    connection.close()


def test_closing_commits_what_is_queued(tmp_path: Path) -> None:
    """Writes that nobody has answered yet when the server stops are answered, and kept."""

    async def run() -> None:
        database = Database(tmp_path / "db", on_garbage=lambda _: None, on_events=lambda: None)
        database.open()
        writes = [asyncio.create_task(database.write(add(str(number)))) for number in range(300)]
        await asyncio.sleep(0)
        await database.close()
        assert len(set(await asyncio.gather(*writes))) == 300

    asyncio.run(run())

    async def body(database: Database) -> None:
        assert len(counters(database)) == 300

    use(tmp_path / "db", body)


@pytest.mark.parametrize("gives_up", [[], ["content"]])
def test_the_log_does_not_grow_without_end(tmp_path: Path, gives_up: list[str]) -> None:
    """Thousands of writes, one by one and many at once, leave a log of a few MiB, whether or not they give contents up."""

    def overwrite(transaction: Transaction) -> None:
        transaction.garbage += gives_up
        transaction.db.execute("INSERT OR REPLACE INTO contents VALUES ('one', 1, ?)", (b"x" * 30_000,))

    async def body(database: Database) -> None:
        for _ in range(1000):
            await database.write(overwrite)
        await asyncio.gather(*(database.write(overwrite) for _ in range(1000)))
        assert (tmp_path / "db-wal").stat().st_size < 32 << 20

    use(tmp_path / "db", body)


def test_a_commit_that_takes_long_does_not_hold_up_the_loop(tmp_path: Path, disk: str) -> None:
    """On a slow disk, and with many to commit, the loop goes on meanwhile; on a swift one it waits."""
    threads: list[str] = []

    def note(transaction: Transaction) -> None:
        threads.append(threading.current_thread().name.partition("_")[0])

    async def body(database: Database) -> None:
        await database.write(note)
        await asyncio.gather(*(database.write(note) for _ in range(100)))

    use(tmp_path / "db", body)
    assert threads[0] == ("MainThread" if disk == "swift" else "storage-writer")
    assert set(threads[1:]) == {"storage-writer"}


@pytest.fixture(autouse=True, params=["swift", "slow"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether commits count as swift, whatever this machine's disk is."""
    monkeypatch.setattr("localcloud.storage.database._SWIFT_S", 3600.0 if request.param == "swift" else 0.0)
    return str(request.param)


@pytest.fixture(autouse=True)
def _foreign_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite checks foreign keys only where it is told to; the product has none."""
    from localcloud.storage import database

    plain = database._connect

    def connect(path: Path) -> sqlite3.Connection:
        connection = plain(path)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    monkeypatch.setattr(database, "_connect", connect)
