"""The second wall: what DuckDB itself refuses, should a statement ever get past the translator; and the transactions."""

import threading
from pathlib import Path

import duckdb
import pytest

from localcloud.bigquery.engine import Engine, rows, scalar
from localcloud.bigquery.errors import BackendFailed


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_text('{incoming}/../../{name}')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM secret_variable",
        "COPY (SELECT 1) TO '{out}'",
        "COPY (SELECT 1) TO '{incoming}/../out'",
        "ATTACH '{out}'",
        "EXPORT DATABASE '{out}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET memory_limit = '100GB'",
        "SET GLOBAL TimeZone = 'Europe/Berlin'",
        "RESET lock_configuration",
        "SELECT * FROM read_csv('http://127.0.0.1:1/x')",
    ],
)
def test_duckdb_is_sealed(engine: Engine, tmp_path: Path, sql: str) -> None:
    """No file, no network, no Python variable, no setting is in reach of SQL."""
    secret_variable = [("hunter2",)]
    assert secret_variable
    file = tmp_path / "secret.csv"
    file.write_text("hunter2\n")
    text = sql.format(file=file, out=tmp_path / "out", incoming=engine.incoming, name=file.name)
    refused = "disabled|locked|does not exist|cannot be changed"
    with engine.read() as cursor, pytest.raises(duckdb.Error, match=refused) as caught:
        cursor.execute(text).fetchall()
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_is_imported_or_opened_before_the_first_call(tmp_path: Path) -> None:
    """An engine that nobody asked has no file."""
    engine = Engine(tmp_path / "new")
    assert not engine.is_open
    assert not (tmp_path / "new").exists()
    engine.close()


def test_a_failed_transaction_leaves_nothing(engine: Engine) -> None:
    """What a write did before its exception is undone."""

    def fail() -> None:
        with engine.write() as cursor:
            rows(cursor, "CREATE TABLE data.half (x BIGINT)")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        fail()
    with engine.read() as cursor:
        assert scalar(cursor, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'half'") == 0


def test_a_reader_keeps_its_snapshot(engine: Engine) -> None:
    """Rows written and tables dropped meanwhile do not reach a transaction that began before."""
    with engine.write() as cursor:
        rows(cursor, "CREATE TABLE data.kept AS SELECT 1 AS x")
    with engine.read() as reader:
        assert scalar(reader, "SELECT count(*) FROM data.kept") == 1
        with engine.write() as cursor:
            rows(cursor, "DROP TABLE data.kept")
        assert scalar(reader, "SELECT count(*) FROM data.kept") == 1


def test_orphans_go_at_the_next_opening(tmp_path: Path) -> None:
    """A table that no catalogue row names was staged by a process that died; it is dropped."""
    first = Engine(tmp_path)
    with first.read() as cursor:
        rows(cursor, "CREATE TABLE data.t_staged AS SELECT 1 AS x")
    first.close()
    second = Engine(tmp_path)
    with second.read() as cursor:
        assert rows(cursor, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'data'") == []
    second.close()


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    """A call after the stop is told that the server is stopping, and opens nothing again."""
    engine = Engine(tmp_path)
    engine.close()
    with pytest.raises(BackendFailed, match="stopping"), engine.read():
        pass


def test_two_first_calls_open_once(tmp_path: Path) -> None:
    """Calls that come together at the start share one opening."""
    engine = Engine(tmp_path)
    answers: list[int] = []

    def ask() -> None:
        with engine.read() as cursor:
            answers.append(scalar(cursor, "SELECT 42"))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert answers == [42] * 6
    engine.close()
