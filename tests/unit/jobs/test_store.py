"""The jobs service's memory."""

import resource
import sqlite3
from pathlib import Path

import pytest

from localcloud.jobs.store import Store, StoreLocked


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    """Documents survive in the order of their creation, changed or not."""
    store = Store(tmp_path)
    for name in ("b", "a", "c"):
        store.put("job", name, {"n": 1}, "parent")
    store.put("job", "b", {"n": 2}, "parent")
    store.delete("job", "c")
    expected = [{"n": 2}, {"n": 1}]
    assert store.documents("job", "parent") == expected
    store.close()
    again = Store(tmp_path)
    assert again.documents("job", "parent") == expected
    assert again.documents("job", "parent", newest_first=True) == expected[::-1]
    assert again.get("job", "c") is None
    again.close()


def test_a_transaction_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    """What fails in the middle leaves nothing, in memory and in the file; inside it sees its own changes."""
    store = Store(tmp_path)
    store.put("job", "a", {"n": 1})

    def fail() -> None:
        with store.transaction():
            store.put("job", "a", {"n": 2})
            store.put("job", "b", {"n": 2})
            assert store.get("job", "a") == {"n": 2}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.get("job", "a") == {"n": 1}
    assert store.get("job", "b") is None
    store.close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        assert database.execute("SELECT count(*) FROM documents").fetchone() == (1,)
    database.close()


def test_what_cannot_be_written_is_not_remembered(tmp_path: Path) -> None:
    """When the file refuses a document, memory does not have it either."""
    store = Store(tmp_path)
    with pytest.raises(TypeError):
        store.put("job", "a", {"n": object()})
    assert store.get("job", "a") is None
    store.put("job", "a", {"n": 1})
    store.close()


def test_one_service_at_a_time(tmp_path: Path) -> None:
    """A second store on the same directory is refused; after the first is closed it is not."""
    store = Store(tmp_path)
    with pytest.raises(StoreLocked, match="--data-dir"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """Job specs may hold secrets: the file is private."""
    store = Store(tmp_path)
    assert (tmp_path / "jobs.sqlite").stat().st_mode & 0o777 == 0o600
    store.close()


def test_a_disk_that_refuses_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """The disk's own error is told, nothing has happened, what should follow does not, and the next write works."""
    store = Store(tmp_path)
    store.put("job", "a", {"n": 1})
    followed: list[str] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"), store.transaction():  # noqa: PT012
            store.put("job", "a", {"n": 2})
            store.after_commit(lambda: followed.append("refused"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.get("job", "a") == {"n": 1}
    with store.transaction():
        store.put("job", "a", {"n": 3})
        store.after_commit(lambda: followed.append("kept"))
        assert followed == []
    assert followed == ["kept"]
    store.close()
    again = Store(tmp_path)
    assert again.get("job", "a") == {"n": 3}
    again.close()
